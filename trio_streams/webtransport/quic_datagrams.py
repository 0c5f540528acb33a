"""Datagrams that wait: to be sent, bounded and shared fairly by those who send them; and to be taken, bounded."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import islice

__all__ = ["ArrivedDatagrams", "DatagramQueue"]


class _Group:
    """What one group has waiting.

    Attributes:
      waiting: when each was pushed, and the datagram.
      size_bytes: of all of them.
    """

    __slots__ = ("size_bytes", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.size_bytes: int = 0


class DatagramQueue:
    """Groups of datagrams that take turns; whose group has most bytes waiting loses its oldest if there is too much.

    Attributes:
      queued_bytes: of all together.
      dropped_items: how many were dropped, for want of room, for their age or their size.

    Args:
      max_items: how many wait.
      max_bytes: of all together.
    """

    __slots__ = ("_groups", "_items", "_max_bytes", "_max_items", "dropped_items", "queued_bytes")

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._items = 0
        self.queued_bytes: int = 0
        self.dropped_items: int = 0

    def __len__(self) -> int:
        return self._items

    def __iter__(self) -> Iterator[bytes]:
        """Those that wait, group by group."""
        for group in self._groups.values():
            for _, data in group.waiting:
                yield data

    def __getitem__(self, index: int) -> bytes:
        """The next one to be sent; there is no other index than 0."""
        if index:
            raise IndexError(f"only the first datagram of a queue is shown, not number {index}")
        return next(iter(self._groups.values())).waiting[0][1]

    def push(self, data: bytes, now: float, group: int = 0) -> None:
        """Add one, and drop the oldest of the largest group while there is too much."""
        mine = self._groups.get(group)
        if mine is None:
            mine = self._groups[group] = _Group()
        size = len(data)
        mine.waiting.append((now, data))
        mine.size_bytes += size
        self._items += 1
        self.queued_bytes += size
        while self._items > self._max_items or self.queued_bytes > self._max_bytes:
            self._drop_from(max(self._groups, key=self._weight))

    def take_run(self, max_bytes: int, *, header_bytes: int = 0) -> list[bytes]:
        """Take what is to be sent next: one from each group in turn, as long as all that was taken fits.

        Args:
          max_bytes: for all of them.
          header_bytes: what each costs beside its own bytes.
        """
        left, taken = max_bytes, list[bytes]()
        while self._groups and (turn := self._take_turn(left, header_bytes)):
            taken += turn
            left -= sum(map(len, turn)) + header_bytes * len(turn)
        return taken

    def _take_turn(self, max_bytes: int, header_bytes: int) -> list[bytes]:
        """Take the next one, and where no other group waits all that fit behind it; none where it does not fit."""
        number, group = next(iter(self._groups.items()))
        waiting, left, turn = group.waiting, max_bytes, list[bytes]()
        for _, data in islice(waiting, len(waiting) if len(self._groups) == 1 else 1):
            left -= len(data) + header_bytes
            if left < 0:
                break
            turn.append(data)
        for _ in turn:
            waiting.popleft()
        size = sum(map(len, turn))
        group.size_bytes -= size
        self.queued_bytes -= size
        self._items -= len(turn)
        if not waiting:
            del self._groups[number]
        elif turn:
            self._groups.move_to_end(number)
        return turn

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
            while group in self._groups and self._groups[group].waiting[0][0] < time:
                self._drop_from(group)

    def _weight(self, group: int) -> tuple[int, int]:
        mine = self._groups[group]
        return mine.size_bytes, len(mine.waiting)

    def _drop_from(self, group: int) -> None:
        mine = self._groups[group]
        size = len(mine.waiting.popleft()[1])
        mine.size_bytes -= size
        self.queued_bytes -= size
        self._items -= 1
        self.dropped_items += 1
        if not mine.waiting:
            del self._groups[group]


class ArrivedDatagrams:
    """Datagrams that arrived and wait until all of them are taken; the oldest make room for the newest.

    Attributes:
      dropped_items: how many were dropped for want of room.

    Args:
      max_items: how many wait.
      max_bytes: of all together.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_items", "_run", "dropped_items")

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._run: list[bytes] = []
        self._bytes = 0
        self.dropped_items: int = 0

    def __len__(self) -> int:
        return len(self._run)

    def push_run(self, run: Sequence[bytes]) -> None:
        """Add some, and drop the oldest while there is too much."""
        waiting = self._run
        waiting += run
        self._bytes += sum(map(len, run))
        dropped = 0
        while len(waiting) - dropped > self._max_items or self._bytes > self._max_bytes:
            self._bytes -= len(waiting[dropped])
            dropped += 1
        if dropped:
            del waiting[:dropped]
            self.dropped_items += dropped

    def take_run(self) -> list[bytes]:
        """Take all of them."""
        taken, self._run, self._bytes = self._run, [], 0
        return taken
