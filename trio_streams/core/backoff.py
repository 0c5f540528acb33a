"""Waits that grow while something fails, and are spread by chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

__all__ = ["full_jitter"]

_LARGEST_EXPONENT: Final = 700
"""Of e: a greater power is no float."""


def full_jitter(
    failures: int, *, initial_delay: float, factor: float, max_delay: float, random: Callable[[], float]
) -> float:
    """A random time between 0 and a bound that grows with each failure: who failed together comes back one by one.

    Args:
      failures: in a row, the one that is waited for included; at least 1.
      initial_delay: the bound after the first, in seconds.
      factor: how much the bound grows with each; at least 1.
      max_delay: where it stops growing, in seconds.
      random: a number from 0 up to 1, each time it is called.

    Returns:
      Seconds.
    """
    times = failures - 1
    grown = initial_delay * factor**times if times * math.log(factor) < _LARGEST_EXPONENT else math.inf
    return random() * min(grown, max_delay)
