"""Where one task waits, for what allows no second one: a parking lot costs three times as much to enter and to leave."""

from __future__ import annotations

import trio.lowlevel

__all__ = ["Seat"]


class Seat:
    """Room for one task, which looks again at what it waits for. Whoever uses it sees to it that no second one comes."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait until somebody calls `wake`: a schedule point in any case. Cancellation: atomic."""
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            self._task = None  # after an interrupt from the keyboard, too

    def wake(self) -> None:
        """Let the task that waits go on, if there is one."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None  # at once: a task that is about to be told must not be woken as well
        return trio.lowlevel.Abort.SUCCEEDED
