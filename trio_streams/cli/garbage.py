"""The collector of cycles, while a command serves.

What is over on a server is freed by its last reference, so the collector finds next to nothing there, and what it costs is
a walk over what lives, in which nobody is served. A command therefore lets it look at all seldom, and at what is young often:
the young are many where much is made while as much that is old is freed, and a late look at them takes as long as one at all.
Only commands do: a library has no business with what belongs to its whole process.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from trio_streams.cli.settings import NOTHING

__all__ = ["DEFAULT_THRESHOLDS", "Thresholds", "read_thresholds", "relieved_collector"]

Thresholds = tuple[int, int, int]

DEFAULT_THRESHOLDS: Final[Thresholds] = (500, 3, 3_000)
"""Objects made and not freed until the youngest are looked at; how many such looks until the next older ones are; how many of
those until all are. A look at all comes after 4.5 million objects, which are about half a GiB."""


def read_thresholds(text: str) -> Thresholds | None:
    """Three whole numbers from 1 on, as `gc.set_threshold` takes them, or none; see `cli.settings`."""
    if text == NOTHING:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 3 and all(
        part.isascii() and part.isdigit() and 0 < len(part) < 10 and int(part) for part in parts
    ):
        return (int(parts[0]), int(parts[1]), int(parts[2]))
    raise ValueError(f"three whole numbers from 1 on with commas between them, or {NOTHING}")


@contextmanager
def relieved_collector(thresholds: Thresholds | None) -> Generator[None, None, None]:
    """Have the collector leave alone what there is now, and look at the rest less often, for the length of a block.

    Args:
      thresholds: for `gc.set_threshold`; None leaves the collector as it is.
    """
    if thresholds is None:
        yield
        return
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what has been imported stays
    gc.set_threshold(*thresholds)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
