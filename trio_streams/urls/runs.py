"""The connections of our dialect that a server has open, and how a drain ends them.

A drain tells each to open no more streams, and ends it once it has none and nothing is left to write. What is not over
at the deadline is cancelled; its goodbyes then get `GOODBYE_TIMEOUT`, whatever their own configuration says, and after
that the carrier is closed under them.

Nothing here waits around a connection, and none has a scope for this: an idle one would pay for it all the time.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, Self

import trio

from trio_streams.connection import Connection
from trio_streams.core.errors import StreamsError

__all__ = ["GOODBYE_TIMEOUT", "Run", "Runs"]

GOODBYE_TIMEOUT: Final = 0.3
"""Seconds for goodbyes after a drain's deadline."""

_LOOK_INTERVAL: Final = 0.02

_logger: Final = logging.getLogger("trio_streams")


class Run:
    """One accepted connection, from its handshake on; a context manager around what is done for it.

    The fault of an accepted connection ends it and nothing else: it is told to the people who run the server. What a host
    has accepted is its host's.

    Args:
      runs: those of its server.
      stream: what was accepted, to be closed at the end; None where a host does that.

    Attributes:
      connection: once there is one; where a host accepts, that is at once.
    """

    __slots__ = ("_is_ended", "_is_told", "_runs", "_stream", "connection")

    def __init__(self, runs: set[Run], stream: trio.SocketStream | None) -> None:
        self.connection: Connection | None = None
        self._runs = runs
        self._stream = stream
        self._is_told = False
        self._is_ended = False  # while it still shook hands

    def __enter__(self) -> Self:
        self._runs.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> bool:
        self._runs.discard(self)
        if self._stream is None:
            return False
        self._stream.socket.close()
        if isinstance(exc, StreamsError):
            _logger.info("a connection ended: %s", exc)
            return True
        return self._is_ended and isinstance(exc, trio.ClosedResourceError)

    def end_if_idle(self) -> None:
        """Tell the peer to open no more streams; end what has none."""
        connection = self.connection
        if connection is None:
            self._is_ended = True
            if self._stream is not None:
                self._stream.socket.close()  # whoever shakes hands is told
        elif not self._is_told:
            connection.go_away("the server is going away")
            self._is_told = True
        elif not connection.streams and not connection.machine.queued_bytes:
            connection.end(False)

    def cut(self) -> None:
        """Close the carrier, whoever uses it."""
        if self.connection is not None:
            self.connection.end(True)


class Runs:
    """All of a server's."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()

    def open(self, stream: trio.SocketStream | None = None) -> Run:
        """Have a connection ended by a drain for the length of a block; see `Run`."""
        return Run(self._runs, stream)

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

    def cut_all(self) -> None:
        """Close the carriers under all."""
        for run in list(self._runs):
            run.cut()
