"""Reading a byte stream, in one frame where Trio has six.

What waits for a socket through `SocketStream.receive_some` holds a coroutine for each layer below, and a context manager
with a generator: 1.5 KiB for as long as the connection is silent, which most are most of the time.
"""

from __future__ import annotations

import os
import sys

import trio

__all__ = ["receive_some"]


async def receive_some(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes | bytearray:
    """The next bytes, as the stream's own `receive_some` gives them.

    Args:
      stream: a socket is read by its descriptor; every other stream reads for itself.
      max_bytes: what one read takes at most.

    Returns:
      At least one byte, or nothing at the stream's end.

    Raises:
      trio.BrokenResourceError: the connection broke; its cause says why.
      trio.ClosedResourceError: this side was closed.
    Cancellation: atomic on sockets; elsewhere as the stream says.
    """
    if sys.platform == "win32" or not isinstance(stream, trio.SocketStream):  # there a descriptor is no file
        return await stream.receive_some(max_bytes)
    await trio.lowlevel.checkpoint_if_cancelled()
    data = _read(stream.socket, max_bytes)
    if data is not None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return data
    while data is None:
        await trio.lowlevel.wait_readable(stream.socket)
        data = _read(stream.socket, max_bytes)
    return data


def _read(socket: trio.socket.SocketType, max_bytes: int) -> bytes | None:
    """What is here; None for nothing."""
    # Asked each time: the number of a closed descriptor may be somebody else's by now.
    descriptor = socket.fileno()
    if descriptor < 0:
        raise trio.ClosedResourceError("this side of the connection was closed")
    try:
        return os.read(descriptor, max_bytes)
    except BlockingIOError:
        return None
    except OSError as exc:
        raise trio.BrokenResourceError(f"the connection broke: {exc}") from exc
