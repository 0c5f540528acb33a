"""What tests of sessions do with all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from tests.webtransport.link_pair import SMALL, LinkPair
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_offer import SessionOffer

__all__ = ["FEW", "serve_all", "uses_of"]

FEW: Final = attrs.evolve(
    SMALL, quic=attrs.evolve(SMALL.quic, max_bidirectional_streams=3, max_unidirectional_streams=5)
)
"""Two streams of each kind beside CONNECT's and HTTP/3's."""


def uses_of(session: WebTransportSession) -> list[Callable[[], Awaitable[object]]]:
    """Whatever can be done with a session."""

    async def send() -> None:
        session.send_datagram(b"x")

    async def drain() -> None:
        session.drain()

    return [
        session.create_bidirectional_stream,
        session.create_unidirectional_stream,
        session.accept_bidirectional_stream,
        session.accept_unidirectional_stream,
        lambda: anext(session.incoming_streams()),
        session.receive_datagram,
        lambda: anext(session.datagrams()),
        send,
        drain,
    ]


def serve_all(pair: LinkPair) -> list[WebTransportSession]:
    """Accept every session; the sessions are nobody's."""
    sessions: list[WebTransportSession] = []

    def accept(offer: SessionOffer) -> None:
        session = offer.accept()
        assert session is not None
        sessions.append(session)

    pair.server.on_session = accept
    return sessions
