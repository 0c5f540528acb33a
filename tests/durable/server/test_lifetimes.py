"""Things that end when their time is over."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trio_streams.durable.server.lifetimes import Lifetimes


class Thing:
    def __init__(self) -> None:
        self.ended_at: float | None = None

    def finish(self) -> None:
        self.ended_at = trio.current_time()


async def test_each_has_its_own_time(autojump_clock: MockClock) -> None:
    """What was added earlier ends earlier, and what has left is not ended."""
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        lifetimes = Lifetimes(nursery, 10)
        first, left, second = Thing(), Thing(), Thing()
        lifetimes.add(first)
        lifetimes.add(left)
        await trio.sleep(4)
        lifetimes.add(second)
        lifetimes.discard(left)
        lifetimes.discard(left)
    assert first.ended_at == begun + 10
    assert second.ended_at == begun + 14
    assert left.ended_at is None


async def test_no_task_waits_for_nothing(autojump_clock: MockClock) -> None:
    """The task is over with the last one, and there is one again for the next."""
    async with trio.open_nursery() as nursery:
        lifetimes = Lifetimes(nursery, 10)
        for _ in range(2):
            thing = Thing()
            lifetimes.add(thing)
            assert len(nursery.child_tasks) == 1
            await trio.sleep(11)
            assert thing.ended_at is not None
            assert not nursery.child_tasks


async def test_thousands_end_together(autojump_clock: MockClock) -> None:
    """All of them, with schedule points in between."""
    things = [Thing() for _ in range(1_000)]
    async with trio.open_nursery() as nursery:
        lifetimes = Lifetimes(nursery, 10)
        for thing in things:
            lifetimes.add(thing)
    assert all(thing.ended_at is not None for thing in things)


async def test_a_server_that_ends_ends_the_clock(autojump_clock: MockClock) -> None:
    """Cancelled, it leaves what it would have ended alone."""
    thing = Thing()
    async with trio.open_nursery() as nursery:
        Lifetimes(nursery, 10).add(thing)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert thing.ended_at is None
