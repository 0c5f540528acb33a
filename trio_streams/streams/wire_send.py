"""The sending half of a stream on a connection.

Payloads go to the machine while there is credit, and the connection's send loop is kicked. Without credit senders
queue at a lock, which Trio hands on first come, first served; its holder waits to be told that the stream is writable.
"""

# Two bases with slots of their own cannot be combined, so `WireStream` declares the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar, cast

import trio

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.states import FINISHED, HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.streams.abc import SendStream
from trio_streams.streams.machine import Machine
from trio_streams.streams.pace import BATCH_ITEMS, Pace

__all__ = ["WireSendHalf"]

S = TypeVar("S")


class WireSendHalf(SendStream[S]):
    """Sending; the state lives in `WireStream`, which inherits this."""

    __slots__ = ()

    id: int
    name: str
    _machine: Machine
    _kick: Callable[[], None]
    _state: StreamMachine
    _encode: Callable[[S], bytes] | None
    _send_over: Callable[[], Exception] | None
    _pending_end: records.Status | None
    _senders: int
    _turn: trio.Lock | None
    _writers: trio.lowlevel.ParkingLot
    _send_pace: Pace
    _items_sent: int

    def _begin_sending(self) -> None:
        self._send_over = None
        self._pending_end = None
        self._senders = 0
        self._turn = None
        self._writers = trio.lowlevel.ParkingLot()
        self._send_pace = Pace()
        self._items_sent = 0

    def _closed_here(self, how: str) -> Callable[[], Exception]:
        raise NotImplementedError

    def _payload(self, value: S) -> bytes:
        encode = self._encode
        return encode(value) if encode is not None else cast(bytes, value)

    def _check_sendable(self) -> None:
        over = self._send_over
        if over is not None:
            raise over()

    async def send(self, value: S) -> None:
        """Send one item; see `SendStream.send`.

        Raises:
          LocalProtocolError: the item is larger than the peer takes.
          CodecError: it is not of the declared type.
        """
        self._check_sendable()
        payload = self._payload(value)
        await self._send_pace.step()
        if not self._try_send(payload):
            await self._send_slowly((payload,))

    def send_nowait(self, value: S) -> None:
        """Send one item if the stream takes it at once; see `SendStream.send_nowait`."""
        self._check_sendable()
        if not self._try_send(self._payload(value)):
            raise trio.WouldBlock

    def _try_send(self, payload: bytes) -> bool:
        self._check_sendable()
        if self._senders or not self._machine.send(self.id, (payload,)):
            return False
        self._items_sent += 1
        self._kick()
        return True

    async def _send_slowly(self, payloads: Sequence[bytes]) -> None:
        """Wait for the turn, then send all of a run as credit comes in."""
        turn = self._turn
        if turn is None:
            turn = self._turn = trio.Lock()
        self._senders += 1
        try:
            async with turn:
                sent = 0
                while True:
                    over = self._send_over
                    if over is not None and self._pending_end is None:
                        raise over()
                    sent += self._send_some(payloads[sent:])
                    if sent == len(payloads):
                        break
                    await self._writers.park()
        finally:
            self._senders -= 1
            if self._pending_end is not None and not self._senders:
                self._finish_send()
        self._send_pace.restart()

    def _send_some(self, payloads: Sequence[bytes]) -> int:
        taken = self._machine.send(self.id, payloads)
        if taken:
            self._items_sent += taken
            self._kick()
        return taken

    async def send_many(self, values: Iterable[S] | AsyncIterable[S]) -> int:
        """Send a run of items; see `SendStream.send_many`.

        Cancellation: a prefix has been sent; of a plain iterable up to 64 items more may have been taken.
        """
        if isinstance(values, AsyncIterable):
            return await super().send_many(values)
        sent = 0
        iterator = iter(values)
        encode = self._encode
        while True:
            batch = list(islice(iterator, BATCH_ITEMS))
            await trio.lowlevel.checkpoint()
            if not batch:
                return sent
            self._check_sendable()
            payloads = cast("list[bytes]", batch) if encode is None else [encode(value) for value in batch]
            taken = 0 if self._senders else self._send_some(payloads)
            if taken < len(payloads):
                await self._send_slowly(payloads[taken:])
            sent += len(payloads)

    async def wait_writable(self) -> None:
        """Wait until sending is worth a try; see `SendStream.wait_writable`."""
        await trio.lowlevel.checkpoint()
        while self._send_over is None and not (self._machine.is_writable(self.id) and not self._senders):
            await self._writers.park()

    async def send_header(self, metadata: Mapping[str, str]) -> None:
        """Send the head of our half, before its first item.

        Args:
          metadata: string pairs; together with their frame at most 16 KiB.

        Raises:
          LocalProtocolError: items were sent before, or the head is too large.
          Exception: as `send`.

        Cancellation: atomic.
        """
        self._check_sendable()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._machine.send_header(self.id, metadata)
        self._kick()

    def end(self, status: records.Status | None = None) -> None:
        """Finish our half in order; see `SendStream.end`."""
        if self._send_over is not None:
            return
        self._send_over = self._closed_here("ended")
        self._pending_end = status or records.OK
        if not self._senders:
            self._finish_send()

    def _finish_send(self) -> None:
        status, self._pending_end = self._pending_end, None
        if status is not None and self._state.send_state is HalfState.OPEN:
            self._machine.end(self.id, status)
            self._kick()

    def reset(self, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon our half; see `SendStream.reset`."""
        if self._state.send_state in FINISHED:
            return
        self._pending_end = None
        self._send_over = self._closed_here("reset")
        self._machine.reset(self.id, code, reason)
        self._writers.unpark_all()
        self._kick()

    def on_writable(self) -> None:
        """Our half takes items again."""
        self._writers.unpark_all()

    def _end_sending(self, over: Callable[[], Exception]) -> None:
        if self._send_over is None or self._pending_end is not None:
            self._pending_end = None
            self._send_over = over
        self._writers.unpark_all()
