"""Two links in Trio's virtual time, and a network between them that loses, doubles, delays and reorders datagrams."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import attrs
import trio

from tests.webtransport.quic_pair import CLIENT, LOSSLESS, SERVER, Fate, certificate
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.requests import ConnectRequest
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits, client_configuration, server_configuration
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer

__all__ = ["REQUEST", "SMALL", "LinkPair", "open_pair", "session_pair"]

Network: TypeAlias = Callable[[], Fate]
Datagrams: TypeAlias = list[tuple[bytes, object]]

_GRANULARITY: Final = 0.000_1

SMALL: Final = WebTransportConfig(
    quic=QuicLimits(
        window_bytes=65_536,
        connection_window_bytes=262_144,
        max_send_buffer_bytes=32_768,
        send_low_mark_bytes=16_384,
    )
)
"""Windows that a test fills soon."""

REQUEST: Final = ConnectRequest(authority="server.example", path="/room")


@attrs.define(eq=False)
class Place:
    """A link's attachment to the network."""

    pair: LinkPair
    link: Link

    def kick(self) -> None:
        self.pair.kick(self.link)

    def hurry(self) -> None:
        self.pair.kick(self.link)

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
      first: what the client has sent already.
      network: what becomes of each datagram, in both directions.
    """

    def __init__(self, client: Link, server: Link, first: Datagrams, network: Network = lambda: LOSSLESS) -> None:
        self.client = client
        self.server = server
        self.network = network
        self.datagram_count = 0
        self._kicked = trio.Event()
        self._marked = {client, server}
        self._numbers = itertools.count()
        self._arrivals: list[tuple[float, int, bytes, Link]] = []
        for link in (client, server):
            link.attach(Place(self, link))
        self._put(first, server)

    def kick(self, link: Link) -> None:
        """A link has something to send."""
        self._marked.add(link)
        self._kicked.set()

    async def run(self) -> None:
        """Be the network, and both endpoints: a link is flushed where it asked, heard something, or a deadline had come."""
        while True:
            self._kicked = trio.Event()
            marked, self._marked = self._marked, set()
            for link in (self.client, self.server):
                if link in marked:
                    self.flush(link)
            if self._marked:
                await trio.lowlevel.checkpoint()
                continue
            times = [time for link in (self.client, self.server) if (time := link.next_deadline()) is not None]
            # As an endpoint does: a time that rounding keeps from ever coming must not stop the clock.
            times = [max(time, trio.current_time() + _GRANULARITY) for time in times]
            times += [self._arrivals[0][0]] if self._arrivals else []
            with trio.move_on_at(min(times, default=math.inf)):
                await self._kicked.wait()
            self._step(trio.current_time())

    def flush(self, link: Link) -> None:
        """Send what a link has to send."""
        self._put(link.datagrams_to_send(trio.current_time()), self.server if link is self.client else self.client)
        link.dispatch()

    def _put(self, datagrams: Datagrams, to: Link) -> None:
        now = trio.current_time()
        for data, _ in datagrams:
            self.datagram_count += 1
            for delay in self.network().delays:
                heapq.heappush(self._arrivals, (now + delay, next(self._numbers), data, to))

    def _step(self, now: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now:
            _, _, data, to = heapq.heappop(self._arrivals)
            to.receive(data, CLIENT if to is self.server else SERVER, now)
            to.dispatch()
            self._marked.add(to)
        for link in (self.client, self.server):
            deadline = link.next_deadline()
            if deadline is not None and deadline <= now:
                link.handle_deadline(now)
                link.dispatch()
                self._marked.add(link)


@asynccontextmanager
async def open_pair(
    *,
    config: WebTransportConfig | None = None,
    server_config: WebTransportConfig | None = None,
    network: Network = lambda: LOSSLESS,
) -> AsyncIterator[LinkPair]:
    """Two links that are ready; at the end their network is switched off."""
    config = config or SMALL
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


def make_links(client_config: WebTransportConfig, server_config: WebTransportConfig) -> tuple[Link, Link, Datagrams]:
    """A client's link and a server's, and what the client has sent to begin."""
    now = trio.current_time()
    chain, key, _ = certificate()
    client = Quic(
        client_configuration(client_config.quic, server_name="server.example", verify=False), client_config.quic
    )
    client.connect(SERVER, now)
    first = client.datagrams_to_send(now)
    server = Quic(
        server_configuration(server_config.quic, certificate_file=chain, key_file=key),
        server_config.quic,
        original_destination_connection_id=first[0][0][6 : 6 + first[0][0][5]],
    )
    return (
        _link(client, client_config, is_client=True),
        _link(server, server_config, is_client=False),
        first,
    )


def _link(quic: Quic, config: WebTransportConfig, *, is_client: bool) -> Link:
    machine = ConnectionMachine(quic, is_client=is_client, limits=config.limits)
    return Link(machine, peer="server" if is_client else "client", config=config, is_client=is_client)
