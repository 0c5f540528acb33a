"""All connections of one UDP socket: who gets a datagram, when each sends, and that one's fault is no other's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs

from trio_streams.config import positive
from trio_streams.webtransport.driven import Accept, Attachment, Driven
from trio_streams.webtransport.udp import DatagramSocket

__all__ = ["Endpoint", "EndpointConfig", "open_endpoint"]


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """Limits of one endpoint.

    Attributes:
      max_connections: connections at once; the first packets of more are dropped.
      max_half_open: connections at once whose handshake is not complete; likewise.
      retry_above_half_open: with so many half-open ones, a new client has to prove its address first, by a Retry: 0 for always.
      retry_token_lifetime: seconds in which it has to.
      close_timeout: seconds that the goodbyes may take to leave when the endpoint is left.
    """

    max_connections: int = attrs.field(default=10_000, validator=positive)
    max_half_open: int = attrs.field(default=1_000, validator=positive)
    retry_above_half_open: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    retry_token_lifetime: float = attrs.field(default=10.0, validator=positive)
    close_timeout: float = attrs.field(default=1.0, validator=positive)


class Endpoint:
    """What `open_endpoint` gives."""

    @property
    def connection_count(self) -> int:
        """Connections that are attached."""
        raise NotImplementedError

    def attach(self, driven: Driven) -> Attachment:
        """Drive a connection of ours, a client's, from now on: its first flush begins the handshake.

        Raises:
          trio.ClosedResourceError: the endpoint was left.
        """
        raise NotImplementedError

    def stop_accepting(self) -> None:
        """Drop the first packets of new clients from now on; connections that are here are not affected."""
        raise NotImplementedError


@asynccontextmanager
async def open_endpoint(
    socket: DatagramSocket, *, accept: Accept | None = None, config: EndpointConfig | None = None
) -> AsyncIterator[Endpoint]:
    """Drive the connections of a socket for as long as the block.

    Its loops go on while the block is being cancelled, so that what is in it can say goodbye. At the end each connection that
    is left gets `close`, what that makes is sent within `close_timeout`, and the socket is closed.

    Args:
      socket: from `bind_udp` or `connect_udp`; it belongs to the endpoint from here on.
      accept: on a server, makes the connection of a new client.
      config: limits.
    """
    raise NotImplementedError
    yield Endpoint()
