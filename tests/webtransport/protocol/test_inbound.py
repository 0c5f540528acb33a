"""What QUIC and HTTP/3 tell, in exact rows: which part hears it, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, REQUEST, control, frame, head
from tests.webtransport.protocol.http3_fake import GET as GET_FIELDS
from tests.webtransport.protocol.machine_fake import FakeMachine, PortQuic
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, to_http3
from trio_streams.webtransport.protocol.inbound import Inbound
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.priority import Priority
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.settings import SessionLimits, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint

COUNTED: Final = WebTransportLimits(
    session=SessionConfig(
        limits=SessionLimits(window_bytes=1_000, max_bidirectional_streams=2, max_unidirectional_streams=2)
    )
)
ASKS_FOR_FLOW_CONTROL: Final = local_settings(is_client=True, max_sessions=1, limits=SessionLimits(window_bytes=1))
UNI, BIDI = encode_varint(0x54), encode_varint(0x41)
GET: Final = head((":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"))


def _answer(*fields: tuple[str, str]) -> bytes:
    return head((":status", "200"), *fields)


def _client() -> tuple[FakeMachine, int]:
    """A client, and a request of its own."""
    row = FakeMachine(is_client=True)
    stream_id = row.inbound.requests.open()
    row.inbound.requests.send_head(stream_id, GET_FIELDS, is_ended=True)
    return row, stream_id


def test_a_client_hears_the_answer_to_its_request() -> None:
    """Interim heads, the final one, content, trailers, and that its request has arrived."""
    row, stream_id = _client()
    assert [type(event) for event in row.more(stream_id, head((":status", "103")) + _answer())] == [
        events.AnswerReceived,
        events.AnswerReceived,
    ]
    assert [type(event) for event in row.more(stream_id, frame(0, b"abc"))] == [events.BodyReceived]
    told = row.more(stream_id, head(("x", "y")), is_ended=True)
    assert told == [events.TrailersReceived(stream_id, [(b"x", b"y")])]
    delivered = quic_events.Delivered(stream_id)
    assert row.tell(delivered) == [delivered]
    row.inbound.requests.release(stream_id)
    assert row.tell(delivered) == []


def test_a_session_whose_credit_is_due_is_heard() -> None:
    """Bytes that were read make a grant, which the session says on its CONNECT stream."""
    row = FakeMachine(limits=COUNTED)
    session_id = row.session()
    stream_id = row.arrive(BIDI + encode_varint(session_id) + bytes(900))
    before = len(row.quic.sent[session_id])
    row.inbound.streams.consumed(row.inbound.streams.table[stream_id], stream_id, 900)
    assert row.inbound.touched
    row.take()
    assert (row.inbound.touched, len(row.quic.sent[session_id]) > before) == ({}, True)


def test_a_client_hears_how_a_request_failed() -> None:
    """Reset, stopped, or malformed."""
    row, stream_id = _client()
    assert row.tell(quic_events.StopReceived(stream_id, 5)) == [events.RequestStopped(stream_id, 5)]
    assert row.tell(quic_events.StreamReset(stream_id, 6, 0)) == [events.RequestReset(stream_id, 6)]
    row, stream_id = _client()
    assert row.more(stream_id, head(("x", "y"))) == [events.RequestReset(stream_id, Http3Code.H3_MESSAGE_ERROR)]


def test_a_clients_own_stream_that_is_over_is_no_matter() -> None:
    """Whatever may still be told of it."""
    row, _ = _client()
    row.more(400, b"x")
    row.tell(quic_events.StreamReset(400, 0, 0))
    row.tell(quic_events.StopReceived(400, 0))
    for event in (
        quic_events.Discarded(400, 0, is_ended=True),
        quic_events.ResetSent(400),
        quic_events.Writable(400),
        quic_events.Delivered(400),
    ):
        assert row.tell(event) == []
    assert 400 not in row.quic.released


def test_a_servers_stream_that_names_no_session_of_ours_is_refused() -> None:
    """A client knows all its sessions, so nothing waits; before the server's SETTINGS it has none."""
    row = FakeMachine(is_client=True)
    stream_id = row.arrive(UNI + b"\x08", is_unidirectional=True)
    early = FakeMachine(is_client=True, settings=None)
    other = early.arrive(UNI + b"\x08", is_unidirectional=True)
    assert row.quic.stops[stream_id] == early.quic.stops[other] == Http3Code.WT_SESSION_GONE
    assert early.tell(quic_events.DatagramsReceived([b"\x02x"])) == []
    assert early.inbound.router.early_bytes == 0


def test_a_client_that_goes_away_says_so_at_once() -> None:
    """Its GOAWAY names no request, so there is no second one."""
    row = FakeMachine(is_client=True)
    before = len(row.quic.sent[2])
    row.inbound.go_away(row.now, 0.1)
    assert bytes(row.quic.sent[2][before:]) == frame(7, b"\0")
    assert row.inbound.next_deadline() is None


def test_a_server_goes_away_in_two_steps() -> None:
    """First any request may come, then, two round trips later, none behind the last that was seen; and once is enough."""
    row = FakeMachine()
    session_id = row.session()
    before = len(row.quic.sent[3])
    row.inbound.go_away(row.now, 0.1)
    row.inbound.go_away(row.now, 0.1)
    row.take()
    assert row.inbound.next_deadline() == pytest.approx(row.now + 0.2)
    row.inbound.handle_deadline(row.now + 0.1)
    row.inbound.handle_deadline(row.now + 0.2)
    any_id, next_id = encode_varint((1 << 62) - 4), encode_varint(session_id + 4)
    assert bytes(row.quic.sent[3][before:]) == frame(7, any_id) + frame(7, next_id)
    assert row.quic.sent[session_id].endswith(frame(0, encode_varint(0x78AE) + b"\0"))


def test_going_away_before_the_settings() -> None:
    """Sessions that are asked for then are rejected."""
    row = FakeMachine(settings=None)
    row.inbound.go_away(row.now, 0.1)
    row.arrive(control(), is_unidirectional=True)
    session_id = row.arrive(CONNECT)
    assert row.quic.resets == {session_id: Http3Code.H3_REQUEST_REJECTED}
    unready = Inbound(PortQuic(is_client=False), is_client=False, limits=WebTransportLimits())
    unready.go_away(0.0, 0.1)
    assert unready.next_deadline() is None
    unready.take(quic_events.Handshaken("h3", False), 0.0)
    unready.serve(0.0)
    assert not unready.queue


def test_settings_that_come_first_need_no_deadline() -> None:
    """A handshake that is told behind them waits for nothing."""
    quic = PortQuic(is_client=False)
    inbound = Inbound(quic, is_client=False, limits=WebTransportLimits())
    inbound.take(quic_events.StreamDataReceived(2, [control()], False), 1.0)
    assert inbound.settings is not None
    inbound.take(quic_events.Handshaken("h3", False), 1.0)
    assert inbound.next_deadline() is None


def test_a_clients_goaway_is_a_drain_of_its_sessions() -> None:
    """It is told with one for each that is open."""
    row = FakeMachine()
    session_id = row.session()
    told = row.more(2, frame(7, b"\0"))
    assert told == [events.WentAway(0), events.SessionDrained(session_id)]


def test_room_is_told_to_whose_stream_it_is() -> None:
    """A session's stream, a request, a CONNECT stream; and nobody else."""
    row = FakeMachine()
    session_id = row.session()
    stream_id = row.stream(session_id)
    writable = quic_events.Writable(stream_id)
    assert row.tell(writable) == [writable]
    asked = row.arrive(GET)
    writable = quic_events.Writable(asked)
    assert row.tell(writable) == [writable]
    row.quic.rooms[session_id] = 0
    assert row.inbound.sessions is not None
    row.inbound.sessions.drain(session_id)
    row.take()
    before = bytes(row.quic.sent[session_id])
    row.quic.rooms[session_id] = 1_000
    assert row.tell(quic_events.Writable(session_id)) == []
    assert row.quic.sent[session_id] == before + frame(0, encode_varint(0x78AE) + b"\0")
    row.inbound.requests.clear()
    assert row.tell(writable) == []


def test_streams_are_allowed_to_those_who_wanted_some() -> None:
    """Each hears it once, of the kind that there is, if its session is still there."""
    row = FakeMachine()
    session_id = row.session()
    row.inbound.want_stream(session_id, is_unidirectional=True)
    row.inbound.want_stream(400, is_unidirectional=True)
    row.quic.allow(0)
    assert row.tell(quic_events.StreamsAllowed(0, 0)) == []
    row.quic.allow(1)
    assert row.tell(quic_events.StreamsAllowed(1, 1)) == [events.StreamsAllowed(session_id, True)]
    assert row.tell(quic_events.StreamsAllowed(2, 2)) == []


def test_halves_of_a_sessions_stream_are_told() -> None:
    """Discarded bytes, a late reset; and a reset that looks like the session's end waits to the last."""
    row = FakeMachine()
    session_id = row.session()
    stream_id, other = row.stream(session_id, b"x"), row.stream(session_id)
    row.take()
    row.inbound.streams.stop(stream_id, 1)
    row.tell(quic_events.Discarded(stream_id, 10, is_ended=True))
    row.quic.resets_now = False
    row.inbound.streams.reset(stream_id, 1)
    row.tell(quic_events.ResetSent(stream_id))
    row.inbound.streams.release(stream_id, 0)
    assert stream_id in row.quic.released
    assert row.tell(quic_events.StreamReset(other, Http3Code.WT_SESSION_GONE, 3)) == []
    row.inbound.finish()
    assert row.take() == [events.StreamReset(other, None)]
    assert row.tell(quic_events.StreamReset(row.stream(session_id), to_http3(1), 3))[-1:] != []


def test_a_late_reset_of_a_stream_that_is_gone_is_no_matter() -> None:
    """Its session has ended by then."""
    row = FakeMachine()
    session_id = row.session()
    stream_id = row.stream(session_id)
    row.tell(quic_events.StopReceived(stream_id, Http3Code.H3_CONNECT_ERROR))
    row.more(session_id, is_ended=True)
    row.inbound.finish()
    assert row.take() == []


def test_connection_ids_are_passed_on() -> None:
    """The endpoint needs them."""
    row = FakeMachine()
    for event in (quic_events.ConnectionIdIssued(b"1"), quic_events.ConnectionIdRetired(b"2")):
        assert row.tell(event) == [event]


def test_the_end_of_the_connection_clears_everything() -> None:
    """One event says so, and nothing is left to wait for."""
    row = FakeMachine()
    row.stream(row.session())
    row.arrive(UNI + b"\x40\xf0", is_unidirectional=True)
    row.arrive(GET)
    row.take()
    assert row.tell(quic_events.ConnectionTerminated(9, "gone", False, True)) == [
        events.ConnectionOver(None, 9, "gone", True, False)
    ]
    assert row.inbound.is_settled
    assert row.inbound.next_deadline() is None
    assert row.inbound.streams.table == {}
    early = FakeMachine(settings=None)
    early.arrive(CONNECT)
    assert not early.inbound.is_settled
    early.tell(quic_events.ConnectionTerminated(9, "gone", False, True))
    assert early.inbound.is_settled


def test_a_priority_update_is_heard() -> None:
    """A client may say late how urgent a request is."""
    row = FakeMachine()
    asked = row.arrive(GET)
    row.more(2, frame(0xF0700, encode_varint(asked) + b"u=0"))
    assert row.quic.priorities[asked] == (Priority(0).rank(asked), 0, False)


def test_sessions_of_a_client_hear_all_that_comes_on_connect() -> None:
    """The answer, an interim one, an end with the head, a reset, a stop, trailers, a fault."""
    ends: dict[str, Callable[[FakeMachine, int], list[events.Event]]] = {
        "end": lambda row, sid: row.more(sid, _answer(), is_ended=True),
        "interim": lambda row, sid: row.more(sid, head((":status", "103")) + _answer(), is_ended=True),
        "reset": lambda row, sid: row.tell(quic_events.StreamReset(sid, 5, 0)),
        "refusal": lambda row, sid: row.more(sid, head((":status", "404")) + head(("x", "y")), is_ended=True),
        "fault": lambda row, sid: row.more(sid, head(("x", "y"))),
    }
    for name, act in ends.items():
        row = FakeMachine(is_client=True)
        assert row.inbound.sessions is not None
        session_id = row.inbound.sessions.connect(REQUEST)
        told = act(row, session_id)
        last = events.SessionAnswered if name == "refusal" else events.SessionClosed
        assert isinstance(told[-1], last), name
        assert row.inbound.is_settled, name
    row = FakeMachine(is_client=True)
    assert row.inbound.sessions is not None
    session_id = row.inbound.sessions.connect(REQUEST)
    row.tell(quic_events.StopReceived(session_id, 5))
    assert not row.inbound.is_settled
    row.now += 10
    row.inbound.handle_deadline(row.now)
    assert isinstance(row.take()[-1], events.SessionClosed)


def test_faults_are_the_last_that_is_looked_at() -> None:
    """The connection is closed with the code of the first one."""
    row = FakeMachine()
    session = row.session()
    told = row.tell(quic_events.DatagramsReceived([encode_varint(session >> 2) + b"before", b"", b"\x20behind"]))
    assert told == [events.DatagramsReceived(session, [b"before"])]
    assert row.quic.closed is not None
    assert row.quic.closed[0] == Http3Code.H3_DATAGRAM_ERROR
    session_id = row.arrive(CONNECT)
    assert row.take() == []
    assert session_id not in row.quic.released


def test_what_comes_behind_a_rejected_head_is_nobodys() -> None:
    """Content in the same packet, a stop before it, and a head that is malformed."""
    row = FakeMachine()
    row.inbound.go_away(row.now, 0.1)
    rejected = row.arrive(CONNECT + frame(0, b"x"), is_ended=True)
    malformed = row.arrive(
        head((":method", "CONNECT"), (":protocol", "webtransport"), (":scheme", "https"), (":path", "/")) + b"\0"
    )
    stopped = row.new_id()
    row.tell(quic_events.StopReceived(stopped, 9))
    told = row.more(stopped, GET)
    assert row.quic.resets == {rejected: Http3Code.H3_REQUEST_REJECTED, malformed: Http3Code.H3_MESSAGE_ERROR}
    assert [type(event) for event in told] == [events.RequestReceived, events.RequestStopped]


def test_a_session_with_two_origins_is_reset() -> None:
    """HTTP/3 has nothing against it, and WebTransport has."""
    row = FakeMachine()
    fields = (":method", "CONNECT"), (":protocol", "webtransport"), (":scheme", "https")
    rest = (":authority", "server.example"), (":path", "/"), ("origin", "a"), ("origin", "b")
    session_id = row.arrive(head(*fields, *rest))
    assert row.quic.resets == {session_id: Http3Code.H3_MESSAGE_ERROR}


def test_what_comes_before_the_settings_waits() -> None:
    """A session and its content, until they are here; one too many is rejected, and one that is given up is forgotten."""
    row = FakeMachine(settings=None, limits=WebTransportLimits(max_waiting_sessions=2))
    kept, reset, rejected = (row.arrive(CONNECT) for _ in range(3))
    row.more(kept, frame(0, encode_varint(0x78AE) + b"\0"))
    row.tell(quic_events.StreamReset(reset, 0, 0))
    assert row.quic.resets == {rejected: Http3Code.H3_REQUEST_REJECTED, reset: Http3Code.H3_REQUEST_CANCELLED}
    row.inbound.handle_deadline(row.now)
    row.more(row.new_id(is_unidirectional=True), control())
    assert [type(event) for event in row.take()] == []
    assert row.inbound.sessions is not None
    assert kept in row.inbound.sessions


def test_settings_that_never_come_end_the_connection() -> None:
    """At their deadline, before which there is another one for nobody."""
    row = FakeMachine(settings=None)
    assert row.inbound.next_deadline() == row.now + WebTransportLimits().settings_timeout
    row.inbound.handle_deadline(row.now + 11)
    assert row.quic.closed is not None
    assert row.quic.closed[0] == Http3Code.H3_MISSING_SETTINGS


def test_what_is_nobodys_yet_is_the_routers() -> None:
    """Headers in pieces, resets and stops of such streams, and datagrams of sessions that may come; others are told."""
    row = FakeMachine()
    session_id = row.session()
    unnamed = row.arrive(b"\x40", is_unidirectional=True)
    assert row.inbound.router.unnamed_streams == 1
    row.tell(quic_events.StreamReset(unnamed, 0, 1))
    assert row.inbound.router.unnamed_streams == 0
    assert row.tell(quic_events.DatagramsReceived([b"\x20x"])) == []
    assert row.inbound.router.early_bytes == 1
    told = row.tell(quic_events.DatagramsReceived([encode_varint(session_id >> 2) + b"y"]))
    assert told == [events.DatagramsReceived(session_id, [b"y"])]
    stream_id = row.stream(session_id)
    row.take()
    assert row.tell(quic_events.StopReceived(stream_id, to_http3(4))) == [events.StreamStopped(stream_id, 4)]
