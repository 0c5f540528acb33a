"""What nobody waits for: bounded, logged, and over when its owner is."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import RpcError
from trio_streams.service.background import Background


async def test_at_most_so_many_run_at_once() -> None:
    """The one too many waits for room; cancelled there, it has not begun."""
    gate = trio.Event()
    begun: list[int] = []

    async def work(begin: Callable[[], None]) -> None:
        begun.append(1)
        begin()
        await gate.wait()

    async with trio.open_nursery() as nursery:
        background = Background(nursery, max_running=2)
        await background.start("one", work)
        await background.start("two", work)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await background.start("three", work)
        assert scope.cancelled_caught
        nursery.start_soon(background.start, "four", work)
        await wait_all_tasks_blocked()
        assert len(begun) == 2
        gate.set()
    assert len(begun) == 3


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("a fault"), logging.ERROR), (RpcError("NOT_FOUND", "no"), logging.INFO)]
)
async def test_what_it_raises_is_logged(error: Exception, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it, so nobody else could be told; the others go on."""

    async def fail(begin: Callable[[], None]) -> None:
        begin()
        raise error

    caplog.set_level(logging.INFO, "trio_streams")
    async with trio.open_nursery() as nursery:
        await Background(nursery).start("event 'e'", fail)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, "event 'e' failed")


async def test_what_fails_before_it_begins_is_told_to_whoever_started_it(caplog: pytest.LogCaptureFixture) -> None:
    """And not logged; room is given back. What is over without a word counts as begun."""

    async def refuse(begin: Callable[[], None]) -> None:
        raise RpcError("UNAUTHENTICATED", "who are you?")

    async def do_nothing(begin: Callable[[], None]) -> None:
        pass

    async with trio.open_nursery() as nursery:
        background = Background(nursery, max_running=1)
        for _ in range(2):
            with pytest.raises(RpcError, match="who are you"):
                await background.start("event 'e'", refuse)
        await background.start("event 'e'", do_nothing)
    assert caplog.records == []


async def test_a_bound_of_nothing_is_refused() -> None:
    """It would wait for ever."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="max_running must be at least 1, not 0"):
            Background(nursery, max_running=0)
