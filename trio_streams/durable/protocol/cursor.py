"""Cursors: what makes two questions at the same offset different for a cache, a little while later.

Spec: Durable Streams §10.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["EPOCH", "INTERVAL_SECONDS", "next_cursor"]

EPOCH: Final = 1_728_432_000
"""2024-10-09T00:00:00Z, from which intervals count."""

INTERVAL_SECONDS: Final = 20

_MAX_JITTER_SECONDS: Final = 3600
_MAX_DIGITS: Final = 18


def next_cursor(asked: str | None, now: float, random: Callable[[], float]) -> str:
    """The cursor of an answer: the number of the current interval, or one behind the client's own.

    Args:
      asked: the client's; None or nonsense for none.
      now: Unix seconds.
      random: a number from [0, 1).
    """
    current = max(0, int((now - EPOCH) // INTERVAL_SECONDS))
    if asked is None or len(asked) > _MAX_DIGITS or not (asked.isascii() and asked.isdigit()):
        return str(current)
    if (theirs := int(asked)) < current:
        return str(current)
    # 1 to 3600 seconds, and one interval at least: a cache that has answered once must not be asked the same again.
    jitter_seconds = 1 + int(random() * _MAX_JITTER_SECONDS)
    return str(theirs + max(1, jitter_seconds // INTERVAL_SECONDS))
