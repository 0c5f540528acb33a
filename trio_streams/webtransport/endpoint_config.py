"""What an endpoint may hold, and what it counts."""

from __future__ import annotations

import attrs

from trio_streams.config import at_least, positive

__all__ = ["EndpointConfig", "EndpointStatistics"]


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """Limits of one endpoint.

    Attributes:
      max_connections: connections at once; the client of one more is refused.
      max_half_open: connections at once whose handshake is not complete; what begins one more is dropped.
      retry_above_half_open: from so many half-open ones on, a new client has to prove its address first, by a Retry; 0 for
        always.
      retry_token_lifetime: seconds in which it has to.
      handshake_timeout: seconds after which a half-open connection is lost.
      close_timeout: seconds that the goodbyes may take to leave when the endpoint is left.
    """

    max_connections: int = attrs.field(default=10_000, validator=at_least(1))
    max_half_open: int = attrs.field(default=1_000, validator=at_least(1))
    retry_above_half_open: int = attrs.field(default=100, validator=at_least(0))
    retry_token_lifetime: float = attrs.field(default=10.0, validator=positive)
    handshake_timeout: float = attrs.field(default=10.0, validator=positive)
    close_timeout: float = attrs.field(default=1.0, validator=at_least(0))


@attrs.define(kw_only=True)
class EndpointStatistics:
    """What an endpoint has seen.

    Attributes:
      connections: that are attached now.
      half_open: those of them whose handshake is not complete.
      connection_ids: that lead to a connection now.
      received_datagrams: all that came in.
      dropped_datagrams: those of them that belonged to no connection, and began none.
      answered_datagrams: those of them that got a Retry, a Version Negotiation or a refusal.
      unsent_datagrams: that were given up, because the kernel had no room for too long.
      failed_connections: that raised, and were lost for it.
    """

    connections: int = 0
    half_open: int = 0
    connection_ids: int = 0
    received_datagrams: int = 0
    dropped_datagrams: int = 0
    answered_datagrams: int = 0
    unsent_datagrams: int = 0
    failed_connections: int = 0
