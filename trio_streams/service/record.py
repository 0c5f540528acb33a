"""One line of the access log for each stream of our dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trio_streams.codes import Code
from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.service.access import OnAccess, StreamRecord
from trio_streams.streams.wire import WireStream

__all__ = ["record_stream"]


async def record_stream(
    handler: Callable[[WireStream[bytes, bytes]], Awaitable[None]],
    transport: str,
    on_access: OnAccess,
    stream: WireStream[bytes, bytes],
) -> None:
    """Run the handler of an accepted stream, and tell of it when it is over, however it ends.

    Args:
      handler: what serves the stream.
      transport: what carries it, for people.
      on_access: is told.
      stream: as it was opened.
    """
    started = trio.current_time()
    code = Code.OK.name
    try:
        await handler(stream)
    except BaseException as exc:
        code = _code(exc, stream)
        raise
    finally:
        figures = stream.statistics()
        on_access(
            StreamRecord(
                procedure=stream.name,
                transport=transport,
                peer=stream.peer,
                code=code,
                items_received=figures.items_received,
                items_sent=figures.items_sent,
                received_bytes=figures.bytes_received or 0,
                sent_bytes=figures.bytes_sent or 0,
                duration=trio.current_time() - started,
            )
        )


def _code(exc: BaseException, stream: WireStream[bytes, bytes]) -> str:
    """How the exit policy ends a stream that is left by this."""
    _, failure = split_cancelled(exc)
    if failure is not None:
        return as_rpc_error(failure).code
    is_late = stream.cancel_reason is None and trio.current_time() >= stream.deadline
    return (Code.DEADLINE_EXCEEDED if is_late else Code.CANCELLED).name
