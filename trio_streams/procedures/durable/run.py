"""One run: a handler in the server's background, whose items go into a log and whose end closes it.

A handler whose log can't be written to any more is cancelled. A run whose server goes down is ended as well as that is
possible in a moment; one that could go on after a restart is left as it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError, as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.durable.end import encode_end
from trio_streams.procedures.durable.pending import Pending
from trio_streams.procedures.durable.reading import Reading
from trio_streams.procedures.durable.shared import SharedLog
from trio_streams.procedures.procedure import Procedure, ResumePoint
from trio_streams.service.context import Context
from trio_streams.service.replay_log import LogWriter, ReplayLog, RunConfig, RunLog

__all__ = ["LOST", "DurableRun"]

LOST: Final = RpcError(Code.UNAVAILABLE, "the run was lost: its server ended before it did")

_logger: Final = logging.getLogger("trio_streams")


class DurableRun:
    """A run that is live in this process.

    Args:
      path: of its log.
      procedure: coded in JSON.
      context: of the caller that starts it.
      value: its input.
      replay_log: keeps its items.
      config: limits.

    Attributes:
      is_over: whether its task has ended.
    """

    def __init__(
        self,
        path: str,
        procedure: Procedure,
        context: Context,
        value: object,
        *,
        replay_log: ReplayLog,
        config: RunConfig,
    ) -> None:
        self.path: str = path
        self.is_over: bool = False
        self._scope = trio.CancelScope()
        self._procedure = procedure
        self._context = attrs.evolve(
            context, cancel_scope=self._scope, deadline=math.inf, last_event_id=None, find_reason=self._find_reason
        )
        self._value = value
        self._replay_log = replay_log
        self._config = config
        self._ready = trio.Event()
        self._log: RunLog | None = None
        self._failure: RpcError | None = None
        self._readings: set[Reading] = set()

    async def wait_ready(self) -> RunLog | None:
        """Wait until its log can be read; None where the run is over, and the log has to be looked for.

        Raises:
          RpcError: the log could not be opened.
        Cancellation: atomic.
        """
        await self._ready.wait()
        if self._failure is not None:
            raise RpcError(self._failure.code, self._failure.message, self._failure.details)
        return None if self.is_over else self._log

    def attach(self, reading: Reading) -> None:
        """Have a reader more; it is interrupted if the run is over without an end in its log."""
        self._readings.add(reading)
        self._scope.deadline = math.inf

    def detach(self, reading: Reading) -> None:
        """Have a reader less: without any the run has `linger_timeout` left."""
        self._readings.discard(reading)
        self._linger()

    def _linger(self) -> None:
        if not self._readings and self._config.linger_timeout is not None:
            self._scope.deadline = trio.current_time() + self._config.linger_timeout

    @property
    def _has_lingered(self) -> bool:
        return trio.current_time() >= self._scope.deadline

    def _find_reason(self) -> Exception | None:
        return RpcError(Code.CANCELLED, "nobody reads the run") if self._has_lingered else None

    async def run(self) -> None:
        """Open the log, run the handler, and store how it ends.

        Raises:
          RpcError: the log could not be opened, or written to.
        Cancellation: see the top of the file.
        """
        is_closed = False
        try:
            is_closed = await self._open_and_run()
        except Exception as exc:
            if not self._ready.is_set():
                self._failure = as_rpc_error(exc)
            raise
        finally:
            self.close(is_closed=is_closed)

    async def _open_and_run(self) -> bool:
        procedure = self._procedure
        log, is_new = await self._replay_log.create(self.path, keep_seconds=self._config.keep_seconds)
        if (await log.state()).is_closed:
            return True
        writer = await log.take_over()
        if not is_new and not procedure.is_resumable:
            await writer.append([encode_end(LOST)], close=True)
            return True
        point = await self._find_point(log) if procedure.is_resumable else None
        self._log = SharedLog(log)
        self._ready.set()
        self._linger()
        await self._run_handler(log, writer, point)
        return True

    def close(self, *, is_closed: bool) -> None:
        """The run is over, or has never begun; idempotent.

        Args:
          is_closed: whether its readers find its end in the log. Else they are told to come again.
        """
        self.is_over = True
        self._ready.set()
        if not is_closed:
            for reading in self._readings:
                reading.interrupt()

    async def _find_point(self, log: RunLog) -> ResumePoint:
        """What is stored already, for a handler that goes on behind it."""
        count, last, position = 0, None, (await log.state()).start
        while (got := await log.read(position, max_bytes=self._config.max_read_bytes)).items:
            count += len(got.items)
            last, position = got.items[-1], got.next_position
        return ResumePoint(count, None if last is None else self._procedure.decode_output(last))

    async def _run_handler(self, log: RunLog, writer: LogWriter, point: ResumePoint | None) -> None:
        """Run the handler and store its end; where the server is cancelled, in the time of a goodbye."""
        is_cancelled = True
        try:
            error = await self._produce(writer, point)
            is_cancelled = False
            await writer.append([encode_end(error)], close=True)
        except Exception:
            is_cancelled = False  # the log takes nothing more
            raise
        finally:
            if is_cancelled and not self._procedure.is_resumable:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.goodbye_timeout):
                    await _store_stop(log)

    async def _produce(self, writer: LogWriter, point: ResumePoint | None) -> RpcError | None:
        """Run the handler, and store what it yields; returns what it has ended with."""
        pending = Pending(self._config.max_pending_bytes)
        async with open_bare_nursery() as nursery:
            nursery.start_soon(_store_all, pending, writer)
            try:
                return await self._iterate(pending, point)
            finally:
                pending.end()  # what was yielded is stored, however the handler ended

    async def _iterate(self, pending: Pending, point: ResumePoint | None) -> RpcError | None:
        procedure = self._procedure
        answer: AsyncGenerator[Any, None] = procedure.invoke(self._value, self._context, point)
        try:
            with self._scope:
                async with aclosing(answer):
                    async for item in answer:
                        await pending.put(procedure.encode_output(item))
                return None
        except Exception as exc:
            error = as_rpc_error(exc)
            level, shown = (logging.ERROR, exc) if error.is_our_fault else (logging.INFO, None)
            _logger.log(level, "a run of %r failed: %s", procedure.name, error, exc_info=shown)
            return error
        return RpcError(
            Code.CANCELLED, "nobody read the run for too long" if self._has_lingered else "it was cancelled"
        )


async def _store_all(pending: Pending, writer: LogWriter) -> None:
    while batch := await pending.take_all():
        await writer.append(batch)


async def _store_stop(log: RunLog) -> None:
    # The writer may be in the middle of an append.
    try:
        writer = await log.take_over()
        await writer.append([encode_end(RpcError(Code.UNAVAILABLE, "the server was stopped"))], close=True)
    except RpcError as exc:
        _logger.info("the end of a run could not be stored: %s", exc)
