"""Cancel a task at each of its awaits, one after the other: what a test of cancellation safety repeats by hand."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

__all__ = ["cancel_everywhere"]


class _CancelAt(trio.abc.Instrument):
    """Cancels a scope when a task has come to its n-th rest."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, at: float) -> None:
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
    scenario: Callable[[], Awaitable[None]],
    prove: Callable[[], Awaitable[None]] | None = None,
    *,
    max_turns: float = math.inf,
) -> int:
    """Run a scenario again and again, cancelled at its first await, its second, …, until it completes.

    Args:
      scenario: what is cancelled; run by this very task.
      prove: run after each turn: checks that what the scenario used still works, or is cleanly over.
      max_turns: how often at most.

    Returns:
      How many turns were cancelled.

    Raises:
      AssertionError: the scenario did not complete within `max_turns`.
      Exception: what the scenario or the proof raised.
    """
    turns = 0
    while True:
        turns += 1
        with trio.CancelScope() as scope:
            instrument = _CancelAt(trio.lowlevel.current_task(), scope, turns)
            trio.lowlevel.add_instrument(instrument)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if prove is not None:
            await prove()
        if not scope.cancelled_caught:
            return turns - 1
        assert turns < max_turns, f"the scenario was still cancelled at await {turns}"
