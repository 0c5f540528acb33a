"""What asks for a flush: bytes, ends and limits that are due, and nothing that the peer need not hear of."""

from __future__ import annotations

from typing import Final

from tests.webtransport.quic_pair import Pair
from trio_streams.webtransport.quic_config import QuicLimits

WINDOW: Final = 16_384
SMALL: Final = QuicLimits(window_bytes=WINDOW, connection_window_bytes=4 * WINDOW)
DATA: Final = bytes(WINDOW)


def _pair(limits: QuicLimits = SMALL) -> Pair:
    pair = Pair(limits)
    pair.shake_hands()
    return pair


def _never(stream_id: int) -> bool:
    return False


def test_whether_the_next_flush_says_something_is_known_before() -> None:
    """Bytes, ends, resets and limits that are due ask for a flush; what was read without a limit being due does not."""
    pair = _pair()
    server = pair.server.quic
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream()
    assert not pair.client.quic.wants_flush
    pair.client.quic.send(stream_id, DATA[: WINDOW // 2])
    assert pair.client.quic.wants_flush
    pair.run_for(5)
    assert not pair.client.quic.wants_flush
    assert not server.wants_flush
    server.consumed(stream_id, WINDOW // 2 - 1)
    assert not server.wants_flush
    server.consumed(stream_id, 1)
    assert server.wants_flush
    pair.run_for(5)
    assert not server.wants_flush
    server.end(stream_id)
    assert server.wants_flush
    pair.run_for(5)
    assert not server.wants_flush


def test_credit_of_the_connection_asks_for_a_flush() -> None:
    """Half of the connection's window, read from streams of which each is far from its own limit."""
    pair = _pair(QuicLimits(window_bytes=3 * WINDOW, connection_window_bytes=4 * WINDOW))
    pair.server.reads = _never
    streams = [pair.client.quic.open_stream() for _ in range(3)]
    for stream_id in streams:
        pair.client.write(stream_id, DATA[:WINDOW])
    pair.run_for(5)
    for stream_id in streams[:2]:
        assert not pair.server.quic.wants_flush
        pair.server.quic.consumed(stream_id, WINDOW)
    assert pair.server.quic.wants_flush
    pair.run_for(5)
    assert not pair.server.quic.wants_flush


def test_places_for_streams_ask_for_a_flush() -> None:
    """Once those that are over grant the peer more streams than it has left."""
    pair = _pair(QuicLimits(max_bidirectional_streams=4))
    for stream_id in (pair.client.quic.open_stream() for _ in range(4)):
        pair.client.write(stream_id, b"x")
        pair.run_until(lambda found=stream_id: found in pair.server.ended)  # type: ignore[misc]
        pair.server.quic.end(stream_id)
    pair.run_for(5)
    for left in (3, 2, 1, 0):
        assert pair.server.quic.wants_flush == (left < 3)
        pair.server.quic.release(left * 4)
    pair.run_for(5)
    assert not pair.server.quic.wants_flush
    assert pair.client.quic.streams_available() == 4


def test_a_packet_that_is_full_of_resets_and_stops_does_not_end_the_flush() -> None:
    """Four hundred streams are given up: all that leaves at once, as far as the congestion window goes."""
    pair = _pair(QuicLimits())
    pair.server.reads = _never
    streams = [pair.client.quic.open_stream() for _ in range(400)]
    for stream_id in streams:
        pair.client.quic.send(stream_id, b"x")
        pair.run_for(0.02)
    pair.run_for(3)
    for stream_id in streams:
        pair.server.quic.send(stream_id, b"x")
    pair.run_for(3)
    for stream_id in streams:
        pair.server.quic.reset(stream_id, 1)
        pair.server.quic.stop(stream_id, 1)
    assert len(pair.server.quic.datagrams_to_send(pair.now)) > 1
    assert not pair.server.quic.wants_flush


def test_a_packet_that_is_full_of_limits_does_not_end_the_flush() -> None:
    """Three hundred limits are due, and an answer behind them: it leaves with the same flush."""
    pair = _pair(QuicLimits(window_bytes=2_048))
    pair.server.reads = _never
    streams = [pair.client.quic.open_stream() for _ in range(300)]
    for stream_id in streams:
        pair.client.quic.send(stream_id, DATA[:2_048])
        pair.run_for(0.02)
    pair.run_for(20)
    for stream_id in streams:
        pair.server.quic.consumed(stream_id, 2_048)
    pair.server.quic.send(streams[0], b"an answer")
    assert len(pair.server.quic.datagrams_to_send(pair.now)) > 1
    assert not pair.server.quic.wants_flush
    assert pair.server.quic.unsent_bytes(streams[0]) == 0
