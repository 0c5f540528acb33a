"""Runs what serves a stream that the peer opened, in a block that owns the stream."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from trio_streams.connection import Connection
from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.streams.wire import WireStream

__all__ = ["Handler", "serve_owned"]

_logger: Final = logging.getLogger("trio_streams")

Handler: TypeAlias = Callable[[WireStream[bytes, bytes]], Awaitable[None]]


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
