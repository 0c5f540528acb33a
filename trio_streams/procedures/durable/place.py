"""Where a caller is in a run: the id that each item of a durable procedure has, the same on every transport.

::

    <run>@<position>.<items>

The run's id, a position of its log, and how many items behind that position the caller has. To callers it is opaque. It
names no path: that follows from the procedure and the input, so nobody reaches another log by making up an id.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from trio_streams.codes import Code
from trio_streams.errors import RpcError

__all__ = ["LAST_ID_KEY", "PLACE_KEY", "RUN_KEY", "Place"]

LAST_ID_KEY: Final = "last-event-id"
"""The metadata of a call that goes on: the id of the last item that the caller has."""

RUN_KEY: Final = "durable-run"
"""The metadata of a call that names the run it starts, so that to repeat it joins that run instead of starting another."""

PLACE_KEY: Final = "durable-place"
"""The metadata of an answer: the id of the place where it begins. An item more is one more behind its dot."""

_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64})@(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})")


@attrs.frozen
class Place:
    """A place in a run.

    Attributes:
      run: which run.
      position: of its log; a caller's may be none.
      items: how many behind it.
    """

    run: str
    position: int = 0
    items: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read an id.

        Raises:
          RpcError: INVALID_ARGUMENT: it is none of ours.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise RpcError(Code.INVALID_ARGUMENT, f"{text[:100]!r} is not the id of an item of a durable stream")
        return cls(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.run}@{self.position}.{self.items}"

    def behind(self, items: int) -> Place:
        """The place so many items later."""
        return Place(self.run, self.position, self.items + items)
