"""The queue between the two ends of an in-process stream: the paths that every item takes.

Items wait in one place only, a `trio.open_memory_channel(high_water_mark)`, and so do senders that found it full:
Trio keeps both in order. Receivers wait in a queue of our own, because `pause()` must hold back a receiver that is
already waiting, and a receiver inside the memory channel would be given the next item whatever we say.

Invariants, between any two awaits:
- While not paused, a waiting receiver means that the channel is empty and nobody waits to send. So an item goes
  straight to the first waiting receiver, else into the buffer, else its sender waits.
- The channel's ends stay open until nothing waits in it: closing the sending end would wake its own blocked senders,
  closing the receiving end drops what it holds. END therefore only marks the state, and the last item closes.
- `_put` and `_take` are the memory channel's own methods exactly while putting and taking need no thought; everything
  unusual exchanges them for the careful ones. This is what makes an item cheap: tests/benchmarks/bench_inprocess.py.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from itertools import islice
from operator import length_hint
from time import perf_counter
from typing import Any, Final, NoReturn, Self, TypeVar

import outcome
import trio
from trio.lowlevel import Abort, ParkingLot, Task, checkpoint, checkpoint_if_cancelled

from trio_streams.core.records import OK
from trio_streams.core.states import HalfState, Trigger, advance
from trio_streams.errors import RpcError
from trio_streams.streams.abc import ReceiveStream, SendStream
from trio_streams.streams.pace import BATCH_ITEMS, BATCH_SECONDS, next_stride

__all__ = ["QueueStream"]

T = TypeVar("T")

_OPEN: Final = HalfState.OPEN
_CLOSING: Final = HalfState.CLOSING
_INERT: Final = frozenset({list, tuple, range})  # their iterators run no code of anybody's
_LIVE: Final = frozenset({HalfState.OPEN, HalfState.CLOSING})


class QueueStream(SendStream[T], ReceiveStream[T]):
    """Moves items; when and how it all ends is `LocalStream`'s business.

    Args:
      high_water_mark: how many items wait before senders do; 0 makes every item a rendezvous.
    """

    __slots__ = (
        "_channel_in",
        "_channel_out",
        "_look",
        "_looked",
        "_paused",
        "_put",
        "_readers",
        "_receive_error",
        "_receive_limit",
        "_receive_until",
        "_received",
        "_remaining",
        "_room",
        "_send_error",
        "_send_left",
        "_send_until",
        "_state",
        "_status",
        "_stride",
        "_take",
        "high_water_mark",
    )

    def __init__(self, high_water_mark: int) -> None:
        self.high_water_mark: Final = high_water_mark
        self._channel_in, self._channel_out = trio.open_memory_channel[T](high_water_mark)
        self._put: Callable[[T], None] = self._channel_in.send_nowait
        self._take: Callable[[], T] = self._channel_out.receive_nowait
        self._state = _OPEN
        self._status = OK
        self._paused = False
        self._readers: OrderedDict[Task, None] = OrderedDict()
        self._room = ParkingLot()
        self._received = self._remaining = 0
        # Both are factories: one exception object raised many times would gather every traceback.
        self._receive_error: Callable[[], Exception] = trio.EndOfChannel
        self._send_error: Callable[[], Exception] = trio.ClosedResourceError
        # The paces, inlined (see pace.py). Receiving counts with the statistics' own counter.
        self._receive_limit = self._send_left = self._look = 0
        self._receive_until = self._send_until = self._looked = 0.0
        self._stride = 1

    # Sending

    async def send(self, value: T) -> None:
        """Send one item, waiting while the buffer is full. See `SendStream.send`."""
        left = self._send_left
        if left > 0 and perf_counter() < self._send_until:
            self._send_left = left - 1
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
            self._restart_sending()
        try:
            self._put(value)
        except trio.WouldBlock:
            await self._send_waiting(value)

    def send_nowait(self, value: T) -> None:
        """Send one item to a waiting receiver or into the buffer. See `SendStream.send_nowait`."""
        self._put(value)

    def _put_carefully(self, value: T) -> None:
        if self._state is not _OPEN:
            raise self._send_error()
        if self._paused or not self._readers:
            self._channel_in.send_nowait(value)
            return
        self._received += 1
        self._hand_over(value)

    async def send_many(self, values: Iterable[T] | AsyncIterable[T]) -> int:
        """Send a run of items, with one schedule point a batch. See `SendStream.send_many`."""
        if isinstance(values, AsyncIterable):
            return await super().send_many(values)
        if type(values) in _INERT:
            return await self._send_run(iter(values))
        sent = look = limit = 0
        stride, looked, until = 1, perf_counter(), 0.0
        for value in values:
            if sent >= look:
                now = perf_counter()
                stride = next_stride(stride, now - looked)
                if sent >= limit or now >= until:
                    await checkpoint()
                    now = perf_counter()
                    limit, until = sent + BATCH_ITEMS, now + BATCH_SECONDS
                look, looked = sent + stride, now
            try:
                self._put(value)
            except trio.WouldBlock:
                await self._send_waiting(value)
                looked = perf_counter()
                limit, until, look = sent + BATCH_ITEMS, looked + BATCH_SECONDS, sent + stride
            sent += 1
        if not sent:
            await checkpoint()
        return sent

    async def _send_run(self, run: Iterator[T]) -> int:
        # Nothing but us runs between two schedule points here, so nothing needs to be looked at between them.
        sent = 0
        await checkpoint()
        while left := length_hint(run):
            value = next(run)
            try:
                self._put(value)  # may go to a waiting receiver; the others then meet the plain path
                put = self._put
                for value in islice(run, BATCH_ITEMS - 1):
                    put(value)
            except trio.WouldBlock:
                sent += left - length_hint(run)
                await self._send_waiting(value)
                continue
            sent += left - length_hint(run)
            if length_hint(run):
                await checkpoint()
        return sent

    async def _send_waiting(self, value: T) -> None:
        try:
            await self._channel_in.send(value)
        except trio.BrokenResourceError:
            raise self._send_error() from None
        finally:
            self._restart_sending()
            if self._state is _CLOSING:
                # A sender that gave up may have been the last thing that the end was waiting for.
                self._close_if_drained()

    def _restart_sending(self) -> None:
        self._send_left = BATCH_ITEMS - 1
        self._send_until = perf_counter() + BATCH_SECONDS

    async def wait_writable(self) -> None:
        """Wait until there is room or the stream is finished. See `SendStream.wait_writable`."""
        await checkpoint()
        while self._state is _OPEN and not self._has_room():
            # Whoever makes room must notice us, so taking is no longer plain.
            self._take = self._take_carefully
            await self._room.park()

    def _has_room(self) -> bool:
        if self._readers and not self._paused:
            return True
        return self._channel_in.statistics().current_buffer_used < self.high_water_mark

    # Receiving

    async def receive(self) -> T:
        """Take the next item, waiting until one arrives and delivery is not paused. See `ReceiveStream.receive`."""
        if self._received < self._receive_limit and perf_counter() < self._receive_until:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
            self._restart_receiving()
        try:
            value = self._take()
        except trio.WouldBlock:
            return await self._wait_for_item()
        self._received += 1
        return value

    def __aiter__(self) -> Self:
        """Iterate over the items; the first one checks for cancellation."""
        self._look = 0
        return self

    async def __anext__(self) -> T:
        """Take the next item; a clean end finishes the loop.

        Leaving the loop early changes nothing by itself: Python does not tell the stream. Leave the block that opened
        it, and senders elsewhere get `StreamStopped`; or call `stop()`.

        Cancellation: atomic; a cancelled call takes nothing. It is noticed by the first item of a loop, by an item that
        has to be waited for, and else within 16 items, or by the next one where items take longer than 62 µs.
        """
        received = self._received
        if received >= self._look:
            await self._look_around()
            received = self._received
        try:
            value = self._take()
        except trio.WouldBlock:
            return await self._wait_for_next()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        self._received = received + 1
        return value

    async def _wait_for_next(self) -> T:
        try:
            return await self._wait_for_item()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def receive_nowait(self) -> T:
        """Take the next item if there is one and delivery is not paused. See `ReceiveStream.receive_nowait`."""
        value = self._take()
        self._received += 1
        return value

    async def receive_many(self, max_items: int = BATCH_ITEMS) -> list[T]:
        """Take what is there, waiting for the first only. See `ReceiveStream.receive_many`."""
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        items = [await self.receive()]
        if self._state not in _LIVE:
            return items
        take = self._take
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel, RpcError):
            # No ending but that of a half which drains right here can be met, and the next call meets it again.
            for _ in range(max_items - 1):
                items.append(take())  # noqa: PERF401 - what was taken before an ending must not be lost
        self._received += len(items) - 1
        return items

    def _take_carefully(self) -> T:
        if self._state not in _LIVE:
            raise self._receive_error()
        if self._paused:
            raise trio.WouldBlock
        value = self._channel_out.receive_nowait()
        if self._room:
            self._room.unpark_all()
        self._remaining -= 1
        if self._state is _CLOSING and self._remaining <= 0:
            self._close_if_drained()
        self._settle()
        return value

    async def _wait_for_item(self) -> T:
        task = trio.lowlevel.current_task()
        self._readers[task] = None
        self._settle()
        if self._room:
            self._room.unpark_all()  # at a mark of 0, a waiting receiver is the room

        def abort(_: trio.lowlevel.RaiseCancelT) -> Abort:
            del self._readers[task]
            self._settle()
            return Abort.SUCCEEDED

        try:
            value: T = await trio.lowlevel.wait_task_rescheduled(abort)
            return value
        finally:
            self._restart_receiving()
            # The item that woke us is the batch's first. A batch then ends where the sender's ended, and its schedule
            # point finds the next one in place, instead of an empty buffer.
            self._receive_limit -= 1

    async def _look_around(self) -> None:
        now = perf_counter()
        self._stride = next_stride(self._stride, now - self._looked)
        if self._received >= self._receive_limit or now >= self._receive_until:
            await checkpoint()
            self._restart_receiving()
        else:
            await checkpoint_if_cancelled()
            self._look, self._looked = self._received + self._stride, now

    def _restart_receiving(self) -> None:
        self._looked = perf_counter()
        self._look = self._received + self._stride
        self._receive_limit = self._received + BATCH_ITEMS
        self._receive_until = self._looked + BATCH_SECONDS

    def _hand_over(self, value: T) -> None:
        task, _ = self._readers.popitem(last=False)
        trio.lowlevel.reschedule(task, outcome.Value(value))
        self._settle()

    def _settle(self) -> None:
        """Find out whether putting and taking are plain again."""
        is_open = self._state is _OPEN
        is_plain = is_open and not self._paused and not self._room
        self._take = self._channel_out.receive_nowait if is_plain else self._take_carefully
        is_plain = is_open and (self._paused or not self._readers)
        self._put = self._channel_in.send_nowait if is_plain else self._put_carefully
        if self._state not in _LIVE:
            # Not our own methods: a stream that is over must not hold itself, or only the collector could free it.
            self._take, self._put = _raising(self._receive_error), _raising(self._send_error)

    # Control

    def pause(self) -> None:
        """Stop delivery; senders still fill the buffer. A receiver that is already waiting waits on."""
        self._paused = True
        self._settle()

    def resume(self) -> None:
        """Go on with delivery."""
        self._paused = False
        if self._state not in _LIVE:
            return
        with contextlib.suppress(trio.WouldBlock):
            while self._readers:
                value = self._channel_out.receive_nowait()
                self._received += 1
                self._hand_over(value)
        # Only now: the last item's receiver must not be told of the end instead.
        if self._state is _CLOSING:
            self._close_if_drained()
        self._room.unpark_all()
        self._settle()

    def _close_if_drained(self) -> None:
        statistics = self._channel_in.statistics()
        self._remaining = statistics.current_buffer_used + statistics.tasks_waiting_send
        if self._remaining:
            return
        state = advance(self._state, Trigger.DRAINED)
        assert state is not None
        status = self._status
        if not status.is_ok:
            self._receive_error = lambda: RpcError(status.code, status.message, status.details)
        self._finish(state)

    def _finish(self, state: HalfState) -> None:
        self._state = state
        self._settle()
        # In this order: the receiving end wakes blocked senders with Broken, which they translate; then none is left.
        self._channel_out.close()
        self._channel_in.close()
        while self._readers:
            task, _ = self._readers.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Error(self._receive_error()))
        self._room.unpark_all()


def _raising(make: Callable[[], Exception]) -> Callable[..., Any]:
    def fail(*_: object) -> NoReturn:
        raise make()

    return fail
