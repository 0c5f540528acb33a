"""One log, many readers in step: what one of them has just read is not read again for the others."""

from __future__ import annotations

from typing import Final

import trio

from trio_streams.service.replay_log import LogItems, LogState, LogWriter, RunLog

__all__ = ["SharedLog"]

_KEPT_READS: Final = 2
"""Readers at the tail ask for the same place, those that are a moment late for the one before. The rest are on their own."""


class SharedLog:
    """A `RunLog` that stands before another one.

    What a read has brought stays true as long as the log is there: a later read at the same place may bring more, and
    goes on for it.

    Args:
      log: the other one.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._reads: dict[int, LogItems] = {}
        self._flights: dict[int, trio.Event] = {}

    @property
    def log_id(self) -> str:
        """See `RunLog`."""
        return self._log.log_id

    async def state(self) -> LogState:
        """See `RunLog.state`."""
        return await self._log.state()

    async def read(self, position: int, *, max_bytes: int) -> LogItems:
        """See `RunLog.read`; `max_bytes` has to be the same for all."""
        while (flight := self._flights.get(position)) is not None:
            await flight.wait()
        if (known := self._reads.get(position)) is not None:
            await trio.lowlevel.checkpoint()
            return known
        over = self._flights[position] = trio.Event()
        try:
            got = await self._log.read(position, max_bytes=max_bytes)
        finally:
            del self._flights[position]
            over.set()
        if got.items:
            self._reads[position] = got
            if len(self._reads) > _KEPT_READS:
                del self._reads[next(iter(self._reads))]
        return got

    async def wait_behind(self, position: int) -> None:
        """See `RunLog.wait_behind`."""
        await self._log.wait_behind(position)

    async def take_over(self) -> LogWriter:
        """See `RunLog.take_over`."""
        return await self._log.take_over()
