"""Work whose caller waits for nothing, owned by whoever serves: bounded, logged, and over when its server is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from trio_streams.errors import as_rpc_error

__all__ = ["Background", "Work"]

_logger: Final = logging.getLogger("trio_streams")


Work: TypeAlias = Callable[[Callable[[], None]], Awaitable[object]]
"""What is run: it calls its argument when it has begun."""


class Background:
    """Runs what nobody waits for.

    Args:
      nursery: owns it; the server's.
      max_running: how much may run at once; past it `start` waits, which is the callers' backpressure.
    """

    def __init__(self, nursery: trio.Nursery, *, max_running: int = 1_024) -> None:
        if max_running < 1:
            raise ValueError(f"max_running must be at least 1, not {max_running!r}")
        self._nursery = nursery
        self._room = trio.Semaphore(max_running)

    async def start(self, name: str, fn: Work) -> None:
        """Start something as soon as there is room for it, and return when it has begun or is over.

        Args:
          name: for the log.
          fn: run in a task of its own; calls its argument when it has begun. What it raises from then on is logged, at
            ERROR if it is our fault.

        Raises:
          Exception: what it raised before it had begun.
        Cancellation: it has not begun.
        """
        await self._room.acquire()
        await self._nursery.start(self._run, name, fn)

    async def _run(self, name: str, fn: Work, *, task_status: trio.TaskStatus[None]) -> None:
        has_begun = False

        def begin() -> None:
            nonlocal has_begun
            has_begun = True
            task_status.started()

        try:
            await fn(begin)
            if not has_begun:
                begin()
        except Exception as exc:
            if not has_begun:
                raise
            level = logging.ERROR if as_rpc_error(exc).is_our_fault else logging.INFO
            _logger.log(level, "%s failed", name, exc_info=exc)
        finally:
            self._room.release()
