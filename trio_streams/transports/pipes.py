"""A carrier over two pipes, and a process's standard input and output as such.

A pipe has no way to say that the other side is gone and did not mean it: both look like the end of the input. But a
carrier that says goodbye goes on reading until it is answered, and a process that dies closes both its pipes at once.
So at the end of the input one look at the other pipe tells which it was.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import AsyncGenerator

import trio

from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import ByteCarrier, ListenError

__all__ = ["PipeCarrier", "open_stdio"]


class _Pair(trio.abc.HalfCloseableStream):
    """Two pipes as one stream: `trio.StapledStream`, but for the order in which it closes.

    What it reads from is closed first, as when a process dies: the peer sees no goodbye.
    """

    def __init__(self, sending: trio.lowlevel.FdStream, receiving: trio.lowlevel.FdStream) -> None:
        self.sending = sending
        self.receiving = receiving

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.sending.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.sending.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self.receiving.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.sending.aclose()

    async def aclose(self) -> None:
        try:
            await self.receiving.aclose()
        finally:
            await self.sending.aclose()


class PipeCarrier(ByteCarrier):
    """A carrier over a pair of file descriptors: pipes, or anything else that can be polled. Not on Windows.

    Args:
      receive_fd: read from; the carrier owns it, and makes it non-blocking.
      send_fd: written to; likewise. It must not be the same as `receive_fd`; a duplicate will do.
      peer: who is on the other side, for people.
      close_timeout: seconds that `aclose` waits for the peer's end of the goodbye.
    """

    def __init__(self, receive_fd: int, send_fd: int, *, peer: str = "pipe", close_timeout: float = 2.0) -> None:
        self._sending = trio.lowlevel.FdStream(send_fd)
        pair = _Pair(self._sending, trio.lowlevel.FdStream(receive_fd))
        super().__init__(pair, peer=peer, close_timeout=close_timeout)
        self._was_goodbye: bool | None = None

    async def receive(self) -> bytes:
        """Take the next bytes, at most 64 KiB; `b""` once the peer has ended its side and still listens.

        Raises:
          ConnectionLost: the connection broke, or the peer closed both pipes without waiting for our goodbye.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        data = await super().receive()
        if data:
            return data
        if self._was_goodbye is None:
            self._was_goodbye = not _is_refused(self._sending.fileno())
        if not self._was_goodbye:
            raise ConnectionLost(f"connection to {self._peer} lost: it has gone without a goodbye")
        return b""


def _is_refused(descriptor: int) -> bool:
    """Whether nobody will ever read what is written to a pipe; False for one that is closed on this side."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are told unasked
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@contextlib.asynccontextmanager
async def open_stdio(*, close_timeout: float = 2.0) -> AsyncGenerator[PipeCarrier, None]:
    """Take this process's standard input and output as a carrier, for the rest of its life.

    They are moved away first: what the program prints from then on, and what it has printed and Python still holds, goes
    to its standard error and can't come between two frames. Its standard input is empty.

    Args:
      close_timeout: as for `PipeCarrier`.

    Yields:
      The carrier, closed forcefully at the end of the block if it is still open.

    Raises:
      ListenError: one of the two is a terminal or a file; nothing was moved.
    """
    for descriptor, name in ((0, "input"), (1, "output")):
        _check_pipe(descriptor, name)
    receive_fd, send_fd = os.dup(0), os.dup(1)
    _redirect()
    carrier = PipeCarrier(receive_fd, send_fd, peer="stdio", close_timeout=close_timeout)
    try:
        yield carrier
    finally:
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await carrier.aclose()


def _check_pipe(descriptor: int, name: str) -> None:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as exc:
        raise ListenError(f"cannot serve on stdio: standard {name} is closed") from exc
    if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
        what = "a terminal" if os.isatty(descriptor) else "a file or a device"
        raise ListenError(f"cannot serve on stdio: standard {name} is {what}, and has to be a pipe")


def _redirect() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        is_apart = not os.path.samestat(os.fstat(1), os.fstat(2))  # `2>&1` would bring what is printed right back
    except OSError:
        is_apart = False
    os.dup2(2 if is_apart else null, 1)
    if not is_apart:
        os.dup2(null, 2)
    os.close(null)
    with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or replaced by something else
        sys.stdout.flush()
