"""When event streams end by themselves: one clock for all, which costs a reader no timer of its own."""

from __future__ import annotations

from itertools import islice
from typing import Final, Protocol

import trio

__all__ = ["Lifetimes", "Mortal"]

_BATCH: Final = 64
"""Ended between two schedule points."""


class Mortal(Protocol):
    """What ends when its time is over."""

    def finish(self) -> None:
        """End. Must neither wait nor raise."""
        ...


class Lifetimes:
    """Ends everything that was added, each the same time later.

    Args:
      nursery: for the task that waits while there is anything.
      lifetime: seconds.
    """

    def __init__(self, nursery: trio.Nursery, lifetime: float) -> None:
        self._nursery = nursery
        self._lifetime = lifetime
        self._ends: dict[Mortal, float] = {}  # in order, since all live equally long
        self._is_running = False

    def add(self, mortal: Mortal) -> None:
        """Its time begins."""
        self._ends[mortal] = trio.current_time() + self._lifetime
        if not self._is_running:
            self._is_running = True
            self._nursery.start_soon(self._run)

    def discard(self, mortal: Mortal) -> None:
        """It has ended before its time."""
        self._ends.pop(mortal, None)

    async def _run(self) -> None:
        try:
            while self._ends:
                await trio.sleep_until(next(iter(self._ends.values())))
                now = trio.current_time()
                for mortal, end in list(islice(self._ends.items(), _BATCH)):
                    if end <= now:
                        self.discard(mortal)
                        mortal.finish()
        finally:
            self._is_running = False
