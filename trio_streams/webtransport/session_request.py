"""What a session was asked for."""

from __future__ import annotations

import attrs

from trio_streams.webtransport.protocol.requests import ConnectRequest

__all__ = ["SessionRequest"]


@attrs.frozen(kw_only=True)
class SessionRequest(ConnectRequest):
    """What a client asks for.

    Attributes:
      peer: where it is, for people.
    """

    peer: str = ""
