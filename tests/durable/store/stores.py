"""The stores that the shared tests run on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from trio_streams.durable.store.base import Store
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.durable.store.sqlite import SqliteConfig, open_sqlite_store

__all__ = ["OPENERS", "PERSISTENT", "Opening"]

Opening = Callable[[Path], AbstractAsyncContextManager[Store]]

SMALL: Final = SqliteConfig(
    cache_bytes=2000, checkpoint_bytes=8 * 4096, max_wal_bytes=16 * 4096, max_free_bytes=4096, max_batch_changes=3,
    max_trim_entries=2, max_trim_bytes=500, readers=1,
)  # fmt: skip
"""Limits that a few changes reach."""


@asynccontextmanager
async def _open_memory_store(path: Path) -> AsyncIterator[Store]:
    store = MemoryStore()
    yield store
    await store.aclose()


OPENERS: Final[dict[str, Opening]] = {
    "memory": _open_memory_store,
    "sqlite": open_sqlite_store,
    "sqlite-small": lambda path: open_sqlite_store(path, SMALL),
}

PERSISTENT: Final = ("sqlite", "sqlite-small")
"""Those that find again what they were given, when they are opened again."""
