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
from typing import TypeVar, cast

import trio

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core import records
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.errors import RpcError
from trio_streams.streams.abc import ReceiveStream
from trio_streams.streams.machine import Machine
from trio_streams.streams.pace import Pace

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
    _receive_over: Callable[[], Exception] | None
    _runs: deque[list[bytes]]
    _run: list[bytes]
    _readers: trio.lowlevel.ParkingLot
    _receive_pace: Pace
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
        await self._receive_pace.step()
        while True:
            try:
                return self._take()
            except trio.WouldBlock:
                await self._readers.park()
                self._receive_pace.restart()

    def receive_nowait(self) -> R:
        """Take the next item if there is one; see `ReceiveStream.receive_nowait`."""
        return self._take()

    def _take(self) -> R:
        run = self._run or self._next_run()
        item = run.pop()
        self._taken_items += 1
        self._taken_bytes += len(item)
        if not run or self._taken_items >= self._report_items or self._taken_bytes >= self._report_bytes:
            self._report()
        decode = self._decode
        return decode(item) if decode is not None else cast(R, item)

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
        self._kick()

    @property
    def _has_items(self) -> bool:
        return bool(self._run or self._runs)

    def _drop_items(self) -> None:
        self._runs.clear()
        self._run = []
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
