"""A link inside one process, with the manners of a socket: bounded, lossless, and able to break.

Bytes keep their order but not their boundaries. A full buffer makes the sender wait, as a full kernel buffer does;
`lose` breaks the link in both directions at once, as a pulled cable does.
"""

from __future__ import annotations

from collections import deque

import attrs
import trio

from trio_streams.errors import ConnectionLost
from trio_streams.transports.carrier import RECEIVE_BYTES

__all__ = ["MemoryCarrier", "MemoryStatistics", "memory_carrier_pair"]


@attrs.frozen
class MemoryStatistics:
    """What one side of a memory link holds.

    Attributes:
      receivable_bytes: bytes that wait to be received on this side.
      unsent_bytes: bytes this side has sent and the other one has not received.
      max_buffered_bytes: the bound of both.
      tasks_waiting_receive: tasks of this side that wait for bytes.
      tasks_waiting_send: tasks of this side that wait for room.
    """

    receivable_bytes: int
    unsent_bytes: int
    max_buffered_bytes: int
    tasks_waiting_receive: int
    tasks_waiting_send: int


class _Pipe:
    """One direction. Every change of state wakes whoever waits for it; they look again by themselves."""

    def __init__(self, max_buffered_bytes: int) -> None:
        self.max_buffered_bytes = max_buffered_bytes
        self.chunks: deque[memoryview] = deque()
        self.size: int = 0
        self.is_ended = False  # the sender said goodbye: what is buffered can still be received
        self.is_refused = False  # the receiver left: sending is pointless
        self.lost: str | None = None
        self.receivers: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.senders: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        self.receivers.unpark_all()
        self.senders.unpark_all()

    def lose(self, reason: str) -> None:
        self.lost = reason
        self.drop()
        self.wake()

    def drop(self) -> None:
        self.chunks.clear()
        self.size = 0

    def put(self, data: memoryview) -> int:
        """Take what there is room for; the number of bytes taken."""
        taken = data[: self.max_buffered_bytes - self.size]
        if taken:
            self.chunks.append(taken)
            self.size += len(taken)
            self.receivers.unpark_all()
        return len(taken)

    def get(self) -> bytes:
        """Everything there is, up to what one read of a socket would take."""
        parts: list[memoryview] = []
        room = RECEIVE_BYTES
        while self.chunks and room:
            chunk = self.chunks.popleft()
            if len(chunk) > room:
                self.chunks.appendleft(chunk[room:])
                chunk = chunk[:room]
            parts.append(chunk)
            room -= len(chunk)
        data = b"".join(parts)
        self.size -= len(data)
        self.senders.unpark_all()
        return data


class MemoryCarrier:
    """One side of an in-process link; made by `memory_carrier_pair`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, peer: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._peer = peer
        self._is_closed = False

    @property
    def peer(self) -> str:
        """The name of the other side."""
        return self._peer

    def statistics(self) -> MemoryStatistics:
        """How full the link is, and who waits."""
        return MemoryStatistics(
            receivable_bytes=self._incoming.size,
            unsent_bytes=self._outgoing.size,
            max_buffered_bytes=self._outgoing.max_buffered_bytes,
            tasks_waiting_receive=len(self._incoming.receivers),
            tasks_waiting_send=len(self._outgoing.senders),
        )

    def lose(self, reason: str = "the memory link was cut") -> None:
        """Break the link in both directions at once; what is buffered is gone.

        Both sides, and every task that waits on them, get `ConnectionLost(reason)`.
        """
        self._incoming.lose(reason)
        self._outgoing.lose(reason)

    async def receive(self) -> bytes:
        """Take the next bytes, at most 64 KiB; `b""` once the other side has closed.

        Raises:
          ConnectionLost: the link was cut.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while True:
            self._check(pipe)
            if pipe.size:
                return pipe.get()
            if pipe.is_ended:
                return b""
            await pipe.receivers.park()

    async def send(self, data: bytes) -> None:
        """Send all of `data`, waiting while the buffer is full.

        Raises:
          ConnectionLost: the link was cut, or the other side has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: a beginning of `data` may have been sent.
        """
        await trio.lowlevel.checkpoint()
        rest = memoryview(bytes(data))
        while True:
            self._check_sending()
            rest = rest[self._outgoing.put(rest) :]
            if not rest:
                return
            await self._outgoing.senders.park()

    async def wait_writable(self) -> None:
        """Wait until the buffer has room for at least one byte.

        Raises:
          ConnectionLost: the link was cut, or the other side has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        await trio.lowlevel.checkpoint()
        self._check_sending()
        while self._outgoing.size >= self._outgoing.max_buffered_bytes:
            await self._outgoing.senders.park()
            self._check_sending()

    async def aclose(self) -> None:
        """Close this side: the other one receives what was sent and then a clean end. Idempotent.

        Cancellation: closes all the same.
        """
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.is_ended = True
            self._incoming.is_refused = True
            self._incoming.drop()
            self._outgoing.wake()
            self._incoming.wake()
        await trio.lowlevel.checkpoint()

    def _check(self, pipe: _Pipe) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this side of the memory link was closed")
        if pipe.lost is not None:
            raise ConnectionLost(pipe.lost)

    def _check_sending(self) -> None:
        self._check(self._outgoing)
        if self._outgoing.is_refused:
            raise ConnectionLost(f"cannot send: {self._peer} has closed")


def memory_carrier_pair(max_buffered_bytes: int = RECEIVE_BYTES) -> tuple[MemoryCarrier, MemoryCarrier]:
    """Make an in-process link.

    Args:
      max_buffered_bytes: what each direction holds before its sender waits.

    Returns:
      Its two sides; which one is which does not matter.

    Raises:
      ValueError: the bound is not positive.
    """
    if max_buffered_bytes < 1:
        raise ValueError(f"max_buffered_bytes must be at least 1, not {max_buffered_bytes}")
    there, back = _Pipe(max_buffered_bytes), _Pipe(max_buffered_bytes)
    return MemoryCarrier(back, there, "memory:right"), MemoryCarrier(there, back, "memory:left")
