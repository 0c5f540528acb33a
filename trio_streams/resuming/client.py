"""The client's side of a session: connect again, and again, until the session goes on or is too old."""

from __future__ import annotations

import contextlib
import math
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.core.backoff import full_jitter
from trio_streams.core.session import Session
from trio_streams.driver import run_client
from trio_streams.errors import StreamsError
from trio_streams.nursery import open_bare_nursery
from trio_streams.resuming.carrier import Link, ResumingCarrier
from trio_streams.wire.binary import BinaryWire

__all__ = ["OpenCarrier", "run_resuming_client"]

OpenCarrier = Callable[[], AbstractAsyncContextManager[Carrier]]
"""Connects a carrier for as long as a block."""


def delays(options: ReconnectOptions, chance: random.Random) -> Iterator[float]:
    """How many seconds to wait before each attempt; it ends with the attempts."""
    number = 0
    while options.max_attempts is None or number < options.max_attempts:
        number += 1
        yield full_jitter(
            number,
            initial_delay=options.initial_delay,
            factor=options.factor,
            max_delay=options.max_delay,
            random=chance.random,
        )


@contextlib.asynccontextmanager
async def run_resuming_client(
    open_carrier: OpenCarrier,
    *,
    config: ConnectionConfig | None = None,
    resume: ResumeOptions | None = None,
    reconnect: ReconnectOptions | None = None,
    transport: str = "",
) -> AsyncGenerator[Connection, None]:
    """Run a connection as the client side for as long as the block, over as many carriers as it takes.

    Its streams see nothing of a carrier's loss but time. A peer that does not offer to resume makes it a plain connection,
    which ends with its carrier.

    Args:
      open_carrier: connects; called again for each carrier.
      config: limits and timeouts.
      resume: limits of the session.
      reconnect: how to look for another carrier.
      transport: what the carriers are, for people.

    Yields:
      The connection, after the peer's hello.

    Raises:
      ConnectionLost: nobody could be connected to, or the peer did not greet. Later faults surface from stream
        operations only.
      StreamsError: what else `open_carrier` raises at first.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    keeper = _Keeper(open_carrier, config, resume or ResumeOptions(), reconnect or ReconnectOptions())
    async with open_bare_nursery() as nursery:
        carrier: ResumingCarrier = await nursery.start(keeper.run)
        try:
            async with run_client(
                carrier, config=config, transport=transport, make_machine=lambda: carrier.machine
            ) as connection:
                carrier.drive(connection.kick)
                yield connection
        finally:
            keeper.scope.cancel()


class _Keeper:
    """Brings carriers to a session; a carrier's own scopes and tasks live in the task that runs this.

    Attributes:
      scope: around everything; cancelled when the session is over.
    """

    def __init__(
        self, open_carrier: OpenCarrier, config: ConnectionConfig, resume: ResumeOptions, reconnect: ReconnectOptions
    ) -> None:
        self._open_carrier = open_carrier
        self._config = config
        self._resume = resume
        self._reconnect = reconnect
        self._random = random.Random(reconnect.seed)  # noqa: S311 - it spreads, and hides nothing
        self.scope: trio.CancelScope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[ResumingCarrier] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and connect again whenever the session has lost its carrier, until it is over.

        Args:
          task_status: started with what stands on the carriers, once the first one is connected.

        Raises:
          StreamsError: the first carrier could not be connected.

        Cancellation: as the carrier's own; from the first connection on only that of `scope` counts.
        """
        carrier: ResumingCarrier | None = None
        with self.scope:
            carrier = await self._connect_first(task_status)
            while not carrier.is_over:
                await self._connect_again(carrier)

    async def _connect_first(self, task_status: trio.TaskStatus[ResumingCarrier]) -> ResumingCarrier:
        waits = delays(self._reconnect, self._random) if self._reconnect.retries_first else iter(())
        deadline = trio.current_time() + self._resume.max_session_age
        while True:
            try:
                async with self._open_carrier() as inner:
                    self.scope.shield = True  # goodbyes come first: whoever runs the session cancels this at its end
                    carrier = self._make(inner)
                    link = carrier.attach(inner)
                    task_status.started(carrier)
                    await _hold(link)
                return carrier
            except StreamsError:
                wait = next(waits, math.inf)
                if self.scope.shield or trio.current_time() + wait > deadline:
                    raise
                await trio.sleep(wait)

    def _make(self, inner: Carrier) -> ResumingCarrier:
        machine = Session(
            BinaryWire(),
            is_client=True,
            config=self._config,
            session_id=secrets.token_hex(16),
            max_retained_bytes=self._resume.max_retained_bytes,
            now=trio.current_time(),
        )
        return ResumingCarrier(machine, max_session_age=self._resume.max_session_age, peer=inner.peer)

    async def _connect_again(self, carrier: ResumingCarrier) -> None:
        """Find one more carrier for a session, and hold it until it is lost."""
        resumes = carrier.machine.resumes
        for wait in delays(self._reconnect, self._random):
            await trio.sleep(wait)
            if carrier.is_over:
                return
            try:
                async with self._open_carrier() as inner:
                    if not carrier.is_over:
                        await _hold(carrier.attach(inner))
            except StreamsError as exc:
                carrier.last_fault = str(exc)
            if carrier.machine.resumes != resumes:
                return  # and count the attempts anew
        carrier.give_up(f"max_attempts of {self._reconnect.max_attempts} were made")


async def _hold(link: Link) -> None:
    try:
        await link.wait_released()
    finally:
        await link.close()
