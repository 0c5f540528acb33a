"""Cancel a task at each of its awaits, one after the other: what a test of cancellation safety repeats by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio

__all__ = ["cancel_everywhere"]

T = TypeVar("T")


class _CancelAt(trio.abc.Instrument):
    """Cancels a scope when a task has come to its n-th rest."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, at: int) -> None:
        self._task = task
        self._scope = scope
        self._left = at

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a rest of the task."""
        if task is self._task:
            self._left -= 1
            if self._left <= 0:
                self._scope.cancel()


async def cancel_everywhere(
    scenario: Callable[[T], Awaitable[object]],
    around: Callable[[], AbstractAsyncContextManager[T]],
) -> int:
    """Run a scenario again and again, cancelled at its first await, its second, …, until it completes.

    Args:
      scenario: what is cancelled; run by this very task.
      around: entered anew for each turn, and never cancelled: it makes what the scenario uses, and proves at its end
        that this still works or is cleanly over.

    Returns:
      How many turns were cancelled.

    Raises:
      Exception: what the scenario or the proof raised.
    """
    turns = 0
    while True:
        turns += 1
        async with around() as subject:
            with trio.CancelScope() as scope:
                instrument = _CancelAt(trio.lowlevel.current_task(), scope, turns)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await scenario(subject)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
        if not scope.cancelled_caught:
            return turns - 1
