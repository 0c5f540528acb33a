"""The further transports as pairs of connected carriers, the client's first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs
import trio

from tests.conformance.transports import Transport
from tests.transports.more_links import asgi_pair, open_tls_pair, pipe_pair, process_pair, unix_pair
from tests.webtransport.link_pair import open_pair, session_pair
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.errors import ConnectionLost
from trio_streams.handling import Prepare
from trio_streams.testing.peers import End
from trio_streams.transports import ChannelCarrier
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.procedures import run_session_connection, run_session_server
from trio_streams.webtransport.session import WebTransportSession

__all__ = ["MORE_TRANSPORTS", "webtransport_ends"]


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


@attrs.frozen
class _SessionEnd:
    """A session of WebTransport as an end."""

    session: WebTransportSession
    link: Link
    carries_reasons: bool = False  # QUIC's frames have codes alone

    def run_client(self, config: ConnectionConfig | None) -> AbstractAsyncContextManager[Connection]:
        return run_session_connection(self.session, config=config)

    async def run_server(
        self, prepare: Prepare, config: ConnectionConfig | None, on_connection: Callable[[Connection], None]
    ) -> None:
        await run_session_server(self.session, prepare, config=config, on_connection=on_connection)

    def lose(self) -> None:
        self.link.lose(ConnectionLost("the test cut the line"))


@asynccontextmanager
async def webtransport_ends(server_config: WebTransportConfig | None = None) -> AsyncIterator[tuple[End, End]]:
    """A session's two ends, in virtual time."""
    async with open_pair(server_config=server_config) as pair, session_pair(pair) as (ours, theirs):
        yield _SessionEnd(ours, pair.client), _SessionEnd(theirs, pair.server)


MORE_TRANSPORTS: Final = (
    Transport("tls", _tls),
    Transport("unix", _unix),
    Transport("pipes", _pipes),
    Transport("process", _process),
    Transport("channels", _channels, is_virtual=True),
    Transport("asgi-websocket", _asgi),
    Transport("webtransport", webtransport_ends, is_virtual=True),
)
