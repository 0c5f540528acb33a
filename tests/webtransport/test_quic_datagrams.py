"""Datagrams: refused if too large, bounded where they wait, dropped when they are old."""

from __future__ import annotations

import pytest

from tests.webtransport.quic_pair import Pair, unsteady
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_datagrams import ArrivedDatagrams, DatagramQueue
from trio_streams.webtransport.quic_events import DatagramsReceived

SMALL = QuicLimits(max_queued_datagrams=10, max_queued_datagram_bytes=5_000, max_datagram_age=0.5)


def _pair(limits: QuicLimits = SMALL) -> Pair:
    pair = Pair(limits)
    pair.shake_hands()
    return pair


def test_the_largest_datagram_passes_and_a_larger_one_is_refused() -> None:
    """What `max_datagram_size` says fits a packet, one byte more is an error with both numbers, and later ones still pass."""
    pair = _pair()
    quic = pair.client.quic
    size = quic.max_datagram_size
    assert size is not None
    with pytest.raises(LocalProtocolError, match="max_datagram_size") as caught:
        quic.send_datagram(bytes(size + 1), pair.now)
    assert (caught.value.size, caught.value.limit) == (size + 1, size)
    quic.send_datagram(bytes(size), pair.now)
    quic.send_datagram(b"", pair.now)
    quic.send_datagram(b"later", pair.now)
    pair.run_for(1)
    assert pair.server.datagrams == [bytes(size), b"", b"later"]
    assert quic._connection.packet_bytes - size < 40


def test_one_that_no_longer_fits_blocks_nothing() -> None:
    """A datagram that the peer's new connection id leaves no room for is dropped, and those behind it are sent."""
    pair = _pair()
    quic = pair.client.quic
    quic._connection.datagrams.push(bytes(1_500), pair.now)
    quic.send_datagram(b"behind", pair.now)
    pair.run_for(1)
    assert pair.server.datagrams == [b"behind"]
    assert quic.dropped_datagrams == (1, 0)


def test_a_flood_at_the_sender_keeps_the_newest() -> None:
    """Of a thousand datagrams in one moment the last ten are sent, and the others are counted."""
    pair = _pair()
    for number in range(1_000):
        pair.client.quic.send_datagram(b"%d" % number, pair.now)
    assert len(pair.client.quic._connection.datagrams) == 10
    pair.run_for(1)
    assert pair.server.datagrams == [b"%d" % number for number in range(990, 1_000)]
    assert pair.client.quic.dropped_datagrams == (990, 0)


def test_a_flood_at_the_receiver_keeps_the_newest() -> None:
    """A receiver that takes no events holds ten datagrams at most, and counts those that it dropped."""
    pair = _pair()
    client, server = pair.client.quic, pair.server.quic
    for number in range(100):
        client.send_datagram(b"%d" % number, pair.now)
        for data, _ in client.datagrams_to_send(pair.now):
            server.receive(data, ("192.0.2.1", 40_000), pair.now)
        for data, _ in server.datagrams_to_send(pair.now):
            client.receive(data, ("192.0.2.2", 443), pair.now)
        pair.now += 0.01
    pair.server.take_events()
    assert pair.server.datagrams == [b"%d" % number for number in range(90, 100)]
    assert server.dropped_datagrams == (0, 90)


def test_an_old_datagram_is_not_sent() -> None:
    """What waited longer than `max_datagram_age` is dropped, and what did not is sent."""
    pair = _pair()
    pair.client.quic.send_datagram(b"old", pair.now)
    pair.now += 0.3
    pair.client.quic.send_datagram(b"young", pair.now)
    pair.now += 0.3
    pair.run_for(1)
    assert pair.server.datagrams == [b"young"]


def test_a_queue_is_bounded_in_bytes() -> None:
    """The oldest go until the bytes fit, and the count of bytes stays true."""
    queue = DatagramQueue(max_items=100, max_bytes=100)
    for size in (60, 30, 20, 5):
        queue.push(bytes(size), 0.0)
    assert [len(data) for data in queue] == [30, 20, 5]
    assert (queue.queued_bytes, queue.dropped_items) == (55, 1)
    assert [len(data) for data in queue.take_run(50)] == [30, 20]
    queue.push(b"old", 0.0)
    queue.drop_older_than(1.0)
    assert (len(queue), queue.queued_bytes, queue.dropped_items) == (0, 0, 3)


def test_datagrams_that_arrive_are_told_together() -> None:
    """What came since the events were last taken is one event, in order, and those that others pushed out are not in it."""
    pair = _pair()
    for number in range(8):
        pair.client.quic.send_datagram(b"%d" % number, pair.now)
    pair.flush()
    pair.run_for(0.1)
    told = [event for event in pair.server.events if isinstance(event, DatagramsReceived)]
    assert told == [DatagramsReceived([b"%d" % number for number in range(8)])]


def test_what_arrived_is_bounded_in_bytes() -> None:
    """The oldest make room, and one that is larger than all that may wait is dropped itself."""
    arrived = ArrivedDatagrams(max_items=4, max_bytes=100)
    arrived.push_run([bytes(60), bytes(30)])
    arrived.push_run([bytes(20), bytes(101), bytes(5), b"", b"last"])
    assert (len(arrived), arrived.dropped_items) == (3, 4)
    assert arrived.take_run() == [bytes(5), b"", b"last"]
    assert arrived.take_run() == []
    arrived.push_run([b"%d" % number for number in range(9)])
    assert (arrived.take_run(), arrived.dropped_items) == ([b"5", b"6", b"7", b"8"], 9)


def test_the_largest_size_follows_the_packets() -> None:
    """It is what the connection says at any moment: nothing before the handshake, and more once packets have grown."""
    pair = Pair(QuicLimits(max_packet_bytes=1_452))
    sides = pair.client.quic, pair.server.quic
    seen = {quic.max_datagram_size for quic in sides}
    while pair.now < 1_001 and pair.step(1_001):
        assert [quic.max_datagram_size for quic in sides] == [quic._connection.max_datagram_bytes for quic in sides]
        seen |= {quic.max_datagram_size for quic in sides}
    after = pair.client.quic.max_datagram_size
    assert after is not None
    assert {None, after, after - (1_452 - 1_200)} == seen
    pair.client.quic.send_datagram(bytes(after), pair.now)
    pair.run_for(1)
    assert pair.server.datagrams == [bytes(after)]


def test_a_flood_lets_streams_through() -> None:
    """While a hundred datagrams a moment are sent over a link that loses some, a stream still gets through."""
    pair = Pair(SMALL, link=unsteady(7, 0.05))
    pair.shake_hands()
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, bytes(100_000))

    def flood() -> bool:
        for _ in range(100):
            pair.client.quic.send_datagram(bytes(400), pair.now)
        return stream_id in pair.server.ended

    pair.run_until(flood)
    assert len(pair.server.received[stream_id]) == 100_000
    assert len(pair.server.datagrams) > 100
