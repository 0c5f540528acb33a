"""Streams of sessions, in exact rows: what counts, when a half is over, and when a stream is let go."""

from __future__ import annotations

from collections import deque

import pytest

from tests.webtransport.protocol.machine_fake import PortQuic
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events, session_events
from trio_streams.webtransport.protocol.error_codes import Http3Code, to_http3
from trio_streams.webtransport.protocol.routing import Arrival
from trio_streams.webtransport.protocol.session import SessionConfig, SessionMachine
from trio_streams.webtransport.protocol.session_streams import SessionStreams, group_of
from trio_streams.webtransport.protocol.settings import SessionLimits

LIMITS = SessionLimits(window_bytes=100, max_bidirectional_streams=2, max_unidirectional_streams=2)


class Row:
    """A server's session that is open, and its streams."""

    def __init__(self, *, is_counted: bool = True) -> None:
        limits = LIMITS if is_counted else SessionLimits()
        self.session = SessionMachine(0, is_client=False, peer_limits=limits, config=SessionConfig(limits=limits))
        self.session.accept(0.0)
        list(self.session.events())
        self.quic = PortQuic(is_client=False)
        self.queue: deque[events.Event] = deque()
        self.touched: list[SessionMachine] = []
        self.streams = SessionStreams(self.quic, self.queue, self.touched.append)

    def open(self, *, is_unidirectional: bool = False) -> int:
        return self.streams.open(self.session, is_unidirectional=is_unidirectional, priority=0)

    def adopt(self, stream_id: int, data: bytes = b"", *, is_ended: bool = False, stop: int | None = None) -> None:
        self.streams.adopt(self.session, Arrival(stream_id, 0, 2, [data] if data else [], is_ended, stop))

    def told(self) -> list[events.Event]:
        told = list(self.queue)
        self.queue.clear()
        return told

    @property
    def unread_bytes(self) -> int:
        """What the session counts as arrived and not taken."""
        credit = self.session._flow._granted[2]
        return credit.bytes - credit.consumed_bytes


@pytest.mark.parametrize("is_unidirectional", [False, True])
def test_a_stream_of_ours_begins_with_its_header(is_unidirectional: bool) -> None:
    """It belongs to the session's group, and the header does not count."""
    row = Row()
    stream_id = row.streams.open(row.session, is_unidirectional=is_unidirectional, priority=7)
    assert bytes(row.quic.sent[stream_id]) == (b"\x40\x54\0" if is_unidirectional else b"\x40\x41\0")
    assert row.quic.priorities == {stream_id: (7, group_of(0), False)}
    assert row.session.sendable_bytes == 100
    row.streams.set_priority(stream_id, 8)
    row.streams.set_priority(99, 8)
    assert row.quic.priorities == {stream_id: (8, group_of(0), False)}
    assert row.streams.send(stream_id, b"abc") == 3
    assert row.session.sendable_bytes == 97


@pytest.mark.parametrize("is_unidirectional", [False, True])
def test_beyond_the_sessions_limit_none_is_opened(is_unidirectional: bool) -> None:
    """The peer hears that one was wanted."""
    row = Row()
    for _ in range(2):
        row.open(is_unidirectional=is_unidirectional)
    with pytest.raises(LocalProtocolError, match="allows no more"):
        row.open(is_unidirectional=is_unidirectional)
    assert row.touched == [row.session]


@pytest.mark.parametrize("stream_id", [4, 6])
def test_a_stream_of_the_peers_is_told_with_what_came(stream_id: int) -> None:
    """Its bytes count behind its header, and its end is its half's."""
    row = Row()
    row.adopt(stream_id, b"abc", is_ended=True)
    is_unidirectional = stream_id == 6
    assert row.told() == [
        events.StreamOpened(0, stream_id, is_unidirectional),
        events.StreamReceived(stream_id, [b"abc"], True),
    ]
    assert row.unread_bytes == 3
    assert not row.streams.table[stream_id].is_receiving
    assert row.streams.table[stream_id].is_sending is not is_unidirectional


def test_a_stream_may_arrive_with_nothing_but_a_stop() -> None:
    """What our half was refused for is told behind the opening."""
    row = Row(is_counted=False)
    row.adopt(4, stop=to_http3(3))
    assert row.told() == [events.StreamOpened(0, 4, False), events.StreamStopped(4, 3)]
    row.adopt(8, b"x")
    assert row.told()[1:] == [events.StreamReceived(8, [b"x"], False)]


def test_one_stream_too_many_ends_the_session() -> None:
    """It is not told, and goes with the others."""
    row = Row()
    for stream_id in (2, 6, 10):
        row.adopt(stream_id)
    assert len(row.told()) == 2
    found = list(row.session.events())
    assert isinstance(found[0], session_events.Abandoned)
    assert found[0].stream_ids == (2, 6, 10)
    assert row.touched == [row.session]


def test_bytes_beyond_the_sessions_window_end_it() -> None:
    """The session is looked at at once."""
    row = Row()
    row.adopt(2)
    row.streams.count_received(row.streams.table[2], [bytes(60), bytes(41)])
    assert row.touched == [row.session]
    assert isinstance(list(row.session.events())[-1], session_events.Failed)


def test_a_stream_takes_what_the_sessions_credit_allows() -> None:
    """The rest waits for `DataAllowed`, which makes it writable if it still wants to send."""
    row = Row()
    first, second = row.open(), row.open()
    third = row.open(is_unidirectional=True)
    assert row.streams.send(first, memoryview(bytes(130))) == 100
    assert row.streams.send(second, b"x") == 0
    assert row.streams.send(third, b"x") == 0
    assert row.touched == [row.session] * 3
    row.streams.release(third, 0)
    row.told()
    row.streams.on_data_allowed(0)
    row.streams.on_data_allowed(0)
    assert row.told() == [events.Writable(first), events.Writable(second)]


def test_where_quic_takes_less_quic_says_when() -> None:
    """Only what QUIC took counts, and the session's credit is not waited for."""
    row = Row()
    stream_id = row.open()
    row.quic.rooms[stream_id] = 10
    assert row.streams.send(stream_id, bytes(50)) == 7
    assert row.session.sendable_bytes == 93
    row.streams.on_data_allowed(0)
    assert row.told() == []


def test_without_flow_control_quic_alone_decides() -> None:
    """Nothing is counted, in either direction."""
    row = Row(is_counted=False)
    stream_id = row.open()
    assert row.streams.send(stream_id, bytes(1_000)) == 1_000
    row.streams.consumed(row.streams.table[stream_id], stream_id, 5)
    assert (row.touched, row.quic.consumed_bytes) == ([], {stream_id: 5})


@pytest.mark.parametrize("is_counted", [False, True])
def test_a_stop_that_is_not_told_yet_takes_nothing(is_counted: bool) -> None:
    """Who sends or ends before it hears of the stop did nothing wrong; who does so afterwards, or behind an end, did."""
    row = Row(is_counted=is_counted)
    first, second = row.open(), row.open()
    row.streams.end(second)
    row.quic.stopped |= {first, second}
    assert row.streams.send(first, b"x") == 0
    row.streams.end(first)
    assert row.streams.undelivered(0) == 1
    row.streams.receive_stop(first, 1)
    for stream_id in (first, second):
        with pytest.raises(LocalProtocolError):
            row.streams.send(stream_id, b"x")
        with pytest.raises(LocalProtocolError):
            row.streams.end(stream_id)


def test_consuming_gives_the_sessions_credit_back() -> None:
    """Once per byte; a half that nobody reads any more has given it back already."""
    row = Row()
    row.adopt(4, bytes(80))
    stream = row.streams.table[4]
    row.streams.consumed(stream, 4, 30)
    assert (row.unread_bytes, row.quic.consumed_bytes) == (50, {4: 30})
    row.streams.stop(4, 9)
    assert (row.unread_bytes, row.quic.stops) == (0, {4: to_http3(9)})
    row.streams.consumed(stream, 4, 30)
    assert row.unread_bytes == 0


def test_a_session_is_looked_at_when_a_grant_is_due() -> None:
    """While most of its window is left, a byte that was read is nothing to tell."""
    row = Row()
    row.adopt(4, bytes(80))
    row.adopt(8)
    row.streams.consumed(row.streams.table[4], 4, 70)
    row.session.to_send()
    row.touched.clear()
    row.streams.consumed(row.streams.table[4], 4, 1)
    assert row.touched == []


def test_what_comes_on_a_stopped_half_counts_and_is_taken() -> None:
    """Up to its final size, when the half is over."""
    row = Row()
    row.adopt(4, bytes(10))
    row.streams.stop(4, 9)
    row.streams.on_discarded(quic_events.Discarded(4, 42, is_ended=False))
    credit = row.session._flow._granted[2]
    assert (credit.bytes, row.unread_bytes) == (40, 0)
    assert row.streams.table[4].is_receiving
    row.streams.on_discarded(quic_events.Discarded(4, 62, is_ended=True))
    assert (credit.bytes, row.unread_bytes) == (60, 0)
    assert not row.streams.table[4].is_receiving


@pytest.mark.parametrize("is_counted", [False, True])
def test_a_reset_counts_up_to_its_final_size(is_counted: bool) -> None:
    """It is told with its code, unless the application is done with the stream."""
    row = Row(is_counted=is_counted)
    row.adopt(4, bytes(10))
    row.adopt(8)
    row.told()
    row.streams.receive_reset(quic_events.StreamReset(4, to_http3(5), 52))
    assert row.told() == [events.StreamReset(4, 5)]
    assert row.session._flow._granted[2].bytes == (50 if is_counted else 0)
    assert row.unread_bytes == 0
    row.streams.release(8, 1)
    row.streams.receive_reset(quic_events.StreamReset(8, to_http3(5), 2))
    assert row.told() == []
    assert (list(row.streams.table), row.quic.released) == ([4], {8: 0})


def test_a_stop_is_told_unless_the_stream_was_released() -> None:
    """What was never sent does not count any more."""
    row = Row()
    first, second = row.open(), row.open()
    row.streams.send(first, bytes(40))
    row.quic.unsent[first] = 15
    row.streams.receive_stop(first, 0x10C)
    assert row.told() == [events.StreamStopped(first, None)]
    assert row.session.sendable_bytes == 75
    row.streams.end(second)
    row.streams.release(second, 0)
    row.streams.receive_stop(second, to_http3(1))
    assert row.told() == []


def test_a_reset_gives_back_what_was_never_sent() -> None:
    """At once, or, where it waits for the header, when it has left."""
    row = Row()
    first, second = row.open(), row.open()
    row.streams.send(first, bytes(50))
    row.quic.unsent[first] = 20
    row.streams.reset(first, 4)
    assert row.quic.resets == {first: to_http3(4)}
    assert row.session.sendable_bytes == 70
    row.quic.resets_now = False
    row.streams.send(second, bytes(70))
    row.quic.unsent[second] = 73
    row.streams.reset(second, 4)
    assert row.session.sendable_bytes == 0
    row.streams.release(second, 0)
    row.streams.stop(first, 0)
    row.streams.on_reset_sent(second)
    assert row.session.sendable_bytes == 70


def test_an_end_is_undelivered_until_the_peer_has_it() -> None:
    """Also of a stream that was released, which goes when both halves are over."""
    row = Row(is_counted=False)
    stream_id = row.open()
    row.streams.end(stream_id)
    row.streams.release(stream_id, 0)
    row.streams.release(stream_id, 0)
    assert row.quic.stops == {stream_id: to_http3(0)}
    assert row.quic.resets == {}
    assert row.streams.undelivered(0) == 1
    row.streams.on_delivered(stream_id, row.streams.table[stream_id])
    assert row.streams.undelivered(0) == 0
    assert row.quic.released == {}
    row.streams.on_discarded(quic_events.Discarded(stream_id, 0, is_ended=True))
    assert row.quic.released == {stream_id: 0}
    assert row.streams.table == {}
    assert row.session.stream_count == 0


def test_a_unidirectional_stream_of_ours_goes_when_it_is_delivered() -> None:
    """There is no half of the peer's to wait for; one of the peer's goes when it is over."""
    row = Row()
    ours = row.open(is_unidirectional=True)
    row.streams.end(ours)
    row.streams.release(ours, 0)
    row.streams.on_delivered(ours, row.streams.table[ours])
    row.adopt(2, b"x", is_ended=True)
    row.streams.release(2, 0)
    assert row.quic.released == {ours: 0, 2: 0}
    assert row.unread_bytes == 0


def test_a_half_that_is_over_is_over_once() -> None:
    """A reset behind a delivery, and a delivery behind a stop, change nothing."""
    row = Row()
    stream_id = row.open()
    row.streams.end(stream_id)
    row.streams.on_delivered(stream_id, row.streams.table[stream_id])
    row.streams.reset(stream_id, 1)
    row.streams.receive_stop(stream_id, 1)
    row.streams.on_delivered(stream_id, row.streams.table[stream_id])
    assert row.streams.undelivered(0) == 0


def test_a_session_that_is_over_takes_its_streams_along() -> None:
    """Each half that there is is reset or stopped by its release, and later calls are no matter."""
    row = Row()
    ours, uni = row.open(), row.open(is_unidirectional=True)
    row.adopt(4)
    row.adopt(2)
    row.streams.end(uni)
    row.streams.send(ours, bytes(200))
    everything = [ours, uni, 4, 2]
    row.streams.abandon(everything, Http3Code.WT_SESSION_GONE)
    row.streams.forget_session(0)
    assert row.quic.released == dict.fromkeys(everything, Http3Code.WT_SESSION_GONE)
    assert set(row.quic.resets) == {ours, uni, 4}
    assert row.streams.undelivered(0) == 0
    for stream_id in everything:
        assert row.streams.send(stream_id, b"x") == 0
        row.streams.end(stream_id)
        row.streams.reset(stream_id, 0)
        row.streams.stop(stream_id, 0)
        row.streams.release(stream_id, 0)
    row.told()
    row.streams.on_data_allowed(0)
    assert row.told() == []


def test_an_end_whose_session_is_forgotten_is_no_matter() -> None:
    """A session that is over counts nothing any more."""
    row = Row()
    stream_id = row.open()
    row.streams.end(stream_id)
    row.streams.forget_session(0)
    row.streams.receive_stop(stream_id, 1)
    assert row.streams.undelivered(0) == 0


@pytest.mark.parametrize("what", ["reset", "stop", "release"])
def test_a_code_has_32_bits(what: str) -> None:
    """A larger one is refused before anything is done."""
    row = Row()
    stream_id = row.open()
    with pytest.raises(LocalProtocolError, match="32 bits"):
        getattr(row.streams, what)(stream_id, 1 << 32)
    assert row.quic.resets == row.quic.stops == row.quic.released == {}
