"""The faults of the implementation that the seed describes, each a test here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.rig import raw_pair
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.peer import StreamOptions, open_peer_pair


async def test_backpressure_is_alive(autojump_clock: MockClock) -> None:
    """There 20 MB left against a limit of 1 MB; here a receiver that reads nothing is sent its limit."""
    options = StreamOptions(max_buffered_bytes=1_048_576)

    async def items() -> AsyncIterator[str]:
        for _ in range(20):
            yield "x" * 1_000_000

    async with open_peer_pair(options=options) as (left, right), trio.open_nursery() as nursery:
        _, stream = right.receive_stream(await nursery.start(left.send_stream, items()))
        await trio.sleep(60)
        # The item that crosses the limit still travels.
        assert left.connection.bytes_sent <= 2 * 1_048_576 + 10_000
        assert len([item async for item in stream]) == 20


async def test_the_receiver_can_tell_the_sender_to_stop(autojump_clock: MockClock) -> None:
    """There 5 items were read, 147 produced, and it went on; here at most a window is made, and then nothing."""
    made = 0
    config = ConnectionConfig(stream=StreamLimits(window_items=16))

    async def items() -> AsyncIterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made
            await trio.sleep(0.01)

    async with open_peer_pair(config=config) as (left, right):
        _, stream = right.receive_stream(left.start_stream(items()))
        async for item in stream:
            if item == 5:
                break
        await trio.sleep(60)
        assert made <= 6
        assert left.streams.statistics().sending == ()


async def test_no_item_is_lost_to_a_rate(autojump_clock: MockClock) -> None:
    """There a limit of 100 messages a second lost 900 of 1,000 items silently; here nothing has such a limit."""
    async with open_peer_pair() as (left, right):
        _, stream = right.receive_stream(left.start_stream(range(1_000)))
        assert [item async for item in stream] == list(range(1_000))


async def test_the_receivers_queue_is_bounded(autojump_clock: MockClock) -> None:
    """There the receiver's queue had no bound; here it is the window, claimed or not."""
    config = ConnectionConfig(stream=StreamLimits(window_items=32))
    async with open_peer_pair(config=config) as (left, right):
        for number in range(3):
            left.start_stream(range(100_000), str(number))
        claimed = right.receive_stream("0")[1]
        await trio.sleep(5)
        assert [stream.buffered_items for stream in right.streams.statistics().receiving] == [32]
        assert right.connection.machine.unread_bytes <= 3 * 32 * (64 + 6)
        await claimed.aclose()


async def test_pending_calls_are_rejected_on_a_close(autojump_clock: MockClock) -> None:
    """There a call that waits for its answer never hears of the close."""
    async with raw_pair() as (peer, _, link), trio.open_nursery() as nursery:

        async def call() -> None:
            with trio.fail_after(1), pytest.raises(ConnectionLost, match="Connection closed"):
                await peer.request({"method": "go"})

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await link.aclose()


async def test_a_handler_that_throws_answers(autojump_clock: MockClock) -> None:
    """There the caller waits for its timeout; here it gets an error at once."""
    async with open_peer_pair() as (left, right):

        async def handle(data: object) -> None:
            raise RpcError("ABORTED", "no")

        right.match(handle)
        with trio.fail_after(1), pytest.raises(RpcError, match="ABORTED: no"):
            await left.request({"method": "go"})


async def test_both_directions_streams_end_on_a_close(autojump_clock: MockClock) -> None:
    """On a close each stream ends once: a sender's iterator is closed, a receiver gets what came and then the loss."""
    closed = trio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await trio.sleep(1)
        finally:
            closed.set()

    async with raw_pair() as (peer, connection, link), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ConnectionLost, match="Connection closed"):
                await peer.send_stream(endless())

        nursery.start_soon(send)
        _, stream = peer.receive_stream("in", int)
        async with connection.open_stream("peer.stream", metadata={"stream-id": "in"}) as raw:
            await raw.send(b"1")
            await wait_all_tasks_blocked()
            link.lose()
            found: list[int] = []
            with pytest.raises(ConnectionLost, match="Connection closed"):
                async for item in stream:
                    found += [item]
            assert found == [1]
        await closed.wait()
