"""Who sends next: by priority, byte-deficit round-robin within one, and one turn in sixteen for the lower ones.

A stream's weight is how many turns it has in a round: streams of one priority get bytes in proportion to it. A turn
stays one frame's worth, so that what is more urgent waits no longer behind a heavy stream than behind a light one.

Deficit round-robin (Shreedhar and Varghese, 1995) gives streams of one priority equal *bytes*, whatever their item
sizes. Strict priority alone would starve a log tail behind a busy upload for ever; a turn in sixteen keeps it moving
at a cost of 6 %. That turn goes to the lower priorities in rotation.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["QUANTUM_BYTES", "Scheduler"]

QUANTUM_BYTES: Final = 16_384
"""What one turn may send: one frame, so that no stream holds the line longer than another's frame."""

_LOWER_EVERY: Final = 16


class Scheduler:
    """Keeps the ready streams in order. A stream is in it at most once."""

    __slots__ = ("_deficits", "_levels", "_priorities", "_rotation", "_turns", "_turns_left", "_weights")

    def __init__(self) -> None:
        self._levels: dict[int, deque[int]] = {}
        self._priorities: dict[int, int] = {}
        self._deficits: dict[int, int] = {}
        # Of those that weigh more than the others only: most connections have none.
        self._weights: dict[int, int] = {}
        self._turns_left: dict[int, int] = {}
        self._turns = 0
        self._rotation = 0

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._priorities

    def push(self, stream_id: int, priority: int, weight: int = 1) -> None:
        """Add a stream that has something to send, behind its peers; a stream already in keeps its place.

        Args:
          stream_id: the stream.
          priority: higher goes first.
          weight: turns that it has in a round, at least 1.
        """
        if stream_id in self._priorities:
            return
        self._priorities[stream_id] = priority
        if weight > 1:
            self._weights[stream_id] = weight
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
        level.append(stream_id)

    def discard(self, stream_id: int) -> None:
        """Take a stream out, wherever it stands; one that is not in is no matter."""
        priority = self._priorities.pop(stream_id, None)
        self._deficits.pop(stream_id, None)
        self._forget_weight(stream_id)
        if priority is not None:
            self._levels[priority].remove(stream_id)
            self._drop_empty(priority)

    def pick(self, alone_bytes: int = 0) -> tuple[int, int]:
        """Whose turn it is. Call `spent` before the next pick.

        Args:
          alone_bytes: what a stream may send if no other one is ready: turns are for those who compete.

        Returns:
          The stream and how many bytes it may send.
        """
        if len(self._priorities) == 1:
            (stream_id,) = self._priorities
            return stream_id, max(alone_bytes, QUANTUM_BYTES + self._deficits.get(stream_id, 0))
        stream_id = self._levels[self._choose_level()][0]
        return stream_id, QUANTUM_BYTES + self._deficits.get(stream_id, 0)

    def _choose_level(self) -> int:
        levels = self._levels
        if len(levels) == 1:
            return next(iter(levels))
        ordered = sorted(levels, reverse=True)
        self._turns += 1
        if self._turns % _LOWER_EVERY:
            return ordered[0]
        self._rotation += 1
        return ordered[1 + self._rotation % (len(ordered) - 1)]

    def spent(self, stream_id: int, size: int, *, has_more: bool) -> None:
        """Account for a turn.

        Args:
          stream_id: whose turn it was.
          size: bytes sent, within the allowance; what is left of it adds to the next turn.
          has_more: whether the stream stays: behind its peers, or where it is while its weight gives it another turn.
        """
        priority = self._priorities[stream_id]
        level = self._levels[priority]
        if has_more:
            if not (self._weights and self._has_another_turn(stream_id)):
                level.rotate(-1)
            left = QUANTUM_BYTES + self._deficits.get(stream_id, 0) - size
            self._deficits[stream_id] = max(0, min(left, QUANTUM_BYTES))
            return
        level.popleft()
        del self._priorities[stream_id]
        self._deficits.pop(stream_id, None)
        self._forget_weight(stream_id)
        self._drop_empty(priority)

    def _has_another_turn(self, stream_id: int) -> bool:
        weight = self._weights.get(stream_id, 1)
        left = self._turns_left.get(stream_id, weight) - 1
        self._turns_left[stream_id] = left or weight
        return left > 0

    def _forget_weight(self, stream_id: int) -> None:
        if self._weights:
            self._weights.pop(stream_id, None)
            self._turns_left.pop(stream_id, None)

    def _drop_empty(self, priority: int) -> None:
        if not self._levels[priority]:
            del self._levels[priority]
