"""The newest entries of all streams, in memory: whoever reads at the tail does not touch the disk.

What is kept of a stream is always the end of it, without a gap. The oldest entry of all goes first, whosever it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from trio_streams.durable.store.base import Entry

__all__ = ["ENTRY_OVERHEAD_BYTES", "RecentEntries"]

ENTRY_OVERHEAD_BYTES: Final = 256
"""What an entry costs beyond its bytes: the two objects, its position and time, and the two places that know it."""

_POSITION: Final = attrgetter("position")


class _Tail:
    """The end of one stream: what is before `first` has gone, and is cut off when that is half of the list."""

    __slots__ = ("entries", "first")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 0

    def drop_first(self) -> None:
        self.first += 1
        if self.first * 2 >= len(self.entries):
            del self.entries[: self.first]
            self.first = 0


class RecentEntries:
    """The newest entries, as many as fit.

    Args:
      max_bytes: for all of them; each costs its length plus `ENTRY_OVERHEAD_BYTES`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._tails: dict[int, _Tail] = {}
        self._order: deque[tuple[int, int]] = deque()  # whose, and how much, from the oldest on

    @property
    def size_bytes(self) -> int:
        """What is kept, with the overhead."""
        return self._size_bytes

    def add(self, stream_id: int, entries: Sequence[Entry]) -> None:
        """Keep the next entries of a stream, in place of the oldest of all."""
        tail = self._tails.get(stream_id)
        if tail is None:
            tail = self._tails[stream_id] = _Tail()
        tail.entries += entries
        for entry in entries:
            cost = len(entry.data) + ENTRY_OVERHEAD_BYTES
            self._size_bytes += cost
            self._order.append((stream_id, cost))
        while self._size_bytes > self._max_bytes:
            self._drop_oldest()

    def remove(self, stream_id: int) -> None:
        """Keep nothing of a stream; its number never comes again."""
        self._tails.pop(stream_id, None)  # what it costs goes as its turn comes

    def read(self, stream_id: int, start: int, end: int, max_bytes: int) -> list[Entry] | None:
        """Entries that overlap [start, end) as `Store.read` gives them; None where not all of them are here."""
        tail = self._tails.get(stream_id)
        if tail is None:
            return None
        entries = tail.entries
        first = bisect_right(entries, start, lo=tail.first, key=_POSITION) - 1
        if first < tail.first or entries[-1].end < end:
            return None
        found: list[Entry] = []
        for n in range(first, len(entries)):
            entry = entries[n]
            max_bytes -= len(entry.data)
            if entry.position >= end or (max_bytes < 0 and found):
                break
            found.append(entry)
        return found

    def _drop_oldest(self) -> None:
        stream_id, cost = self._order.popleft()
        self._size_bytes -= cost
        tail = self._tails.get(stream_id)
        if tail is not None:
            tail.drop_first()
            if not tail.entries:
                del self._tails[stream_id]
