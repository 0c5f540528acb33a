"""What the document of WebTransport streams says of each class and function, over two sessions in memory.

The document has no code blocks: each test shows what a row of `docs/seed-map.md` claims.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.link_pair import open_pair, session_pair
from trio_streams.codes import Code
from trio_streams.core.states import StreamState
from trio_streams.errors import (
    FlowControlError,
    LocalProtocolError,
    RemoteProtocolError,
    StreamError,
    StreamReset,
    StreamStopped,
)
from trio_streams.webtransport import (
    Data,
    QuicLimits,
    StreamBuffer,
    StreamId,
    StreamManager,
    StreamPool,
    StreamStats,
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
    WebTransportStreamReset,
    WebTransportStreamStopped,
    copy_stream_data,
    echo_stream,
)

Sessions = tuple[WebTransportSession, WebTransportSession]
Streams = tuple[WebTransportStream, WebTransportStream]


@asynccontextmanager
async def sessions(config: WebTransportConfig | None = None) -> AsyncIterator[Sessions]:
    """A client's session and its server's."""
    with trio.fail_after(600):
        async with open_pair(config=config) as pair, session_pair(pair) as both:
            yield both


@asynccontextmanager
async def streams(config: WebTransportConfig | None = None) -> AsyncIterator[Streams]:
    """The two ends of a bidirectional stream."""
    async with sessions(config) as (client, server):
        yield await bidirectional(client, server)


async def bidirectional(client: WebTransportSession, server: WebTransportSession) -> Streams:
    ours = await client.create_bidirectional_stream()
    return ours, await server.accept_bidirectional_stream()


async def unidirectional(
    client: WebTransportSession, server: WebTransportSession
) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
    ours = await client.create_unidirectional_stream()
    return ours, await server.accept_unidirectional_stream()


async def peer_of(stream: WebTransportStream, session: WebTransportSession) -> WebTransportStream:
    """The peer's end of a stream, wherever it is in line."""
    while True:
        theirs = await session.accept_bidirectional_stream()
        if theirs.stream_id == stream.stream_id:
            return theirs


def small(window_bytes: int = 1_000, **limits: int) -> WebTransportConfig:
    """Little room, so that a little is much."""
    return WebTransportConfig(
        quic=QuicLimits(
            window_bytes=window_bytes,
            connection_window_bytes=window_bytes * 100,
            max_send_buffer_bytes=window_bytes,
            send_low_mark_bytes=window_bytes // 2,
            **limits,
        )
    )


# -- Core Stream Classes


async def test_streams_come_from_sessions(autojump_clock: MockClock) -> None:
    """A session's methods make streams of both kinds, and wait where the peer allows no more for now."""
    limited = small(max_bidirectional_streams=2)  # the session's own is one
    async with sessions(limited) as (client, server), trio.open_nursery() as nursery:
        first, theirs = await bidirectional(client, server)
        assert isinstance(first, WebTransportStream)
        assert isinstance(await client.create_unidirectional_stream(), WebTransportSendStream)
        made: list[WebTransportStream] = []

        async def create() -> None:
            made.append(await client.create_bidirectional_stream())

        nursery.start_soon(create)
        await trio.sleep(1)
        assert made == []
        await first.aclose()
        await theirs.aclose()
        await trio.sleep(1)
        assert len(made) == 1


# -- `WebTransportStream` Class


async def test_bidirectional_stream(autojump_clock: MockClock) -> None:
    """Both sides write and read; it is one of Trio's byte streams, too."""
    async with streams() as (ours, theirs):
        assert isinstance(ours, WebTransportStream)
        assert isinstance(theirs, WebTransportStream)
        assert isinstance(ours, trio.abc.HalfCloseableStream)
        await ours.write(b"question", end_stream=True)
        assert await theirs.read_all() == b"question"
        await theirs.send_all(b"answer")
        await theirs.send_eof()
        assert await ours.receive_some() == b"answer"
        assert await ours.receive_some() == b""


async def test_read(autojump_clock: MockClock) -> None:
    """Up to `size` bytes, 8,192 by default; none at the end, and a cancelled read loses none."""
    async with streams() as (ours, theirs):
        await ours.write(bytes(20_000), end_stream=True)
        await trio.sleep(1)
        assert len(await theirs.read()) == 8_192
        assert len(await theirs.read(size=5)) == 5
        with trio.CancelScope() as scope:
            scope.cancel()
            await theirs.read()
        assert scope.cancelled_caught
        assert len(await theirs.read_all()) == 20_000 - 8_192 - 5
        assert await theirs.read() == b""
        with pytest.raises(ValueError, match="max_bytes must be at least 1"):
            await theirs.read(size=0)


async def test_read_all(autojump_clock: MockClock) -> None:
    """Everything up to the end; past `max_size` the stream is stopped and the call raises."""
    async with sessions() as (client, server):
        ours, theirs = await bidirectional(client, server)
        await ours.write(b"x" * 100, end_stream=True)
        assert await theirs.read_all(max_size=100) == b"x" * 100
        ours, theirs = await bidirectional(client, server)
        await ours.write(b"x" * 101)
        with pytest.raises(RemoteProtocolError, match="max_size is 100") as caught:
            await theirs.read_all(max_size=100)
        assert (caught.value.field, caught.value.limit) == ("max_size", 100)
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamStopped) as stopped:
            await ours.write(b"more")
        assert stopped.value.code is Code.MESSAGE_TOO_LARGE


async def test_read_iter(autojump_clock: MockClock) -> None:
    """Chunks of at most `chunk_size` bytes, 8,192 by default, up to the end."""
    async with streams() as (ours, theirs):
        await ours.write(bytes(range(256)) * 100, end_stream=True)
        await trio.sleep(1)
        first = await anext(aiter(theirs.read_iter(chunk_size=100)))
        rest = [chunk async for chunk in theirs.read_iter()]
        assert len(first) <= 100
        assert max(map(len, rest)) <= 8_192
        assert b"".join([first, *rest]) == bytes(range(256)) * 100


async def test_write(autojump_clock: MockClock) -> None:
    """Any bytes-like data, in order; with `end_stream` the end comes behind it. A writer waits while nobody reads."""
    async with streams(small()) as (ours, theirs):
        data: list[Data] = [b"bytes ", bytearray(b"bytearray "), memoryview(b"memoryview")]
        for each in data:
            await ours.write(each)
        await ours.write(b"", end_stream=True)
        assert await theirs.read_all() == b"bytes bytearray memoryview"
        with pytest.raises(trio.ClosedResourceError):
            await ours.write(b"more")
        with trio.move_on_after(10) as scope:
            await theirs.write(bytes(1_000_000))
        assert scope.cancelled_caught
        assert theirs.bytes_sent <= 2_000  # its own buffer, and the window of its peer
        await ours.read()
        with trio.move_on_after(1):
            await theirs.write(bytes(1_000_000))
        assert theirs.bytes_sent > 2_000


async def test_flush(autojump_clock: MockClock) -> None:
    """It returns when all that was written has left, and waits as long as the peer has no room for it."""
    async with streams(small()) as (ours, theirs):
        await ours.write(bytes(1_900))
        with trio.move_on_after(10) as scope:
            await ours.flush()
        assert scope.cancelled_caught
        await theirs.read()
        with trio.fail_after(1):
            await ours.flush()


async def test_close_ends_the_write_side(autojump_clock: MockClock) -> None:
    """Our half is ended in order, and the peer's goes on; `aclose` closes both."""
    async with streams() as (ours, theirs):
        await ours.write(b"last words")
        await ours.close()
        await ours.close()
        assert await theirs.read_all() == b"last words"
        await theirs.write(b"still here")
        assert await ours.read() == b"still here"
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.read()
        await trio.sleep(1)
        with pytest.raises(StreamStopped):
            await theirs.write(b"?")


async def test_abort(autojump_clock: MockClock) -> None:
    """Nothing waits; the peer's reader and its writer are told the code, which has 32 bits."""
    async with streams() as (ours, theirs):
        with pytest.raises(LocalProtocolError, match="32 bits"):
            ours.abort(code=1 << 32)
        assert ours.is_writable
        await ours.write(b"unread")
        ours.abort(code=0xFFFF_FFFF)
        ours.abort(code=1)
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamReset) as reset:
            await theirs.read()
        with pytest.raises(WebTransportStreamStopped) as stopped:
            await theirs.write(b"?")
        assert reset.value.application_code == 0xFFFF_FFFF
        assert stopped.value.application_code == 0xFFFF_FFFF
        assert ours.is_closed


async def test_stream_properties(autojump_clock: MockClock) -> None:
    """Number, direction, and what may still be done, of all three kinds."""
    async with sessions() as (client, server):
        ours, theirs = await bidirectional(client, server)
        stream_id: StreamId = ours.stream_id
        assert (theirs.stream_id, theirs.direction) == (stream_id, "bidirectional")
        assert isinstance(stream_id, int)
        assert (ours.is_readable, ours.is_writable, ours.is_closed) == (True, True, False)
        await ours.close()
        assert (ours.is_readable, ours.is_writable, ours.is_closed) == (True, False, False)
        await theirs.write(b"last", end_stream=True)
        await trio.sleep(1)
        assert ours.is_readable
        assert await ours.read_all() == b"last"
        assert (ours.is_readable, ours.is_writable, ours.is_closed) == (False, False, True)
        sending, receiving = await unidirectional(client, server)
        assert sending.stream_id == receiving.stream_id != stream_id
        assert (sending.direction, receiving.direction) == ("send", "receive")


async def test_stream_states(autojump_clock: MockClock) -> None:
    """The two halves, together: open, closed on one side, closed."""
    async with streams() as (ours, theirs):
        assert (ours.state, theirs.state) == (StreamState.OPEN, StreamState.OPEN)
        await ours.close()
        await trio.sleep(1)
        assert await theirs.read() == b""
        assert (ours.state, theirs.state) == (StreamState.HALF_CLOSED_LOCAL, StreamState.HALF_CLOSED_REMOTE)
        await theirs.close()
        assert await ours.read() == b""
        await trio.sleep(1)
        assert (ours.state, theirs.state) == (StreamState.CLOSED, StreamState.CLOSED)


# -- `WebTransportSendStream` Class, `WebTransportReceiveStream` Class


async def test_send_stream(autojump_clock: MockClock) -> None:
    """It is written to, flushed and closed, and can't be read."""
    async with sessions() as (client, server):
        sending, receiving = await unidirectional(client, server)
        assert isinstance(sending, WebTransportSendStream)
        assert isinstance(sending, trio.abc.SendStream)
        await sending.write(b"one ")
        await sending.flush()
        await sending.write(b"two")
        await sending.close()
        assert await receiving.read_all() == b"one two"
        assert not hasattr(sending, "read")
        other, receiving = await unidirectional(client, server)
        await other.write(b"all", end_stream=True)
        assert await receiving.read_all() == b"all"


async def test_send_stream_abort(autojump_clock: MockClock) -> None:
    """Its reader is told the code, and gets nothing that it had not read."""
    async with sessions() as (client, server):
        sending, receiving = await unidirectional(client, server)
        await sending.write(b"unread")
        sending.abort(code=7)
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamReset) as caught:
            await receiving.read()
        assert caught.value.application_code == 7
        assert sending.is_closed


async def test_receive_stream(autojump_clock: MockClock) -> None:
    """It is read in all three ways, and can't be written to."""
    async with sessions() as (client, server):
        sending, receiving = await unidirectional(server, client)
        assert isinstance(receiving, WebTransportReceiveStream)
        assert isinstance(receiving, trio.abc.ReceiveStream)
        await sending.write(b"abcdefghij", end_stream=True)
        await trio.sleep(1)
        assert await receiving.read(size=2) == b"ab"
        assert await anext(aiter(receiving.read_iter(chunk_size=3))) == b"cde"
        with pytest.raises(RemoteProtocolError):
            await receiving.read_all(max_size=4)
        sending, receiving = await unidirectional(server, client)
        await sending.write(b"fghij", end_stream=True)
        assert await receiving.read_all(max_size=5) == b"fghij"
        assert not hasattr(receiving, "write")


async def test_receive_stream_abort(autojump_clock: MockClock) -> None:
    """Its writer is told the code, even while it waits for room."""
    async with sessions(small()) as (client, server), trio.open_nursery() as nursery:
        sending, receiving = await unidirectional(client, server)
        codes: list[object] = []

        async def write() -> None:
            with pytest.raises(WebTransportStreamStopped) as caught:
                await sending.write(bytes(100_000))
            codes.append(caught.value.application_code)

        nursery.start_soon(write)
        await trio.sleep(1)
        assert codes == []
        receiving.abort(code=9)
        await trio.sleep(1)
        assert codes == [9]


async def test_incoming_streams(autojump_clock: MockClock) -> None:
    """The peer's streams of both kinds, in the order in which it opened them, until the session is closed."""
    async with sessions() as (client, server), trio.open_nursery() as nursery:
        made = [await client.create_bidirectional_stream(), await client.create_unidirectional_stream()]
        made.append(await client.create_bidirectional_stream())
        seen: list[tuple[type, StreamId]] = []

        async def take() -> None:
            seen.extend([(type(stream), stream.stream_id) async for stream in server.incoming_streams()])

        nursery.start_soon(take)
        await trio.sleep(1)
        assert seen == []  # more may come
        server.close()
        await wait_all_tasks_blocked()
        kinds = [WebTransportStream, WebTransportReceiveStream, WebTransportStream]
        assert seen == list(zip(kinds, [stream.stream_id for stream in made], strict=True))


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


# -- See Also


async def test_stream_errors(autojump_clock: MockClock) -> None:
    """A reset and a stop say which half it was, and with which code; both are what `StreamError` is."""
    async with streams() as (ours, theirs):
        ours.reset(Code.RESOURCE_EXHAUSTED)
        ours.stop(123_456)
        await trio.sleep(1)
        with pytest.raises(StreamError) as caught:
            await theirs.read()
        assert isinstance(caught.value, StreamReset)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        with pytest.raises(StreamError) as caught:
            await theirs.write(b"?")
        assert isinstance(caught.value, WebTransportStreamStopped)
        assert (caught.value.code, caught.value.application_code) == (Code.UNKNOWN, 123_456)


async def test_datagrams(autojump_clock: MockClock) -> None:
    """They come whole; too large a one is refused at once; those that wait are bounded by number and by age."""
    config = WebTransportConfig(max_received_datagrams=3, max_received_datagram_age=20.0)
    async with sessions(config) as (client, server):
        size = client.max_datagram_size
        assert size is not None
        client.send_datagram(b"x" * size)
        assert await server.receive_datagram() == b"x" * size
        size = client.max_datagram_size  # which may have grown with what the path has shown to carry
        assert size is not None
        with pytest.raises(LocalProtocolError) as caught:
            client.send_datagram(bytes(size + 1))
        assert caught.value.limit == size
        for number in range(5):
            client.send_datagram(b"%d" % number)
            await trio.sleep(1)
        assert [await server.receive_datagram() for _ in range(3)] == [b"2", b"3", b"4"]
        client.send_datagram(b"old")
        await trio.sleep(30)
        client.send_datagram(b"new")
        assert await server.receive_datagram() == b"new"
