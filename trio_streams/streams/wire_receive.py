"""The receiving half of a stream on a connection.

The connection's receive loop delivers runs into a buffer whose only bound is the credit we granted, so that delivery
never waits. Items are decoded in the task that takes them: a bad payload ends one stream, never the connection.

Runs wait in a deque and receivers in a parking lot, rather than in a memory channel of runs: a channel would hand a
whole run to one receiver and leave the others asleep beside its items.

Consumption is reported to the machine when a quarter of a window was taken, and always with the last item that is
here; so a cancelled receiver leaves no credit behind.
"""

# Two bases with slots of their own cannot be combined, so `WireStream` declares the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Self, TypeVar, cast

import trio

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core import records
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.errors import RpcError
from trio_streams.streams.abc import ReceiveStream
from trio_streams.streams.machine import Machine
from trio_streams.streams.pace import BATCH_ITEMS, Pace, next_stride

__all__ = ["WireReceiveHalf"]

R = TypeVar("R")


class WireReceiveHalf(ReceiveStream[R]):
    """Receiving; the state lives in `WireStream`, which inherits this."""

    __slots__ = ()

    id: int
    _machine: Machine
    _kick: Callable[[], None]
    _decode: Callable[[bytes], R] | None
    _head: Mapping[str, str] | None
    _head_arrived: trio.Event | None
    on_arrival: Callable[[], None] | None
    _receive_over: Callable[[], Exception] | None
    _runs: deque[list[bytes]]
    _run: list[bytes]
    _readers: trio.lowlevel.ParkingLot
    _receive_pace: Pace
    _unlooked: int  # items until the next look at the clock and for cancellation; see pace.py
    _looked: float
    _stride: int
    _items_received: int
    _taken_items: int
    _taken_bytes: int
    _report_items: int
    _report_bytes: int

    def _begin_receiving(self, state: StreamMachine) -> None:
        self._head = None
        self._head_arrived = None
        self._receive_over = None
        self._runs = deque()
        self._run = []  # the run being read, last item first
        self._readers = trio.lowlevel.ParkingLot()
        self._receive_pace = Pace()
        self._items_received = 0
        self._unlooked = 0
        self._looked = 0.0
        self._stride = 1
        self._taken_items = 0
        self._taken_bytes = 0
        self._report_items = max(1, state.receive_credit.window_items // 4)
        self._report_bytes = max(1, state.receive_credit.window_bytes // 4)

    def _closed_here(self, how: str) -> Callable[[], Exception]:
        raise NotImplementedError

    async def receive(self) -> R:
        """Take the next item; see `ReceiveStream.receive`.

        Raises:
          CodecError: the payload is not of the declared type; the item is gone, the next can be taken.
        """
        if self._has_items or self._receive_over is not None:
            await self._receive_pace.step()
        while True:
            try:
                return self._take()
            except trio.WouldBlock:
                await self._readers.park()
                self._receive_pace.restart()

    def __aiter__(self) -> Self:
        """Iterate over the items; the first one checks for cancellation."""
        self._unlooked = 0
        return self

    async def __anext__(self) -> R:
        """Take the next item; a clean end finishes the loop.

        Cancellation: atomic; a cancelled call takes nothing. It is noticed by the first item of a loop, by an item that
        has to be waited for, and else within 16 items, or by the next one where items take longer than 62 µs.
        """
        if self._unlooked <= 0 and (self._has_items or self._receive_over is not None):
            await self._look_around()
        self._unlooked -= 1
        run = self._run or await self._wait_for_run()
        # `_take`, inlined: an item costs a call less (tests/benchmarks/bench_wire.py).
        item = run.pop()
        self._taken_items += 1
        self._taken_bytes += len(item)
        if not run or self._taken_items >= self._report_items or self._taken_bytes >= self._report_bytes:
            self._report()
        decode = self._decode
        return decode(item) if decode is not None else cast(R, item)

    async def _wait_for_run(self) -> list[bytes]:
        while True:
            try:
                return self._run or self._next_run()
            except trio.WouldBlock:
                await self._readers.park()
                self._receive_pace.restart()
                self._looked = perf_counter()
                self._unlooked = self._stride - 1
            except trio.EndOfChannel:
                raise StopAsyncIteration from None

    async def _look_around(self) -> None:
        now = perf_counter()
        self._stride = stride = next_stride(self._stride, now - self._looked)
        await self._receive_pace.step(stride)
        self._unlooked, self._looked = stride, perf_counter()

    def receive_nowait(self) -> R:
        """Take the next item if there is one; see `ReceiveStream.receive_nowait`."""
        return self._take()

    async def receive_many(self, max_items: int = BATCH_ITEMS) -> list[R]:
        """Take what is there; see `ReceiveStream.receive_many`.

        Raises:
          CodecError: the first payload is not of the declared type; a later one stays for the next call.
        """
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        items = [await self.receive()]
        decode = self._decode
        while len(items) < max_items and self._has_items:
            run = self._run or self._next_run()
            try:
                value = decode(run[-1]) if decode is not None else cast(R, run[-1])
            except Exception:  # noqa: BLE001 - the next call meets it again, and raises it
                break
            self._count_first(run)
            items.append(value)
        return items

    def _take(self) -> R:
        run = self._run or self._next_run()
        item = self._count_first(run)
        decode = self._decode
        return decode(item) if decode is not None else cast(R, item)

    def _count_first(self, run: list[bytes]) -> bytes:
        """Take the first payload of the run being read."""
        item = run.pop()
        self._taken_items += 1
        self._taken_bytes += len(item)
        if not run or self._taken_items >= self._report_items or self._taken_bytes >= self._report_bytes:
            self._report()
        return item

    def _next_run(self) -> list[bytes]:
        if self._runs:
            self._run = run = self._runs.popleft()
            run.reverse()
            return run
        if self._receive_over is not None:
            raise self._receive_over()
        raise trio.WouldBlock

    def _report(self) -> None:
        items, size = self._taken_items, self._taken_bytes
        self._items_received += items
        self._taken_items = self._taken_bytes = 0
        self._machine.consume(self.id, items, size + ITEM_OVERHEAD_BYTES * items)
        self._kick()

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more; see `ReceiveStream.stop`."""
        if self._receive_over is not None and not self._has_items:
            return
        self._receive_over = self._closed_here("stopped")
        self._drop_items()
        self._machine.stop(self.id, code, reason)
        self._readers.unpark_all()
        self._on_answer()
        self._kick()

    @property
    def _has_items(self) -> bool:
        return bool(self._run or self._runs)

    def _drop_items(self) -> None:
        self._runs.clear()
        self._run = []
        self._items_received += self._taken_items
        self._taken_items = self._taken_bytes = 0

    async def header(self) -> Mapping[str, str]:
        """The head of the peer's half, waiting until it or the first item or an end arrives.

        Returns:
          The peer's metadata; empty where the peer sent none.

        Raises:
          StreamReset, ConnectionLost: the stream broke before.

        Cancellation: atomic.
        """
        await trio.lowlevel.checkpoint()
        if self._head is None and not self._has_items and self._receive_over is None:
            if self._head_arrived is None:
                self._head_arrived = trio.Event()
            await self._head_arrived.wait()
        if self._head is None and self._receive_over is not None and not self._has_items:
            error = self._receive_over()
            if not isinstance(error, (trio.EndOfChannel, RpcError)):
                raise error
        return self._head if self._head is not None else records.NO_METADATA

    def on_received(self, items: list[bytes]) -> None:
        """Items arrived."""
        if self._receive_over is None:
            self._runs.append(items)
            if self._readers:
                self._readers.unpark(count=len(items))
            self._on_answer()
            if self.on_arrival is not None:
                self.on_arrival()

    def on_headed(self, metadata: Mapping[str, str]) -> None:
        """The peer's head arrived."""
        self._head = metadata
        self._on_answer()

    def _on_answer(self) -> None:
        if self._head_arrived is not None:
            self._head_arrived.set()

    def _end_receiving(self, over: Callable[[], Exception]) -> None:
        if self._receive_over is None:
            self._receive_over = over
            self._readers.unpark_all()
            self._on_answer()
            if self.on_arrival is not None:
                self.on_arrival()
