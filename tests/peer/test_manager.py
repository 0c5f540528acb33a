"""A manager of streams alone, and what a cancellation leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.peer.rig import raw_pair
from trio_streams.errors import LocalProtocolError, StreamStopped
from trio_streams.peer import BatchOptions, RateLimit, RpcPeer, StreamManager, open_peer_pair
from trio_streams.testing.cancelling import cancel_everywhere


async def test_a_manager_is_for_one_connection(autojump_clock: MockClock) -> None:
    """It can't be used without one, nor for a second one, nor after its block."""
    manager = StreamManager()
    with pytest.raises(LocalProtocolError, match="outside the block"):
        manager.receive_stream()
    async with raw_pair() as (peer, connection, _):
        async with manager.over(connection):
            with pytest.raises(LocalProtocolError, match="can't use a second connection"):
                async with manager.over(connection):
                    raise AssertionError("entered")
            _, stream = manager.receive_stream()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(StreamStopped, match="UNAVAILABLE: the peer has left"):
            await peer.send_stream(range(100_000))
        with pytest.raises(LocalProtocolError, match="outside the block"):
            await manager.send_stream([1])


@asynccontextmanager
async def fresh_pair() -> AsyncIterator[tuple[RpcPeer, RpcPeer]]:
    """A pair that at its end still works, and has nothing left."""
    async with open_peer_pair() as (left, right):
        yield left, right
        left.start_stream(range(5), "next")
        assert [item async for item in right.receive_stream("next")[1]] == list(range(5))
        await trio.sleep(20)
        assert (left.connection.streams, right.connection.streams) == ((), ())
        assert left.streams.is_idle
        assert right.streams.is_idle


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": BatchOptions(max_items=3)},
        {"rate_limit": RateLimit(items_per_second=10)},
        {"compression": "deflate"},
    ],
    ids=["plain", "batch", "rate", "deflate"],
)
async def test_sending_cancelled_at_each_of_its_awaits(autojump_clock: MockClock, options: dict[str, object]) -> None:
    """Wherever sending is cancelled, the receiver gets a prefix and then the reset, and the pair works on."""
    closed = 0

    async def items() -> AsyncIterator[int]:
        nonlocal closed
        try:
            for number in range(8):
                await trio.sleep(0.1)
                yield number
        finally:
            closed += 1

    async def scenario(pair: tuple[RpcPeer, RpcPeer]) -> None:
        await pair[0].send_stream(items(), "x", **options)  # type: ignore[arg-type]

    turns = await cancel_everywhere(scenario, fresh_pair)
    assert turns >= 8
    assert closed >= turns - 1


@pytest.mark.parametrize("batch", [None, BatchOptions(max_items=3)])
async def test_receiving_cancelled_at_each_of_its_awaits(autojump_clock: MockClock, batch: BatchOptions | None) -> None:
    """A cancelled `receive` takes nothing: whatever was cancelled before, the items come without a gap."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:

        async def items() -> AsyncIterator[int]:
            for number in range(300):
                await trio.sleep(0.1)
                yield number

        await nursery.start(partial(left.send_stream, items(), "x", batch=batch))
        _, stream = right.receive_stream("x", int)
        found: list[int] = []
        while len(found) < 300:
            with trio.move_on_after(0.07):
                found.append(await stream.receive())
        assert found == list(range(300))
