"""What the seed signal-rpc-streaming.md lists as limitations and future enhancements: here they work."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock as Clock
from trio.testing import wait_all_tasks_blocked

from tests.peer.cuts import Books, open_peer_site, peer_of
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.peer import BatchOptions, RateLimit, ReconnectOptions, ResumeOptions, RpcPeer, open_peer_pair


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


async def test_reconnects_with_backoff(autojump_clock: Clock) -> None:
    """The waits grow by `factor` up to `max_delay`, each a random part of that; a success begins anew."""
    backoff = ReconnectOptions(initial_delay=1, max_delay=8, factor=2, seed=3)
    books = Books()
    async with open_peer_site(books.declare) as site, peer_of(site, ResumeOptions(), backoff) as peer:
        site.is_down = True
        site.cut()
        cut_at = trio.current_time()
        await trio.sleep(30)
        tries = [cut_at, *site.tries[1:]]
        waits = [later - sooner for sooner, later in itertools.pairwise(tries)]
        assert len(waits) > 5
        for wait, most in zip(waits, [1, 2, 4, *[8] * len(waits)], strict=False):
            assert 0 <= wait <= most
        assert max(waits) > 2
        assert len(set(waits)) == len(waits)  # they are spread
        site.is_down = False
        assert (await peer.request({"method": "call", "params": [2]})).data == 4
        site.cut()
        cut_at = trio.current_time()
        assert (await peer.request({"method": "call", "params": [3]})).data == 6
        assert trio.current_time() - cut_at <= 1
        assert books.calls == [2, 3]


async def test_a_stream_resumes_after_a_reconnect(autojump_clock: Clock) -> None:
    """Ten seconds without a network: streams of both directions and a call go on where they were, once and in order."""
    asked = 0

    def declare(peer: RpcPeer) -> None:
        @peer.method("slow")
        async def slow() -> str:
            nonlocal asked
            asked += 1
            await trio.sleep(15)
            return "done"

    answers: list[object] = []
    async with open_peer_site(declare) as site, peer_of(site) as peer, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        other = site.peers[0]

        async def call() -> None:
            answers.append((await peer.request({"method": "slow"})).data)

        async def cut() -> None:
            await trio.sleep(5.5)
            site.is_down = True
            site.cut()
            await trio.sleep(10)
            site.is_down = False

        nursery.start_soon(call)
        nursery.start_soon(cut)
        nursery.start_soon(other.send_stream, numbers(20, 1), "down")
        nursery.start_soon(peer.send_stream, numbers(20, 1), "up")
        for stream in (peer.receive_stream("down", int)[1], other.receive_stream("up", int)[1]):
            assert [item async for item in stream] == list(range(1, 21))
        assert peer.connection.statistics().resumes == 1
    assert (answers, asked) == (["done"], 1)
