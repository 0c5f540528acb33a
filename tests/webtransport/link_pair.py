"""Two links in Trio's virtual time, and a network between them that loses, doubles, delays and reorders datagrams."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from tests.webtransport.fake_machine import FakeMachine
from tests.webtransport.quic_pair import CLIENT, LOSSLESS, SERVER, Fate
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.requests import ConnectRequest
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer

__all__ = ["REQUEST", "LinkPair", "open_pair", "session_pair"]

REQUEST: Final = ConnectRequest(authority="server.example", path="/room")


@attrs.define(eq=False)
class Place:
    """A link's attachment to the network."""

    pair: LinkPair

    def kick(self) -> None:
        self.pair.kick()

    def add_connection_id(self, connection_id: bytes) -> None:
        pass

    def remove_connection_id(self, connection_id: bytes) -> None:
        pass

    def note_handshake(self) -> None:
        pass


class LinkPair:
    """A client's and a server's link.

    Args:
      client: the client's.
      server: the server's.
      network: what becomes of each datagram, in both directions.
    """

    def __init__(self, client: Link, server: Link, network: Callable[[], Fate] = lambda: LOSSLESS) -> None:
        self.client = client
        self.server = server
        self.network = network
        self.datagram_count = 0
        self._kicked = trio.Event()
        self._numbers = itertools.count()
        self._arrivals: list[tuple[float, int, bytes, Link]] = []
        for link in (client, server):
            link.attach(Place(self))

    def kick(self) -> None:
        """Something is to be sent."""
        self._kicked.set()

    async def run(self) -> None:
        """Be the network, and both endpoints."""
        while True:
            self._kicked = trio.Event()
            for link in (self.client, self.server):
                self.flush(link)
            if self._kicked.is_set():
                await trio.lowlevel.checkpoint()
                continue
            times = [time for link in (self.client, self.server) if (time := link.next_deadline()) is not None]
            times += [self._arrivals[0][0]] if self._arrivals else []
            with trio.move_on_at(min(times, default=math.inf)):
                await self._kicked.wait()
            self._step(trio.current_time())

    def flush(self, link: Link) -> None:
        """Send what a link has to send."""
        now = trio.current_time()
        other = self.server if link is self.client else self.client
        for data, _ in link.datagrams_to_send(now):
            self.datagram_count += 1
            for delay in self.network().delays:
                heapq.heappush(self._arrivals, (now + delay, next(self._numbers), data, other))
        link.dispatch()

    def _step(self, now: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now:
            _, _, data, to = heapq.heappop(self._arrivals)
            to.receive(data, CLIENT if to is self.server else SERVER, now)
            to.dispatch()
        for link in (self.client, self.server):
            deadline = link.next_deadline()
            if deadline is not None and deadline <= now:
                link.handle_deadline(now)
                link.dispatch()


@asynccontextmanager
async def open_pair(
    *,
    config: WebTransportConfig | None = None,
    server_config: WebTransportConfig | None = None,
    network: Callable[[], Fate] = lambda: LOSSLESS,
) -> AsyncIterator[LinkPair]:
    """Two links that are ready; at the end their network is switched off."""
    config = config or WebTransportConfig()
    pair = LinkPair(*make_links(config, server_config or config), network)
    async with open_bare_nursery() as nursery:
        nursery.start_soon(pair.run)
        await pair.client.wait_ready()
        await pair.server.wait_ready()
        yield pair
        nursery.cancel_scope.cancel()


async def _serve(offer: SessionOffer, handler: Callable[[WebTransportSession], Awaitable[object]]) -> None:
    session = offer.accept()
    if session is not None:
        with session.cancel_scope:
            async with SessionBlock(session):
                await handler(session)


@asynccontextmanager
async def session_pair(pair: LinkPair) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
    """A client's session and its server's, both in blocks of their own."""
    async with open_bare_nursery() as nursery:
        sessions: list[WebTransportSession] = []
        arrived = trio.Event()

        async def handler(session: WebTransportSession) -> None:
            sessions.append(session)
            arrived.set()
            await trio.sleep_forever()

        pair.server.on_session = lambda offer: nursery.start_soon(_serve, offer, handler)
        session = await pair.client.connect_session(REQUEST)
        async with SessionBlock(session):
            await arrived.wait()
            yield session, sessions[0]
        nursery.cancel_scope.cancel()


def make_links(client_config: WebTransportConfig, server_config: WebTransportConfig) -> tuple[Link, Link]:
    """A client's link and a server's."""
    return (
        Link(FakeMachine(is_client=True), peer="server", config=client_config, is_client=True),  # type: ignore[arg-type]
        Link(FakeMachine(is_client=False), peer="client", config=server_config, is_client=False),  # type: ignore[arg-type]
    )
