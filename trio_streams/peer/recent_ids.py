"""The ids of streams that are over, as far as they are remembered."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

__all__ = ["RecentIds"]

V = TypeVar("V")

_MAX_IDS: Final = 1_024
"""Enough to tell an id that came late from one that never was; about 200 KiB of the longest ids."""


class RecentIds(Generic[V]):
    """Remembers something about each id; the oldest are forgotten past 1,024."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: OrderedDict[str, V] = OrderedDict()

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._values

    def add(self, stream_id: str, value: V) -> None:
        """Remember an id; the newest value counts."""
        self._values[stream_id] = value
        self._values.move_to_end(stream_id)
        if len(self._values) > _MAX_IDS:
            self._values.popitem(last=False)

    def get(self, stream_id: str) -> V | None:
        """What was remembered; None for an id that is not."""
        return self._values.get(stream_id)

    def take(self, stream_id: str) -> V | None:
        """What was remembered, which is forgotten now; None for an id that is not."""
        return self._values.pop(stream_id, None)
