"""What one connection of WebTransport may hold for a peer, whatever that peer does.

| what a peer can make us hold | limit |
|---|---|
| sessions, open or asked for | `max_sessions` |
| CONNECT requests that come before its SETTINGS, and DATA behind them | `max_waiting_sessions`, `session.max_waiting_capsule_bytes` |
| requests that are no sessions | `max_requests` |
| streams, of either kind | `QuicLimits.max_bidirectional_streams`, `max_unidirectional_streams` |
| streams whose header does not end | `max_unnamed_streams`, `header_timeout` |
| streams and datagrams of sessions that are not there yet | `early` |
| bytes that nobody reads | `QuicLimits.window_bytes`, `connection_window_bytes`, and `session.limits` |
| bytes that it does not let us send | `QuicLimits.max_send_buffer_bytes`, `max_connection_send_buffer_bytes` |
| datagrams that we cannot send | `QuicLimits.max_queued_datagrams`, `max_queued_datagram_bytes`, `max_datagram_age` |
| capsules | `session.max_skipped_capsule_bytes`; known ones are short |
| sessions that it does not end | `session.close_timeout` |
| ids of sessions that are over | `max_remembered_sessions` |
| a connection without SETTINGS | `settings_timeout` |
| field sections and frames of HTTP/3 | `Http3Config` |
"""

from __future__ import annotations

from typing import Final

import attrs

from trio_streams.config import at_least, positive
from trio_streams.webtransport.protocol.early import EarlyLimits
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.session_config import SessionConfig
from trio_streams.webtransport.protocol.settings import SessionLimits

__all__ = ["WebTransportLimits"]


# Some peers open no stream where these are 0. The window is that of a whole connection: QUIC's is the one that binds.
_SESSION: Final = SessionConfig(
    limits=SessionLimits(window_bytes=16_777_216, max_bidirectional_streams=1_024, max_unidirectional_streams=1_024)
)


@attrs.frozen(kw_only=True)
class WebTransportLimits:
    """Limits of one connection, above those of QUIC.

    Attributes:
      max_sessions: sessions that are open or asked for at once; one more is answered with 429.
      max_waiting_sessions: requests for sessions that wait for the peer's SETTINGS; one more is rejected.
      max_requests: plain requests at once; one more is rejected, and may be tried again.
      max_unnamed_streams: streams of the peer whose header is incomplete; one more is refused.
      header_timeout: seconds for a stream's header.
      settings_timeout: seconds for the peer's SETTINGS after the handshake.
      max_remembered_sessions: ids of sessions that are over, so that what comes late for them need not wait.
      early: what may wait for sessions that are not there yet.
      session: of each session. Its `limits` are sent to the peer, and count if the peer sends some, too.
      http3: of HTTP/3.
    """

    max_sessions: int = attrs.field(default=64, validator=at_least(1))
    max_waiting_sessions: int = attrs.field(default=16, validator=at_least(0))
    max_requests: int = attrs.field(default=256, validator=at_least(0))
    max_unnamed_streams: int = attrs.field(default=64, validator=at_least(1))
    header_timeout: float = attrs.field(default=10.0, validator=positive)
    settings_timeout: float = attrs.field(default=10.0, validator=positive)
    max_remembered_sessions: int = attrs.field(default=256, validator=at_least(0))
    early: EarlyLimits = attrs.field(factory=EarlyLimits)
    session: SessionConfig = attrs.field(default=_SESSION)
    http3: Http3Config = attrs.field(factory=Http3Config)
