"""Items between a handler and its log: while one batch is being stored, the next one gathers."""

from __future__ import annotations

import trio

from trio_streams.config import ITEM_OVERHEAD_BYTES

__all__ = ["Pending"]


class Pending:
    """A queue of payloads that is emptied as a whole.

    Args:
      max_bytes: of payloads that wait, each at its length plus 64; one may always wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: list[bytes] = []
        self._size = 0
        self._is_ended = False
        self._filled = trio.Event()
        self._emptied = trio.Event()

    async def put(self, payload: bytes) -> None:
        """Add a payload, waiting while too much waits already. Cancellation: it is not added."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._items and self._size >= self._max_bytes:
            self._emptied = trio.Event()
            await self._emptied.wait()
        self._items.append(payload)
        self._size += len(payload) + ITEM_OVERHEAD_BYTES
        self._filled.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_ended = True
        self._filled.set()

    async def take_all(self) -> list[bytes]:
        """What is there, waiting for the first; nothing at the end. Cancellation: atomic."""
        if not self._items and not self._is_ended:
            self._filled = trio.Event()
            await self._filled.wait()
        items, self._items, self._size = self._items, [], 0
        self._emptied.set()
        return items
