"""Datagrams that wait, bounded and shared fairly by those who send them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

__all__ = ["DatagramQueue"]


class DatagramQueue:
    """Groups of datagrams that take turns; whose group has most bytes waiting loses its oldest if there is too much.

    aioquic takes it for a deque: it looks at the first one and takes it from the left.

    Attributes:
      queued_bytes: of all together.
      dropped_items: how many were dropped, for want of room, for their age or their size.

    Args:
      max_items: how many wait.
      max_bytes: of all together.
    """

    __slots__ = ("_groups", "_items", "_max_bytes", "_max_items", "_sizes", "dropped_items", "queued_bytes")

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._groups: OrderedDict[int, deque[tuple[float, bytes]]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._items = 0
        self.queued_bytes: int = 0
        self.dropped_items: int = 0

    def __len__(self) -> int:
        return self._items

    def __iter__(self) -> Iterator[bytes]:
        """Those that wait, group by group."""
        for waiting in self._groups.values():
            for _, data in waiting:
                yield data

    def __getitem__(self, index: int) -> bytes:
        """The next one to be sent; there is no other index than 0."""
        if index:
            raise IndexError(f"only the first datagram of a queue is shown, not number {index}")
        return next(iter(self._groups.values()))[0][1]

    def push(self, data: bytes, now: float, group: int = 0) -> None:
        """Add one, and drop the oldest of the largest group while there is too much."""
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = deque()
            self._sizes[group] = 0
        waiting.append((now, data))
        self._sizes[group] += len(data)
        self._items += 1
        self.queued_bytes += len(data)
        while self._items > self._max_items or self.queued_bytes > self._max_bytes:
            self._drop_from(max(self._groups, key=self._weight))

    def popleft(self) -> bytes:
        """Take the next one to be sent; then it is another group's turn."""
        group = next(iter(self._groups))
        data = self._pop(group)
        if len(self._groups) > 1 and group in self._groups:
            self._groups.move_to_end(group)
        return data

    def drop_next(self) -> None:
        """Drop the next one to be sent, and count it."""
        self._drop_from(next(iter(self._groups)))

    def drop_group(self, group: int) -> None:
        """Drop what a group has, and count it; a group that has nothing is no matter."""
        while group in self._groups:
            self._drop_from(group)

    def drop_older_than(self, time: float) -> None:
        """Drop what was pushed before a time."""
        for group in list(self._groups):
            while group in self._groups and self._groups[group][0][0] < time:
                self._drop_from(group)

    def _weight(self, group: int) -> tuple[int, int]:
        return self._sizes[group], len(self._groups[group])

    def _drop_from(self, group: int) -> None:
        self._pop(group)
        self.dropped_items += 1

    def _pop(self, group: int) -> bytes:
        waiting = self._groups[group]
        data = waiting.popleft()[1]
        self._items -= 1
        self._sizes[group] -= len(data)
        self.queued_bytes -= len(data)
        if not waiting:
            del self._groups[group], self._sizes[group]
        return data
