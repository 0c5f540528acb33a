"""CONNECT streams before a client that breaks rules: who gets a session, and how it ends."""

from __future__ import annotations

from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, RawPair, frame, head
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, to_http3
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.requests import Answer
from trio_streams.webtransport.protocol.settings import SessionLimits, Setting, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint

ASKS_FOR_FLOW_CONTROL: Final = local_settings(is_client=True, max_sessions=1, limits=SessionLimits(window_bytes=1))
UNI, BIDI = encode_varint(0x54), encode_varint(0x41)
GET: Final = head((":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"))


@pytest.fixture
def pair() -> RawPair:
    """A client that has sent its SETTINGS."""
    pair = RawPair()
    pair.say_settings()
    return pair


def _closed(pair: RawPair) -> events.SessionClosed:
    (closed,) = pair.machine_side.find(events.SessionClosed)
    return closed


@pytest.mark.parametrize(
    "settings",
    [{}, {Setting.H3_DATAGRAM: 1}, {Setting.WT_ENABLED: 1}],
    ids=["nothing", "no draft", "no datagrams"],
)
def test_a_client_that_does_not_meet_the_requirements_gets_no_session(settings: dict[int, int]) -> None:
    """Its CONNECT is reset with a code of its own, and the connection goes on."""
    pair = RawPair()
    pair.say_settings(settings)
    session_id = pair.say(CONNECT)
    pair.run_for(0.5)
    assert pair.client.resets == {session_id: Http3Code.WT_REQUIREMENTS_NOT_MET}
    asked = pair.say(GET, is_ended=True)
    pair.run_for(0.5)
    assert [event.stream_id for event in pair.machine_side.find(events.RequestReceived)] == [asked]


@pytest.mark.parametrize(
    "fields",
    [
        {":path": "no path"},
        {":authority": "a b"},
        {":scheme": "http"},
        {"content-length": "1"},
    ],
)
def test_a_malformed_connect_is_reset(pair: RawPair, fields: dict[str, str]) -> None:
    """Its stream alone pays, with H3_MESSAGE_ERROR."""
    good = {
        ":method": "CONNECT",
        ":protocol": "webtransport",
        ":scheme": "https",
        ":authority": "server.example",
        ":path": "/",
    }
    session_id = pair.say(head(*(good | fields).items()))
    pair.run_for(0.5)
    assert pair.client.resets == {session_id: Http3Code.H3_MESSAGE_ERROR}
    assert pair.machine_side.find(events.SessionRequested) == []
    assert not pair.machine.is_closing


def test_one_session_too_many_is_answered_with_429() -> None:
    """Beyond `max_sessions` the answer is 429, nothing is asked of the application, and a place frees when one is over."""
    pair = RawPair(WebTransportLimits(max_sessions=2))
    pair.say_settings()
    first = pair.connect()
    pair.connect()
    third = pair.say(CONNECT)
    pair.run_for(0.5)
    assert len(pair.machine_side.find(events.SessionRequested)) == 2
    assert b"429" in pair.client.received[third]
    assert third in pair.client.ended
    late = pair.say(UNI + encode_varint(third), is_unidirectional=True)
    pair.client.quic.end(first)
    pair.run_for(0.5)
    assert pair.client.stops[late] == Http3Code.WT_SESSION_GONE
    pair.connect()
    assert len(pair.machine_side.find(events.SessionRequested)) == 3


def test_a_flood_of_connects_leaves_nothing() -> None:
    """Of a thousand requests for sessions beyond the limit nothing is kept, and QUIC's places come back."""
    pair = RawPair(WebTransportLimits(max_sessions=1))
    pair.say_settings()
    pair.connect()
    for _ in range(50):
        for _ in range(20):
            stream_id = pair.say(CONNECT, is_ended=True)
            pair.client.quic.release(stream_id)
        pair.run_for(0.2)
    pair.run_for(2)
    sessions = pair.machine._inbound.sessions
    assert sessions is not None
    assert len(sessions._table) == 1
    assert len(sessions._gone) <= WebTransportLimits().max_remembered_sessions
    assert pair.machine_side.quic.stream_count < 10


def test_a_stream_for_a_session_that_is_over_is_refused(pair: RawPair) -> None:
    """Streams of both kinds are reset and stopped with WT_SESSION_GONE, and datagrams are dropped."""
    session_id = pair.connect()
    pair.client.quic.end(session_id)
    pair.run_for(0.2)
    assert _closed(pair) == events.SessionClosed(session_id, 0, "", events.Closer.PEER)
    uni = pair.say(UNI + encode_varint(session_id), is_unidirectional=True)
    bidi = pair.say(BIDI + encode_varint(session_id))
    pair.client.quic.send_datagram(encode_varint(session_id >> 2) + b"late", pair.now)
    pair.run_for(0.5)
    assert pair.client.stops == {uni: Http3Code.WT_SESSION_GONE, bidi: Http3Code.WT_SESSION_GONE}
    assert pair.client.resets == {bidi: Http3Code.WT_SESSION_GONE}
    assert pair.machine_side.session_datagrams == {}
    assert pair.machine_side.opened == {}


def test_early_streams_wait_for_the_answer(pair: RawPair) -> None:
    """What overtakes the application's answer is told behind it, stops included, and what is refused is gone."""
    pair.machine_side.answer = lambda event: None
    session_id, refused = pair.say(CONNECT), pair.say(CONNECT)
    bidi = pair.say(BIDI + encode_varint(session_id) + b"a")
    pair.run_for(0.1)
    pair.client.quic.send(bidi, b"b")
    pair.client.quic.stop(bidi, to_http3(9))
    other = pair.say(BIDI + encode_varint(refused) + b"x")
    pair.client.quic.send_datagram(encode_varint(session_id >> 2) + b"d", pair.now)
    pair.run_for(0.2)
    server = pair.machine_side
    assert server.opened == {}
    server.machine.accept_session(session_id, Answer(status=200), pair.now)
    server.machine.refuse_session(refused, Answer(status=403), pair.now)
    pair.run_for(0.2)
    assert server.opened == {bidi: session_id}
    assert server.received == {bidi: b"ab"}
    assert server.stream_stops == {bidi: 9}
    assert server.session_datagrams == {session_id: [b"d"]}
    assert pair.client.resets[other] == pair.client.stops[other] == Http3Code.WT_SESSION_GONE


@pytest.mark.parametrize(
    ("capsule", "code"),
    [
        (encode_varint(0x2843) + encode_varint(2) + b"ab", Http3Code.H3_MESSAGE_ERROR),
        (encode_varint(0x2843) + encode_varint(1 << 30), Http3Code.H3_MESSAGE_ERROR),
        (encode_varint(0x1234) + encode_varint(1 << 30), Http3Code.H3_EXCESSIVE_LOAD),
        (encode_varint(0x190B_4D3E) + encode_varint(1), Http3Code.H3_DATAGRAM_ERROR),
    ],
    ids=["short", "long", "1 GiB unknown", "forbidden"],
)
def test_a_wrong_capsule_ends_its_session_alone(pair: RawPair, capsule: bytes, code: Http3Code) -> None:
    """The session is over with an error, CONNECT is reset with the code, and another session goes on."""
    session_id, other = pair.connect(), pair.connect()
    stream_id = pair.say(BIDI + encode_varint(session_id) + b"x")
    pair.run_for(0.2)
    pair.client.quic.send(session_id, frame(0, capsule))
    pair.run_for(0.5)
    closed = _closed(pair)
    assert (closed.session_id, closed.code) == (session_id, code)
    assert closed.error is not None
    assert pair.client.resets == {session_id: code, stream_id: Http3Code.WT_SESSION_GONE}
    second = pair.say(UNI + encode_varint(other) + b"goes on", is_unidirectional=True)
    pair.run_for(0.2)
    assert pair.machine_side.received[second] == b"goes on"


def test_an_unknown_capsule_is_skipped(pair: RawPair) -> None:
    """Chromium sends one first; nothing comes of it."""
    session_id = pair.connect()
    pair.client.quic.send(session_id, frame(0, encode_varint(0x1234) + encode_varint(3) + b"abc"))
    pair.run_for(0.2)
    assert pair.machine.session(session_id) is not None
    assert pair.machine_side.find(events.SessionClosed) == []


def test_data_after_close_is_a_message_error(pair: RawPair) -> None:
    """CLOSE is the last word; what follows resets the stream, and the close stays as it was said."""
    session_id = pair.connect()
    close = encode_varint(0x2843) + encode_varint(4) + b"\0\0\0\1"
    pair.client.quic.send(session_id, frame(0, close + b"more"))
    pair.run_for(0.5)
    assert _closed(pair).code == 1
    # Our half had its end already, so there is nothing left to reset; the client's is stopped.
    assert pair.client.stops == {session_id: Http3Code.H3_MESSAGE_ERROR}


def test_a_connect_stream_that_is_reset_ends_its_session(pair: RawPair) -> None:
    """Nobody says why: the code is the one on the wire."""
    session_id = pair.connect()
    pair.client.quic.reset(session_id, Http3Code.H3_REQUEST_CANCELLED)
    pair.run_for(0.5)
    assert _closed(pair) == events.SessionClosed(session_id, Http3Code.H3_REQUEST_CANCELLED, "", events.Closer.LOST)
    assert pair.machine.is_settled


def test_a_connect_stream_that_is_stopped_ends_in_the_end(pair: RawPair) -> None:
    """A client that reads no more may still say CLOSE; if it does not, the session is over at the deadline."""
    session_id = pair.connect()
    pair.client.quic.stop(session_id, 5)
    pair.run_for(0.5)
    assert pair.machine_side.find(events.SessionClosed) == []
    pair.run_for(3)
    assert _closed(pair) == events.SessionClosed(session_id, 5, "", events.Closer.LOST)


def test_a_client_that_never_reads_how_its_session_ends_is_cut_at_the_deadline() -> None:
    """A session is forgotten even if CONNECT has no room for our end, since the client gives no credit."""
    pair = RawPair()
    pair.say_settings()
    session_id = pair.connect()
    server = pair.machine_side
    send_room = server.quic.send_room
    server.quic.send_room = lambda stream_id: 0  # type: ignore[method-assign]
    server.quic.send = lambda stream_id, data: 0  # type: ignore[method-assign]
    pair.client.quic.end(session_id)
    server.machine.drain_session(session_id)
    pair.run_for(0.5)
    assert not server.machine.is_settled
    pair.run_for(3)
    assert server.machine.is_settled
    server.quic.send_room = send_room


def test_a_connect_that_is_ended_at_once_is_over(pair: RawPair) -> None:
    """It is asked for, and over before anybody answers."""
    pair.machine_side.answer = lambda event: None
    session_id = pair.say(CONNECT, is_ended=True)
    pair.run_for(0.2)
    assert _closed(pair).session_id == session_id
    assert pair.client.resets == {session_id: Http3Code.H3_REQUEST_REJECTED}
