"""How connections end, in virtual time: said, unsaid, and before they have begun."""

from __future__ import annotations

from typing import Final

import pytest

from tests.webtransport.quic_pair import LOST, Pair, certificate
from trio_streams.webtransport import quic_events as happened
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits, server_configuration

LIMITS: Final = QuicLimits(window_bytes=16_384, connection_window_bytes=65_536)


def _pair(limits: QuicLimits = LIMITS) -> Pair:
    pair = Pair(limits)
    pair.shake_hands()
    return pair


def test_closing_tells_the_peer_why() -> None:
    """Both sides end with the code and the reason, which is cut at a character."""
    pair = _pair()
    pair.client.quic.close(256, "é" * 2_000)
    pair.run_until(lambda: bool(pair.client.terminated and pair.server.terminated))
    assert pair.server.terminated == happened.ConnectionTerminated(256, "é" * 256, True, False)
    assert pair.client.terminated == pair.server.terminated
    assert pair.client.quic.next_deadline() is None
    assert pair.client.quic.datagrams_to_send(pair.now) == []
    pair.client.quic.handle_deadline(pair.now)


def test_a_peer_that_closes_is_heard_at_once() -> None:
    """Once, and one way of the link later; who closes waits until its peer can have heard."""
    pair = _pair()
    now = pair.now
    pair.client.quic.close(256, "bye")
    pair.run_until(lambda: bool(pair.server.terminated))
    assert pair.now - now == pytest.approx(0.01, abs=0.002)
    assert not pair.client.terminated
    pair.run_until(lambda: bool(pair.client.terminated))
    pair.run_until(lambda: pair.server.quic.next_deadline() is None)
    ends = [event for event in pair.server.events if isinstance(event, happened.ConnectionTerminated)]
    assert ends == [happened.ConnectionTerminated(256, "bye", True, False)]


def test_a_peer_that_vanished_is_noticed() -> None:
    """Silence ends the connection after its idle timeout, and says that it was that."""
    pair = _pair(QuicLimits(idle_timeout=5))
    pair.client.quic.send(pair.client.quic.open_stream(), b"x")
    pair.flush()
    pair.link = lambda: LOST
    start = pair.now
    pair.run_until(lambda: pair.client.terminated is not None)
    assert pair.client.terminated is not None
    assert pair.client.terminated.is_timeout
    assert 4 < pair.now - start < 11


def test_before_the_handshake_there_is_nothing_to_do() -> None:
    """A server that has heard nothing has nothing to send and no deadline."""
    chain, key, _ = certificate()
    configuration = server_configuration(LIMITS, certificate_file=chain, key_file=key)
    quic = Quic(configuration, LIMITS, original_destination_connection_id=bytes(8))
    assert quic.datagrams_to_send(0.0) == []
    assert quic.next_deadline() is None
    assert list(quic.events()) == []
    assert quic.streams_available() == 0
    assert quic.max_datagram_size is None
