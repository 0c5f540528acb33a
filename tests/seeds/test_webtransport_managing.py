"""What the document of WebTransport streams says of managers, pools, statistics, buffers and functions."""

from __future__ import annotations

import itertools

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.seeds.webtransport_streams import bidirectional, peer_of, sessions, small, unidirectional
from trio_streams.errors import (
    FlowControlError,
    StreamReset,
)
from trio_streams.webtransport import (
    StreamBuffer,
    StreamManager,
    StreamPool,
    StreamStats,
    WebTransportStream,
    WebTransportStreamReset,
    copy_stream_data,
    echo_stream,
)

# -- `StreamManager` Class


async def test_stream_manager_limits_streams(autojump_clock: MockClock) -> None:
    """Both kinds count; one more waits until another is over in both directions. It is an async context manager."""
    async with sessions() as (client, server), StreamManager(client, max_streams=2) as manager:
        first = await manager.create_bidirectional_stream()
        await manager.create_unidirectional_stream()
        with trio.move_on_after(10) as scope:
            await manager.create_unidirectional_stream()
        assert scope.cancelled_caught
        theirs = await server.accept_bidirectional_stream()
        await first.close()
        await theirs.read_all()
        with trio.move_on_after(10) as scope:
            await manager.create_bidirectional_stream()
        assert scope.cancelled_caught
        await theirs.close()
        with trio.fail_after(1):
            await first.read_all()
            await manager.create_bidirectional_stream()


async def test_stream_manager_get_stream(autojump_clock: MockClock) -> None:
    """A stream of the manager's by its number; None where there is none, or none any more."""
    async with sessions() as (client, _), StreamManager(client) as manager:
        stream = await manager.create_bidirectional_stream()
        other = await client.create_bidirectional_stream()
        assert manager.get_stream(stream.stream_id) is stream
        assert manager.get_stream(other.stream_id) is None
        stream.abort()
        assert manager.get_stream(stream.stream_id) is None


async def test_stream_manager_get_stats(autojump_clock: MockClock) -> None:
    """Bytes, waits and errors of each open stream, and of all that ever were."""
    async with sessions() as (client, server), StreamManager(client, max_streams=5) as manager:
        stream = await manager.create_bidirectional_stream()
        theirs = await server.accept_bidirectional_stream()
        await stream.write(b"12345")
        await theirs.write(b"123")
        await stream.read()
        stats = manager.get_stats()
        assert (stats.open_streams, stats.opened_streams, stats.max_streams, stats.waiting_tasks) == (1, 1, 5, 0)
        (row,) = stats.streams
        assert (row.stream_id, row.bytes_sent, row.bytes_received, row.errors) == (stream.stream_id, 5, 3, 0)
        theirs.abort()
        with pytest.raises(StreamReset):
            await stream.read_all()
        stats = manager.get_stats()
        assert (stats.open_streams, stats.streams) == (0, ())
        assert (stats.bytes_sent, stats.bytes_received, stats.errors) == (5, 3, 1)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            stats.errors = 0  # type: ignore[misc]


async def test_stream_manager_shutdown(autojump_clock: MockClock) -> None:
    """All of its streams are closed in order, and no more are made; leaving the block does the same."""
    async with sessions() as (client, server):
        async with StreamManager(client) as manager:
            stream = await manager.create_unidirectional_stream()
            await stream.write(b"all of it")
            await manager.shutdown()
            assert await (await server.accept_unidirectional_stream()).read_all() == b"all of it"
            with pytest.raises(trio.ClosedResourceError):
                await manager.create_bidirectional_stream()
        async with StreamManager(client) as manager:
            stream = await manager.create_unidirectional_stream()
            await stream.write(b"this, too")
        assert await (await server.accept_unidirectional_stream()).read_all() == b"this, too"


# -- `StreamPool` Class


async def test_stream_pool(autojump_clock: MockClock) -> None:
    """Streams are open before they are asked for, and used again. It is an async context manager."""
    async with sessions() as (client, server), StreamPool(client, pool_size=3) as pool:
        await trio.sleep(1)
        assert len(client.streams) == 3
        used = set()
        for _ in range(20):
            stream = await pool.get_stream(timeout=0)
            await stream.write(b"x")
            used.add(stream.stream_id)
            await pool.return_stream(stream)
        assert len(used) == 1
        theirs = await peer_of(stream, server)
        await trio.sleep(1)
        assert await theirs.read() == b"x" * 20


async def test_stream_pool_timeout(autojump_clock: MockClock) -> None:
    """`trio.TooSlowError` after so many seconds without a stream, and without a timeout no limit."""
    limited = small(max_bidirectional_streams=2)  # the session's own is one
    async with sessions(limited) as (client, _), StreamPool(client, pool_size=1) as pool:
        stream = await pool.get_stream()
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await pool.get_stream(timeout=5)
        assert trio.current_time() - began == 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.get_stream)
            await trio.sleep(10)
            await pool.return_stream(stream)


async def test_an_empty_pool_makes_an_unpooled_stream(autojump_clock: MockClock) -> None:
    """Who asks for more streams than the pool holds gets new ones."""
    async with sessions() as (client, _), StreamPool(client, pool_size=2) as pool:
        taken = {(await pool.get_stream(timeout=10)).stream_id for _ in range(7)}
        assert len(taken) == 7


async def test_return_stream_keeps_only_healthy_streams(autojump_clock: MockClock) -> None:
    """Both halves open and nothing unread: it is kept; else it is closed, and not given out again."""
    async with sessions() as (client, server), StreamPool(client, pool_size=2) as pool:
        stream = await pool.get_stream()
        await stream.write(b"?")
        theirs = await peer_of(stream, server)
        await pool.return_stream(stream)
        assert await pool.get_stream() is stream
        await theirs.write(b"unread")
        await trio.sleep(1)
        await pool.return_stream(stream)
        other = await pool.get_stream()
        assert other is not stream
        assert not stream.is_writable
        await other.close()
        await pool.return_stream(other)
        assert await pool.get_stream() is not other


async def test_a_full_pool_closes_the_returned_stream(autojump_clock: MockClock) -> None:
    """No more streams stay idle than the pool has places."""
    async with sessions() as (client, _), StreamPool(client, pool_size=2) as pool:
        taken = [await pool.get_stream() for _ in range(5)]
        for stream in taken:
            await pool.return_stream(stream)
        assert sum(stream.is_writable for stream in taken) == 2
        await trio.sleep(1)
        assert sum(stream.is_closed for stream in taken) == 3


async def test_close_all(autojump_clock: MockClock) -> None:
    """Idle streams are closed and nothing is given out any more; leaving the block does the same."""
    async with sessions() as (client, _):
        async with StreamPool(client, pool_size=3) as pool:
            stream = await pool.get_stream()
            await trio.sleep(1)
            await pool.close_all()
            await trio.sleep(1)
            assert client.streams == (stream,)
            with pytest.raises(trio.ClosedResourceError):
                await pool.get_stream()
        async with StreamPool(client, pool_size=3):
            await trio.sleep(1)
            assert len(client.streams) == 4
        await trio.sleep(1)
        assert client.streams == (stream,)


# -- Supporting Data Classes


async def test_stream_stats(autojump_clock: MockClock) -> None:
    """Byte counts, seconds that writes and reads took, and errors; it is frozen."""
    async with sessions(small()) as (client, server), StreamManager(client) as manager, trio.open_nursery() as nursery:
        stream = await manager.create_bidirectional_stream()
        theirs = await server.accept_bidirectional_stream()
        nursery.start_soon(stream.write, bytes(2_500))
        nursery.start_soon(stream.read)
        await trio.sleep(10)
        await theirs.read()
        await theirs.write(b"abc")
        await trio.sleep(10)
        (stats,) = manager.get_stats().streams
        assert isinstance(stats, StreamStats)
        assert (stats.bytes_sent, stats.bytes_received, stats.errors) == (2_500, 3, 0)
        assert 9 < stats.write_seconds < 11
        assert 9 < stats.read_seconds < 11
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            stats.bytes_sent = 0  # type: ignore[misc]


def test_stream_buffer_is_bounded() -> None:
    """It gives bytes back in order, in whatever pieces, and takes no more than it has room for."""
    buffer = StreamBuffer(10)
    assert buffer.push([b"abc", b"", b"defg"]) == 7
    with pytest.raises(FlowControlError, match="max_bytes is 10") as caught:
        buffer.push([b"hijk"])
    assert (caught.value.size, caught.value.limit, len(buffer)) == (11, 10, 7)
    assert buffer.take(4) == b"abcd"
    buffer.push([b"hijk"])
    assert b"".join(itertools.takewhile(bool, iter(lambda: buffer.take(2), None))) == b"efghijk"
    assert buffer.take() == b""


# -- Stream Utility Functions


async def test_copy_stream_data(autojump_clock: MockClock) -> None:
    """All bytes and the end, a chunk at a time: a slow reader at the end slows down the writer at the beginning."""
    config = small()
    async with sessions(config) as (client, server), trio.open_nursery() as nursery:
        writing, source = await unidirectional(client, server)
        destination, reading = await unidirectional(server, client)
        copied: list[int] = []
        data = bytes(range(250)) * 40

        async def copy() -> None:
            copied.append(await copy_stream_data(source=source, destination=destination, chunk_size=100))

        nursery.start_soon(copy)

        async def write() -> None:
            await writing.write(data, end_stream=True)

        nursery.start_soon(write)
        await trio.sleep(10)
        assert writing.bytes_sent < 5_000
        assert source.bytes_received - destination.bytes_sent <= 100
        assert copied == []
        assert await reading.read_all() == data
        await trio.sleep(1)
        assert copied == [len(data)]


async def test_echo_stream(autojump_clock: MockClock) -> None:
    """All that comes goes back, with its end; a reset comes back as one, with its code."""
    async with sessions() as (client, server), trio.open_nursery() as nursery:
        ours, theirs = await bidirectional(client, server)

        async def echo(stream: WebTransportStream) -> None:
            await echo_stream(stream=stream)

        nursery.start_soon(echo, theirs)
        await ours.write(b"hello")
        assert await ours.read() == b"hello"
        await ours.write(b"echo", end_stream=True)
        assert await ours.read_all() == b"echo"
        ours, theirs = await bidirectional(client, server)
        nursery.start_soon(echo, theirs)
        ours.reset(5)
        with pytest.raises(WebTransportStreamReset) as caught:
            await ours.read()
        assert caught.value.application_code == 5
        await trio.sleep(1)
        assert theirs.is_closed
