"""What the seed signal-rpc-streaming.md lists as limitations and future enhancements: here they work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock as Clock

from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.peer import BatchOptions, RateLimit, open_peer_pair


async def numbers(count: int, delay: float = 0.0) -> AsyncIterator[int]:
    for number in range(1, count + 1):
        await trio.sleep(delay)
        yield number


async def test_order_across_streams_on_request(autojump_clock: Clock) -> None:
    """`after=` another stream: its receiver gets no item before the other one's receiver has the last."""
    order: list[tuple[str, int]] = []
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        await nursery.start(server.send_stream, numbers(500, 0.01), "first")
        await nursery.start(partial(server.send_stream, range(500), "second", after="first"))

        async def read(name: str, delay: float) -> None:
            async for item in client.receive_stream(name, int)[1]:
                order.append((name, item))
                await trio.sleep(delay)

        async with trio.open_nursery() as readers:
            readers.start_soon(read, "second", 0)
            readers.start_soon(read, "first", 0.1)
    assert order == [*(("first", i) for i in range(1, 501)), *(("second", i) for i in range(500))]


async def test_batching_of_small_items(autojump_clock: Clock) -> None:
    """Small items travel together, bounded in items, bytes and time; the receiver sees them one by one."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        sizes: dict[str, int] = {}
        for name, options in {"plain": None, "batched": BatchOptions()}.items():
            before = server.connection.bytes_sent
            await nursery.start(partial(server.send_stream, range(6_400), name, batch=options))
            _, stream = client.receive_stream(name, int)
            assert [item async for item in stream] == list(range(6_400))
            sizes[name] = server.connection.bytes_sent - before
        assert sizes["batched"] < sizes["plain"]
        slow = partial(server.send_stream, numbers(3, 10), "slow", batch=BatchOptions(max_delay=2))
        await nursery.start(slow)
        started = trio.current_time()
        times = [trio.current_time() - started async for _ in client.receive_stream("slow")[1]]
        assert times == pytest.approx([12, 22, 30])


async def test_compression_is_opt_in(autojump_clock: Clock) -> None:
    """`compression=` shrinks a stream by what its items share; without it nothing is compressed."""
    items = [{"name": "temperature", "unit": "celsius", "value": i} for i in range(500)]
    sizes: list[int] = []
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        for options in ({}, {"compression": "deflate"}):
            before = server.connection.bytes_sent
            stream_id = await nursery.start(partial(server.send_stream, items, **options))  # type: ignore[arg-type]
            assert [item async for item in client.receive_stream(stream_id)[1]] == items
            sizes.append(server.connection.bytes_sent - before)
    assert sizes[1] * 3 < sizes[0]


async def test_stream_priority(autojump_clock: Clock) -> None:
    """Of two streams that wait for the same line, the more urgent one goes first."""
    order: list[str] = []
    config = ConnectionConfig(stream=StreamLimits(window_bytes=8_388_608))
    async with open_peer_pair(config=config) as (client, server), trio.open_nursery() as nursery:
        for name, priority in (("bulk", 0), ("urgent", 5)):
            await nursery.start(partial(server.send_stream, ["x" * 100_000] * 30, name, priority=priority))

        async def read(name: str) -> None:
            async for _ in client.receive_stream(name)[1]:
                order.append(name)  # noqa: PERF401 - two tasks append in turns

        async with trio.open_nursery() as readers:
            readers.start_soon(read, "bulk")
            readers.start_soon(read, "urgent")
    assert sum(name == "urgent" for name in order[:30]) >= 24


async def test_a_rate_limit_waits_and_never_drops(autojump_clock: Clock) -> None:
    """A thousand items at a hundred a second take ten seconds, and none is missing."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        send = partial(server.send_stream, range(1_000), rate_limit=RateLimit(items_per_second=100))
        started = trio.current_time()
        _, stream = client.receive_stream(await nursery.start(send), int)
        assert [item async for item in stream] == list(range(1_000))
        assert trio.current_time() - started == pytest.approx(9.99)
