"""What the demo's tests share: a client of a router over an in-process link, and a context for handlers called bare."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_streams.driver import run_client, run_server
from trio_streams.procedures.client import ConnectionClient
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.service.context import Context
from trio_streams.transports.memory import memory_carrier_pair

__all__ = ["context", "open_client"]


@asynccontextmanager
async def open_client(router: Router) -> AsyncGenerator[ConnectionClient, None]:
    """A client of a router; after the block every handler is done."""
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, router))
        async with run_client(left) as connection:
            yield ConnectionClient(connection)


def context(procedure: str) -> Context:
    """A context without a connection."""
    return Context(
        procedure=procedure,
        peer="here",
        metadata={},
        deadline=math.inf,
        cancel_scope=trio.CancelScope(),
        request_id="1",
    )
