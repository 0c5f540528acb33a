"""Procedures and peers whose sessions resume, behind a proxy that can be cut: what the tests of the JavaScript client share.

`python -m tests.browser.resuming_site` serves it in a process of its own, and prints the pages' URL and the WebSockets'.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from tests.browser.application import Application
from tests.browser.client_child import add_pages
from tests.browser.outage import Outage
from tests.browser.peer_application import declare
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.driver import run_connection, run_server
from trio_streams.errors import ConnectionLost
from trio_streams.peer import RpcPeer, StreamOptions
from trio_streams.procedures.server import prepare
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.sessions import Sessions
from trio_streams.service.exchange import Exchange, Routes, respond
from trio_streams.transports.http import serve_lean

__all__ = ["ResumingSite", "open_resuming_site"]


@attrs.define(eq=False)
class ResumingSite:
    """One server and the network before it.

    Attributes:
      outage: the network; `POST /cut/<milliseconds>`, `/hush` and `/mend` of `pages` do what its methods do.
      pages: where files and those are asked for, past the proxy.
      url: WebSockets through the proxy: `peers` below it for peers, procedures elsewhere.
      peers: those that have connected.
    """

    nursery: trio.Nursery
    sessions: Sessions
    peer_sessions: Sessions
    application: Application = attrs.Factory(Application)
    outage: Outage = attrs.Factory(lambda: Outage(0))
    pages: str = ""
    peers: list[RpcPeer] = attrs.Factory(list)
    is_plain: bool = False

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.outage.port}/"

    async def start(self) -> None:
        router = self.application.router

        @router.call("meanwhile")
        async def meanwhile() -> str:
            """Answer once the network is away."""
            while not self.outage.is_cut:  # noqa: ASYNC110 - a test's own state, which has no event
                await trio.sleep(0.01)
            return "answered meanwhile"

        @router.stream("endless.slow")
        async def endless_slow() -> AsyncIterator[int]:
            number = 0
            while True:
                yield number
                number += 1
                if number % 50 == 0:
                    await trio.sleep(0.01)

        routes = Routes()
        add_pages(routes)
        routes.add("POST", "/cut/*", self._cut)
        routes.add("POST", "/hush", self._hush)
        routes.add("POST", "/mend", self._mend)
        self.pages = await self.nursery.start(partial(serve_lean, routes, "127.0.0.1", 0, websocket=self._accept))
        self.outage.upstream_port = int(self.pages.rpartition(":")[2].rstrip("/"))
        await self.nursery.start(self.outage.run)

    async def _cut(self, exchange: Exchange) -> None:
        """Cut the network for some milliseconds; 0 for until it is mended."""
        milliseconds = int(exchange.request.path.rpartition("/")[2])
        self.outage.cut()
        if milliseconds:
            self.nursery.start_soon(self._mend_after, milliseconds / 1000)
        await respond(exchange, 204, b"")

    async def _mend_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.outage.mend()

    async def _hush(self, exchange: Exchange) -> None:
        self.outage.hush()
        await respond(exchange, 204, b"")

    async def _mend(self, exchange: Exchange) -> None:
        self.outage.mend()
        await respond(exchange, 204, b"")

    async def _accept(self, carrier: Carrier) -> None:
        is_peer = getattr(carrier, "path", "/").startswith("/peers")
        sessions = self.peer_sessions if is_peer else self.sessions
        try:
            offer = await sessions.receive_offer(carrier)
            if offer.hello is not None and not self.is_plain:
                run = self._run_peer if is_peer else self._run_procedures
                await sessions.serve(carrier, offer, None, run)
            elif is_peer:
                await self._be_peer(carrier, received=offer.received)
            else:
                await run_server(carrier, partial(prepare, self.application.router), received=offer.received)
        except ConnectionLost:
            pass  # the network is away

    async def _run_procedures(self, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)

        router = self.application.router
        await run_server(carrier, partial(prepare, router), make_machine=lambda: carrier.machine, on_connection=began)

    async def _run_peer(self, carrier: ResumingCarrier) -> None:
        await self._be_peer(carrier, resuming=carrier)

    async def _be_peer(
        self, carrier: Carrier, *, resuming: ResumingCarrier | None = None, received: bytes = b""
    ) -> None:
        def began(connection: Connection) -> None:
            if resuming is not None:
                resuming.drive(connection.kick)

        options = StreamOptions()
        async with (
            run_connection(
                carrier,
                is_client=False,
                config=options.connection_config(),
                make_machine=None if resuming is None else lambda: resuming.machine,
                received=received,
                on_connection=began,
            ) as connection,
            RpcPeer(connection, options=options) as peer,
        ):
            declare(peer)
            self.peers.append(peer)
            await peer.wait_closed()


@asynccontextmanager
async def open_resuming_site(resume: ResumeOptions | None = None) -> AsyncGenerator[ResumingSite, None]:
    """The site, for as long as the block."""
    config = ConnectionConfig()
    async with trio.open_nursery() as nursery:
        options = resume or ResumeOptions()
        site = ResumingSite(nursery, Sessions(options, config, nursery), Sessions(options, config, nursery))
        await site.start()
        yield site
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Serve, for no longer than whoever started this lives."""
    async with open_resuming_site() as site:
        sys.stdout.write(f"{site.pages} {site.url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main)
