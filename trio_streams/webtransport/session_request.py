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

    @classmethod
    def of(cls, request: ConnectRequest, peer: str) -> SessionRequest:
        """A request, and who asks."""
        return cls(
            authority=request.authority,
            path=request.path,
            origin=request.origin,
            protocols=request.protocols,
            headers=request.headers,
            peer=peer,
        )
