"""What one session may hold, and how long its end may take."""

from __future__ import annotations

import attrs

from trio_streams.config import positive
from trio_streams.webtransport.protocol.settings import SessionLimits

__all__ = ["SessionConfig"]


@attrs.frozen(kw_only=True)
class SessionConfig:
    """Limits and timeouts of one session.

    Attributes:
      limits: what the peer may do where both sides ask for flow control of sessions.
      max_waiting_capsule_bytes: what waits on the CONNECT stream before the session is accepted.
      max_skipped_capsule_bytes: the longest capsule of an unknown type that is skipped.
      close_timeout: seconds for the peer to end the CONNECT stream, too.
    """

    limits: SessionLimits = attrs.field(factory=SessionLimits)
    max_waiting_capsule_bytes: int = attrs.field(default=16_384, validator=positive)
    max_skipped_capsule_bytes: int = attrs.field(default=65_536, validator=positive)
    close_timeout: float = attrs.field(default=2.0, validator=positive)
