"""What nobody waits for: bounded, logged, and over when its owner is."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import RpcError
from trio_streams.service.background import Background


async def test_at_most_so_many_run_at_once() -> None:
    """The one too many waits for room; cancelled there, it has not begun."""
    gate = trio.Event()
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)
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

    async def fail() -> None:
        raise error

    caplog.set_level(logging.INFO, "trio_streams")
    async with trio.open_nursery() as nursery:
        await Background(nursery).start("event 'e'", fail)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, "event 'e' failed")


async def test_a_bound_of_nothing_is_refused() -> None:
    """It would wait for ever."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="max_running must be at least 1, not 0"):
            Background(nursery, max_running=0)
