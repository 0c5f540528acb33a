"""The items of the seed signal-rpc-streaming.md, one by one; docs/seed-map.md says which test is whose."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.driver import run_connection
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError, StreamReset, StreamStopped
from trio_streams.peer import RpcPeer, StreamManager, StreamOptions, open_peer_pair
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.urls import open_peer, serve_peers

ROOT = Path(__file__).resolve().parents[2]

Clock = trio.testing.MockClock


async def numbers(count: int, delay: float = 0.0) -> AsyncIterator[int]:
    for number in range(1, count + 1):
        await trio.sleep(delay)
        yield number


class Feed:
    """An endless generator that says how far it came and whether it was closed."""

    def __init__(self, delay: float = 0.0) -> None:
        self.made = 0
        self.is_closed = False
        self._delay = delay

    async def items(self) -> AsyncIterator[int]:
        try:
            while True:
                await trio.sleep(self._delay)
                self.made += 1
                yield self.made
        finally:
            self.is_closed = True


async def test_block_5_basic_streaming(autojump_clock: Clock) -> None:
    """Block 5: a stream with a delay before each item arrives whole, under the id that `send_stream` returns."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        returned: list[str] = []

        async def send() -> None:
            returned.append(await server.send_stream(numbers(10, 0.1), "numbers"))

        nursery.start_soon(send)
        stream_id, stream = client.receive_stream("numbers", int)
        assert [number async for number in stream] == list(range(1, 11))
        await trio.testing.wait_all_tasks_blocked()
        assert (stream_id, returned) == ("numbers", ["numbers"])


async def test_live_feed(autojump_clock: Clock) -> None:
    """An endless feed is read for as long as somebody wants it, and ends when nobody does."""
    feed = Feed(delay=1)
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, feed.items())
        _, stream = client.receive_stream(stream_id, int)
        async with stream:
            assert [await stream.receive() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert feed.is_closed
    assert feed.made <= 6


async def test_progressive_response(autojump_clock: Clock) -> None:
    """The first result can be used long before the last one is made."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, numbers(3, 10))
        _, stream = client.receive_stream(stream_id, int)
        started = trio.current_time()
        arrivals = [(number, trio.current_time() - started) async for number in stream]
        assert arrivals == [(1, 10), (2, 20), (3, 30)]


async def test_streams_both_ways(autojump_clock: Clock) -> None:
    """A stream each way at once, under the same id: the two directions know nothing of each other."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        for peer in (left, right):
            nursery.start_soon(peer.send_stream, range(100), "x")
        for peer in (left, right):
            _, stream = peer.receive_stream("x", int)
            assert [item async for item in stream] == list(range(100))


async def test_block_2_stream_manager_options(autojump_clock: Clock) -> None:
    """Block 2: a `StreamManager` with options works on its own, over any connection, and tells what it does."""
    options = StreamOptions(max_buffered_bytes=1_048_576)
    assert options == StreamOptions()
    near, far = memory_carrier_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with (
                run_connection(far, is_client=False) as connection,
                StreamManager(options).over(connection) as manager,
            ):
                assert await manager.send_stream(range(1_000), "s") == "s"
                await trio.sleep_forever()

        nursery.start_soon(serve)
        async with run_connection(near, is_client=True) as connection, StreamManager().over(connection) as manager:
            _, stream = manager.receive_stream("s", int)
            assert len(manager.statistics().receiving) == 1
            assert [item async for item in stream] == list(range(1_000))
            assert manager.statistics().received_streams == 1
        nursery.cancel_scope.cancel()
    with pytest.raises(ValueError, match="max_buffered_bytes"):
        StreamOptions(max_buffered_bytes=0)


async def test_block_3_multiplexing(autojump_clock: Clock) -> None:
    """Block 3: three streams at once have ids of their own; who asks without an id gets the next unclaimed one."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        sent = [await nursery.start(server.send_stream, [name] * 3) for name in "abc"]
        assert len(set(sent)) == 3
        first, second, third = (client.receive_stream()[1] for _ in range(3))
        found = {await stream.wait_begun(): [item async for item in stream] for stream in (third, first, second)}
        assert found == {stream_id: [name] * 3 for stream_id, name in zip(sent, "abc", strict=True)}


async def test_calls_between_stream_items(autojump_clock: Clock) -> None:
    """A call is answered while a stream that nobody reads has filled its window."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        server.match(lambda data: {"echo": data})
        feed = Feed()
        stream_id = await nursery.start(server.send_stream, feed.items())
        _, stream = client.receive_stream(stream_id)
        for number in range(5):
            assert (await client.request(number)).data == {"echo": number}
            assert await stream.receive() == number + 1
        await stream.aclose()


async def test_backpressure_reaches_the_producer(autojump_clock: Clock) -> None:
    """A receiver that reads nothing holds the producer at its window; each item taken lets it go on."""
    config = ConnectionConfig(stream=StreamLimits(window_items=8))
    feed = Feed()
    async with open_peer_pair(config=config) as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, feed.items())
        _, stream = client.receive_stream(stream_id)
        await trio.sleep(60)
        assert feed.made <= 8 + 1
        for _ in range(8):
            await stream.receive()
        await trio.sleep(60)
        assert 8 + 1 < feed.made <= 16 + 1
        await stream.aclose()


async def test_a_waiting_sender_wakes_without_polling(autojump_clock: Clock) -> None:
    """No time passes between the item that makes room and the next one made: nobody polls."""
    config = ConnectionConfig(stream=StreamLimits(window_items=1), idle_timeout=None)
    async with open_peer_pair(config=config) as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, Feed().items())
        _, stream = client.receive_stream(stream_id, int)
        started = trio.current_time()
        for number in range(1, 200):
            assert await stream.receive() == number
        assert trio.current_time() == started
        await stream.aclose()


async def test_a_closed_connection_closes_iterators(autojump_clock: Clock) -> None:
    """On a close the outgoing stream's generator is closed, and its sender hears of it, even while it makes nothing."""
    feed = Feed(delay=3_600)
    near, far = memory_carrier_pair()
    async with trio.open_nursery() as nursery:

        async def other() -> None:
            async with run_connection(far, is_client=False) as connection, RpcPeer(connection):
                await trio.sleep(1)
                far.lose()

        nursery.start_soon(other)
        async with run_connection(near, is_client=True) as connection, RpcPeer(connection) as peer:
            with pytest.raises(ConnectionLost, match="^Connection closed: "):
                await peer.send_stream(feed.items())
            assert feed.is_closed
            assert trio.current_time() < 60


async def test_a_closed_connection_ends_every_stream_once(autojump_clock: Clock) -> None:
    """On a close every receiver gets "Connection closed": those that wait, those that read later, those not begun."""
    near, far = memory_carrier_pair()
    async with trio.open_nursery() as nursery:

        async def other() -> None:
            async with run_connection(far, is_client=False) as connection, RpcPeer(connection) as peer:
                peer.start_stream(Feed(delay=3_600).items(), "slow")
                peer.start_stream(numbers(3), "done")
                await trio.sleep(1)
                far.lose()

        nursery.start_soon(other)
        async with run_connection(near, is_client=True) as connection, RpcPeer(connection) as peer:
            streams = [peer.receive_stream(name)[1] for name in ("slow", "never")]
            streams.append(peer.receive_stream("done")[1])
            call = peer.receive_stream()[1]
            for stream in (*streams[:2], call):
                for _ in range(2):
                    with pytest.raises(ConnectionLost, match="^Connection closed: "):
                        await stream.receive()
            assert [item async for item in streams[2]] == [1, 2, 3]
            with pytest.raises(ConnectionLost, match="Connection closed"):
                await peer.request(1)
            assert peer.streams.statistics().receiving == ()


async def test_nothing_is_left_after_a_close(autojump_clock: Clock) -> None:
    """When the peers' blocks are left, their tasks are gone, and so are their streams."""
    feeds = [Feed(), Feed(delay=1)]
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_peer_pair() as (client, server):
        for feed in feeds:
            server.start_stream(feed.items())
        unread = client.receive_stream()[1]
        await unread.receive()
        await trio.sleep(5)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert all(feed.is_closed for feed in feeds)
    for peer in (client, server):
        found = peer.streams.statistics()
        assert (found.sending, found.receiving, found.unclaimed_streams, found.unclaimed_bytes) == ((), (), 0, 0)
        assert peer.connection.streams == ()


async def test_block_4_errors_reach_the_receiver(autojump_clock: Clock) -> None:
    """Block 4: two items, then the error; the sender's caller gets the bare exception as well."""

    async def may_fail() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise RpcError("ABORTED", "Something went wrong")

    async with open_peer_pair() as (client, server):
        _, stream = client.receive_stream("s", int)
        with pytest.raises(RpcError, match="Something went wrong"):
            await server.send_stream(may_fail(), "s")
        found: list[int] = []
        with pytest.raises(RpcError, match="ABORTED: Something went wrong"):
            async for item in stream:
                found += [item]
        assert found == [1, 2]


async def test_block_6_coordinated_stream_ids(autojump_clock: Clock) -> None:
    """Block 6: a call answers with the id of a stream, which then is received, whichever comes first."""
    async with open_peer_pair() as (client, server):

        async def handle(data: dict[str, str]) -> dict[str, str]:
            assert data["method"] == "requestData"
            return {"streamId": server.start_stream(numbers(3))}

        server.match(handle)
        for delay in (0, 5):
            response = await client.request({"method": "requestData"})
            await trio.sleep(delay)
            assert isinstance(response.data, dict)
            _, stream = client.receive_stream(response.data["streamId"], int)
            assert [item async for item in stream] == [1, 2, 3]


async def test_early_data_waits_for_its_receiver(autojump_clock: Clock) -> None:
    """Data before its receiver waits within `max_buffered_bytes`; past it the stream is refused at both ends."""
    options = StreamOptions(max_buffered_bytes=10_000, unclaimed_timeout=60)
    config = ConnectionConfig(stream=StreamLimits(window_bytes=100_000))
    async with open_peer_pair(options=options, config=config) as (client, server), trio.open_nursery() as nursery:
        await nursery.start(server.send_stream, ["x" * 900] * 9, "fits")
        await trio.sleep(1)
        assert client.streams.statistics().unclaimed_bytes == 9 * (902 + 64)
        with pytest.raises(RpcError, match="max_buffered_bytes of 10000"):
            await _first_error(server.send_stream(numbers(1_000_000), "large"))
        _, stream = client.receive_stream("fits", str)
        assert [len(item) async for item in stream] == [900] * 9
        with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED: stream 'large' passes max_buffered_bytes of 10000"):
            await client.receive_stream("large")[1].receive()


async def _first_error(sending: Awaitable[object]) -> None:
    """A sender's refusal as an `RpcError`, to compare the two ends' texts."""
    try:
        await sending
    except StreamStopped as exc:
        raise RpcError(exc.code, exc.reason) from exc


async def test_block_7_early_termination(autojump_clock: Clock) -> None:
    """Block 7: abort by the sender, close by the receiver, and a loop that is left: the other side stops at once."""
    feeds = [Feed(delay=1) for _ in range(4)]
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        ids = [await nursery.start(server.send_stream, feed.items()) for feed in feeds]
        streams = [client.receive_stream(stream_id, int)[1] for stream_id in ids]
        for stream in streams:
            await stream.receive()
        server.abort_stream(ids[0])
        with pytest.raises(StreamReset, match="aborted"):
            await streams[0].receive()
        client.close_receiving_stream(ids[1])
        async for number in streams[2]:
            if number == 5:
                break
        async with streams[3]:
            pass
        await trio.sleep(2)
        assert [feed.is_closed for feed in feeds] == [True] * 4
        assert feeds[2].made <= 6
        for late in (partial(server.abort_stream, ids[0]), partial(client.close_receiving_stream, ids[1])):
            late()
        for unknown in (client.abort_stream, server.close_receiving_stream):
            with pytest.raises(LocalProtocolError, match="none of"):
                unknown(ids[0])


@pytest.mark.parametrize("batch", [1, 100])
async def test_block_8_chunk_size(autojump_clock: Clock, batch: int) -> None:
    """Block 8: a thousand small items, or ten lists of a hundred: the same data, and neither has to wait."""
    chunks: list[object] = [list(range(i, i + batch)) if batch > 1 else i for i in range(0, 1_000, batch)]
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, chunks)
        _, stream = client.receive_stream(stream_id)
        assert [chunk async for chunk in stream] == chunks


@pytest.mark.parametrize("max_buffered_bytes", [16_777_216, 262_144])
async def test_block_9_backpressure_tuning(autojump_clock: Clock, max_buffered_bytes: int) -> None:
    """Block 9: the limit bounds what a slow receiver is sent; a larger one lets more travel ahead."""
    options = StreamOptions(max_buffered_bytes=max_buffered_bytes)
    item = "x" * 100_000
    made = 0

    async def items() -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield item

    async with open_peer_pair(options=options) as (client, server), trio.open_nursery() as nursery:
        stream_id = await nursery.start(server.send_stream, items())
        _, stream = client.receive_stream(stream_id)
        await trio.sleep(1)
        assert max_buffered_bytes // 100_066 <= made <= max_buffered_bytes // 100_066 + 3
        await stream.aclose()


async def test_block_10_memory_stays_flat(autojump_clock: Clock) -> None:
    """Block 10: of a paginated data set only a window is in memory at once; a message of `send` is whole."""

    class Page(list[int]):
        pass

    most = 0

    async def pages() -> AsyncIterator[Page]:
        nonlocal most
        for number in range(2_000):
            if not number % 100:
                gc.collect()
                most = max(most, sum(isinstance(found, Page) for found in gc.get_objects()))
            yield Page(range(number, number + 10))

    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        told: list[object] = []
        client.match(told.append)
        await server.send({"data": list(range(1_000))})
        stream_id = await nursery.start(server.send_stream, pages())
        _, stream = client.receive_stream(stream_id)
        count = 0
        async for _ in stream:
            count += 1
        assert count == 2_000
        assert most <= 3
        assert told == [{"data": list(range(1_000))}]


async def test_a_stream_starts_without_a_round_trip(autojump_clock: Clock) -> None:
    """The first item is on its way before anything has come back: OPEN and data are one write."""
    async with open_peer_pair() as (client, server):
        await trio.testing.wait_all_tasks_blocked()
        received = server.connection.bytes_received
        server.start_stream([1, 2, 3], "s")
        while server.connection.bytes_sent == 0 or not client.streams.statistics().unclaimed_bytes:
            await trio.lowlevel.checkpoint()
        assert client.streams.statistics().unclaimed_bytes == 3 * 65
        assert server.connection.bytes_received == received


async def test_no_head_of_line_blocking_between_streams(autojump_clock: Clock) -> None:
    """A stream that nobody reads delays no other one."""
    async with open_peer_pair() as (client, server), trio.open_nursery() as nursery:
        full = await nursery.start(server.send_stream, Feed().items())
        _, unread = client.receive_stream(full)
        await trio.sleep(1)
        other = await nursery.start(server.send_stream, range(10_000))
        _, stream = client.receive_stream(other, int)
        assert [item async for item in stream] == list(range(10_000))
        await unread.aclose()


async def test_binary_items(autojump_clock: Clock) -> None:
    """Bytes travel as they are, both ways; 10 kB of them need no more than that."""
    chunk = bytes(range(256)) * 40
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        for sender, receiver in ((left, right), (right, left)):
            before = sender.connection.bytes_sent
            send = partial(sender.send_stream, [chunk], content_type="application/octet-stream")
            _, stream = receiver.receive_stream(await nursery.start(send), bytes)
            assert [item async for item in stream] == [chunk]
            assert sender.connection.bytes_sent - before < len(chunk) + 300


async def test_block_12_the_guide_example_runs() -> None:
    """Block 12: the guide's first example is a program that runs alone, and prints what the guide says."""
    text = (ROOT / "docs" / "guides" / "peers.md").read_text(encoding="utf-8")
    program, output = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    command = [sys.executable, "-W", "error", "-c", program]
    result = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT)
    assert (result.stdout.decode(), result.stderr.decode()) == (output, "")
    assert isinstance(result, subprocess.CompletedProcess)


async def test_over_a_real_connection() -> None:
    """The same over TCP: a peer is opened and served by URL."""
    async with trio.open_nursery() as nursery:

        async def handler(peer: RpcPeer) -> None:
            await peer.send_stream(numbers(10), "s")

        (url,) = await nursery.start(serve_peers, handler, "tcp://127.0.0.1:0")
        async with open_peer(url) as peer:
            assert [item async for item in peer.receive_stream("s", int)[1]] == list(range(1, 11))
        nursery.cancel_scope.cancel()
