"""The durable runs of one server: which are live, and how callers find theirs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from trio_streams.codes import Code
from trio_streams.errors import LocalProtocolError, RpcError
from trio_streams.procedures.dispatch import Found
from trio_streams.procedures.durable.path import check_run_id, new_run_id
from trio_streams.procedures.durable.place import RUN_KEY, Place
from trio_streams.procedures.durable.reading import Reading
from trio_streams.procedures.durable.run import DurableRun
from trio_streams.procedures.procedure import Procedure
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Invocation
from trio_streams.service.replay_log import ReplayLog, RunConfig, RunLog

__all__ = ["DurableRuns", "check_replay_log", "make_runs", "need_runs"]


def check_replay_log(procedures: Iterable[Procedure], replay_log: ReplayLog | None) -> None:
    """Refuse to serve a durable procedure without a log.

    Raises:
      LocalProtocolError: it names the procedure.
    """
    for procedure in procedures:
        if procedure.durable is not None and replay_log is None:
            raise LocalProtocolError(
                f"{procedure.name!r} is durable: serve it with replay_log=, such as DurableServer.replay_log()",
                field="replay_log",
            )


def need_runs(runs: DurableRuns | None, procedure: Procedure) -> DurableRuns:
    """The runs, where there are some.

    Raises:
      RpcError: UNIMPLEMENTED: the procedure was declared after its server had started, which has no log for it.
    """
    if runs is None:
        raise RpcError(Code.UNIMPLEMENTED, f"{procedure.name!r} is durable, and served without a log")
    return runs


class DurableRuns:
    """Starts runs, and gives callers readings of them.

    Args:
      replay_log: keeps their items.
      background: owns their tasks.
      config: limits.
    """

    def __init__(self, replay_log: ReplayLog, background: Background, config: RunConfig | None = None) -> None:
        self._replay_log = replay_log
        self._background = background
        self._config = config or RunConfig()
        self._live: dict[str, DurableRun] = {}

    def __len__(self) -> int:
        return len(self._live)

    @asynccontextmanager
    async def reading(
        self,
        found: Found,
        invocation: Invocation,
        value: object,
        encode: Callable[[object], bytes] | None = None,
    ) -> AsyncGenerator[Reading, None]:
        """Read a run for as long as the block: one that is there, or a new one.

        Args:
          found: a durable procedure.
          invocation: of this caller; its context says where to go on.
          value: the input.
          encode: an item as the caller wants it; None for JSON.

        Raises:
          RpcError: INVALID_ARGUMENT, OUT_OF_RANGE: the caller's last id is none of this run's. NOT_FOUND: the run is not
            kept any more. RESOURCE_EXHAUSTED: too many runs. UNAVAILABLE: the store fails.
        Cancellation: a run that was started goes on.
        """
        context = invocation.context
        place = None if context.last_event_id is None else Place.parse(context.last_event_id)
        path, run_id = _where(found, context, value, place)
        run, log = await self._find(path, found.procedure, context, value, is_known=place is not None)
        name = run_id or log.log_id
        if place is not None and place.run != name:
            raise _not_kept()

        async def renew() -> RunLog:
            nonlocal run  # the one that this reading was attached to is over
            run, again = await self._find(path, found.procedure, context, value, is_known=True)
            if again.log_id != log.log_id:
                raise _not_kept()
            if run is not None:
                run.attach(reading)
            return again

        reading = Reading(
            log,
            place or Place(name),
            max_bytes=self._config.max_read_bytes,
            renew=renew,
            recode=_recoding(found.procedure, invocation, encode),
        )
        if run is not None:
            run.attach(reading)
        try:
            await reading.seek()
            yield reading
        finally:
            if run is not None:
                run.detach(reading)

    async def _find(
        self, path: str, procedure: Procedure, context: Context, value: object, *, is_known: bool
    ) -> tuple[DurableRun | None, RunLog]:
        """The run at a path, if it is live, and its log. One that is lost is brought to an end, or gone on with."""
        while True:
            run = self._live.get(path)
            if run is None:
                log = await self._replay_log.find(path)
                if log is None and is_known and path not in self._live:
                    raise _not_kept()
                if log is not None and (await log.state()).is_closed:
                    return None, log
                run = self._live.get(path) or await self._start(path, procedure, context, value)
            log = await run.wait_ready()
            if log is not None:
                return run, log

    async def _start(self, path: str, procedure: Procedure, context: Context, value: object) -> DurableRun:
        if len(self._live) >= self._config.max_runs:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{len(self._live)} durable runs are under way, which is the limit")
        run = DurableRun(path, procedure, context, value, replay_log=self._replay_log, config=self._config)
        self._live[path] = run

        has_begun = False

        async def run_it(begin: Callable[[], None]) -> None:
            nonlocal has_begun
            has_begun = True
            begin()  # from here on it is nobody's but the server's
            try:
                await run.run()
            finally:
                del self._live[path]

        try:
            await self._background.start(f"a run of {procedure.name!r} for {context.peer}", run_it)
        finally:
            if not has_begun:
                del self._live[path]
                run.close(is_closed=False)
        return run


def _where(found: Found, context: Context, value: object, place: Place | None) -> tuple[str, str]:
    """The path of a caller's run, and the id of the run where each call has its own; a new one if it names none."""
    template = found.procedure.durable
    assert template is not None, "only durable procedures are read"
    run_id = ""
    if template.has_run:
        given = context.metadata.get(RUN_KEY) if place is None else place.run
        run_id = new_run_id() if given is None else check_run_id(given)
    return template.fill(value, found.params, run_id), run_id


def make_runs(
    procedures: Iterable[Procedure], replay_log: ReplayLog | None, nursery: trio.Nursery, config: RunConfig
) -> DurableRuns | None:
    """The runs of a server, in its nursery; None where there is no log. Raises as `check_replay_log`."""
    check_replay_log(procedures, replay_log)
    if replay_log is None:
        return None
    return DurableRuns(replay_log, Background(nursery, max_running=config.max_runs), config)


def _not_kept() -> RpcError:
    return RpcError(Code.NOT_FOUND, "the run of this id is not kept, or no longer")


def _recoding(
    procedure: Procedure, invocation: Invocation, encode: Callable[[object], bytes] | None
) -> Callable[[bytes], bytes] | None:
    """How a caller sees items that are stored in JSON; None for as they are."""
    wanted = encode or procedure.encode_output
    seen = invocation.encoding(wanted)
    if encode is None and seen is wanted:
        return None
    return lambda payload: seen(procedure.decode_output(payload))
