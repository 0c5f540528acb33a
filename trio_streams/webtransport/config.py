"""What sessions of WebTransport may hold, and how long things may take."""

from __future__ import annotations

import attrs

from trio_streams.config import positive
from trio_streams.webtransport.endpoint_config import EndpointConfig
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.quic_config import QuicLimits

__all__ = ["WebTransportConfig"]


@attrs.frozen(kw_only=True)
class WebTransportConfig:
    """Limits and timeouts of both sides.

    Attributes:
      quic: of each QUIC connection: windows, numbers of streams, send buffers, its idle timeout.
      limits: of each connection above QUIC: sessions, requests, what comes early.
      endpoint: of each UDP socket: connections, handshakes, address validation.
      max_sessions: sessions of a server at once, over all its connections; one more is answered with 429.
      max_received_datagrams: datagrams of one session that wait to be received; one more drops the oldest.
      max_received_datagram_bytes: their payloads, together.
      max_received_datagram_age: seconds after which one that waits is dropped; None for never.
      keep_alive_interval: seconds of silence after which the peer is made to answer, while there are sessions or requests; less
        than half of what either side takes for the end. None for never.
      handshake_timeout: seconds for a client's connection, and again for the server's answer to its request.
      close_timeout: seconds for each step of a goodbye: for what was ended to be delivered, and for the peer to agree.
      admit_timeout: seconds that a server's `admit` may take.
      drain_timeout: seconds that a server's sessions get to end by themselves once a drain has begun.
    """

    quic: QuicLimits = attrs.field(factory=QuicLimits)
    limits: WebTransportLimits = attrs.field(factory=WebTransportLimits)
    endpoint: EndpointConfig = attrs.field(factory=EndpointConfig)
    max_sessions: int = attrs.field(default=10_000, validator=positive)
    max_received_datagrams: int = attrs.field(default=256, validator=positive)
    max_received_datagram_bytes: int = attrs.field(default=262_144, validator=positive)
    max_received_datagram_age: float | None = attrs.field(default=None, validator=positive)
    keep_alive_interval: float | None = attrs.field(default=14.0, validator=positive)
    handshake_timeout: float = attrs.field(default=10.0, validator=positive)
    close_timeout: float = attrs.field(default=2.0, validator=positive)
    admit_timeout: float = attrs.field(default=10.0, validator=positive)
    drain_timeout: float = attrs.field(default=30.0, validator=positive)
