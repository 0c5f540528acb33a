"""Generators of handlers: iterated and closed in one task."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing

from trio_streams.errors import StreamStopped
from trio_streams.service.runner import pump
from trio_streams.streams import open_stream


class Source:
    """A generator that notes the tasks in which it ran and was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.ran_in: set[trio.lowlevel.Task] = set()
        self.closed_in: trio.lowlevel.Task | None = None

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for n in range(self.count):
                self.ran_in.add(trio.lowlevel.current_task())
                yield n
            if self.error is not None:
                raise self.error
        finally:
            self.closed_in = trio.lowlevel.current_task()


async def test_every_item_is_sent() -> None:
    """`pump` sends all items and says how many; the stream is not ended, the generator is closed in this task."""
    source = Source(5)
    async with open_stream[int]() as stream:
        assert await pump(source.items(), stream) == 5
        assert stream.writable
        assert await stream.receive_many() == [0, 1, 2, 3, 4]
    assert source.ran_in == {trio.lowlevel.current_task()} == {source.closed_in}


async def test_a_cancelled_pump_closes_the_generator() -> None:
    """Cancelled while the stream is full, the generator's `finally` runs, in the same task."""
    source = Source(100)
    async with open_stream[int](high_water_mark=2) as stream:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, source.items(), stream)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
    assert {source.closed_in} == source.ran_in


async def test_a_stopped_stream_closes_the_generator() -> None:
    """When the receiver refuses more, StreamStopped comes out and the generator is closed."""
    source = Source(100)
    async with open_stream[int]() as stream:
        stream.stop()
        with pytest.raises(StreamStopped):
            await pump(source.items(), stream)
    assert source.closed_in is trio.lowlevel.current_task()


async def test_what_the_generator_raises_passes_through() -> None:
    """An error of the generator comes out as it is, behind the items before it."""
    async with open_stream[int]() as stream:
        with pytest.raises(KeyError):
            await pump(Source(2, KeyError("x")).items(), stream)
        assert await stream.receive_many() == [0, 1]


async def test_an_iterator_that_is_no_generator() -> None:
    """A plain asynchronous iterator is iterated; there is nothing to close."""
    async with open_stream[int]() as source, open_stream[int]() as stream:
        await source.send_many([1, 2])
        source.end()
        assert await pump(source, stream) == 2


async def test_a_generator_that_never_awaits_lets_others_run() -> None:
    """Others run at least every 64 items."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_stream[int](high_water_mark=1_000) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await pump(Source(640).items(), stream)
        assert turns >= 9
        nursery.cancel_scope.cancel()
