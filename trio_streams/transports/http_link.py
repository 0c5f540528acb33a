"""What the lean host does with a socket: read, write without waiting, write with waiting, hang up.

Trio's `SocketStream` is made for one task that awaits each write. Here one task writes for many connections, and a write
that the kernel takes whole needs no schedule point, so a plain socket is used through its descriptor: the waiting is
Trio's (`wait_readable`, `wait_writable`), the system calls are ours. TLS is made in memory before them (`http_tls`). Only
on Windows everything goes through the stream's own methods, one task a direction.

A descriptor is a number that the kernel gives out again. Between the moment that a wait is over and the moment its task
runs, another task may have closed the socket, so each system call looks at `_is_closed` first, and closing goes through
here.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, Protocol

import trio

from trio_streams.carrier import RECEIVE_BYTES

__all__ = ["ABORT", "Link", "SocketLink", "StreamLink"]

ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing drops what was not sent and resets the connection."""


class Link(Protocol):
    """One connection's bytes. Every method may raise what the stream below does, or `OSError`."""

    def take_over(self) -> trio.abc.Stream:
        """The connection as a stream, for another protocol; the link is not used any more."""
        ...

    def encode(self, data: bytes) -> bytes:
        """What is to be written for `data`, which is all written before more is encoded."""
        ...

    async def receive(self) -> bytes:
        """The next bytes; empty at their end. Cancellation: atomic."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Write what is taken without waiting; how much that is. As for `send`, it was encoded."""
        ...

    async def send(self, data: memoryview) -> None:
        """Write all of it. Cancellation: part of it is written."""
        ...

    async def say_goodbye(self) -> None:
        """Wait until the client has ended its side too, where that is needed for it to see the end of ours."""
        ...

    def end_sending(self) -> None:
        """Tell the client that nothing more comes, where that can be told without waiting."""
        ...

    def close(self) -> None:
        """Close, and wake who waits with `ClosedResourceError`. Idempotent."""
        ...

    def abort(self) -> None:
        """Reset the connection, and close as above."""
        ...


class SocketLink:
    """A plain socket, by its descriptor."""

    __slots__ = ("_fd", "_is_closed", "_stream")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._is_closed = False

    def take_over(self) -> trio.abc.Stream:
        """See `Link`."""
        return self._stream

    def encode(self, data: bytes) -> bytes:
        """See `Link`."""
        return data

    async def receive(self) -> bytes:
        """See `Link`."""
        data: bytes | None = None
        while data is None:
            await self.wait_readable()
            data = self.receive_nowait()
        return data

    def receive_nowait(self) -> bytes | None:
        """What is here; None for nothing, which kernels may wake for, too."""
        self._check()
        try:
            return os.read(self._fd, RECEIVE_BYTES)
        except BlockingIOError:
            return None

    def wait_readable(self) -> Awaitable[None]:
        """Wait for input, or for `interrupt`; it raises `ClosedResourceError` then, as for a link that was closed."""
        self._check()
        return trio.lowlevel.wait_readable(self._fd)  # noqa: ASYNC105 - a frame less for each idle connection

    def wait_writable(self) -> Awaitable[None]:
        """Wait until the kernel takes bytes."""
        self._check()
        return trio.lowlevel.wait_writable(self._fd)  # noqa: ASYNC105 - as above

    def interrupt(self) -> None:
        """End a `wait_readable`. Not for a link from which somebody receives."""
        if not self._is_closed:
            # It only wakes who waits, and closes nothing. That needs no scope, which would cost each idle connection
            # most of a KiB.
            trio.lowlevel.notify_closing(self._fd)

    def send_nowait(self, data: bytes) -> int:
        """See `Link`."""
        self._check()
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    async def send(self, data: memoryview) -> None:
        """See `Link`."""
        while data:
            with suppress(trio.ClosedResourceError):  # perhaps it was but interrupted
                await self.wait_writable()
            self._check()
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                pass

    async def say_goodbye(self) -> None:
        """See `Link`."""
        while await self.receive():
            pass

    def end_sending(self) -> None:
        """See `Link`."""
        if not self._is_closed:
            with suppress(OSError):
                self._stream.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Link`."""
        if not self._is_closed:
            self._is_closed = True
            self._stream.socket.close()

    def abort(self) -> None:
        """See `Link`."""
        if not self._is_closed:
            with suppress(OSError):
                self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.close()

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this side of the connection was closed")


class StreamLink:
    """Where descriptors are no files: a socket, or TLS over one, by its stream."""

    __slots__ = ("_socket", "_stream")

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = SocketLink(stream.transport_stream if isinstance(stream, trio.SSLStream) else stream)

    def take_over(self) -> trio.abc.Stream:
        """See `Link`."""
        return self._stream

    def encode(self, data: bytes) -> bytes:
        """See `Link`."""
        return data

    async def receive(self) -> bytes:
        """See `Link`."""
        return bytes(await self._stream.receive_some(RECEIVE_BYTES))

    def send_nowait(self, data: bytes) -> int:
        """See `Link`."""
        return 0

    async def send(self, data: memoryview) -> None:
        """See `Link`."""
        await self._stream.send_all(data)

    async def say_goodbye(self) -> None:
        """See `Link`."""
        await self._stream.aclose()

    def end_sending(self) -> None:
        """TLS's goodbye would have to wait: the connection is just closed later."""

    def close(self) -> None:
        """See `Link`."""
        self._socket.close()

    def abort(self) -> None:
        """See `Link`."""
        self._socket.abort()
