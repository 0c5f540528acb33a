"""What the document of WebTransport streams says of streams and sessions, over two sessions in memory.

The document has no code blocks: each test shows what a row of `docs/seed-map.md` claims. Managers, pools and functions are
in `test_webtransport_managing.py`.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.seeds.webtransport_streams import bidirectional, sessions, small, streams, unidirectional
from trio_streams.codes import Code
from trio_streams.core.states import StreamState
from trio_streams.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    StreamError,
    StreamReset,
    StreamStopped,
)
from trio_streams.webtransport import (
    Data,
    StreamId,
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
    WebTransportStreamReset,
    WebTransportStreamStopped,
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
