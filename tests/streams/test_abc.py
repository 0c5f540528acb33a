"""The algorithms that all streams share, shown on a stream that has only the operations that differ."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import pytest
import trio

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import StreamReset
from trio_streams.streams import Stream, StreamChunk, StreamStatistics


class Loop(Stream[int, int]):
    """Gives back what was sent to it, at most `mark` items at once."""

    def __init__(self, mark: int = 4) -> None:
        self.mark = mark
        self.items: deque[int] = deque()
        self.error: Exception = trio.WouldBlock()
        self.waits = 0

    def send_nowait(self, value: int) -> None:
        if len(self.items) >= self.mark:
            raise trio.WouldBlock
        self.items.append(value)

    async def send(self, value: int) -> None:
        await trio.lowlevel.checkpoint()
        self.waits += 1
        self.items.clear()
        self.items.append(value)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def receive_nowait(self) -> int:
        if not self.items:
            raise self.error
        return self.items.popleft()

    async def receive(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.receive_nowait()

    def end(self, status: Status | None = None) -> None:
        self.error = trio.EndOfChannel()

    def reset(self, code: Code = Code.CANCELLED, reason: str = "") -> None:
        self.error = StreamReset(code, reason)

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        self.error = trio.ClosedResourceError()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def statistics(self) -> StreamStatistics:
        return StreamStatistics(id="loop", buffered_items=len(self.items))


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_send_many() -> None:
    """A run goes without waiting while there is room, and waits where there is none."""
    stream = Loop(mark=4)
    assert await stream.send_many(range(10)) == 10
    assert stream.waits == 2
    assert list(stream.items) == [8, 9]


async def test_send_many_from_an_asynchronous_iterable() -> None:
    """A run may come from an asynchronous iterable."""
    stream = Loop(mark=4)
    assert await stream.send_many(numbers(3)) == 3
    assert list(stream.items) == [0, 1, 2]


async def test_send_many_of_nothing() -> None:
    """An empty run is sent at once, and is a checkpoint."""
    with trio.testing.assert_checkpoints():
        assert await Loop().send_many([]) == 0


async def test_receive_many() -> None:
    """What is there is taken, up to the maximum."""
    stream = Loop()
    await stream.send_many(range(4))
    assert await stream.receive_many(3) == [0, 1, 2]
    assert await stream.receive_many(3) == [3]
    with pytest.raises(ValueError, match="max_items"):
        await stream.receive_many(0)


@pytest.mark.parametrize("ending", ["end", "reset", "stop"])
async def test_receive_many_leaves_the_ending_to_the_next_call(ending: str) -> None:
    """Items that were taken before an ending was met are not lost to it."""
    stream = Loop()
    await stream.send_many(range(2))
    getattr(stream, ending)()
    assert await stream.receive_many() == [0, 1]
    with pytest.raises((trio.EndOfChannel, trio.ClosedResourceError, StreamReset)):
        await stream.receive_many()


async def test_iteration() -> None:
    """A clean end finishes a loop; any other ending is raised in it."""
    stream = Loop()
    await stream.send_many(range(3))
    stream.end()
    assert [item async for item in stream] == [0, 1, 2]
    stream.reset(Code.INTERNAL)
    with pytest.raises(StreamReset):
        await stream.__anext__()


def test_values_are_frozen() -> None:
    """Chunks and statistics can't be changed and compare by value."""
    assert StreamChunk(done=True) == StreamChunk(True, None)
    with pytest.raises(AttributeError):
        StreamChunk(True).done = False  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Loop().statistics().id = "other"  # type: ignore[misc]
