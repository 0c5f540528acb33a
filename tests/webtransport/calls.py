"""Procedures served on a session, over real QUIC in virtual time, for as long as a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from tests.webtransport.link_pair import LinkPair, open_pair, session_pair
from tests.webtransport.quic_pair import LOSSLESS, Fate
from trio_streams import Router
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.handling import Handler
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.server import prepare
from trio_streams.streams.wire import WireStream
from trio_streams.webtransport.procedures import run_session_server
from trio_streams.webtransport.session import WebTransportSession

__all__ = ["CONFIG", "Raw", "Rig", "echo", "serving"]

CONFIG: Final = ConnectionConfig(close_timeout=2, handshake_timeout=5, idle_timeout=None)

Raw: TypeAlias = WireStream[bytes, bytes]


async def echo(stream: Raw) -> None:
    async for item in stream:
        await stream.send(item)


@attrs.define
class Rig:
    """Two sessions, a server on one of them, and what it is doing."""

    pair: LinkPair
    ours: WebTransportSession
    theirs: WebTransportSession
    served: trio.Event
    scope: trio.CancelScope
    connections: list[Connection]

    @property
    def server(self) -> Connection:
        return self.connections[0]


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    *,
    config: ConnectionConfig = CONFIG,
    network: Callable[[], Fate] = lambda: LOSSLESS,
    app: Router | None = None,
) -> AsyncIterator[Rig]:
    """A server for as long as the block; at its end nothing of it runs, and neither link hears of a stream."""
    async with open_pair(network=network) as pair, session_pair(pair) as (ours, theirs):
        rig = Rig(pair, ours, theirs, trio.Event(), trio.CancelScope(), [])
        prepared = partial(prepare, app) if app is not None else lambda _: handler

        async def run() -> None:
            with rig.scope:
                await run_session_server(theirs, prepared, config=config, on_connection=rig.connections.append)
            rig.served.set()

        async with open_bare_nursery() as nursery:
            nursery.start_soon(run)
            yield rig
            with trio.fail_after(20):
                await rig.served.wait()
        assert rig.server.streams == ()
        assert rig.server.machine.queued_bytes == 0
        assert not ours.is_open
        assert not theirs.is_open
