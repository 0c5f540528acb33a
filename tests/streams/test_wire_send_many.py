"""Runs of items on the sending half of a stream on a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from tests.streams.wire_pair import SMALL, Raw, settle, wire_pair
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.errors import CodecError, LocalProtocolError
from trio_streams.streams.wire import WireStream


async def drain(stream: Raw) -> list[bytes]:
    return [item async for item in stream]


def fill(stream: Raw) -> int:
    """Send until the window is full."""
    count = 0
    while True:
        try:
            stream.send_nowait(b"fill")
        except trio.WouldBlock:
            return count
        count += 1


async def test_a_cancelled_send_many_leaves_a_prefix() -> None:
    """A cancelled `send_many` has sent a prefix: what fits the window, and not one more later."""
    async with wire_pair() as pair:
        iterator = iter([b"%d" % n for n in range(100)])
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.near.send_many, iterator)
                await settle()
                scope.cancel()
        pair.near.end()
        assert await drain(pair.far) == [b"%d" % n for n in range(8)]
        assert len(list(iterator)) >= 100 - 8 - 64


async def test_send_many_counts() -> None:
    """`send_many` sends every item of any iterable, and returns how many; of none it is still a checkpoint."""

    async def slow() -> AsyncIterator[bytes]:
        for n in range(20):
            await trio.lowlevel.checkpoint()
            yield b"%d" % n

    async with wire_pair() as pair, trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def take() -> None:
            received.extend(await drain(pair.far))

        nursery.start_soon(take)
        with trio.testing.assert_checkpoints():
            assert await pair.near.send_many([]) == 0
        assert await pair.near.send_many(b"%d" % n for n in range(200)) == 200
        assert await pair.near.send_many(slow()) == 20
        assert await pair.near.send_many([b"x"] * 130) == 130
        pair.near.end()
        await settle()
        assert received == [*(b"%d" % n for n in range(200)), *(b"%d" % n for n in range(20)), *[b"x"] * 130]


async def test_send_many_of_values_that_fail() -> None:
    """What the iterable raises passes through, after the items before it were sent."""

    def values() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        raise KeyError("values")

    async with wire_pair() as pair:
        with pytest.raises(KeyError, match="values"):
            await pair.near.send_many(values())
        pair.near.end()
        assert await drain(pair.far) == [b"1", b"2"]


async def test_send_many_of_a_value_that_cannot_be_encoded() -> None:
    """The items before one that can't be encoded were sent; the stream goes on."""

    def encode(value: str) -> bytes:
        if value == "bad":
            raise CodecError("not this")
        return value.encode()

    async with wire_pair() as pair:
        stream: WireStream[str, bytes] = pair.near.typed(encode, None)
        with pytest.raises(CodecError):
            await stream.send_many(["a", "b", "bad", "c"])
        with pytest.raises(CodecError):
            await stream.send("bad")
        with pytest.raises(CodecError):
            stream.send_nowait("bad")
        await stream.send("d")
        stream.end()
        assert await drain(pair.far) == [b"a", b"b", b"d"]


@pytest.mark.parametrize("before", [0, 3, 20])
async def test_send_many_of_an_item_that_is_too_large(before: int) -> None:
    """The items before one that passes max_item_bytes were sent, through a full window too; the stream goes on."""
    config = ConnectionConfig(stream=StreamLimits(window_items=8), max_item_bytes=100, idle_timeout=None)
    async with wire_pair(config) as pair, trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def take() -> None:
            received.extend(await drain(pair.far))

        nursery.start_soon(take)
        with pytest.raises(LocalProtocolError, match="an item of 101 bytes passes max_item_bytes of 100"):
            await pair.near.send_many([*[b"x"] * before, b"y" * 101, b"z"])
        with pytest.raises(LocalProtocolError):
            await pair.near.send(b"y" * 101)
        await pair.near.send(b"next")
        assert pair.near.statistics().items_sent == before + 1
        pair.near.end()
        await settle()
        assert received == [*[b"x"] * before, b"next"]


async def test_a_slow_iterable_does_not_keep_the_processor() -> None:
    """`send_many` of items that take more than a millisecond each lets others run after each, and they leave at once."""
    async with wire_pair(SMALL) as pair, trio.open_nursery() as nursery:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        def slow() -> Iterator[bytes]:
            for _ in range(5):
                until = trio.lowlevel.current_clock().current_time() + 0.0015
                while trio.lowlevel.current_clock().current_time() < until:
                    pass
                yield b"x"

        nursery.start_soon(other)
        await pair.near.send_many(slow())
        assert turns >= 5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("count", [0, 1, 200])
async def test_send_many_of_an_asynchronous_iterable(count: int) -> None:
    """Items leave as they are made; one that never waits lets others run, and an empty one is a checkpoint too."""

    async def values() -> AsyncIterator[bytes]:
        for n in range(count):
            yield b"%d" % n

    config = ConnectionConfig(stream=StreamLimits(window_items=1_000), idle_timeout=None)
    async with wire_pair(config) as pair:
        with trio.testing.assert_checkpoints():
            assert await pair.near.send_many(values()) == count
        pair.near.end()
        assert await drain(pair.far) == [b"%d" % n for n in range(count)]
