"""A server of sessions on loopback, for as long as a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from tests.webtransport.quic_pair import certificate
from trio_streams.webtransport import SessionHandler, WebTransportServer, WebTransportSession, serve

__all__ = ["idle", "serving"]


async def idle(session: WebTransportSession) -> None:
    """A handler that does nothing, as long as its session is open."""
    await trio.sleep_forever()


@asynccontextmanager
async def serving(
    handler: SessionHandler | Mapping[str, SessionHandler] = idle, **options: Any
) -> AsyncIterator[WebTransportServer]:
    """Serve sessions on a free port, with a certificate for server.example that a test authority signed."""
    chain, key, _ = certificate()
    run = partial(serve, handler, bind="127.0.0.1:0", certfile=chain, keyfile=key, **options)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(run)
        nursery.cancel_scope.cancel()
