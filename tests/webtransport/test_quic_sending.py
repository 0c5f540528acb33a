"""Our halves over a link: room, turns, what was delivered, and what waits for a whole connection."""

from __future__ import annotations

from typing import Final

import pytest

from tests.webtransport.quic_pair import LOST, Pair, Side
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events as happened
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_datagrams import DatagramQueue

DATA: Final = bytes(range(251)) * 2_000
SMALL: Final = QuicLimits(
    window_bytes=16_384,
    connection_window_bytes=65_536,
    max_send_buffer_bytes=8_192,
    send_low_mark_bytes=2_048,
    max_connection_send_buffer_bytes=32_768,
)


@pytest.fixture
def pair() -> Pair:
    """Two connections that have shaken hands, with small limits."""
    pair = Pair(SMALL)
    pair.shake_hands()
    return pair


def _found(side: Side, kind: type[happened.Event]) -> list[happened.Event]:
    return [event for event in side.events if isinstance(event, kind)]


def test_room_is_what_send_takes(pair: Pair) -> None:
    """Before, between and at the end, when there is none."""
    quic = pair.client.quic
    stream_id = quic.open_stream()
    assert quic.send_room(stream_id) == 8_192
    assert quic.send(stream_id, bytes(5_000)) == 5_000
    assert quic.send_room(stream_id) == 3_192
    assert quic.send(stream_id, bytes(5_000)) == 3_192
    quic.reset(stream_id, 0)
    assert quic.send_room(stream_id) == 0
    with pytest.raises(LocalProtocolError, match="was reset"):
        quic.want_room(stream_id)


def test_who_wants_room_hears_of_it(pair: Pair) -> None:
    """Once there is, as if bytes had been refused; at the next flush if there is some now."""
    quic = pair.client.quic
    stream_id = quic.open_stream()
    quic.want_room(stream_id)
    pair.flush()
    pair.flush()
    assert pair.client.writable == [stream_id]
    quic.send(stream_id, bytes(8_192))
    quic.want_room(stream_id)
    pair.run_for(1)
    assert pair.client.writable == [stream_id, stream_id]


def test_a_delivery_is_told_when_the_peer_has_all(pair: Pair) -> None:
    """Not while the end is under way, once, and not of a stream that was released, or reset."""
    quic = pair.client.quic
    streams = [quic.open_stream() for _ in range(3)]
    for stream_id in streams:
        quic.send(stream_id, b"abc")
        quic.end(stream_id)
    assert quic.unacknowledged_bytes(streams[0]) == 3
    quic.release(streams[1])
    quic.reset(streams[2], 1)
    assert quic.unacknowledged_bytes(streams[2]) == 0
    pair.flush()
    assert _found(pair.client, happened.Delivered) == []
    pair.run_for(1)
    assert _found(pair.client, happened.Delivered) == [happened.Delivered(streams[0])]
    assert quic.unacknowledged_bytes(streams[0]) == 0
    assert quic.sent_bytes(streams[0]) == 3


def test_a_delivery_waits_for_what_was_lost(pair: Pair) -> None:
    """A peer that heard nothing has nothing."""
    quic = pair.client.quic
    link, pair.link = pair.link, lambda: LOST
    stream_id = quic.open_stream()
    quic.send(stream_id, b"abc")
    quic.end(stream_id)
    pair.run_for(0.2)
    assert _found(pair.client, happened.Delivered) == []
    pair.link = link
    pair.run_for(5)
    assert _found(pair.client, happened.Delivered) == [happened.Delivered(stream_id)]


def test_a_reset_that_waits_says_when_it_leaves(pair: Pair) -> None:
    """And one that need not is over at once."""
    quic = pair.client.quic
    first, second = quic.open_stream(), quic.open_stream()
    quic.send(first, bytes(100))
    assert not quic.reset(first, 1, after_bytes=10)
    assert not quic.reset(first, 1)
    assert quic.reset(second, 1)
    assert quic.reset(second, 1)
    pair.run_for(1)
    assert _found(pair.client, happened.ResetSent) == [happened.ResetSent(first)]
    assert quic._waiting_bytes == 0
    assert _found(pair.server, happened.StreamReset)[-1] == happened.StreamReset(first, 1, quic.sent_bytes(first))


def test_what_comes_on_a_stopped_half_is_told_as_a_number(pair: Pair) -> None:
    """Up to its final size, when it is over; the end too, if it had arrived and nobody was told."""
    client, server = pair.client.quic, pair.server.quic
    first, second = client.open_stream(), client.open_stream()
    client.send(first, bytes(100))
    client.send(second, b"abc")
    pair.run_for(0.2)
    server.stop(first, 7)
    client.send(first, bytes(50))
    pair.run_for(0.5)
    told = _found(pair.server, happened.Discarded)
    assert told[-1] == happened.Discarded(first, client.sent_bytes(first), is_ended=True)
    client.end(second)
    for data, _ in client.datagrams_to_send(pair.now):
        server.receive(data, ("192.0.2.1", 40_000), pair.now)
    server.stop(second, 7)
    pair.flush()
    assert _found(pair.server, happened.Discarded)[-1] == happened.Discarded(second, 3, is_ended=True)


def test_all_streams_together_are_bounded(pair: Pair) -> None:
    """Streams that nobody reads share what the connection may hold, and each may always have a little."""
    pair.server.reads = lambda stream_id: False
    quic = pair.client.quic
    streams = [quic.open_stream(unidirectional=True) for _ in range(40)]
    for _ in range(5):
        for stream_id in streams:
            quic.send(stream_id, DATA)
        pair.run_for(0.5)
    unsent = [quic.unsent_bytes(stream_id) for stream_id in streams]
    assert sum(unsent) == quic._unsent_bytes
    assert sum(unsent) <= SMALL.max_connection_send_buffer_bytes + 40 * 4_096
    assert max(unsent) <= 8_192
    assert min(unsent) >= 4_096


def test_streams_that_nobody_reads_do_not_shut_out_another() -> None:
    """One whose reader reads still gets through, whole."""
    pair = Pair(SMALL)
    pair.shake_hands()
    unread = [pair.client.quic.open_stream(unidirectional=True) for _ in range(3)]
    pair.server.reads = lambda stream_id: stream_id not in unread
    for stream_id in unread:
        pair.client.write(stream_id, DATA)
    pair.run_for(2)
    busy = pair.client.quic.open_stream()
    pair.client.write(busy, DATA)
    pair.run_until(lambda: busy in pair.server.ended)
    assert pair.server.received[busy] == DATA


def test_groups_share_a_link_by_bytes() -> None:
    """Ten streams of one group and one of another, both with much to send, are served alike."""
    pair = Pair(QuicLimits(max_send_buffer_bytes=524_288, max_connection_send_buffer_bytes=16_777_216))
    pair.shake_hands()
    quic = pair.client.quic
    many = [quic.open_stream() for _ in range(10)]
    one = quic.open_stream()
    for stream_id in many:
        quic.set_priority(stream_id, 5, group=1)
        pair.client.write(stream_id, DATA)
    quic.set_priority(one, 0, group=2)
    pair.client.write(one, DATA)
    pair.run_until(lambda: len(pair.server.received.get(one, b"")) > 100_000)
    others = sum(len(pair.server.received.get(stream_id, b"")) for stream_id in many)
    assert 0.7 < others / len(pair.server.received[one]) < 1.4
    assert quic.round_trip == pytest.approx(0.02, abs=0.02)


def test_a_waiting_stream_changes_its_place() -> None:
    """A priority that is raised, or urgency that is given, holds from the next turn on."""
    pair = Pair(QuicLimits(max_send_buffer_bytes=1_048_576, max_connection_send_buffer_bytes=16_777_216))
    pair.shake_hands()
    quic = pair.client.quic
    low, high = quic.open_stream(), quic.open_stream()
    for stream_id in (low, high):
        pair.client.write(stream_id, DATA)
    quic.set_priority(high, 0, is_urgent=True)
    pair.run_until(lambda: high in pair.server.ended)
    assert len(pair.server.received.get(low, b"")) < len(DATA) // 4


def test_datagrams_of_groups_take_turns() -> None:
    """Whoever sends least is not behind a flood, and the flood alone loses its oldest."""
    queue = DatagramQueue(max_items=10, max_bytes=1_000)
    for number in range(50):
        queue.push(b"a%d" % number, 0.0, group=1)
    queue.push(b"b", 0.0, group=2)
    assert (len(queue), queue.dropped_items) == (10, 41)
    assert queue[0] == b"a41"
    assert queue.take_run(23, header_bytes=10) == [b"a41"]
    assert queue.take_run(6) == [b"b", b"a42"]
    assert queue.take_run(2) == []
    assert queue.take_run(3) == [b"a43"]
    queue.push(b"c", 1.0, group=3)
    queue.drop_older_than(0.5)
    assert list(queue) == [b"c"]
    queue.drop_group(3)
    queue.drop_group(3)
    assert (len(queue), queue.queued_bytes) == (0, 0)
    with pytest.raises(IndexError, match="number 1"):
        queue[1]


def test_a_group_whose_datagrams_are_dropped_sends_none(pair: Pair) -> None:
    """Those of others leave."""
    pair.client.quic.send_datagram(b"a", pair.now, group=1)
    pair.client.quic.send_datagram(b"b", pair.now, group=2)
    pair.client.quic.drop_datagrams(1)
    pair.run_for(0.1)
    assert pair.server.datagrams == [b"b"]


def test_an_answer_carries_the_acknowledgement() -> None:
    """Who answers at once sends one packet, not one with the answer and a millisecond later one that acknowledges."""
    pair = Pair()
    pair.shake_hands()
    pair.client.write(pair.client.quic.open_stream(), b"question")
    pair.run_until(lambda: bool(pair.server.received))
    (stream_id,) = pair.server.received
    pair.server.quic.send(stream_id, b"answer")
    assert len(pair.server.quic.datagrams_to_send(pair.now)) == 1
    deadline = pair.server.quic.next_deadline()
    assert deadline is not None
    pair.server.quic.handle_deadline(pair.now + 0.002)
    assert pair.server.quic.datagrams_to_send(pair.now + 0.002) == []
