"""Work whose caller waits for nothing, owned by whoever serves: bounded, logged, and over when its server is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_streams.errors import as_rpc_error

__all__ = ["Background"]

_logger: Final = logging.getLogger("trio_streams")


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

    async def start(self, name: str, fn: Callable[[], Awaitable[object]]) -> None:
        """Start something, as soon as there is room for it.

        Args:
          name: for the log.
          fn: run in a task of its own; what it raises is logged, at ERROR if it is our fault.

        Cancellation: it has not been started.
        """
        await self._room.acquire()
        self._nursery.start_soon(self._run, name, fn)

    async def _run(self, name: str, fn: Callable[[], Awaitable[object]]) -> None:
        try:
            await fn()
        except Exception as exc:
            level = logging.ERROR if as_rpc_error(exc).is_our_fault else logging.INFO
            _logger.log(level, "%s failed", name, exc_info=exc)
        finally:
            self._room.release()
