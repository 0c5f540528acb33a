"""The place where one task waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_streams.streams.seat import Seat


async def test_a_task_waits_until_it_is_woken() -> None:
    """And no longer: the next wait is another one, and a place where nobody waits is woken in vain."""
    seat = Seat()
    seat.wake()
    passed: list[int] = []

    async def wait_twice() -> None:
        for number in range(2):
            with assert_checkpoints():
                await seat.wait()
            passed.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_twice)
        for count in range(2):
            await wait_all_tasks_blocked()
            assert len(passed) == count
            seat.wake()
            seat.wake()
    assert passed == [0, 1]


async def test_a_cancelled_wait_leaves_the_place() -> None:
    """Whoever wakes in the moment of the cancellation, or later, wakes nobody; and the place can be taken again."""
    seat = Seat()
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await seat.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        scope.cancel()
        seat.wake()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seat.wait)
        await wait_all_tasks_blocked()
        seat.wake()


async def test_who_was_woken_is_not_cancelled_any_more() -> None:
    """A cancellation that comes behind the waking does not take it back."""
    seat = Seat()
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await seat.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        seat.wake()
        scope.cancel()
    assert not scope.cancelled_caught


async def test_an_interrupt_leaves_no_task_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What strikes between sitting down and waiting leaves nobody there to be woken."""
    seat = Seat()

    async def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trio.lowlevel, "wait_task_rescheduled", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await seat.wait()
    seat.wake()
    await trio.lowlevel.checkpoint()
