"""Writing what lies in several places with one system call, so that nobody has to copy it into one place before."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Final, TypeAlias

import trio

__all__ = ["Chunk", "send_some"]

Chunk: TypeAlias = "bytes | memoryview"

_CAN_GATHER: Final = hasattr(stdlib_socket.socket, "sendmsg")  # not on Windows

_GATHER_BYTES: Final = 16_384
"""From here on a copy costs more than to name each chunk to the kernel."""

_MOST_CHUNKS: Final = 512
"""In one call; Linux, macOS and the BSDs take 1,024 (`IOV_MAX`)."""


async def send_some(socket: trio.socket.SocketType, chunks: list[Chunk]) -> None:
    """Send as much of `chunks` as the kernel takes at once, and take it out of the list.

    Args:
      socket: a stream socket.
      chunks: what is to be sent, in order; at least one byte.

    Raises:
      OSError: as the kernel says it.
      trio.ClosedResourceError: the socket was closed here while it waited.
    Cancellation: atomic; nothing was sent then, and the list holds the same bytes.
    """
    if len(chunks) > 1 and (not _CAN_GATHER or sum(map(len, chunks)) < _GATHER_BYTES):
        chunks[:] = [b"".join(chunks)]
    if len(chunks) == 1:
        sent = await socket.send(chunks[0])
    else:
        sent = await socket.sendmsg(chunks[:_MOST_CHUNKS])
    for index, chunk in enumerate(chunks):
        size = len(chunk)
        if sent < size:
            del chunks[:index]
            if sent:
                chunks[0] = memoryview(chunk)[sent:]
            return
        sent -= size
    chunks.clear()
