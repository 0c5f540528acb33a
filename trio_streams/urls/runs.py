"""The connections of our dialect that a server has open, and how a drain ends them.

A drain tells each to open no more streams, and ends it once it has none and nothing is left to write. What is not over
at the deadline is cancelled; its goodbyes then get `GOODBYE_TIMEOUT`, whatever their own configuration says, and after
that the carrier is closed under them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import trio

from trio_streams.carrier import Carrier, PromptCarrier
from trio_streams.connection import Connection

__all__ = ["GOODBYE_TIMEOUT", "Run", "Runs"]

GOODBYE_TIMEOUT: Final = 0.3
"""Seconds for goodbyes after a drain's deadline."""

_LOOK_INTERVAL: Final = 0.02


class Run:
    """One accepted connection, from its handshake on.

    Attributes:
      scope: around everything that is done for it.
      connection: once there is one.
    """

    def __init__(self) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.connection: Connection | None = None
        self._carrier: _CuttableCarrier | None = None
        self._is_told = False

    def hold(self, carrier: Carrier) -> Carrier:
        """The carrier to run on: one that can be cut from outside."""
        self._carrier = _CuttableCarrier(carrier)
        return self._carrier

    def end_if_idle(self) -> None:
        """Tell the peer to open no more streams; end what has none."""
        connection = self.connection
        if connection is None:
            self.scope.cancel()  # still shaking hands
        elif not self._is_told:
            connection.go_away("the server is going away")
            self._is_told = True
        elif not connection.streams and not connection.machine.queued_bytes:
            self.scope.cancel()

    async def cut(self) -> None:
        """Close the carrier under whoever uses it. Cancellation: likewise."""
        if self._carrier is not None:
            await self._carrier.cut()


class Runs:
    """All of a server's."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()

    @contextmanager
    def open(self) -> Generator[Run, None, None]:
        """Have a connection ended by a drain for the length of a block."""
        run = Run()
        self._runs.add(run)
        try:
            with run.scope:
                yield run
        finally:
            self._runs.discard(run)

    def forget(self, run: Run) -> None:
        """Leave a connection alone: a session has taken it, which has a run of its own."""
        self._runs.discard(run)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(len(run.connection.streams) for run in self._runs if run.connection is not None)

    async def end_idle(self) -> None:
        """End each connection as soon as it is idle, until cancelled. Cancellation: the others stay open."""
        while True:
            for run in list(self._runs):
                run.end_if_idle()
            # Nobody reports that the last byte of a stream has left; for the length of a drain this is cheap.
            await trio.sleep(_LOOK_INTERVAL)

    async def cut_all(self) -> None:
        """Close the carriers under all. Cancellation: likewise."""
        async with trio.open_nursery() as nursery:
            for run in list(self._runs):
                nursery.start_soon(run.cut)


class _CuttableCarrier:
    """A carrier whose goodbye can be ended by somebody else; everything but that is the carrier's own."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._closing = trio.CancelScope()
        self._is_cut = False
        self.peer = carrier.peer
        # The very methods: a carrier's speed is not for this to spend.
        self.receive = carrier.receive
        self.send = carrier.send
        self.wait_writable = carrier.wait_writable
        if isinstance(carrier, PromptCarrier):
            self.is_writable = carrier.is_writable

    async def aclose(self) -> None:
        with trio.CancelScope() as self._closing:
            if self._is_cut:
                self._closing.cancel()
            await self._carrier.aclose()

    async def cut(self) -> None:
        self._is_cut = True
        self._closing.cancel()
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await self._carrier.aclose()
