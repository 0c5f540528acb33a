"""Noticing that a coroutine waits."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from trio_streams.transports.watched import Watched


async def test_what_does_not_wait_is_not_noticed() -> None:
    """It runs to its end at once; what it raises comes through."""
    told: list[str] = []

    async def fine() -> None:
        told.append("ran")

    async def broken() -> None:
        raise ValueError("broken")

    await Watched(fine(), lambda: told.append("waits"))
    with pytest.raises(ValueError, match="broken"):
        await Watched(broken(), lambda: told.append("waits"))
    assert told == ["ran"]
    await trio.lowlevel.checkpoint()


async def test_the_first_wait_is_told_once() -> None:
    """Before it waits; values and exceptions of what it waits for come through as if nobody watched."""
    told: list[str] = []
    lot = trio.lowlevel.ParkingLot()

    async def waits() -> None:
        told.append("runs")
        await lot.park()
        await trio.lowlevel.checkpoint()
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.001):
                await trio.sleep_forever()
        raise ValueError("late")

    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            with pytest.raises(ValueError, match="late"):
                await Watched(waits(), lambda: told.append("waits"))

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        assert told == ["runs", "waits"]
        lot.unpark()
    assert told == ["runs", "waits"]


async def test_cancellation_reaches_what_is_watched() -> None:
    """Its `finally` runs in the same task."""
    seen: list[trio.lowlevel.Task] = []

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append(trio.lowlevel.current_task())

    with trio.move_on_after(0.001):
        await Watched(waits(), lambda: None)
    assert seen == [trio.lowlevel.current_task()]


async def test_a_later_wait_is_told_when_armed_again() -> None:
    """Whoever was told may ask to be told of the next one, too."""
    told: list[str] = []

    async def waits_thrice() -> None:
        for n in range(3):
            if n == 2:
                watched.is_armed = True
            with trio.move_on_after(0.001):
                await trio.sleep_forever()

    watched = Watched(waits_thrice(), lambda: told.append("waits"))
    await watched
    assert told == ["waits", "waits"]
    assert not watched.is_armed


async def test_a_few_schedule_points_are_no_wait() -> None:
    """Eight are free, the ninth is told: other tasks run all the while, and the client may have left."""
    told: list[int] = []
    taken = 0

    async def takes() -> None:
        nonlocal taken
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            taken += 1

    await Watched(takes(), lambda: told.append(taken))
    assert (told, taken) == ([8], 20)
