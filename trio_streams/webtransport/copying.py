"""From one stream into another, or back into itself: never more than a chunk at a time, so that whoever reads slowly slows
down whoever writes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from trio_streams.errors import StreamError, StreamReset, StreamStopped

if TYPE_CHECKING:
    from trio_streams.webtransport.stream_receiving import ReceiveHalf
    from trio_streams.webtransport.stream_sending import SendHalf
    from trio_streams.webtransport.streams import WebTransportStream

__all__ = ["copy_stream_data", "echo_stream"]

_ECHO_BYTES: Final = 65_536


async def copy_stream_data(*, source: ReceiveHalf, destination: SendHalf, chunk_size: int = 8192) -> int:
    """Copy all that a stream brings into another one, and the end behind it.

    An abandoned half is passed on, too: what the source's peer resets is reset at the destination, and what the destination's
    peer stops is stopped at the source, with the same code. A stop is noticed with the next chunk.

    Args:
      source: where bytes come from: a receive stream, or a bidirectional one.
      destination: where they go: a send stream, or a bidirectional one, whose own incoming half is left alone.
      chunk_size: the most to read at once, in bytes.

    Returns:
      How many bytes were copied.

    Raises:
      ValueError: `chunk_size` is less than 1.
      StreamReset: the source's peer abandoned it.
      StreamStopped: the destination's peer refuses more.
      ConnectionLost: one of the connections broke, or the session was closed.
      trio.ClosedResourceError: one of the halves is closed here.

    Cancellation: both streams stay open; up to a chunk was read and is not, or not wholly, written.
    """
    copied = 0
    try:
        while chunk := await source.receive_some(chunk_size):
            is_last = source.is_at_end
            await destination.write(chunk, end_stream=is_last)
            copied += len(chunk)
            if is_last:
                return copied
    except StreamReset as exc:
        destination.reset(_number(exc))
        raise
    except StreamStopped as exc:
        source.stop(_number(exc))
        raise
    destination.end()
    return copied


async def echo_stream(*, stream: WebTransportStream) -> None:
    """Write back all that a stream brings, as fast as its peer reads it, and end our half where the peer ends its own.

    A peer that resets its half has ours reset, and one that stops ours has its own stopped, by the same code: either way the
    echo is over, and nothing is raised.

    Args:
      stream: what comes on it goes back on it.

    Raises:
      ConnectionLost: the connection broke, or the session was closed.
      trio.ClosedResourceError: the stream is closed here.

    Cancellation: the stream stays open; up to 65,536 bytes were read and are not, or not wholly, written.
    """
    with contextlib.suppress(StreamReset, StreamStopped):
        await copy_stream_data(source=stream, destination=stream, chunk_size=_ECHO_BYTES)


def _number(error: StreamError) -> int:
    """The application's code of an error of the peer's; our table's where there is none."""
    code: int | None = getattr(error, "application_code", None)
    return int(error.code) if code is None else code
