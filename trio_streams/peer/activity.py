"""How many calls are under way, for a drain to wait on."""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["Activity"]


class Activity:
    """Counts what is under way: ``with activity:`` around each."""

    __slots__ = ("_changed", "count")

    def __init__(self) -> None:
        self.count: int = 0
        self._changed: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.count -= 1
        self.note_change()

    def note_change(self) -> None:
        """Have those who wait look again."""
        self._changed.unpark_all()

    async def wait_change(self) -> None:
        """Wait until something is over. Cancellation: atomic."""
        await self._changed.park()
