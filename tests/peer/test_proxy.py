"""Proxies: methods of the other side, as a `Protocol` class declares them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.errors import CodecError, RemoteProtocolError, RpcError
from trio_streams.peer import PeerReceiveStream, RpcPeer, open_peer_pair
from trio_streams.testing.cancelling import cancel_everywhere


@attrs.frozen
class Point:
    x: int
    y: int


class Geometry(Protocol):
    async def mirrored(self, point: Point, *, times: int = ...) -> Point: ...

    async def forget(self) -> None: ...

    def line(self, length: int) -> AsyncIterator[Point]: ...

    def endless(self) -> PeerReceiveStream[int]: ...


class Served:
    """The methods, and what became of them."""

    def __init__(self, peer: RpcPeer, prefix: str = "") -> None:
        self.calls = 0
        self.is_closed = False

        @peer.method(f"{prefix}mirrored")
        async def mirrored(point: Point, times: int = 1) -> Point:
            return Point(point.y, point.x) if times % 2 else point

        @peer.method(f"{prefix}forget")
        async def forget() -> None:
            self.calls += 1

        @peer.method(f"{prefix}line")
        async def line(length: int) -> AsyncIterator[Point]:
            self.calls += 1
            for x in range(length):
                yield Point(x, 0)

        @peer.method(f"{prefix}endless")
        async def endless() -> AsyncIterator[int]:
            try:
                while True:
                    await trio.sleep(1)
                    yield 1
            finally:
                self.is_closed = True


async def test_calls_and_streams_by_name(autojump_clock: MockClock) -> None:
    """Arguments go by name, defaults are the callee's, results and items are of the declared types."""
    async with open_peer_pair() as (left, right):
        served = Served(right, "geo.")
        geometry = left.proxy(Geometry, prefix="geo.")
        assert await geometry.mirrored(Point(1, 2)) == Point(2, 1)
        assert await geometry.mirrored(point=Point(1, 2), times=2) == Point(1, 2)
        await geometry.forget()
        assert served.calls == 1
        line = geometry.line(3)
        assert served.calls == 1
        assert [point async for point in line] == [Point(0, 0), Point(1, 0), Point(2, 0)]
        assert "Geometry" in repr(geometry)


async def test_leaving_the_loop_stops_the_method(autojump_clock: MockClock) -> None:
    """A loop that is left closes the generator on the other side; a stream never begun calls nothing."""
    async with open_peer_pair() as (left, right):
        served = Served(right)
        geometry = left.proxy(Geometry)
        async for _ in geometry.endless():
            break
        await wait_all_tasks_blocked()
        assert served.is_closed
        await geometry.endless().aclose()
        assert right.streams.statistics().sending == ()


async def test_wrong_answers(autojump_clock: MockClock) -> None:
    """No such method, arguments that don't fit, a result of another type, an answer that is no stream."""
    async with open_peer_pair() as (left, right):
        geometry = left.proxy(Geometry)
        with pytest.raises(RpcError, match="UNIMPLEMENTED: there is no method 'forget'"):
            await geometry.forget()
        with pytest.raises(TypeError, match="missing a required argument: 'point'"):
            await geometry.mirrored()  # type: ignore[call-arg]
        right.match(lambda data: 7)
        with pytest.raises(CodecError, match="expected"):
            await geometry.mirrored(Point(1, 2))
        with pytest.raises(RemoteProtocolError, match="the peer answered with no stream"):
            await anext(geometry.line(3))


class NotAsync(Protocol):
    def add(self, a: int) -> int: ...


class Variadic(Protocol):
    async def add(self, *numbers: int) -> int: ...


async def test_protocols_that_can_not_be_called(autojump_clock: MockClock) -> None:
    """A plain method, parameters without names, and what is no class, are refused when the proxy is made."""
    async with open_peer_pair() as (left, _):
        with pytest.raises(TypeError, match="'add' must be async, or return an AsyncIterator"):
            left.proxy(NotAsync)
        with pytest.raises(TypeError, match="travel by their names"):
            left.proxy(Variadic)
        with pytest.raises(TypeError, match="a Protocol class"):
            left.proxy(lambda: 1)


async def test_a_stream_cancelled_while_it_is_called(autojump_clock: MockClock) -> None:
    """A cancelled wait for the first item leaves the stream usable: the call is made again."""
    async with open_peer_pair() as (left, right):
        Served(right)

        @asynccontextmanager
        async def around() -> AsyncIterator[AsyncIterator[Point]]:
            line = left.proxy(Geometry).line(2)
            yield line
            await trio.sleep(20)
            assert right.streams.statistics().sending == ()

        async def first(line: AsyncIterator[Point]) -> None:
            assert await anext(line) == Point(0, 0)

        assert await cancel_everywhere(first, around) >= 1
