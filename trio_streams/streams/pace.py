"""Amortised checkpoints: a cancel check for every item, a schedule point for every batch.

A full checkpoint costs ten times what moving an item costs, so item calls that need not wait take one only when a
batch is over: after 64 items, or after 1 ms, whichever comes first. In between they take a cancel check alone.
`checkpoint_if_cancelled` (0.2 µs) is the cheapest that Trio offers in public; `current_effective_deadline() == -inf`
says the same for 0.5 to 1.5 µs, growing with the depth of scopes.

The step comes *before* the operation: it may raise `trio.Cancelled`, and then nothing has happened yet. After the
operation it would have to be shielded, and a caller who cancelled would wait for a batch that does not matter.

The fastest loops (`async for` and `send_many` of a local stream) can't afford even that for every item: the check and
a look at the clock cost as much as the item does. They look once per *stride*: at every item while items are slow, at
every 16th once they prove to take less than 62 µs each. `send` and `receive` check every time.

The clock is the wall's and not Trio's: what is being shared is the processor, also in tests under a mock clock.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from trio.lowlevel import checkpoint, checkpoint_if_cancelled

__all__ = ["BATCH_ITEMS", "BATCH_SECONDS", "STRIDE_ITEMS", "Pace", "next_stride"]

BATCH_ITEMS: Final = 64
"""Items between two schedule points: 3.6 µs over 64 items is 0.06 µs each, and a batch stays well under 1 ms."""

BATCH_SECONDS: Final = 0.001
"""The longest that a task which does work between its items keeps the processor."""


STRIDE_ITEMS: Final = 16
"""Items between two looks at most: the look is then a twentieth of an item's cost."""

_STRIDE_SECONDS: Final = BATCH_SECONDS / STRIDE_ITEMS


def next_stride(stride: int, seconds: float) -> int:
    """How many items may pass before the next look, after `stride` items took `seconds`.

    Args:
      stride: items since the last look.
      seconds: how long they took.

    Returns:
      One where they were slow, else up to twice as many, at most `STRIDE_ITEMS`.
    """
    return 1 if seconds > _STRIDE_SECONDS else min(2 * stride, STRIDE_ITEMS)


class Pace:
    """Counts items and says when the batch is over.

    A new pace is due at once, and so is one that rested longer than a batch: a task that sends one item on each of a
    thousand streams still lets others run.

    Args:
      clock: seconds; replaced in tests.
    """

    __slots__ = ("_clock", "_left", "_until")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._left = 0
        self._until = 0.0

    def is_due(self) -> bool:
        """Count one item; whether a schedule point must come before it."""
        self._left -= 1
        return self._left < 0 or self._clock() >= self._until

    def restart(self) -> None:
        """Begin a batch: call this after anything that let other tasks run."""
        self._left = BATCH_ITEMS
        self._until = self._clock() + BATCH_SECONDS

    async def step(self, items: int = 1) -> None:
        """Count items: a cancel check, and a schedule point where the batch is over.

        Args:
          items: how many come now.

        Cancellation: raised here, before the first of them is touched.
        """
        self._left -= items
        if self._left < 0 or self._clock() >= self._until:
            await checkpoint()
            # These items are the first of the new batch.
            self._left = BATCH_ITEMS - items
            self._until = self._clock() + BATCH_SECONDS
        else:
            await checkpoint_if_cancelled()
