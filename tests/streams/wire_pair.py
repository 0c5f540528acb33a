"""Both ends of one stream on a connection, in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing

from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.connection import Connection
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.streams.wire import StopPolicy, WireStream
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair

__all__ = ["SMALL", "Pair", "Raw", "settle", "wire_pair"]

Raw = WireStream[bytes, bytes]

SMALL = ConnectionConfig(stream=StreamLimits(window_items=8), idle_timeout=None)
"""A window that is easily filled."""


@attrs.define
class Pair:
    """One stream: `near` was opened here, `far` accepted there; `left` is set when far's block has been left."""

    near: Raw
    far: Raw
    connection: Connection
    carrier: MemoryCarrier
    release: trio.Event
    left: trio.Event


async def settle() -> None:
    """Until whatever can arrive has arrived."""
    await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def wire_pair(
    config: ConnectionConfig = SMALL,
    *,
    stop_policy: StopPolicy = StopPolicy.ALWAYS,
    metadata: dict[str, str] | None = None,
) -> AsyncGenerator[Pair, None]:
    """A connection inside the process with one stream; leaving leaves the near end first."""
    near_carrier, far_carrier = memory_carrier_pair()
    release, left = trio.Event(), trio.Event()
    accepted: list[Raw] = []

    async def hold(stream: Raw) -> None:
        try:
            await release.wait()
        finally:
            left.set()

    def prepare(stream: Raw) -> Handler:
        accepted.append(stream)
        stream.stop_policy = stop_policy
        return hold

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_server(far_carrier, prepare, config=config))
        async with (
            run_client(near_carrier, config=config) as connection,
            connection.open_stream("s", metadata=metadata or {}) as near,
        ):
            await settle()
            yield Pair(near, accepted[0], connection, near_carrier, release, left)
        nursery.cancel_scope.cancel()
