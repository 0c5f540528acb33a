"""Packets grow where the path lets them, and what is lost on the way up costs nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import pytest
from aioquic.quic.recovery import QuicPacketPacer

from tests.webtransport.quic_pair import LOSSLESS, LOST, Fate, Pair, Side
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_pacer import BurstPacer
from trio_streams.webtransport.quic_packet_size import PacketSizeSearch

DATA: Final = bytes(range(250)) * 1_200
NETWORKS: Final = {9_000: 1_452, 1_452: 1_452, 1_451: 1_372, 1_300: 1_232, 1_231: 1_200, 1_200: 1_200}
"""What a path carries, and what is found."""


# The search


def test_it_begins_small_and_takes_what_arrives() -> None:
    """The largest size is probed first, one probe at a time, and nothing more once it arrived."""
    search = PacketSizeSearch(1_452)
    assert search.size_bytes == 1_200
    assert search.next_probe() == 1_452
    assert search.next_probe() is None
    search.on_acknowledged(1_452)
    assert search.size_bytes == 1_452
    assert search.next_probe() is None


@pytest.mark.parametrize(("carried", "found"), NETWORKS.items())
def test_it_finds_what_passes(carried: int, found: int) -> None:
    """Each size is tried three times before the next smaller one, and the search ends."""
    search = PacketSizeSearch(1_452)
    probes = []
    while (size := search.next_probe()) is not None:
        probes.append(size)
        (search.on_acknowledged if size <= carried else search.on_lost)(size)
    assert search.size_bytes == found
    assert len(probes) <= 9
    assert probes == sorted(probes, reverse=True)


def test_a_late_word_of_an_older_probe_means_nothing() -> None:
    """What is said of a size that is not being probed changes nothing."""
    search = PacketSizeSearch(1_452)
    search.on_lost(1_452)
    search.on_acknowledged(1_452)
    assert search.next_probe() == 1_452
    search.restart()
    search.on_acknowledged(1_452)
    assert search.size_bytes == 1_200


@pytest.mark.parametrize(("limit", "probes"), [(1_200, []), (1_210, [1_210]), (1_300, [1_300, 1_232])])
def test_a_peer_that_takes_less_is_heard(limit: int, probes: Sequence[int]) -> None:
    """Nothing above the peer's `max_udp_payload_size` is tried."""
    search = PacketSizeSearch(1_452)
    search.limit(limit)
    found = []
    while (size := search.next_probe()) is not None:
        search.on_lost(size)
        found.append(size)
    assert list(dict.fromkeys(found)) == probes


# The connection


class _Narrow(Pair):
    """A pair whose link carries datagrams up to a size.

    Attributes:
      carried: that size.
    """

    carried = 9_000

    def _put(self, datagrams: list[tuple[bytes, object]], to: Side) -> None:
        super()._put([(data, addr) for data, addr in datagrams if len(data) <= self.carried], to)


def _pair(carried: int, **options: Any) -> _Narrow:
    pair = _Narrow(**options)
    pair.carried = carried
    pair.shake_hands()
    return pair


def _sizes(pair: _Narrow) -> tuple[int, int]:
    return pair.client.quic._connection.packet_bytes, pair.server.quic._connection.packet_bytes


def _send(pair: _Narrow, data: bytes = DATA) -> float:
    """Send something from the client, and wait for all of it; seconds."""
    began = pair.now
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, data)
    pair.run_until(lambda: stream_id in pair.server.ended)
    assert pair.server.received[stream_id] == data
    return pair.now - began


@pytest.mark.parametrize(("carried", "found"), NETWORKS.items())
def test_both_sides_find_what_their_path_carries(carried: int, found: int) -> None:
    """After some traffic packets are as large as the path lets them be, on both sides, and every byte arrives."""
    pair = _pair(carried)
    for _ in range(60):
        for side in (pair.client, pair.server):
            side.quic.send_datagram(b"x", pair.now)
        pair.run_for(0.2)
    assert _sizes(pair) == (found, found)
    _send(pair)


def test_no_packet_is_larger_than_its_path_but_the_probes() -> None:
    """On a path that carries 1,200 bytes, three probes of each size are all that is lost of a transfer."""
    pair = _pair(1_200)
    for _ in range(3):
        _send(pair)
    connection = pair.client.quic._connection
    assert connection.packet_bytes == 1_200
    assert connection.packet_size.next_probe() is None


def test_a_probe_that_is_lost_costs_nothing() -> None:
    """A transfer over a path that swallows every probe takes as long as one without probes, with the same window."""
    probing = _pair(1_200)
    silent = _pair(1_200, client_limits=QuicLimits(max_packet_bytes=1_200))
    assert _send(probing) == pytest.approx(_send(silent), rel=0.02)
    windows = [pair.client.quic._connection._loss.congestion_window for pair in (probing, silent)]
    assert windows[0] == pytest.approx(windows[1], rel=0.02)
    assert probing.client.quic._connection._loss._pto_count == 0


def test_a_probe_alone_sets_no_timer() -> None:
    """After the handshake a lost probe leaves nothing to wait for but the idle timeout."""
    pair = _pair(1_200)
    pair.run_for(5)
    deadline = pair.client.quic.next_deadline()
    assert deadline is not None
    assert deadline - pair.now > 30


def test_a_path_that_narrows_is_noticed() -> None:
    """When large packets begin to vanish, the connection goes back to 1,200 bytes within a few timeouts, and finds the new size."""
    pair = _pair(9_000)
    _send(pair)
    assert _sizes(pair) == (1_452, 1_452)
    pair.carried = 1_300
    assert _send(pair) < 10
    for _ in range(5):
        _send(pair)
        pair.run_for(1)
    assert _sizes(pair)[0] == 1_232


def test_probes_get_through_a_lossy_path() -> None:
    """On a path that loses one datagram in five the size is found all the same, in nineteen of twenty cases."""
    found = 0
    for seed in range(20):
        rng = random.Random(seed)

        def fate(rng: random.Random = rng) -> Fate:
            return LOST if rng.random() < 0.2 else LOSSLESS

        pair = _pair(9_000, link=fate)
        _send(pair, DATA[:100_000])
        found += _sizes(pair)[0] == 1_452
    assert found >= 19


def test_a_size_is_a_paths() -> None:
    """A client whose address changed is sent small packets until the new path was probed."""
    pair = _pair(9_000)
    _send(pair)
    server = pair.server.quic
    assert server._connection.packet_bytes == 1_452
    pair.client.quic._connection.change_connection_id()
    pair.client.write(pair.client.quic.open_stream(), b"from elsewhere")
    for data, _ in pair.client.quic.datagrams_to_send(pair.now):
        server.receive(data, ("192.0.2.99", 1_234), pair.now)
    sent = server.datagrams_to_send(pair.now)
    assert sent
    assert {addr for _, addr in sent} >= {("192.0.2.99", 1_234)}
    assert max(len(data) for data, _ in sent) <= 1_200
    assert server._connection.packet_bytes == 1_200


def test_a_peer_that_takes_less_is_never_sent_more() -> None:
    """A `max_udp_payload_size` of the peer's ends the search there."""
    pair = Pair()
    pair.client.quic._connection.packet_size.limit(1_250)
    pair.shake_hands()
    _send_on = pair.client.quic.open_stream()
    pair.client.write(_send_on, DATA)
    pair.run_until(lambda: _send_on in pair.server.ended)
    assert pair.client.quic._connection.packet_bytes == 1_250


# Pacing


def test_what_half_a_millisecond_lets_through_leaves_at_once() -> None:
    """At 120 MB/s a burst has 64 packets where stock's has 16, the next one is due half a millisecond later, and the rate is kept."""
    ours, stock = BurstPacer(max_datagram_size=1_200), QuicPacketPacer(max_datagram_size=1_200)
    bursts = []
    for pacer in (ours, stock):
        pacer.update_rate(congestion_window=1_200_000, smoothed_rtt=0.01)
        bursts.append(_burst(pacer, 1.0))
    assert bursts == [64, 17]
    assert ours.next_send_time(1.0) == pytest.approx(1.0 + 0.0005)
    sent = sum(_burst(ours, 1.0 + number * 0.0005) for number in range(1, 201))
    assert sent == pytest.approx(0.1 * 1_200_000 / 0.01 / 1_200, rel=0.02)


def _burst(pacer: QuicPacketPacer, now: float) -> int:
    count = 0
    while pacer.next_send_time(now) is None:
        pacer.update_after_send(now)
        count += 1
    return count


def test_a_slow_connection_is_paced_packet_by_packet() -> None:
    """At 120 KB/s a packet takes ten milliseconds, and the next one is due then."""
    pacer = BurstPacer(max_datagram_size=1_200)
    pacer.update_rate(congestion_window=12_000, smoothed_rtt=0.1)
    assert _burst(pacer, 1.0) <= 3
    assert pacer.next_send_time(1.0) == pytest.approx(1.01)


def test_larger_packets_take_more_time() -> None:
    """The rate is one of bytes: when packets grow, each counts for more."""
    pacer = BurstPacer(max_datagram_size=1_200)
    pacer.resize(2_400)
    pacer.update_rate(congestion_window=12_000, smoothed_rtt=0.1)
    assert pacer.packet_time == pytest.approx(0.02)


def test_before_the_first_round_trip_nothing_is_held_back() -> None:
    """Without a rate there is no pacing."""
    assert BurstPacer(max_datagram_size=1_200).next_send_time(1.0) is None
