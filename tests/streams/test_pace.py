"""Amortised checkpoints."""

from __future__ import annotations

import pytest
import trio

from trio_streams.streams.pace import BATCH_ITEMS, BATCH_SECONDS, STRIDE_ITEMS, Pace, next_stride


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_new_pace_is_due() -> None:
    """The first step lets others run, and then 63 items pass before the next."""
    pace = Pace(Clock())
    assert pace.is_due()
    pace.restart()
    assert [pace.is_due() for _ in range(BATCH_ITEMS + 1)] == [False] * BATCH_ITEMS + [True]


async def test_time_ends_a_batch() -> None:
    """A batch is over after a millisecond, however few its items."""
    clock = Clock()
    pace = Pace(clock)
    pace.restart()
    assert not pace.is_due()
    clock.now += BATCH_SECONDS
    assert pace.is_due()


async def test_step_schedules_once_per_batch(nursery: trio.Nursery) -> None:
    """Another task gets a turn at least every 64 steps."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    pace = Pace(Clock())
    for _ in range(10 * BATCH_ITEMS):
        await pace.step()
    assert 9 <= turns <= 11
    nursery.cancel_scope.cancel()


async def test_every_step_checks_for_cancellation() -> None:
    """A step in the middle of a batch raises Cancelled."""
    pace = Pace(Clock())
    pace.restart()
    with trio.CancelScope() as scope:
        await pace.step()
        scope.cancel()
        await pace.step()
        pytest.fail("the step must not return")
    assert scope.cancelled_caught


def test_strides_grow_while_items_are_fast() -> None:
    """A stride doubles up to its limit and falls back to one item when items are slow."""
    stride, seen = 1, []
    for _ in range(6):
        stride = next_stride(stride, 0.0)
        seen.append(stride)
    assert seen == [2, 4, 8, 16, STRIDE_ITEMS, STRIDE_ITEMS]
    assert next_stride(stride, BATCH_SECONDS) == 1
