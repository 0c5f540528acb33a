"""The queue of the in-process stream: runs of items, and how often they let others run."""

from __future__ import annotations

import pytest
import trio

from trio_streams.streams import open_stream, queue
from trio_streams.streams.pace import BATCH_SECONDS, STRIDE_ITEMS


class Clock:
    """Each look at it finds that items have been slow."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += BATCH_SECONDS
        return self.now


@pytest.mark.parametrize("mark", [0, 1, 3, 100])
@pytest.mark.parametrize("kind", [list, iter])
async def test_send_many_and_iteration(mark: int, kind: type, nursery: trio.Nursery) -> None:
    """A run arrives whole and in order at every mark, from a sequence or from any iterable."""
    async with open_stream[int](high_water_mark=mark) as stream:

        async def send() -> None:
            assert await stream.send_many(kind(range(500))) == 500
            assert await stream.send_many(kind([])) == 0
            stream.end()

        nursery.start_soon(send)
        assert [item async for item in stream] == list(range(500))


async def test_streams_can_be_piped(nursery: trio.Nursery) -> None:
    """A stream is an asynchronous iterable that another one can send."""
    async with open_stream[int](high_water_mark=2) as source, open_stream[int](high_water_mark=2) as sink:

        async def pipe() -> None:
            assert await sink.send_many(source) == 50
            sink.end()

        async def feed() -> None:
            await source.send_many(range(50))
            source.end()

        nursery.start_soon(pipe)
        nursery.start_soon(feed)
        assert [item async for item in sink] == list(range(50))


@pytest.mark.parametrize("name", ["send", "send_many", "send_many_generator", "iterate", "receive"])
async def test_others_run(name: str, nursery: trio.Nursery) -> None:
    """A task that never has to wait lets others run at least every 64 items."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_stream[int](high_water_mark=6400) as stream:
        if name in {"iterate", "receive"}:
            await stream.send_many(range(6400))
        nursery.start_soon(other)
        if name == "send":
            for number in range(6400):
                await stream.send(number)
        elif name == "send_many":
            await stream.send_many(range(6400))
        elif name == "send_many_generator":
            await stream.send_many(number for number in range(6400))
        elif name == "receive":
            for _ in range(6400):
                await stream.receive()
        else:
            stream.end()
            async for _ in stream:
                pass
        # A hundred schedule points; in the rounds at either end Trio's random order may put the other task outside.
        assert turns >= 97
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["send", "send_many", "iterate", "receive"])
async def test_slow_items_let_others_run(name: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose items take a millisecond each lets others run at every one."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(queue, "perf_counter", Clock())
    async with open_stream[int](high_water_mark=64) as stream:
        if name in {"iterate", "receive"}:
            await stream.send_many(range(50))
            stream.end()
        nursery.start_soon(other)
        if name == "send":
            for number in range(50):
                await stream.send(number)
        elif name == "send_many":
            await stream.send_many(number for number in range(50))
        elif name == "receive":
            for _ in range(50):
                await stream.receive()
        else:
            async for _ in stream:
                pass
        assert turns >= 49
        nursery.cancel_scope.cancel()


async def test_a_loop_notices_its_own_cancellation() -> None:
    """A loop that never waits, and cancels its own scope, ends within one stride."""
    async with open_stream[int](high_water_mark=1000) as stream:
        await stream.send_many(range(1000))
        with trio.CancelScope() as scope:
            async for number in stream:
                if number == 500:
                    scope.cancel()
        assert scope.cancelled_caught
        assert 500 < await stream.receive() <= 501 + STRIDE_ITEMS


@pytest.mark.parametrize("call", ["send", "receive"])
async def test_calls_by_item_notice_at_once(call: str) -> None:
    """`send` and `receive` check for cancellation every time."""
    async with open_stream[int](high_water_mark=10) as stream:
        await stream.send_many(range(5))
        with trio.CancelScope() as scope:
            for _ in range(5):
                await (stream.send(1) if call == "send" else stream.receive())
                scope.cancel()
        assert scope.cancelled_caught
        assert stream.buffered_amount == (6 if call == "send" else 4)


async def test_a_run_meets_waiting_receivers(nursery: trio.Nursery) -> None:
    """A run serves the receivers that wait, in their order, and then fills the buffer."""
    received: dict[int, int] = {}
    async with open_stream[int](high_water_mark=4) as stream:

        async def receive(receiver: int) -> None:
            received[receiver] = await stream.receive()

        for receiver in range(3):
            nursery.start_soon(receive, receiver)
            await trio.testing.wait_all_tasks_blocked()
        assert await stream.send_many([0, 1, 2, 3, 4]) == 5
        await trio.testing.wait_all_tasks_blocked()
        assert received == {0: 0, 1: 1, 2: 2}
        assert await stream.receive_many() == [3, 4]


async def test_an_item_under_way_survives_the_ending(nursery: trio.Nursery) -> None:
    """An item that was handed to a waiting receiver is its, even if the stream is cancelled before it runs."""
    results: list[list[int]] = []
    async with open_stream[int]() as stream:

        async def receive() -> None:
            results.append(await stream.receive_many())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        stream.send_nowait(1)
        stream.send_nowait(2)
        stream.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert results == [[1]]
