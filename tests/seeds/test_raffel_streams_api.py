"""The in-process stream of the seed `raffel-streams.md`: its code blocks and its tables, in our own code."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.core.states import HalfState
from trio_streams.errors import StreamReset, StreamStopped
from trio_streams.streams import LocalStream, StreamChunk, open_stream


async def test_block_8_create_write_and_read() -> None:
    """What is written is read in order, and after the end a chunk is done."""
    async with open_stream[str](id="my-stream", high_water_mark=16, priority=0) as stream:
        await stream.write("hello")
        await stream.write("world")
        stream.end()

        assert await stream.read() == StreamChunk(done=False, value="hello")
        assert await stream.read() == StreamChunk(done=False, value="world")
        assert await stream.read() == StreamChunk(done=True)


async def test_async_iteration() -> None:
    """A loop takes every item and finishes with the stream."""
    async with open_stream[str]() as stream:
        await stream.send_many(["hello", "world"])
        stream.end()
        assert [value async for value in stream] == ["hello", "world"]


async def test_block_9_interface() -> None:
    """Every name of the interface is there, and tells the truth about a fresh stream."""
    async with open_stream[int](id="numbers", high_water_mark=4, priority=7) as stream:
        assert isinstance(stream, LocalStream)
        assert (stream.id, stream.priority, stream.high_water_mark) == ("numbers", 7, 4)
        assert (stream.readable, stream.writable, stream.closed, stream.errored) == (True, True, False, None)
        await stream.write(1)
        assert stream.buffered_amount == stream.channel_statistics().current_buffer_used == 1
    async with open_stream[int]() as first, open_stream[int]() as second:
        assert first.id != second.id
        assert (first.high_water_mark, first.priority) == (16, 0)


async def test_states() -> None:
    """A stream is open, closing while the buffer drains, closed when it has; or errored."""
    seen: list[HalfState] = []
    async with open_stream[int]() as stream:
        await stream.write(1)
        seen.append(stream.state)
        stream.end()
        seen.append(stream.state)
        await stream.read()
        seen.append(stream.state)
    async with open_stream[int]() as stream:
        stream.cancel()
        seen.append(stream.state)
    assert seen == [HalfState.OPEN, HalfState.CLOSING, HalfState.CLOSED, HalfState.ERRORED]


async def test_error() -> None:
    """After an error, reads raise it at once, before what was buffered."""
    async with open_stream[int]() as stream:
        await stream.write(1)
        stream.error(OSError("the disk is gone"))
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                await stream.read()
        assert isinstance(stream.errored, OSError)


async def test_pause_and_resume(nursery: trio.Nursery) -> None:
    """While paused nothing is delivered, not even to a reader that waits already, and writes fill the buffer."""
    chunks: list[StreamChunk[int]] = []

    async def read(stream: LocalStream[int]) -> None:
        chunks.append(await stream.read())

    async with open_stream[int](high_water_mark=2) as stream:
        nursery.start_soon(read, stream)
        await wait_all_tasks_blocked()
        stream.pause()
        await stream.write(1)
        await stream.write(2)
        await wait_all_tasks_blocked()
        assert chunks == []
        assert stream.buffered_amount == 2
        stream.resume()
        await wait_all_tasks_blocked()
        assert chunks == [StreamChunk(False, 1)]


async def test_block_11_cancel(nursery: trio.Nursery) -> None:
    """Cancelling drops the buffer, and says why to whoever reads or writes."""
    async with open_stream[str](high_water_mark=1) as stream:

        async def write() -> None:
            with pytest.raises(StreamStopped, match="User disconnected"):
                await stream.write("second")

        await stream.write("first")
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        stream.cancel("User disconnected")
        assert stream.buffered_amount == 0
        with pytest.raises(StreamReset, match="User disconnected"):
            await stream.read()


async def test_block_12_backpressure(nursery: trio.Nursery) -> None:
    """At a mark of 2 the third write waits until a read makes room."""
    written: list[int] = []
    async with open_stream[int](high_water_mark=2) as stream:

        async def write() -> None:
            await stream.write(3)
            written.append(3)

        await stream.write(1)
        await stream.write(2)
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert written == []
        assert stream.buffered_amount == 2

        assert await stream.read() == StreamChunk(False, 1)
        await wait_all_tasks_blocked()
        assert written == [3]


async def test_block_13_rendezvous(nursery: trio.Nursery) -> None:
    """At a mark of 0 a write waits for its reader; nothing is lost and nothing changes places."""
    written: list[str] = []
    async with open_stream[str](high_water_mark=0) as stream:

        async def write() -> None:
            for value in ("data", "more", "last"):
                await stream.write(value)
                written.append(value)

        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert written == []

        assert await stream.read() == StreamChunk(False, "data")
        await wait_all_tasks_blocked()
        assert written == ["data"]
        assert await stream.receive() == "more"
        assert await stream.receive() == "last"
