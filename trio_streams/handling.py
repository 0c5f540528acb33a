"""Runs what serves the streams that the peer opened, each in a block that owns the stream."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from trio_streams.connection import Connection
from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.streams.parking import Parking
from trio_streams.streams.wire import WireStream

__all__ = ["Handler", "Prepare", "Serving", "serve_owned"]

_logger: Final = logging.getLogger("trio_streams")

Handler: TypeAlias = Callable[[WireStream[bytes, bytes]], Awaitable[None]]
Prepare: TypeAlias = Callable[[WireStream[bytes, bytes]], Handler]
"""Called without waiting when a stream opens, before anything else of it is looked at; returns what serves it."""


async def serve_owned(connection: Connection, stream: WireStream[bytes, bytes], handler: Handler) -> None:
    """Serve a stream that the peer opened: its block is the handler's, and a handler that fails is logged.

    Cancellation: the stream is reset.
    """
    cancelled: BaseException | None
    failure: BaseException | None
    try:
        with connection.own(stream):
            await handler(stream)
    except BaseException as exc:
        cancelled, failure = split_cancelled(exc)
        if isinstance(failure, Exception):
            # The exit policy has told the peer; here it is told to the people who run the server.
            expected = not as_rpc_error(failure).is_our_fault
            _logger.log(
                logging.DEBUG if expected else logging.ERROR,
                "stream %s %r from %s failed",
                stream.id,
                stream.name,
                stream.peer,
                exc_info=failure,
            )
            if cancelled is None:
                return
            raise cancelled from None
        raise
    finally:
        # An exception holds this frame by its traceback: the frame must not hold the exception.
        cancelled = failure = None


class Serving(Parking):
    """The tasks that serve the streams of one connection; the base of what drives it.

    Args:
      nursery: for those tasks.
      prepare: what serves each stream; None to leave them to `accept_stream`.

    Attributes:
      connection: the streams'; whoever inherits this makes it.
    """

    __slots__ = ("_nursery", "_prepare", "_serving", "connection")

    def __init__(self, nursery: trio.Nursery, prepare: Prepare | None) -> None:
        super().__init__()
        self._nursery = nursery
        self._prepare = prepare
        self._serving = 0  # streams
        self.connection: Connection

    def _accept(self, stream: WireStream[bytes, bytes]) -> None:
        assert self._prepare is not None
        self._nursery.start_soon(self._serve, stream, self._prepare(stream))
        self._serving += 1

    async def _serve(self, stream: WireStream[bytes, bytes], handler: Handler) -> None:
        try:
            await serve_owned(self.connection, stream, handler)
        finally:
            self._serving -= 1
            self._wake()

    async def wait_served(self) -> None:
        """Wait until no handler runs. Shielded: they take part in every cancellation, and whoever waits sees them out."""
        with trio.CancelScope(shield=True):
            while self._serving:
                await self._park()
