"""How fast things move, and which connections there are: what every view of a server is made of."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Final

from trio_streams.connection import Connection

__all__ = ["Connections", "Meter"]

_SPAN: Final = 3.0
"""Seconds over which a rate is taken: long enough to be calm, short enough to follow."""

_FEW: Final = 32
"""Connections that may be over and still be remembered, where nobody ever looks."""


class Meter:
    """Something a second, such as items or bytes of each stream, over the last few seconds.

    Args:
      span: seconds over which a rate is taken.
    """

    def __init__(self, span: float = _SPAN) -> None:
        self._span = span
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rate(self, key: str, count: int, now: float) -> float:
        """The rate of what has moved `count` by `now`; 0 at the first look."""
        seen = self._seen.setdefault(key, deque())
        seen.append((now, count))
        while len(seen) > 2 and now - seen[1][0] >= self._span:
            seen.popleft()
        began, first = seen[0]
        return (count - first) / (now - began) if now > began else 0.0

    def keep(self, keys: set[str]) -> None:
        """Forget all others."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}


class Connections:
    """The live connections of a server, each with a number of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._live: dict[int, Connection] = {}
        self._kept = _FEW

    def add(self, connection: Connection) -> None:
        """Remember a connection for as long as it lives. Quick: those that are over go when others are asked for."""
        if len(self._live) >= 2 * self._kept:
            self._forget()
        self._live[next(self._numbers)] = connection

    def _forget(self) -> None:
        self._live = {number: connection for number, connection in self._live.items() if connection.lost is None}
        # Asked for again when there are twice as many, forgetting costs each connection a constant.
        self._kept = max(_FEW, len(self._live))

    def __iter__(self) -> Iterator[tuple[int, Connection]]:
        """Those that live, by number, the oldest first."""
        self._forget()
        return iter(self._live.items())
