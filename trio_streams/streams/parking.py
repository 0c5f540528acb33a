"""Waiting for a change, without paying for it while nobody waits.

A parking lot costs a quarter of a KiB, and most connections and exchanges never have anybody in theirs.
"""

from __future__ import annotations

import trio.lowlevel

__all__ = ["Parking"]


class Parking:
    """A base for objects that tasks wait at; each task looks again at what it waits for."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    async def _park(self) -> None:
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    def _wake(self) -> None:
        if self._lot:  # one that is empty has nobody
            self._lot.unpark_all()
