"""A carrier with switches, and a peer that speaks frame by frame, for tests of the driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.transports.carrier_checks import Link
from trio_streams.core import records
from trio_streams.core.wire import Frame
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair
from trio_streams.wire.binary import PREFACE, BinaryWire

__all__ = ["HELLO", "FakeCarrier", "Peer", "decode", "fake_link", "make_rig"]

HELLO = records.Hello("peer", 0, 256, 262_144, 16_777_216, 100, 16_777_216)


def decode(data: bytes) -> list[tuple[int, Frame]]:
    """Every whole frame of what a side has sent; a torn one would be an error, or missing."""
    return BinaryWire().decode(data)


class FakeCarrier:
    """Carries over a memory link, records what was sent, and misbehaves on request.

    Attributes:
      sent: every byte that left.
      holds: calls that wait until they are taken out again: `receive`, `send` (after half of its data),
        `wait_writable`, `aclose`.
      faults: what a call raises, by the call's name and its number, from 1 on.
      calls: how often each was called.
      closes: how often it was really closed.
    """

    def __init__(self, inner: MemoryCarrier) -> None:
        self.inner = inner
        self.sent = bytearray()
        self.holds: set[str] = set()
        self.faults: dict[tuple[str, int], BaseException] = {}
        self.calls: dict[str, int] = {}
        self.closes = 0
        self.waiting: set[str] = set()
        self._wake = trio.lowlevel.ParkingLot()

    @property
    def peer(self) -> str:
        return "fake:peer"

    def let(self, call: str) -> None:
        self.holds.discard(call)
        self._wake.unpark_all()

    async def _enter(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
        fault = self.faults.get((call, self.calls[call]))
        if fault is not None:
            await trio.lowlevel.checkpoint()
            raise fault

    async def _hold(self, call: str) -> None:
        self.waiting.add(call)
        try:
            while call in self.holds:
                await self._wake.park()
        finally:
            self.waiting.discard(call)

    async def receive(self) -> bytes:
        await self._enter("receive")
        await self._hold("receive")
        return await self.inner.receive()

    async def send(self, data: bytes) -> None:
        await self._enter("send")
        half = len(data) // 2 if "send" in self.holds else 0
        if half:
            await self.inner.send(data[:half])
            self.sent += data[:half]
        await self._hold("send")
        await self.inner.send(data[half:])
        self.sent += data[half:]

    async def wait_writable(self) -> None:
        await self._enter("wait_writable")
        await self._hold("wait_writable")
        await self.inner.wait_writable()

    async def aclose(self) -> None:
        try:
            if not self.closes:
                await self._enter("aclose")
                await self._hold("aclose")
        finally:
            self.closes += not self.closes
            await self.inner.aclose()


@asynccontextmanager
async def fake_link() -> AsyncGenerator[Link, None]:
    left, right = memory_carrier_pair()

    async def lose() -> None:
        left.lose()
        await trio.lowlevel.checkpoint()

    yield Link(FakeCarrier(left), FakeCarrier(right), lose)


class Peer:
    """The other side of a connection, in the test's hands."""

    def __init__(self, carrier: FakeCarrier, link: MemoryCarrier) -> None:
        self.carrier = carrier
        self.link = link
        self._wire = BinaryWire()

    async def greet(self, hello: records.Hello = HELLO) -> None:
        await self.link.send(PREFACE)
        await self.send((0, hello))

    async def send(self, *frames: tuple[int, records.Record | list[bytes]]) -> None:
        encoded = [
            self._wire.encode_run(stream_id, frame) if isinstance(frame, list) else self._wire.encode(stream_id, frame)
            for stream_id, frame in frames
        ]
        await self.link.send(b"".join(encoded))
        await trio.testing.wait_all_tasks_blocked()

    async def drain(self) -> None:
        """Read whatever comes, until the other side closes."""
        while await self.link.receive():
            pass

    def heard(self) -> Sequence[tuple[int, Frame]]:
        """What the driver has sent; its bytes must parse."""
        return decode(bytes(self.carrier.sent))

    def heard_on(self, stream_id: int) -> list[Frame]:
        return [frame for sid, frame in self.heard() if sid == stream_id]


def make_rig(max_buffered_bytes: int = 65_536) -> tuple[FakeCarrier, Peer]:
    """A carrier for the driver, and its peer."""
    near, far = memory_carrier_pair(max_buffered_bytes)
    carrier = FakeCarrier(near)
    return carrier, Peer(carrier, far)
