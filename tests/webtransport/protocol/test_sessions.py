"""CONNECT streams, in exact rows: who asks, what is answered, and what is owed."""

from __future__ import annotations

from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, REQUEST, frame, head
from tests.webtransport.protocol.machine_fake import COUNTED, FakeMachine
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.requests import Answer
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.sessions import Sessions
from trio_streams.webtransport.protocol.settings import SessionLimits, Setting, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint

ASKS_FOR_FLOW_CONTROL: Final = local_settings(is_client=True, max_sessions=1, limits=SessionLimits(window_bytes=1))
UNI, BIDI = encode_varint(0x54), encode_varint(0x41)
GET: Final = head((":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"))


def _sessions(row: FakeMachine) -> Sessions:
    assert row.inbound.sessions is not None
    return row.inbound.sessions


def test_a_client_asks_within_both_limits() -> None:
    """Its own, and the server's where that counts sessions; a request that cannot be sent leaves nothing."""
    row = FakeMachine(is_client=True, limits=WebTransportLimits(max_sessions=2))
    sessions = _sessions(row)
    first = sessions.connect(REQUEST)
    sessions.connect(REQUEST)
    assert row.quic.priorities[first] == (0, 0, True)
    with pytest.raises(LocalProtocolError, match="2 are open"):
        sessions.connect(REQUEST)
    settings: dict[int, int] = {Setting.H3_DATAGRAM: 1, Setting.WEBTRANSPORT_MAX_SESSIONS: 1}
    counted = FakeMachine(is_client=True, settings=settings)
    _sessions(counted).connect(REQUEST)
    with pytest.raises(LocalProtocolError, match="1 are open"):
        _sessions(counted).connect(REQUEST)
    small = FakeMachine(is_client=True, settings={**settings, 6: 10})
    with pytest.raises(LocalProtocolError, match="MAX_FIELD_SECTION_SIZE"):
        _sessions(small).connect(REQUEST)
    assert _sessions(small).is_empty
    assert small.quic.released == {0: Http3Code.H3_REQUEST_CANCELLED}
    none = FakeMachine(is_client=True, settings={Setting.H3_DATAGRAM: 1})
    with pytest.raises(Http3Error, match="any draft"):
        _sessions(none).connect(REQUEST)


def test_an_answer_is_one_that_fits() -> None:
    """Accepting takes a 2xx, refusing takes none, and either is said once to somebody who waits."""
    row = FakeMachine()
    sessions = _sessions(row)
    session_id = row.arrive(CONNECT)
    with pytest.raises(LocalProtocolError, match="accepts no"):
        sessions.accept(session_id, Answer(status=404), row.now)
    with pytest.raises(LocalProtocolError, match="refuses no"):
        sessions.refuse(session_id, Answer(status=200), row.now)
    with pytest.raises(LocalProtocolError, match="not open|connecting"):
        sessions.drain(session_id)
    sessions.accept(session_id, Answer(status=200), row.now)
    with pytest.raises(LocalProtocolError, match="nobody waits"):
        sessions.accept(session_id, Answer(status=200), row.now)
    assert (session_id in sessions, 400 in sessions, sessions.get(400)) == (True, False, None)
    assert row.inbound.touched


def test_a_refused_session_waits_for_the_clients_end() -> None:
    """Not for ever: then its stream is stopped."""
    row = FakeMachine()
    session_id = row.arrive(CONNECT)
    sessions = _sessions(row)
    sessions.refuse(session_id, Answer(status=404), row.now)
    assert row.take() == []
    assert session_id in row.quic.ended
    assert sessions.next_deadline() == row.now + 2
    sessions.handle_deadline(row.now + 1)
    sessions.handle_deadline(row.now + 2)
    assert row.take() == []
    assert sessions.is_empty
    assert row.quic.released == {session_id: Http3Code.H3_NO_ERROR}


def test_what_a_connect_stream_has_no_room_for_waits() -> None:
    """A drain, then a close, then the end, as room comes; and nothing else is taken from the session meanwhile."""
    row = FakeMachine()
    session_id = row.session()
    sessions = _sessions(row)
    begun = len(row.quic.sent[session_id])
    row.quic.rooms[session_id] = begun + 4
    sessions.drain(session_id)
    row.take()
    sessions.close(session_id, 7, "bye", row.now)
    sessions.close(session_id, 8, "again", row.now)
    assert row.take() == [events.SessionClosed(session_id, 7, "bye", events.Closer.LOCAL)]
    assert session_id not in row.quic.ended
    row.quic.rooms[session_id] = 1_000
    row.tell(quic_events.Writable(session_id))
    sent = bytes(row.quic.sent[session_id][begun:])
    assert b"bye" in sent
    assert session_id in row.quic.ended
    assert not sessions.is_empty
    row.more(session_id, is_ended=True)
    assert sessions.is_empty


def test_credit_is_said_on_connect() -> None:
    """What was consumed of a session's streams is granted there, and what the peer grants lets streams send on."""
    row = FakeMachine(
        limits=WebTransportLimits(
            session=SessionConfig(
                limits=SessionLimits(window_bytes=100, max_bidirectional_streams=2, max_unidirectional_streams=2)
            )
        )
    )
    session_id = row.session()
    begun = len(row.quic.sent[session_id])
    stream_id = row.stream(session_id, bytes(90))
    streams = row.inbound.streams
    streams.consumed(streams.table[stream_id], stream_id, 90)
    row.take()
    assert encode_varint(0x190B_4D3D) + b"\2" + encode_varint(190) in row.quic.sent[session_id][begun:]
    assert streams.send(stream_id, bytes(150)) == 100
    capsule = encode_varint(0x190B_4D3D) + b"\2" + encode_varint(200)
    assert row.more(session_id, frame(0, capsule)) == [events.Writable(stream_id)]
    session = _sessions(row).get(session_id)
    assert session is not None
    machine = row.inbound.streams
    for _ in range(2):
        machine.open(session, is_unidirectional=True, priority=0)
    with pytest.raises(LocalProtocolError, match="allows no more"):
        machine.open(session, is_unidirectional=True, priority=0)
    capsule = encode_varint(0x190B_4D40) + b"\1\3"
    assert row.more(session_id, frame(0, capsule)) == [events.StreamsAllowed(session_id, True)]


def test_datagrams_that_came_too_early_are_told_together() -> None:
    """A session that is accepted has its own, in order, and leaves those of others where they are."""
    row = FakeMachine()
    session_id = row.arrive(CONNECT)
    prefix = encode_varint(session_id >> 2)
    assert row.tell(quic_events.DatagramsReceived([prefix + b"a", b"\x20other", prefix + b"b"])) == []
    _sessions(row).accept(session_id, Answer(status=200), row.now)
    assert row.take() == [events.DatagramsReceived(session_id, [b"a", b"b"])]
    assert row.inbound.router.early_bytes == len(b"other")


def test_a_session_that_ends_takes_everything_along() -> None:
    """Its streams, its early ones that nobody claimed, and its datagrams that have not left."""
    row = FakeMachine()
    session_id = row.session()
    stream_id = row.stream(session_id, b"x")
    row.take()
    row.tell(quic_events.StreamReset(session_id, 5, 0))
    assert row.quic.dropped_groups == [session_id + 1]
    assert row.quic.released[stream_id] == Http3Code.WT_SESSION_GONE
    assert row.quic.released[session_id] == Http3Code.H3_REQUEST_CANCELLED
    sessions = _sessions(row)
    assert not sessions.is_expected(session_id)
    assert sessions.get_open(session_id) is None


def test_so_many_sessions_are_remembered() -> None:
    """Of older ones nobody knows any more that they were there, so what names them waits a while."""
    row = FakeMachine(limits=WebTransportLimits(max_remembered_sessions=2))
    gone = []
    for _ in range(3):
        gone.append(row.session())
        row.more(gone[-1], is_ended=True)
    sessions = _sessions(row)
    assert [sessions.is_expected(session_id) for session_id in gone] == [True, False, False]


def test_an_answer_of_429_that_cannot_be_said_is_a_reset() -> None:
    """A client that reads no answer gets none."""
    row = FakeMachine(limits=WebTransportLimits(max_sessions=1))
    row.session()
    refused = row.arrive(CONNECT)
    stopped = row.new_id()
    row.tell(quic_events.StopReceived(stopped, 9))
    small = FakeMachine(limits=WebTransportLimits(max_sessions=1), settings={**COUNTED, 6: 20})
    small.arrive(CONNECT)
    unsaid = small.arrive(CONNECT)
    assert refused in row.quic.ended
    assert small.quic.resets == {unsaid: Http3Code.H3_REQUEST_REJECTED}


def test_a_refusal_that_cannot_be_said_is_a_reset() -> None:
    """A client without room for a status hears H3_REQUEST_REJECTED; fields that are too much are their sender's fault."""
    row = FakeMachine(settings={**COUNTED, 6: 40})
    sessions = _sessions(row)
    session_id = row.arrive(CONNECT)
    with pytest.raises(LocalProtocolError, match="MAX_FIELD_SECTION_SIZE"):
        sessions.refuse(session_id, Answer(status=404, headers=(("x", "y" * 50),)), row.now)
    sessions.refuse(session_id, Answer(status=404), row.now)
    row.take()
    assert row.quic.resets[session_id] == Http3Code.H3_REQUEST_REJECTED
    with pytest.raises(LocalProtocolError, match="refuses no"):
        sessions.refuse(session_id, Answer(status=200), row.now)


def test_a_wrong_answer_ends_the_clients_session() -> None:
    """A subprotocol that was not offered, and a head that is malformed; a late answer is no matter."""
    row = FakeMachine(is_client=True)
    sessions = _sessions(row)
    first, second = sessions.connect(REQUEST), sessions.connect(REQUEST)
    (closed,) = row.more(first, head((":status", "200"), ("wt-protocol", '"none"')))
    assert isinstance(closed, events.SessionClosed)
    assert closed.code == Http3Code.WT_ALPN_ERROR
    (closed,) = row.more(second, head(("x", "y")))
    assert isinstance(closed, events.SessionClosed)
    assert closed.code == Http3Code.H3_MESSAGE_ERROR
    third = sessions.connect(REQUEST)
    sessions.close(third, 1, "", row.now)
    sessions.on_answer(third, [(b":status", b"200")], row.now)
    assert [type(event) for event in row.take()] == [events.SessionClosed]
    assert sessions.is_empty
    fourth = sessions.connect(REQUEST)
    sessions.on_answer(fourth, [(b":status", b"103")], row.now)
    assert row.take() == []
    sessions.on_answer(fourth, [(b":status", b"404")], row.now)
    sessions.on_answer(fourth, [(b":status", b"404")], row.now)
    assert [type(event) for event in row.take()] == [events.SessionAnswered]
    assert fourth in row.quic.ended


def test_what_a_session_owes_before_its_answer_waits() -> None:
    """Nothing is written on a CONNECT stream whose head was not sent."""
    row = FakeMachine()
    session_id = row.arrive(CONNECT)
    machine = _sessions(row).get(session_id)
    assert machine is not None
    _sessions(row).touch(machine)
    row.take()
    assert session_id not in row.quic.sent


def test_going_away_drains_what_is_open() -> None:
    """A session that waits for its answer hears nothing; one that the peer drains is told."""
    row = FakeMachine()
    waiting = row.arrive(CONNECT)
    session_id = row.session()
    sessions = _sessions(row)
    row.take()
    sessions.drain_all()
    sessions.on_went_away()
    assert row.take() == [events.SessionDrained(session_id)]
    assert waiting not in row.quic.sent
    told = row.more(session_id, frame(0, encode_varint(0x78AE) + b"\0"))
    assert told == [events.SessionDrained(session_id)]
    sessions.drain(400)
    sessions.close(400, 0, "", row.now)
    sessions.clear()
    assert sessions.is_empty


def test_a_client_that_gives_up_before_the_answer_gets_none() -> None:
    """By a stop, or a reset; an answer that comes too late, or before that is told, is no matter."""
    row = FakeMachine()
    stopped, reset = row.arrive(CONNECT), row.arrive(CONNECT)
    sessions = _sessions(row)
    row.quic.rooms[stopped] = 0
    row.take()
    sessions.accept(stopped, Answer(status=200), row.now)
    (closed,) = row.tell(quic_events.StopReceived(stopped, 9))
    assert closed == events.SessionClosed(stopped, 9, "", events.Closer.LOST)
    sessions.close(reset, 0, "", row.now)
    sessions.refuse(reset, Answer(status=404), row.now)
    row.take()
    assert row.quic.resets == {stopped: Http3Code.H3_REQUEST_CANCELLED, reset: Http3Code.H3_REQUEST_REJECTED}
    for session_id in (stopped, reset, 400):
        sessions.accept(session_id, Answer(status=200), row.now)
        sessions.refuse(session_id, Answer(status=404), row.now)
        assert session_id not in row.quic.sent


def test_a_touched_session_that_is_gone_is_no_matter() -> None:
    """Its last word was heard."""
    row = FakeMachine()
    session_id = row.session()
    sessions = _sessions(row)
    machine = sessions.get(session_id)
    assert machine is not None
    row.more(session_id, is_ended=True)
    sessions.touch(machine)
    assert row.take() == []


def test_a_client_whose_session_is_accepted_has_it_open() -> None:
    """And a server that goes away looks at no other."""
    row = FakeMachine(is_client=True)
    session_id = _sessions(row).connect(REQUEST)
    told = row.more(session_id, head((":status", "200")))
    assert [type(event) for event in told] == [events.SessionAnswered]
    assert _sessions(row).get_open(session_id) is not None
    server = FakeMachine()
    server.inbound.go_away(server.now, 0.1)
    rejected = server.arrive(CONNECT)
    assert server.quic.resets == {rejected: Http3Code.H3_REQUEST_REJECTED}


def test_a_session_that_waits_for_its_answer_is_expected() -> None:
    """What names it waits, and is adopted when it is accepted; without the requirements there is none."""
    row = FakeMachine()
    session_id = row.arrive(CONNECT)
    sessions = _sessions(row)
    assert sessions.is_expected(session_id)
    early = row.arrive(encode_varint(0x54) + encode_varint(session_id) + b"x", is_unidirectional=True)
    row.take()
    sessions.accept(session_id, Answer(status=200), row.now)
    assert [type(event) for event in row.take()] == [events.StreamOpened, events.StreamReceived]
    assert early in row.inbound.streams.table
    unmet = FakeMachine(settings={})
    rejected = unmet.arrive(CONNECT)
    assert unmet.quic.resets == {rejected: Http3Code.WT_REQUIREMENTS_NOT_MET}


def test_a_client_that_reads_no_more_is_cut_at_the_deadline() -> None:
    """Whether it says how its session ends, and we cannot, or says nothing more."""
    row = FakeMachine()
    full, stopped = row.session(), row.session()
    row.quic.rooms[full] = 0
    _sessions(row).drain(full)
    row.take()
    row.more(full, is_ended=True)
    assert row.tell(quic_events.StopReceived(stopped, 5)) == []
    assert not _sessions(row).is_empty
    _sessions(row).handle_deadline(row.now + 2)
    assert row.take() == [events.SessionClosed(stopped, 5, "", events.Closer.LOST)]
    assert _sessions(row).is_empty
    assert row.quic.resets == dict.fromkeys((full, stopped), Http3Code.H3_NO_ERROR)
