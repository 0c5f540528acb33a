"""Two links over real QUIC in Trio's virtual time, and what runs procedures on their session."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from tests.webtransport.link_pair import LinkPair
from tests.webtransport.quic_pair import LOSSLESS, SERVER, Fate, certificate
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import client_configuration, server_configuration

__all__ = ["open_links"]


class _BegunPair(LinkPair):
    def deliver_first(self, datagrams: list[bytes], now: float) -> None:
        """What the client has said before there was a server."""
        for data in datagrams:
            heapq.heappush(self._arrivals, (now, next(self._numbers), data, self.server))


def make_pair(
    client_config: WebTransportConfig, server_config: WebTransportConfig, network: Callable[[], Fate]
) -> LinkPair:
    """A client that has said its first word, and the server that it is for."""
    chain, key, authority = certificate()
    now = trio.current_time()
    configuration = client_configuration(client_config.quic, server_name="server.example", authorities_pem=authority)
    quic = Quic(configuration, client_config.quic)
    quic.connect(SERVER, now)
    machine = ConnectionMachine(quic, is_client=True, limits=client_config.limits)
    client = Link(machine, peer="server", config=client_config, is_client=True)
    first = client.datagrams_to_send(now)
    header = first[0][0]
    quic = Quic(
        server_configuration(server_config.quic, certificate_file=chain, key_file=key),
        server_config.quic,
        original_destination_connection_id=header[6 : 6 + header[5]],
    )
    machine = ConnectionMachine(quic, is_client=False, limits=server_config.limits)
    server = Link(machine, peer="client", config=server_config, is_client=False)
    pair = _BegunPair(client, server, network)
    pair.deliver_first([data for data, _ in first], now)
    return pair


@asynccontextmanager
async def open_links(
    *,
    config: WebTransportConfig | None = None,
    server_config: WebTransportConfig | None = None,
    network: Callable[[], Fate] = lambda: LOSSLESS,
) -> AsyncIterator[LinkPair]:
    """Two links that are ready; at the end their network is switched off."""
    config = config or WebTransportConfig()
    pair = make_pair(config, server_config or config, network)
    async with open_bare_nursery() as nursery:
        nursery.start_soon(pair.run)
        await pair.client.wait_ready()
        await pair.server.wait_ready()
        yield pair
        nursery.cancel_scope.cancel()
