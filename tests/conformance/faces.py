"""Every way to serve procedures and to call them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import trio
import trio_websocket

from tests.transports.more_links import client_trust, server_files
from trio_streams import Router, connect, serve, serve_connection
from trio_streams.config import ConnectionConfig
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures import Client
from trio_streams.testing.peers import PATIENCE_SECONDS, live_tasks
from trio_streams.transports.messages import SUBPROTOCOL
from trio_streams.urls import CarrierName
from trio_streams.urls.connecting import Dialect

__all__ = ["FACES", "Face", "Served", "open_client", "open_connection", "open_server"]


@attrs.frozen
class Face:
    """One way to serve and to call.

    Attributes:
      name: as tests show it.
      scheme: of its URLs.
      carrier: of its WebSockets.
      dialect: what the client speaks.
      is_existing: whether the server is given connections that exist already.
      max_streams: how many streams to open at once: over HTTP each takes two descriptors of this process.
    """

    name: str
    scheme: str
    carrier: CarrierName = "websockets"
    is_existing: bool = False
    dialect: Dialect = "trio-streams"
    max_streams: int = 1_000

    @property
    def has_credit(self) -> bool:
        """Whether the dialect has CREDIT, so that an unread stream stops at its window exactly."""
        return self.scheme != "http" and self.dialect == "trio-streams"

    @property
    def files(self) -> tuple[str, str] | tuple[None, None]:
        """The certificate that `serve` takes and its key, where the scheme is always in TLS."""
        return server_files() if self.scheme == "wt" else (None, None)

    @property
    def trust(self) -> ssl.SSLContext | None:
        """What `connect` trusts then."""
        return client_trust() if self.scheme == "wt" else None

    def __str__(self) -> str:
        return self.name


FACES: Final = {
    face.name: face
    for face in (
        Face("tcp", "tcp"),
        Face("ws", "ws"),
        Face("trio-websocket", "ws", carrier="trio-websocket"),
        Face("serve_connection", "ws", is_existing=True),
        Face("http", "http", max_streams=100),
        Face("webtransport", "wt"),
        Face("envelopes-tcp", "tcp", dialect="envelopes"),
        Face("envelopes-ws", "ws", dialect="envelopes"),
    )
}


@attrs.frozen
class Served:
    """A running server: where, and how to end it."""

    url: str
    stop: trio.CancelScope


async def _serve_existing(
    app: Router, config: ConnectionConfig | None, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    async def answer(request: trio_websocket.WebSocketRequest) -> None:
        await serve_connection(await request.accept(subprotocol=SUBPROTOCOL), app, config=config)

    async with open_bare_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, answer, "127.0.0.1", 0, None)
        task_status.started([f"ws://127.0.0.1:{server.port}"])


@asynccontextmanager
async def open_server(face: Face, app: Router, *, config: ConnectionConfig | None = None) -> AsyncIterator[Served]:
    """Serve an application for as long as the block; afterwards no task may be left."""
    before = live_tasks()
    stop = trio.CancelScope()
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_bare_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
                url = f"{face.scheme}://127.0.0.1:0"
                with stop:
                    if face.is_existing:
                        await _serve_existing(app, config, task_status=task_status)
                    else:
                        certfile, keyfile = face.files
                        await serve(
                            app,
                            url,
                            config=config,
                            carrier=face.carrier,
                            certfile=certfile,
                            keyfile=keyfile,
                            task_status=task_status,
                        )

            (bound,) = await nursery.start(run)
            yield Served(bound, stop)
            stop.cancel()
    assert live_tasks() == before


def open_connection(
    face: Face, url: str, *, config: ConnectionConfig | None = None
) -> AbstractAsyncContextManager[Client]:
    """Connect to a URL as a face does."""
    return connect(url, config=config, carrier=face.carrier, dialect=face.dialect, ssl_context=face.trust)


@asynccontextmanager
async def open_client(face: Face, app: Router, *, config: ConnectionConfig | None = None) -> AsyncIterator[Client]:
    """Serve an application and connect to it, for as long as the block."""
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(open_server(face, app, config=config))
        yield await stack.enter_async_context(open_connection(face, served.url, config=config))
