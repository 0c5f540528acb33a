"""An endpoint of a server on a network in memory, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from tests.webtransport.fake_udp import FakeNetwork, FakeSocket
from tests.webtransport.quic_driven import LIMITS, EchoingServer, QuicDriven, client
from trio_streams.webtransport.driven import Accept, Address
from trio_streams.webtransport.endpoint import Endpoint, EndpointConfig, open_endpoint
from trio_streams.webtransport.quic_config import QuicLimits

__all__ = ["SERVER", "Site", "open_site"]

SERVER: Final[Address] = ("192.0.2.2", 443)


class Site:
    """What a test has in hand.

    Attributes:
      network: that carries everything.
      server: that makes the connections.
      socket: the server's.
      endpoint: the server's.
    """

    def __init__(self, network: FakeNetwork, server: EchoingServer, socket: FakeSocket, endpoint: Endpoint) -> None:
        self.network = network
        self.server = server
        self.socket = socket
        self.endpoint = endpoint

    @asynccontextmanager
    async def open_client(
        self, *, limits: QuicLimits = LIMITS, config: EndpointConfig | None = None, is_ready: bool = True
    ) -> AsyncIterator[tuple[QuicDriven, FakeSocket]]:
        """A client's connection, after its handshake unless told otherwise, and its socket."""
        socket = self.network.bind(peer=SERVER)
        async with open_endpoint(socket, config=config) as endpoint:
            driven = client(SERVER, limits)
            endpoint.attach(driven)
            if is_ready:
                await driven.wait_ready()
            yield driven, socket


@asynccontextmanager
async def open_site(
    *,
    config: EndpointConfig | None = None,
    limits: QuicLimits = LIMITS,
    network: FakeNetwork | None = None,
    wrap: Callable[[Accept], Accept] = lambda accept: accept,
) -> AsyncIterator[Site]:
    """Run a server that echoes."""
    network = network or FakeNetwork()
    server = EchoingServer(limits)
    socket = network.bind(SERVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        async with open_endpoint(socket, accept=wrap(server.accept), config=config) as endpoint:
            yield Site(network, server, socket, endpoint)
        await trio.sleep(0.1)  # what was said last arrives
        nursery.cancel_scope.cancel()
