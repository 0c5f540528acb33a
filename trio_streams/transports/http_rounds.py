"""What hosts of exchanges do for all their connections at once: write in rounds, and tell the time of day."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import Protocol

import trio

from trio_streams.wire.http1_fields import Fields

__all__ = ["DateField", "Markable", "Rounds"]


class Markable(Protocol):
    """What has something to write now and then."""

    is_marked: bool

    def write_marked(self) -> None:
        """Write what there is, without waiting."""
        ...


class Rounds:
    """One task writes for all whose handlers wait: a wake-up and a round for as many as have output."""

    __slots__ = ("_marked", "_writer")

    def __init__(self) -> None:
        self._marked: list[Markable] = []
        self._writer: trio.lowlevel.Task | None = None

    def mark(self, one: Markable) -> None:
        """Have its output written in the next round."""
        if not one.is_marked:
            one.is_marked = True
            self._marked.append(one)
            if self._writer is not None:
                trio.lowlevel.reschedule(self._writer)
                self._writer = None

    async def run(self) -> None:
        """Write until cancelled. Cancellation: what is marked is not written."""
        while True:
            if not self._marked:
                self._writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._cancelled)
            # One more round, in which those that were woken together add what belongs together.
            await trio.lowlevel.checkpoint()
            self._write_all()

    def _write_all(self) -> None:
        # Not in the loop that waits: its frame would keep the last connection alive until there is another one.
        marked, self._marked = self._marked, []
        for one in marked:
            one.write_marked()

    def _cancelled(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED


class DateField:
    """The time of day, as a header that is made once a second."""

    __slots__ = ("_fields", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._fields = Fields()

    def now(self) -> Fields:
        """The header."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._fields = Fields([("date", formatdate(second, usegmt=True))])
        return self._fields
