"""Streams of sessions: what they say, how they end, and what a cancelled call leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.link_pair import open_pair, session_pair
from tests.webtransport.stream_talk import fill, talk
from trio_streams.codes import Code
from trio_streams.core.states import StreamState
from trio_streams.errors import LocalProtocolError, RemoteProtocolError, StreamReset, StreamStopped
from trio_streams.webtransport.errors import SessionClosed, WebTransportStreamReset, WebTransportStreamStopped
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream


async def test_reads_give_what_is_there_up_to_a_size(autojump_clock: MockClock) -> None:
    """A read takes at most its size, and the end is empty bytes then and ever after."""
    async with talk() as both:
        await both.here.write(b"hello", end_stream=True)
        assert [await both.there.read(size=3), await both.there.read(), await both.there.read()] == [b"hel", b"lo", b""]
        assert await both.there.read() == b""


async def test_read_all_takes_everything_to_the_end(autojump_clock: MockClock) -> None:
    """All of a stream that is longer than its window is read in one call."""
    async with talk() as both, trio.open_nursery() as nursery:
        data = bytes(range(256)) * 1_000
        nursery.start_soon(write_and_close, both.here, data)
        assert await both.there.read_all(max_size=len(data)) == data


async def write_and_close(stream: WebTransportStream | WebTransportSendStream, data: bytes) -> None:
    await stream.write(data, end_stream=True)


class Steps(trio.abc.Instrument):
    """Counts how often a task goes on."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


@pytest.mark.parametrize("reading", ["receive_some", "read_all"])
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_read_yields_once(reading: str, is_late: bool, autojump_clock: MockClock) -> None:
    """Whether it finds its bytes or waits for them: waiting is a checkpoint, and a second one would only be late."""
    async with talk() as both, trio.open_nursery() as nursery:

        async def write() -> None:
            await trio.sleep(1 if is_late else 0)
            await both.here.write(b"question", end_stream=True)

        nursery.start_soon(write)
        if not is_late:
            await trio.sleep(1)
        steps = Steps(trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(steps)
        try:
            assert await getattr(both.there, reading)() == b"question"
        finally:
            trio.lowlevel.remove_instrument(steps)
        assert steps.count == 1


async def test_read_all_stops_a_stream_that_is_too_long(autojump_clock: MockClock) -> None:
    """Past `max_size` the call raises with field, size and limit, and the writer hears MESSAGE_TOO_LARGE."""
    async with talk() as both:
        await both.here.write(bytes(11))
        with pytest.raises(RemoteProtocolError) as caught:
            await both.there.read_all(max_size=10)
        assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_size", 11, 10)
        with pytest.raises(WebTransportStreamStopped) as stopped:
            await fill(both.here)
        assert stopped.value.code is Code.MESSAGE_TOO_LARGE
        assert not both.there.is_readable


async def test_a_cancelled_read_all_loses_no_byte(autojump_clock: MockClock) -> None:
    """What a cancelled `read_all` had read is read again, once, and its credit is given once."""
    async with talk() as both:
        await both.here.write(b"abc")
        with trio.move_on_after(1):
            await both.there.read_all()
        assert both.there.bytes_received == 0
        await both.here.write(b"def", end_stream=True)
        assert await both.there.read(size=2) == b"ab"
        assert await both.there.read_all() == b"cdef"
        assert both.there.bytes_received == 6


async def test_a_peer_may_send_a_window_beside_what_was_put_back(autojump_clock: MockClock) -> None:
    """What a cancelled `read_all` put back has its credit already: the next window fits beside it."""
    async with talk() as both:
        await both.here.write(bytes(40_000))
        with trio.move_on_after(1):
            await both.there.read_all()
        assert both.there.unread_bytes == 40_000
        sent = await fill(both.here)
        assert both.there.unread_bytes > both.pair.server.window_bytes
        await both.here.close()
        assert len(await both.there.read_all()) == sent


async def test_a_cancelled_read_loses_no_byte(autojump_clock: MockClock) -> None:
    """Reads that are cancelled at the moment when bytes arrive leave them to the next one."""
    async with talk() as both, trio.open_nursery() as nursery:
        nursery.start_soon(write_slowly, both.here)
        got = b""
        while len(got) < 50:
            with trio.move_on_after(0.1):  # as long as it takes between two writes
                got += await both.there.read()
        assert got == bytes(range(50))


async def write_slowly(stream: WebTransportStream) -> None:
    for number in range(50):
        await stream.write(bytes([number]))
        await trio.sleep(0.1)


async def test_read_iter_gives_chunks_to_the_end(autojump_clock: MockClock) -> None:
    """Chunks are no longer than asked for, and a loop may be left and gone on with."""
    async with talk() as both:
        await both.here.write(b"abcdefg", end_stream=True)
        async for chunk in both.there.read_iter(chunk_size=3):
            assert chunk == b"abc"
            break
        assert [chunk async for chunk in both.there.read_iter(chunk_size=3)] == [b"def", b"g"]


async def test_all_kinds_of_bytes_are_written(autojump_clock: MockClock) -> None:
    """Bytes, bytearrays and memoryviews of whatever items are sent as their bytes, and may change afterwards."""
    async with talk() as both:
        changed = bytearray(b"cd")
        await both.here.write(b"ab")
        await both.here.write(changed)
        changed[:] = b"xx"
        await both.here.write(memoryview(bytes(8)).cast("I"))
        await both.here.write(b"", end_stream=True)
        assert await both.there.read_all() == b"abcd" + bytes(8)


async def test_flush_waits_until_all_has_left(autojump_clock: MockClock) -> None:
    """With a peer that does not read, flush waits; once it reads, flush returns."""
    async with talk() as both:
        await fill(both.here)
        with trio.move_on_after(5) as scope:
            await both.here.flush()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, both.there)
            await both.here.flush()
            nursery.cancel_scope.cancel()


async def drain(stream: WebTransportStream | WebTransportReceiveStream) -> None:
    async for _ in stream.read_iter():
        pass


async def test_flush_tells_what_broke_the_stream(autojump_clock: MockClock) -> None:
    """A flush of what the peer refused raises that."""
    async with talk() as both:
        await fill(both.here)
        both.there.stop(7)
        with pytest.raises(WebTransportStreamStopped):
            await both.here.flush()


async def test_abort_reaches_both_sides_of_the_peer(autojump_clock: MockClock) -> None:
    """A peer that reads gets a reset, one that writes a stop, both with the application's code and ours."""
    async with talk() as both:
        both.here.abort(code=Code.NOT_FOUND)
        with pytest.raises(WebTransportStreamReset) as reset:
            await both.there.read()
        with pytest.raises(WebTransportStreamStopped) as stopped:
            await both.there.write(b"x")
        assert isinstance(reset.value, StreamReset)
        assert isinstance(stopped.value, StreamStopped)
        assert (reset.value.application_code, reset.value.code) == (5, Code.NOT_FOUND)
        assert (stopped.value.application_code, stopped.value.code) == (5, Code.NOT_FOUND)
        for use in (both.here.read, lambda: both.here.write(b"x")):
            with pytest.raises(trio.ClosedResourceError):
                await use()


async def test_codes_of_the_application_have_32_bits(autojump_clock: MockClock) -> None:
    """The largest code arrives as it is, and one that does not fit changes nothing."""
    async with talk() as both:
        sending, receiving = await both.one_way()
        for abort in (both.here.abort, both.here.stop, sending.abort):
            with pytest.raises(LocalProtocolError) as caught:
                abort(code=1 << 32)
            assert (caught.value.field, caught.value.limit) == ("application_code", 0xFFFF_FFFF)
        assert both.here.state is StreamState.OPEN
        sending.abort(code=0xFFFF_FFFF)
        with pytest.raises(WebTransportStreamReset) as reset:
            await receiving.read()
        assert reset.value.application_code == 0xFFFF_FFFF


async def test_states_follow_the_halves(autojump_clock: MockClock) -> None:
    """A stream is open, then half closed on either side, then closed once what arrived was read."""
    async with talk() as both:
        here, there = both.here, both.there
        assert (here.state, there.state) == (StreamState.OPEN, StreamState.OPEN)
        await here.write(b"x")
        await here.close()
        await trio.sleep(1)
        assert (here.state, here.is_writable, here.is_readable) == (StreamState.HALF_CLOSED_LOCAL, False, True)
        assert (there.state, there.unread_bytes) == (StreamState.OPEN, 1)
        assert await there.read_all() == b"x"
        assert (there.state, there.is_readable, there.is_writable) == (StreamState.HALF_CLOSED_REMOTE, False, True)
        await there.close()
        await trio.sleep(1)
        assert here.is_closed
        assert there.is_closed


async def test_one_way_streams_have_one_half(autojump_clock: MockClock) -> None:
    """A one-way stream's other half counts as closed."""
    async with talk() as both:
        sending, receiving = await both.one_way()
        assert (sending.direction, receiving.direction, both.here.direction) == ("send", "receive", "bidirectional")
        assert (sending.state, receiving.state) == (StreamState.HALF_CLOSED_REMOTE, StreamState.HALF_CLOSED_LOCAL)
        assert sending.stream_id == receiving.stream_id
        receiving.abort(code=3)
        with pytest.raises(WebTransportStreamStopped):
            await fill(sending)
        assert sending.is_closed
        assert receiving.is_closed


async def test_a_blocked_writer_hears_the_stop_at_once(autojump_clock: MockClock) -> None:
    """STOP_SENDING raises in a write that waits for room, one way later."""
    async with talk() as both:
        await fill(both.here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_soon, both.there)
            started = trio.current_time()
            with pytest.raises(WebTransportStreamStopped) as stopped:
                await both.here.write(b"x")
            assert trio.current_time() - started < 1.1
        assert stopped.value.application_code == 77


async def stop_soon(stream: WebTransportStream) -> None:
    await trio.sleep(1)
    stream.stop(77)


async def test_a_waiting_reader_hears_the_reset_and_what_was_unread_is_dropped(autojump_clock: MockClock) -> None:
    """RESET_STREAM raises in a read that waits; bytes that nobody had read are gone."""
    async with talk() as both:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset_soon, both.here)
            with pytest.raises(WebTransportStreamReset):
                await both.there.read()
        sending, receiving = await both.one_way()
        await sending.write(b"lost")
        await trio.sleep(1)
        assert receiving.unread_bytes == 4
        sending.reset(1)
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamReset):
            await receiving.read()


async def reset_soon(stream: WebTransportStream) -> None:
    await trio.sleep(1)
    stream.reset(3)


async def test_a_cancelled_write_counts_what_was_taken(autojump_clock: MockClock) -> None:
    """The peer reads exactly the bytes that `bytes_sent` counts."""
    async with talk() as both:
        data = bytes(range(256)) * 16_384
        with trio.move_on_after(5) as scope:
            await both.here.write(data)
        assert scope.cancelled_caught
        assert 0 < both.here.bytes_sent < len(data)
        await both.here.close()
        assert await both.there.read_all() == data[: both.here.bytes_sent]
        assert both.here.write_seconds > 4


async def test_what_is_unread_is_no_more_than_the_window(autojump_clock: MockClock) -> None:
    """A writer to a peer that does not read is stopped at a window and a send buffer; a read lets it go on."""
    async with talk() as both:
        config = both.pair.client.config.quic
        sent = await fill(both.here)
        assert both.there.unread_bytes <= config.window_bytes
        assert sent <= config.window_bytes + config.max_send_buffer_bytes
        while both.there.unread_bytes:
            await both.there.read(size=65_536)
        assert await fill(both.here) > sent


async def test_closing_wakes_whoever_waits(autojump_clock: MockClock) -> None:
    """A reader and a writer that wait hear that the stream was closed here."""
    async with talk() as both:
        await fill(both.here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed, both.here.read)
            nursery.start_soon(expect_closed, lambda: both.here.write(b"x"))
            await wait_all_tasks_blocked()
            await both.here.aclose()
        assert both.here.errors == 2


async def expect_closed(use: Callable[[], object]) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await use()  # type: ignore[misc]


async def test_what_arrived_can_be_read_after_the_session_is_closed(autojump_clock: MockClock) -> None:
    """A peer's close loses nothing that is here: an ended stream reads to its end, another one to the close."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        ended = await server.create_unidirectional_stream()
        await ended.write(b"whole", end_stream=True)
        unended = await server.create_unidirectional_stream()
        await unended.write(b"part")
        first = await client.accept_unidirectional_stream()
        await trio.sleep(1)
        server.close(9, "done")
        assert (await client.wait_closed()).code == 9
        second = await client.accept_unidirectional_stream()
        assert await first.read_all() == b"whole"
        assert await second.read() == b"part"
        with pytest.raises(SessionClosed) as closed:
            await second.read()
        assert (closed.value.code, closed.value.reason) == (9, "done")


async def test_a_read_all_that_a_close_breaks_puts_back(autojump_clock: MockClock) -> None:
    """What `read_all` had read when the session closed can still be read."""
    async with talk() as both:
        await both.there.write(b"part")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_session_closed, both.here)
            await trio.sleep(1)
            both.server.close(2)
        assert await both.here.read() == b"part"


async def expect_session_closed(stream: WebTransportStream) -> None:
    with pytest.raises(SessionClosed):
        await stream.read_all()


async def test_priorities_can_be_changed(autojump_clock: MockClock) -> None:
    """A stream has the priority that it was opened with, until it is given another one; over or not."""
    async with talk() as both:
        stream = await both.client.create_bidirectional_stream(priority=3)
        assert (stream.priority, both.here.priority) == (3, 0)
        stream.priority = -7
        assert stream.priority == -7
        stream.abort()
        stream.priority = 1
        assert stream.priority == 1


async def test_ending_twice_is_no_matter_and_ending_a_closed_stream_is(autojump_clock: MockClock) -> None:
    """`close` may come twice; after `aclose` it says that the stream is closed."""
    async with talk() as both:
        await both.here.close()
        await both.here.send_eof()
        await both.here.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await both.here.close()
        assert await both.there.read() == b""


async def test_streams_are_released_once_when_they_are_over(autojump_clock: MockClock) -> None:
    """What is over is forgotten on both sides, so the peer may open as many again."""
    async with talk() as both:
        await both.here.aclose()
        await both.there.aclose()
        await trio.sleep(1)
        assert (both.client.streams, both.server.streams) == ((), ())
        assert both.client.get_stream(both.here.stream_id) is None


async def test_repr_names_stream_and_state(autojump_clock: MockClock) -> None:
    """A stream shows what it is."""
    async with talk() as both:
        assert repr(both.here) == f"<WebTransportStream {both.here.stream_id} open>"
