"""The further transports as pairs of connected carriers, the client's first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from tests.conformance.transports import Transport
from tests.transports.more_links import asgi_pair, open_tls_pair, pipe_pair, process_pair, unix_pair
from trio_streams.carrier import Carrier
from trio_streams.transports import ChannelCarrier

__all__ = ["MORE_TRANSPORTS"]


@asynccontextmanager
async def _tls() -> AsyncIterator[tuple[Carrier, Carrier]]:
    async with open_tls_pair() as (client, server, _):
        yield client, server


@asynccontextmanager
async def _unix() -> AsyncIterator[tuple[Carrier, Carrier]]:
    async with unix_pair() as (client, server, _):
        yield client, server


@asynccontextmanager
async def _pipes() -> AsyncIterator[tuple[Carrier, Carrier]]:
    yield pipe_pair()


@asynccontextmanager
async def _process() -> AsyncIterator[tuple[Carrier, Carrier]]:
    async with process_pair() as (near, far, _):
        yield near, far


@asynccontextmanager
async def _channels() -> AsyncIterator[tuple[Carrier, Carrier]]:
    there_in, there_out = trio.open_memory_channel[bytes](4)
    back_in, back_out = trio.open_memory_channel[bytes](4)
    yield ChannelCarrier(there_in, back_out), ChannelCarrier(back_in, there_out)


@asynccontextmanager
async def _asgi() -> AsyncIterator[tuple[Carrier, Carrier]]:
    async with asgi_pair() as (client, server):
        yield client, server


MORE_TRANSPORTS: Final = (
    Transport("tls", _tls),
    Transport("unix", _unix),
    Transport("pipes", _pipes),
    Transport("process", _process),
    Transport("channels", _channels, is_virtual=True),
    Transport("asgi-websocket", _asgi),
)
