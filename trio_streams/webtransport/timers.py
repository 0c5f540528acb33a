"""One heap for the deadlines of many, most of which only ever move away.

Every packet moves a connection's idle timeout, so a deadline that moves away leaves its entry where it is: when that comes up,
the deadline is looked at again. Only one that comes nearer is entered anew, on top of the others of its timer; so these are
few, and moving a deadline costs nothing most of the time.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Final, Generic, TypeVar

__all__ = ["Timer", "Timers"]

_NEVER: Final = float("inf")

TimerT = TypeVar("TimerT", bound="Timer")


class Timer:
    """Something with a deadline.

    Attributes:
      deadline: on whatever clock; infinite for never. `Timers.arm` sets it.
      entries: where the heap has it; each is earlier than the one before.
    """

    __slots__ = ("deadline", "entries")

    def __init__(self) -> None:
        self.deadline: float = _NEVER
        self.entries: list[float] = []


class Timers(Generic[TimerT]):
    """The deadlines."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerT]] = []
        self._numbers = itertools.count()
        self._stale_items = 0

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, timer: TimerT, deadline: float | None) -> None:
        """Set or move a deadline; None for never."""
        timer.deadline = _NEVER if deadline is None else deadline
        if timer.deadline < (timer.entries[-1] if timer.entries else _NEVER):
            timer.entries.append(timer.deadline)
            heapq.heappush(self._heap, (timer.deadline, next(self._numbers), timer))

    def discard(self, timer: TimerT) -> None:
        """Forget a timer for good."""
        timer.deadline = _NEVER
        self._stale_items += len(timer.entries)
        timer.entries.clear()
        # What is kept of those that are gone is less than what is there for the others.
        if self._stale_items * 2 >= len(self._heap):
            self._heap = [item for item in self._heap if item[2].entries]
            heapq.heapify(self._heap)
            self._stale_items = 0

    def next_deadline(self) -> float:
        """When `take_due` may have something; infinite for never. It may be earlier than any deadline."""
        return self._heap[0][0] if self._heap else _NEVER

    def take_due(self, now: float) -> list[tuple[float, TimerT]]:
        """Those whose deadline has come, with their deadlines; they are not armed any more then."""
        due: list[tuple[float, TimerT]] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, timer = heapq.heappop(self._heap)
            if not timer.entries:
                self._stale_items -= 1
                continue
            timer.entries.pop()
            if timer.deadline <= now:
                due.append((timer.deadline, timer))
                timer.deadline = _NEVER
            else:
                self.arm(timer, timer.deadline)
        return due
