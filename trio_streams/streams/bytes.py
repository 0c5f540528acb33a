"""A byte view: two halves that carry items of bytes, as a `trio.abc.HalfCloseableStream`.

Bytes have no item boundaries, so two tasks on one side would tear each other's data: they get
`trio.BusyResourceError`. Each call runs in a cancel scope of its own, so that `aclose` can wake a call that is waiting
without taking back what was sent before. And each call is a full checkpoint, as Trio asks of byte streams.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Generator, Iterator
from typing import Final

import trio

from trio_streams.config import MAX_FRAME_PAYLOAD_BYTES
from trio_streams.errors import RpcError
from trio_streams.streams.abc import ReceiveStream, SendStream

__all__ = ["ByteStream"]


class _Side:
    """One direction: one task at a time, until it is closed."""

    __slots__ = ("_name", "_scope", "is_closed")

    def __init__(self, name: str) -> None:
        self._name = name
        self._scope: trio.CancelScope | None = None
        self.is_closed = False

    @contextlib.contextmanager
    def turn(self) -> Generator[None, None, None]:
        self.check_free()
        self.check_open()
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None
        if scope.cancelled_caught:
            raise trio.ClosedResourceError(f"the stream was closed while another task used it to {self._name}")

    def check_free(self) -> None:
        if self._scope is not None:
            raise trio.BusyResourceError(f"another task is using this stream to {self._name}")

    def check_open(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError(f"this stream is closed: can't {self._name}")

    def close(self) -> None:
        self.is_closed = True
        if self._scope is not None:
            self._scope.cancel()


class ByteStream(trio.abc.HalfCloseableStream):
    """Two halves of byte items as one byte stream.

    The view owns both halves: nobody else should use them. For a stream that is both, pass it twice.

    Args:
      send_half: where bytes go; `send_eof` ends it.
      receive_half: where bytes come from.
      max_item_bytes: the largest item to make of what is sent; the default is one frame on a wire.

    Raises:
      ValueError: `max_item_bytes` is less than 1.
    """

    __slots__ = ("_max_item_bytes", "_receive_half", "_receiving", "_rest", "_send_half", "_sending")

    def __init__(
        self,
        send_half: SendStream[bytes],
        receive_half: ReceiveStream[bytes],
        *,
        max_item_bytes: int = MAX_FRAME_PAYLOAD_BYTES,
    ) -> None:
        if max_item_bytes < 1:
            raise ValueError(f"max_item_bytes must be at least 1, not {max_item_bytes!r}")
        self._send_half: Final = send_half
        self._receive_half: Final = receive_half
        self._max_item_bytes: Final = max_item_bytes
        self._sending: Final = _Side("send")
        self._receiving: Final = _Side("receive")
        # What is left of the last item, as a view, so that small reads of a large item copy each byte once.
        self._rest = memoryview(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, in items of at most `max_item_bytes`.

        Args:
          data: the bytes; they are copied, unless they are `bytes` that fit into one item.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side was closed or ended.
          trio.BrokenResourceError: the peer stopped or the connection was lost.

        Cancellation: a prefix of the data may have been sent, and there is no way to know which.
        """
        with self._sending.turn():
            await trio.lowlevel.checkpoint()
            if type(data) is bytes and 0 < len(data) <= self._max_item_bytes:
                await self._send_half.send(data)
            elif data:
                await self._send_half.send_many(self._cut(memoryview(data).cast("B")))

    def _cut(self, view: memoryview) -> Iterator[bytes]:
        for start in range(0, len(view), self._max_item_bytes):
            yield bytes(view[start : start + self._max_item_bytes])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for an item.

        Raises:
          Exception: as `send_all`.

        Cancellation: atomic; nothing has changed.
        """
        with self._sending.turn():
            await trio.lowlevel.checkpoint()
            await self._send_half.wait_writable()

    async def send_eof(self) -> None:
        """End the sending half; receiving goes on. Idempotent.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: the stream was closed.

        Cancellation: the half is ended even so.
        """
        self._sending.check_free()
        if self._receiving.is_closed:
            raise trio.ClosedResourceError("this stream is closed: can't end it")
        self._sending.close()
        self._send_half.end()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Take the bytes that are there, waiting until there is at least one.

        Args:
          max_bytes: the most to take; None for one item's.

        Returns:
          The bytes; empty at the end, then and ever after.

        Raises:
          ValueError: `max_bytes` is less than 1.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: the stream was closed here.
          trio.BrokenResourceError: the peer reset the half, ended it with an error, or the connection was lost.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        data = b""
        with self._receiving.turn():
            await trio.lowlevel.checkpoint()
            try:
                # An empty item is legal in a half of items, but here it would read as the end.
                while not self._rest:
                    self._rest = memoryview(await self._receive_half.receive())
            except trio.EndOfChannel:
                return b""
            except RpcError as exc:
                raise trio.BrokenResourceError(f"the peer ended the stream with {exc}") from exc
            count = len(self._rest) if max_bytes is None else max_bytes
            data, self._rest = bytes(self._rest[:count]), self._rest[count:]
        return data

    async def aclose(self) -> None:
        """Close both sides: what was sent is still delivered, unread bytes are dropped, calls that wait are woken.

        Cancellation: the stream is closed even so. Idempotent.
        """
        self._sending.close()
        self._receiving.close()
        self._rest = memoryview(b"")
        self._send_half.end()
        self._receive_half.stop()
        await trio.lowlevel.checkpoint()
