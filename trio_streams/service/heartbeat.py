"""Beats for answers that may fall silent, without a task for each of them.

Proxies and clients take a connection on which nothing moves for dead. A timer task a connection would cost more memory
than the rest of an idle answer, and a timer around each wait for an item would cancel the generators that are waited
for. So all answers of a Trio run that share an interval share one task, which sleeps until the next of them is due and
lives as long as there are any.

An answer is looked at twice an interval, and gets a beat if nothing was sent since the last look: so it is never silent
for longer than the interval, and sending an item costs setting a flag. As every look is half an interval after the one
before, a queue keeps them in order. A beat is sent by a task of its own, since a client that reads nothing must not keep
beats from the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import trio

__all__ = ["Heartbeat"]


class Heartbeat:
    """Sends something whenever nothing was sent for an interval: `with Heartbeat(15, send):`.

    Attributes:
      is_fresh: to be set after anything was sent.
      is_beating: whether a beat is under way.

    Args:
      interval: seconds; None for no beats at all.
      send: sends one beat. It may wait; what it raises is dropped, for the answer's own task meets it, too.
    """

    __slots__ = ("_interval", "_send", "is_beating", "is_fresh")

    def __init__(self, interval: float | None, send: Callable[[], Awaitable[None]]) -> None:
        self.is_fresh: bool = True
        self.is_beating: bool = False
        self._interval = interval
        self._send: Callable[[], Awaitable[None]] | None = send

    def __enter__(self) -> Self:
        if self._interval is not None:
            _heart(self._interval).add(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._send = None  # what waits in a heart's queue keeps no answer alive
        if self._interval is not None:
            _heart(self._interval).remove()

    @property
    def is_over(self) -> bool:
        """Whether the block is left."""
        return self._send is None

    async def beat(self) -> None:
        """Send one now."""
        send = self._send
        if send is None:
            return
        try:
            await send()
        except Exception:  # noqa: BLE001, S110 - whatever is wrong with the answer, its own task is told as well
            pass
        finally:
            self.is_beating = False


class _Heart:
    """The task behind all heartbeats of one interval in one Trio run."""

    def __init__(self, interval: float) -> None:
        self._step = interval / 2
        self._due: deque[tuple[float, Heartbeat]] = deque()
        self._count = 0
        self._scope: trio.CancelScope | None = None

    def add(self, heartbeat: Heartbeat) -> None:
        self._count += 1
        self._due.append((trio.current_time() + self._step, heartbeat))
        if self._scope is None:
            self._scope = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._run, self._scope, name="heartbeat of event streams")

    def remove(self) -> None:
        self._count -= 1
        if self._count == 0 and self._scope is not None:
            self._due.clear()
            self._scope.cancel()
            self._scope = None

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                while self._scope is scope:
                    await trio.sleep_until(self._due[0][0])
                    self._look(nursery)

    def _look(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        while self._due and self._due[0][0] <= now:
            _, heartbeat = self._due.popleft()
            if heartbeat.is_over:
                continue
            if heartbeat.is_fresh:
                heartbeat.is_fresh = False
            elif not heartbeat.is_beating:
                heartbeat.is_beating = heartbeat.is_fresh = True
                nursery.start_soon(heartbeat.beat)
            self._due.append((now + self._step, heartbeat))


_hearts: Final[trio.lowlevel.RunVar[dict[float, _Heart]]] = trio.lowlevel.RunVar("hearts")


def _heart(interval: float) -> _Heart:
    try:
        hearts = _hearts.get()
    except LookupError:
        hearts = {}
        _hearts.set(hearts)
    heart = hearts.get(interval)
    if heart is None:
        heart = hearts[interval] = _Heart(interval)
    return heart
