"""A log for the runs of durable procedures, and nothing else: no URL, no other streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Store
from trio_streams.durable.store.sqlite import open_sqlite_store
from trio_streams.service.replay_log import ReplayLog

__all__ = ["open_replay_log"]


@asynccontextmanager
async def open_replay_log(directory: str | Path | None = None) -> AsyncGenerator[ReplayLog, None]:
    """Keep runs for as long as the block, or for good.

    To have other readers of the runs as well, over the protocol of durable streams, open a `DurableServer` and take its
    `replay_log`.

    Args:
      directory: where they are kept, made if there is none; None keeps them in memory.

    Raises:
      StoreError: another process has the directory, or its files can't be used.
    Cancellation: what is stored stays.
    """
    async with AsyncExitStack() as stack:
        store: Store | None = None
        if directory is not None:
            store = await stack.enter_async_context(open_sqlite_store(directory))
        server = await stack.enter_async_context(DurableServer(store))
        yield server.replay_log("runs/")
