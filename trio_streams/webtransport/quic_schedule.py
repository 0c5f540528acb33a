"""Which stream of a connection sends next: urgent ones, then group after group by bytes, in a group the highest priority.

A group is a session, or all plain requests together. Inside one a higher priority goes first without exception, since that
is what an application of WebTransport asks for; between groups nobody has that right, so each sends 16 KiB a turn. A group's
turn goes on over flushes until these are used, so a small congestion window does not make the first one win. Urgent streams
are HTTP/3's own: what they carry is short, and bounded elsewhere.

Spec: draft-ietf-webtrans-http3 §4 ("sendOrder" of the W3C's API); RFC 9218 §10.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final

__all__ = ["QUANTUM_BYTES", "GroupScheduler"]

QUANTUM_BYTES: Final = 16_384
"""What a group sends in one turn: some dozen packets, so that none waits long for the others."""

_SPARE_LEVELS: Final = 16


class _Group:
    """The ready streams of one group.

    Attributes:
      left_bytes: of its turn.
      levels: the streams of each priority, the next one first.
    """

    __slots__ = ("_order", "left_bytes", "levels")

    def __init__(self) -> None:
        self.left_bytes: int = QUANTUM_BYTES
        self.levels: dict[int, OrderedDict[int, None]] = {}
        self._order: list[int] = []  # a heap of the negative priorities; some may be empty by now

    def push(self, stream_id: int, priority: int) -> None:
        level = self.levels.get(priority)
        if level is None:
            level = self.levels[priority] = OrderedDict()
            heapq.heappush(self._order, -priority)
        level[stream_id] = None

    def discard(self, stream_id: int, priority: int) -> None:
        level = self.levels[priority]
        del level[stream_id]
        if not level:
            del self.levels[priority]
            if len(self._order) > 2 * len(self.levels) + _SPARE_LEVELS:  # below a busy one nobody pops them
                self._order = [-one for one in self.levels]
                heapq.heapify(self._order)

    def first(self) -> int:
        while (level := self.levels.get(-self._order[0])) is None:
            heapq.heappop(self._order)
        return next(iter(level))


class GroupScheduler:
    """Keeps the streams that could send in order. A stream is in it at most once."""

    __slots__ = ("_groups", "_places", "_urgent")

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int] | None] = {}
        self._urgent: OrderedDict[int, None] = OrderedDict()
        self._groups: OrderedDict[int, _Group] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._places

    def push(self, stream_id: int, priority: int, group: int, *, is_urgent: bool = False) -> None:
        """Add a stream that could send, behind its equals; a stream that is in keeps its place.

        Args:
          stream_id: the stream.
          priority: higher goes first.
          group: whose turn it shares.
          is_urgent: whether it goes before all groups; it is in none then.
        """
        if stream_id in self._places:
            return
        if is_urgent:
            self._places[stream_id] = None
            self._urgent[stream_id] = None
            return
        self._places[stream_id] = group, priority
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = _Group()
        members.push(stream_id, priority)

    def discard(self, stream_id: int) -> None:
        """Take a stream out; one that is not in is no matter."""
        if stream_id not in self._places:
            return
        place = self._places.pop(stream_id)
        if place is None:
            del self._urgent[stream_id]
            return
        group, priority = place
        members = self._groups[group]
        members.discard(stream_id, priority)
        if not members.levels:
            del self._groups[group]

    def pick(self, alone_bytes: int = 0) -> tuple[int, int]:
        """Whose turn it is. Call `spent` before the next pick.

        Args:
          alone_bytes: what a stream may send if no other one is ready: turns are for those who compete.

        Returns:
          The stream and how many bytes it may send.
        """
        if len(self._places) == 1:
            (stream_id,) = self._places
            return stream_id, max(alone_bytes, QUANTUM_BYTES)
        if self._urgent:
            return next(iter(self._urgent)), QUANTUM_BYTES
        members = next(iter(self._groups.values()))
        return members.first(), members.left_bytes

    def spent(self, stream_id: int, size: int, *, has_more: bool) -> None:
        """Account for what was picked.

        Args:
          stream_id: the stream.
          size: bytes sent.
          has_more: whether it stays: behind its equals if the turn is over, else in front.
        """
        place = self._places[stream_id]
        if place is None:
            self._urgent.move_to_end(stream_id)
        else:
            group, priority = place
            members = self._groups[group]
            members.left_bytes -= size
            if members.left_bytes <= 0:
                members.left_bytes = QUANTUM_BYTES
                members.levels[priority].move_to_end(stream_id)
                self._groups.move_to_end(group)
        if not has_more:
            self.discard(stream_id)
