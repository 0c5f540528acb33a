"""Order and shares among streams: `after=` another one, weights."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.peer import StreamOptions, open_peer_pair


async def test_many_streams_behind_one_do_not_lock_each_other(autojump_clock: MockClock) -> None:
    """Fifty streams that would fill the connection's window wait for one that is slow: all arrive, in order."""
    config = ConnectionConfig(stream=StreamLimits(window_bytes=20_000), connection_window_bytes=40_000)
    async with open_peer_pair(config=config) as (left, right), trio.open_nursery() as nursery:
        item = "x" * 1_000
        await nursery.start(left.send_stream, [item] * 200, "first")
        for number in range(50):
            await nursery.start(partial(left.send_stream, [item] * 30, str(number), after="first"))
        order: list[str] = []

        async def read(name: str) -> None:
            async for _ in right.receive_stream(name)[1]:
                order.append(name)
                await trio.sleep(0.01)

        async with trio.open_nursery() as readers:
            for number in range(50):
                readers.start_soon(read, str(number))
            readers.start_soon(read, "first")
        assert order[:200] == ["first"] * 200
        assert len(order) == 200 + 50 * 30


async def test_what_comes_after_waits_for_the_last_item_not_for_the_loop(autojump_clock: MockClock) -> None:
    """A receiver that takes exactly the items that there are need not look for the end of the first stream."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        await nursery.start(left.send_stream, [1, 2], "a")
        await nursery.start(partial(left.send_stream, [3], "b", after="a"))
        await nursery.start(partial(left.send_stream, [4], "c", after="b"))
        await wait_all_tasks_blocked()
        streams = [right.receive_stream(name)[1] for name in "abc"]
        with pytest.raises(trio.WouldBlock):
            streams[1].receive_nowait()
        found = [await streams[0].receive(), streams[0].receive_nowait()]
        found += [await streams[1].receive(), await streams[2].receive()]
        assert found == [1, 2, 3, 4]


async def test_who_is_refused_or_closed_lets_the_next_one_go(autojump_clock: MockClock) -> None:
    """The stream after one that nobody claims, that is closed, or that fails, goes on."""
    async with open_peer_pair(options=StreamOptions(unclaimed_timeout=2)) as (left, right):
        left.start_stream([1], "unclaimed")
        left.start_stream(range(10**6), "closed")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for before in ("unclaimed", "closed"):
                await nursery.start(partial(left.send_stream, [7], f"after {before}", after=before))
            closed = right.receive_stream("closed")[1]
            await closed.aclose()
            streams = [right.receive_stream(f"after {before}")[1] for before in ("closed", "unclaimed")]
            for stream in streams:
                assert [item async for item in stream] == [7]


async def test_weights_share_the_line(autojump_clock: MockClock) -> None:
    """Of two equals with weights 1 and 3, the heavy one gets three times the bytes while both have something to send."""
    config = ConnectionConfig(stream=StreamLimits(window_bytes=1_000_000))
    async with open_peer_pair(config=config) as (left, right), trio.open_nursery() as nursery:
        counts = {"light": 0, "heavy": 0}
        for name, weight in (("light", 1), ("heavy", 3)):
            await nursery.start(partial(left.send_stream, ["x" * 4_000] * 20_000, name, weight=weight))
        streams = {name: right.receive_stream(name)[1] for name in counts}
        shares: list[float] = []

        async def read(name: str) -> None:
            async for _ in streams[name]:
                counts[name] += 1
                if sum(counts.values()) == 2_000:
                    shares.append(counts["heavy"] / counts["light"])
                    nursery.cancel_scope.cancel()

        for name in counts:
            nursery.start_soon(read, name)
    assert 2.4 <= shares[0] <= 3.6


async def test_a_stream_that_waits_for_another_one_can_be_closed(autojump_clock: MockClock) -> None:
    """Who waits for an item that must not come yet is woken when the stream is closed."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        await nursery.start(left.send_stream, [1], "a")
        await nursery.start(partial(left.send_stream, [2], "b", after="a"))
        await wait_all_tasks_blocked()
        _, second = right.receive_stream("b")

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await second.receive()

        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait)
            await wait_all_tasks_blocked()
            right.close_receiving_stream("b")
        assert [item async for item in right.receive_stream("a")[1]] == [1]
