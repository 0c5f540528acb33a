"""A peer against a bare connection, which says whatever a test has it say."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.driver import run_connection
from trio_streams.peer import RpcPeer, StreamOptions
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair

__all__ = ["raw_pair"]

CONFIG = ConnectionConfig(idle_timeout=None)


@asynccontextmanager
async def raw_pair(
    *, options: StreamOptions | None = None, config: ConnectionConfig = CONFIG
) -> AsyncGenerator[tuple[RpcPeer, Connection, MemoryCarrier], None]:
    """A peer, the other side's connection, and the link between them."""
    near, far = memory_carrier_pair()
    opened, is_over = trio.Event(), trio.Event()
    found: list[Connection] = []

    async def run_other() -> None:
        async with run_connection(far, is_client=False, config=config) as connection:
            found.append(connection)
            opened.set()
            await is_over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_other)
        async with (
            run_connection(near, is_client=True, config=config) as connection,
            RpcPeer(connection, options=options) as peer,
        ):
            await opened.wait()
            yield peer, found[0], far
        is_over.set()
