"""The sending half of a stream on a connection.

Payloads go to the machine while there is credit, and the connection's send loop is kicked. Without credit senders
queue at a lock, which Trio hands on first come, first served; its holder waits to be told that the stream is writable.
"""

# Two bases with slots of their own cannot be combined, so `WireStream` declares the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import perf_counter
from typing import Final, TypeVar, cast

import trio

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.states import FINISHED, HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.streams.abc import SendStream
from trio_streams.streams.machine import Machine
from trio_streams.streams.pace import BATCH_ITEMS, BATCH_SECONDS, Pace

__all__ = ["WireSendHalf"]

S = TypeVar("S")

_INERT: Final = frozenset({list, tuple, range})  # their iterators run no code of anybody's
_SHORT_TEXT: Final = 1_000  # characters; twice that fits into a frame however JSON escapes them


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
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._try_send(payload):
            await self._send_slowly((payload,))
        elif self._send_pace.is_due():
            # Behind the item, as in Trio's own channels: it need not wait for a round of the others.
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._send_pace.restart()

    async def send_last(self, value: S) -> None:
        """Send one item that the end follows at once, so that both leave in one write; else as `send`.

        Cancellation: atomic. There is no schedule point but where it has to wait.
        """
        self._check_sendable()
        payload = self._payload(value)
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._try_send(payload):
            await self._send_slowly((payload,))

    def send_nowait(self, value: S) -> None:
        """Send one item if the stream takes it at once; see `SendStream.send_nowait`."""
        self._check_sendable()
        if not self._try_send(self._payload(value)):
            raise trio.WouldBlock

    def _try_send(self, payload: bytes) -> bool:
        over = self._send_over
        if over is not None:
            raise over()
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
            if not self._senders:
                self._finish_send()
                self._writers.unpark_all()  # who waits to write has waited for this queue, too
        self._send_pace.restart()

    def _send_some(self, payloads: Sequence[bytes]) -> int:
        try:
            taken = self._machine.send(self.id, payloads)
        except LocalProtocolError:
            if len(payloads) == 1:
                raise
            return self._send_each(payloads)
        if taken:
            self._items_sent += taken
            self._kick()
        return taken

    def _send_each(self, payloads: Sequence[bytes]) -> int:
        """One of a run is too large, and the machine takes none of it: those before it are sent all the same."""
        for taken, payload in enumerate(payloads):
            if not self._send_some((payload,)):
                return taken
        return len(payloads)  # pragma: no cover - one of them raises, or credit ends before it

    async def send_many(self, values: Iterable[S] | AsyncIterable[S]) -> int:
        """Send a run of items; see `SendStream.send_many`.

        Cancellation: a prefix has been sent; of a plain iterable up to 64 items more may have been taken.
        """
        if isinstance(values, AsyncIterable):
            return await self._send_as_made(values)
        sent = 0
        iterator = iter(values)
        size = BATCH_ITEMS if type(values) in _INERT else 1
        while True:
            started = perf_counter()
            payloads, failure = self._next_payloads(iterator, size)
            # What makes items slowly is not asked for as many before others get their turn.
            size = 1 if perf_counter() - started > BATCH_SECONDS else min(2 * size, BATCH_ITEMS)
            await trio.lowlevel.checkpoint()
            if payloads:
                self._check_sendable()
                taken = 0 if self._senders else self._send_some(payloads)
                if taken < len(payloads):
                    await self._send_slowly(payloads[taken:])
                sent += len(payloads)
            if failure is not None:
                raise failure
            if not payloads:
                return sent

    async def _send_as_made(self, values: AsyncIterable[S]) -> int:
        """Each item leaves as it is made, for nobody knows when the next one comes; the schedule points are behind."""
        pace = Pace()
        sent = 0
        encode = self._encode
        async for value in values:
            payload = cast("bytes", value) if encode is None else encode(value)
            if not self._try_send(payload):
                await self._send_slowly((payload,))
                pace.restart()
            elif pace.is_due():
                await trio.lowlevel.checkpoint()
                pace.restart()
            sent += 1
        if not sent:
            await trio.lowlevel.checkpoint()
        return sent

    def _next_payloads(self, values: Iterator[S], count: int) -> tuple[list[bytes], Exception | None]:
        """The next payloads, and what kept the one behind them from being made."""
        encode = self._encode
        batch = islice(values, count)
        payloads: list[bytes] = []
        try:
            # `extend` keeps what came before an exception.
            payloads.extend(cast("Iterator[bytes]", batch) if encode is None else map(encode, batch))
        except Exception as exc:  # noqa: BLE001 - raised behind the items before it
            return payloads, exc
        return payloads, None

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
        status = status or records.OK
        if self._senders:
            self._pending_end = status
        else:
            self._end_machine(status)  # may raise, and then nothing has changed
        self._send_over = self._closed_here("ended")

    def _end_machine(self, status: records.Status) -> None:
        if self._state.send_state is HalfState.OPEN:
            self._machine.end(self.id, status)
            self._kick()

    def _finish_send(self) -> None:
        """Send an END that had to wait. Nobody is there to hear that it can't travel, so what can travel does."""
        status, self._pending_end = self._pending_end, None
        if status is None:
            return
        try:
            self._end_machine(status)
        except LocalProtocolError as exc:
            message = f"{status.message[:_SHORT_TEXT]} ({str(exc)[:_SHORT_TEXT]})"
            code = status.code if status.code in Code.__members__ else Code.UNKNOWN.name
            # A lone surrogate is text that has no bytes.
            self._end_machine(records.Status(code, message.encode(errors="replace").decode()))

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
