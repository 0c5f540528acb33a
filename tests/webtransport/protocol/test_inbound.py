"""A server's machine before a client that breaks rules: what ends the connection, and what ends less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, REQUEST, RawPair, control, frame, head
from tests.webtransport.protocol.http3_fake import GET as GET_FIELDS
from tests.webtransport.protocol.machine_fake import FakeMachine, PortQuic
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, to_http3
from trio_streams.webtransport.protocol.inbound import Inbound
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.settings import SessionLimits, Setting, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint

COUNTED: Final = WebTransportLimits(
    session=SessionConfig(
        limits=SessionLimits(window_bytes=1_000, max_bidirectional_streams=2, max_unidirectional_streams=2)
    )
)
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


def test_sessions_wait_for_the_clients_settings() -> None:
    """A CONNECT, its DATA, a stream and a datagram that come first are looked at when the SETTINGS are here, and work."""
    pair = RawPair()
    session_id = pair.say(CONNECT)
    pair.client.quic.send(session_id, frame(0, encode_varint(0x78AE) + b"\0"))
    stream_id = pair.say(UNI + encode_varint(session_id) + b"early", is_unidirectional=True, is_ended=True)
    pair.client.quic.send_datagram(encode_varint(session_id >> 2) + b"early", pair.now)
    pair.run_for(0.5)
    server = pair.machine_side
    assert server.find(events.SessionRequested) == []
    assert not server.machine.is_settled
    pair.say_settings()
    assert len(server.find(events.SessionRequested)) == 1
    assert server.find(events.SessionDrained) == [events.SessionDrained(session_id)]
    assert server.received == {stream_id: b"early"}
    assert server.session_datagrams == {session_id: [b"early"]}


def test_only_so_many_sessions_wait_for_settings() -> None:
    """One more than `max_waiting_sessions` is rejected, as is one with too much DATA; plain requests need not wait."""
    pair = RawPair(WebTransportLimits(max_waiting_sessions=2))
    streams = [pair.say(CONNECT) for _ in range(3)]
    asked = pair.say(GET, is_ended=True)
    pair.run_for(0.5)
    assert [event.stream_id for event in pair.machine_side.find(events.RequestReceived)] == [asked]
    assert pair.client.resets == {streams[2]: Http3Code.H3_REQUEST_REJECTED}
    pair.client.quic.send(streams[0], frame(0, bytes(20_000)))
    pair.client.quic.reset(streams[1], 0)
    pair.run_for(0.5)
    assert pair.client.resets[streams[0]] == Http3Code.H3_REQUEST_REJECTED
    assert pair.machine.is_settled
    pair.say_settings()
    assert pair.machine_side.find(events.SessionRequested) == []


def test_a_client_without_settings_is_closed() -> None:
    """Who sends no SETTINGS within `settings_timeout` loses the connection."""
    pair = RawPair(WebTransportLimits(settings_timeout=3))
    pair.run_for(4)
    assert pair.over.code == Http3Code.H3_MISSING_SETTINGS
    assert "3 seconds" in str(pair.over.error)


def test_wrong_settings_end_the_connection() -> None:
    """A flag that is neither 0 nor 1 is H3_SETTINGS_ERROR."""
    pair = RawPair()
    pair.say_settings({Setting.WT_ENABLED: 2})
    assert pair.over.code == Http3Code.H3_SETTINGS_ERROR


@pytest.mark.parametrize("split", range(1, 6))
def test_a_header_may_be_split_anywhere(pair: RawPair, split: int) -> None:
    """However a stream's header is cut, its bytes reach their session."""
    session_id = pair.connect()
    data = b"\x80\x00\x00\x54" + encode_varint(session_id) + b"data"
    stream_id = pair.say(data[:split], is_unidirectional=True)
    pair.run_for(0.2)
    pair.client.quic.send(stream_id, data[split:])
    pair.client.quic.end(stream_id)
    pair.run_for(0.2)
    assert pair.machine_side.received == {stream_id: b"data"}
    assert pair.machine_side.ended == {stream_id}


@pytest.mark.parametrize("session_id", [1, 2, 3])
@pytest.mark.parametrize("is_unidirectional", [False, True])
def test_an_id_that_is_no_sessions_ends_the_connection(pair: RawPair, session_id: int, is_unidirectional: bool) -> None:
    """A header that names anything but a client's bidirectional stream is H3_ID_ERROR."""
    pair.say((UNI if is_unidirectional else BIDI) + encode_varint(session_id), is_unidirectional=is_unidirectional)
    assert pair.over.code == Http3Code.H3_ID_ERROR
    assert pair.over.error is not None


def test_a_bidirectional_stream_cut_within_its_header_ends_the_connection(pair: RawPair) -> None:
    """It is a frame that was cut; a unidirectional one is nobody's, and no fault."""
    pair.say(UNI, is_unidirectional=True, is_ended=True)
    pair.run_for(0.2)
    assert not pair.machine.is_closing
    pair.say(BIDI, is_ended=True)
    assert pair.over.code == Http3Code.H3_FRAME_ERROR


def test_the_signal_within_a_request_ends_the_connection(pair: RawPair) -> None:
    """0x41 is the type of no frame: anywhere but first it is H3_FRAME_ERROR, on a CONNECT stream, too."""
    session_id = pair.connect()
    pair.client.quic.send(session_id, BIDI + b"\x00")
    assert pair.over.code == Http3Code.H3_FRAME_ERROR


def test_a_stream_for_a_plain_request_is_refused(pair: RawPair) -> None:
    """A request that asks for no session has none, and what names it need not wait for one."""
    asked = pair.say(GET)
    pair.run_for(0.2)
    uni = pair.say(UNI + encode_varint(asked), is_unidirectional=True)
    pair.run_for(0.2)
    assert pair.client.stops == {uni: Http3Code.WT_SESSION_GONE}


def test_early_streams_are_bounded_in_number_bytes_and_age(pair: RawPair) -> None:
    """What passes a limit is refused with a code that says try again, and all that waits is dropped after five seconds."""
    named = UNI + encode_varint(4_000)
    streams = [pair.say(named, is_unidirectional=True) for _ in range(17)]
    pair.run_for(0.5)
    assert pair.client.stops == {streams[16]: Http3Code.WT_BUFFERED_STREAM_REJECTED}
    pair.client.quic.send(streams[0], bytes(65_537))
    for _ in range(200):
        pair.client.quic.send_datagram(encode_varint(1_000) + bytes(1_000), pair.now)
        pair.run_for(0.005)
    router = pair.machine._inbound.router
    assert router.early_bytes <= 65_536
    assert pair.client.stops[streams[0]] == Http3Code.WT_BUFFERED_STREAM_REJECTED
    assert router.early_streams == 15
    pair.run_for(6)
    assert set(pair.client.stops) == set(streams)
    assert router.early_bytes == router.early_streams == 0


def test_streams_without_a_header_are_bounded_in_number_and_age() -> None:
    """Streams that never finish their header are refused beyond a number, and the others after a while."""
    pair = RawPair(WebTransportLimits(max_unnamed_streams=10, header_timeout=2))
    pair.say_settings()
    streams = [pair.say(b"\x40", is_unidirectional=bool(number % 2)) for number in range(12)]
    pair.run_for(0.5)
    assert set(pair.client.stops) == set(streams[10:])
    assert pair.machine._inbound.router.unnamed_streams == 10
    pair.run_for(3)
    assert set(pair.client.stops) == set(streams)
    assert pair.machine._inbound.router.unnamed_streams == 0
    assert not pair.machine.is_closing


def test_a_stop_may_come_before_the_header(pair: RawPair) -> None:
    """A client that refuses our half of its stream before it says whose it is: the application hears it behind the opening."""
    session_id = pair.connect()
    stream_id = pair.client.quic.open_stream()
    pair.client.quic.stop(stream_id, to_http3(3))
    pair.run_for(0.2)
    pair.client.quic.send(stream_id, BIDI + encode_varint(session_id))
    pair.run_for(0.2)
    assert pair.machine_side.opened == {stream_id: session_id}
    assert pair.machine_side.stream_stops == {stream_id: 3}


def test_streams_that_are_reset_before_their_header_are_forgotten(pair: RawPair) -> None:
    """Nobody hears of them, and their places come back."""
    streams = [pair.say(b"\x40", is_unidirectional=bool(number % 2)) for number in range(4)]
    early = pair.say(UNI + encode_varint(4_000), is_unidirectional=True)
    pair.run_for(0.2)
    before = pair.machine_side.quic.stream_count
    for stream_id in [*streams, early]:
        pair.client.quic.reset(stream_id, 0)
    pair.run_for(1)
    assert pair.machine_side.quic.stream_count == before - 5
    assert pair.machine_side.opened == {}


def test_chromiums_resets_at_the_end_of_a_session_are_part_of_it(pair: RawPair) -> None:
    """Streams that are reset with 0x10f in the same breath as CLOSE comes are over with the session, without a word."""
    session_id = pair.connect()
    stream_id = pair.say(BIDI + encode_varint(session_id) + b"x")
    pair.run_for(0.2)
    pair.client.quic.reset(stream_id, Http3Code.H3_CONNECT_ERROR)
    pair.client.quic.stop(stream_id, Http3Code.H3_CONNECT_ERROR)
    pair.client.quic.send(session_id, frame(0, encode_varint(0x2843) + encode_varint(7) + b"\0\0\0\7bye"))
    pair.client.quic.end(session_id)
    pair.run_for(0.2)
    assert _closed(pair) == events.SessionClosed(session_id, 7, "bye", events.Closer.PEER)
    assert pair.machine_side.stream_resets == pair.machine_side.stream_stops == {}


def test_such_a_reset_alone_is_a_reset_without_a_code(pair: RawPair) -> None:
    """If the session does not end with it, the application hears that nobody said why."""
    session_id = pair.connect()
    stream_id = pair.say(BIDI + encode_varint(session_id) + b"x")
    pair.run_for(0.2)
    pair.client.quic.reset(stream_id, Http3Code.WT_SESSION_GONE)
    pair.client.quic.stop(stream_id, Http3Code.WT_SESSION_GONE)
    pair.run_for(0.2)
    assert pair.machine_side.stream_resets == pair.machine_side.stream_stops == {stream_id: None}


@pytest.mark.parametrize("what", ["bytes", "streams", "final size"])
def test_passing_the_sessions_limits_ends_the_session(what: str) -> None:
    """Where both asked for flow control, bytes, streams and the final size of a reset stream count, and 0x045d4487 is the answer."""
    pair = RawPair(COUNTED)
    pair.say_settings(ASKS_FOR_FLOW_CONTROL)
    pair.machine_side.reads = lambda stream_id: False
    session_id = pair.connect()
    named = UNI + encode_varint(session_id)
    for _ in range(3 if what == "streams" else 1):
        stream_id = pair.say(named + (bytes(1_001) if what == "bytes" else b""), is_unidirectional=True)
    if what == "final size":
        pair.run_for(0.1)
        # What the reset promises was sent, and lost.
        pair.client.quic.send(stream_id, bytes(1_001))
        pair.client.quic._feed()
        pair.client.quic._connection.datagrams_to_send(pair.now)
        pair.client.quic.reset(stream_id, to_http3(1))
    pair.run_for(0.5)
    assert _closed(pair).code == Http3Code.WT_FLOW_CONTROL_ERROR
    assert pair.client.resets == {session_id: Http3Code.WT_FLOW_CONTROL_ERROR}
    assert not pair.machine.is_closing


def test_what_is_dropped_counts_and_comes_back() -> None:
    """Bytes of streams that are stopped, reset or left unread count for the session, and its window is whole again."""
    pair = RawPair(COUNTED)
    pair.say_settings(ASKS_FOR_FLOW_CONTROL)
    server = pair.machine_side
    session_id = pair.connect()
    server.reads = lambda stream_id: False
    for number in range(30):
        stream_id = pair.say(UNI + encode_varint(session_id) + bytes(400), is_unidirectional=True)
        pair.run_for(0.1)
        match number % 3:
            case 0:
                server.machine.stop(stream_id, 1)
                pair.client.quic.send(stream_id, bytes(400))
            case 1:
                pair.client.quic.reset(stream_id, to_http3(1))
            case _:
                pair.client.quic.end(stream_id)
        pair.run_for(0.1)
        server.machine.release(stream_id)
        pair.run_for(0.1)
    assert server.find(events.SessionClosed) == []
    session = server.machine.session(session_id)
    assert session is not None
    assert session.stream_count == 0
    window = session._flow._granted[2]
    assert window.bytes == window.consumed_bytes >= 30 * 400


def test_a_datagram_without_a_session_id_ends_the_connection(pair: RawPair) -> None:
    """It is H3_DATAGRAM_ERROR."""
    pair.client.quic.send_datagram(b"", pair.now)
    assert pair.over.code == Http3Code.H3_DATAGRAM_ERROR


def test_a_flood_of_datagrams_is_passed_on_or_dropped(pair: RawPair) -> None:
    """The machine keeps none of them: those of an open session are told, others wait within the early limits."""
    session_id = pair.connect()
    for number in range(2_000):
        pair.client.quic.send_datagram(encode_varint(number % 50) + bytes(100), pair.now)
        if number % 100 == 0:
            pair.run_for(0.05)
    pair.run_for(0.2)
    assert len(pair.machine_side.session_datagrams[session_id]) == 40
    assert pair.machine._inbound.router.early_bytes <= 65_536
    assert list(pair.machine_side.session_datagrams) == [session_id]


def test_requests_are_bounded() -> None:
    """One more than `max_requests` is rejected with the code that lets it be sent again, and a place frees by release."""
    pair = RawPair(WebTransportLimits(max_requests=2))
    pair.say_settings()
    streams = [pair.say(GET, is_ended=True) for _ in range(3)]
    pair.run_for(0.2)
    assert pair.client.resets == {streams[2]: Http3Code.H3_REQUEST_REJECTED}
    pair.machine.release(streams[0])
    again = pair.say(GET, is_ended=True)
    pair.run_for(0.2)
    assert [event.stream_id for event in pair.machine_side.find(events.RequestReceived)] == [*streams[:2], again]


def test_a_malformed_request_is_reset_alone(pair: RawPair) -> None:
    """One that was not told yet is never told, and one that was hears that it is over."""
    never = pair.say(head((":method", "GET")))
    told = pair.say(head((":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")))
    pair.run_for(0.2)
    pair.client.quic.send(told, head((":status", "200")))
    pair.run_for(0.2)
    assert pair.client.resets == dict.fromkeys((never, told), Http3Code.H3_MESSAGE_ERROR)
    assert [event.stream_id for event in pair.machine_side.find(events.RequestReceived)] == [told]
    assert pair.machine_side.find(events.RequestReset) == [events.RequestReset(told, Http3Code.H3_MESSAGE_ERROR)]


def test_a_second_head_on_connect_ends_the_connection(pair: RawPair) -> None:
    """Nothing but DATA may follow there (RFC 9114 §4.4)."""
    session_id = pair.connect()
    pair.client.quic.send(session_id, head(("x-trailer", "1")))
    assert pair.over.code == Http3Code.H3_FRAME_UNEXPECTED


def test_nothing_is_heard_after_a_fault(pair: RawPair) -> None:
    """What arrives behind a fault that ends the connection is not looked at."""
    pair.connect()
    pair.say(BIDI + b"\1")
    pair.say(GET)
    assert pair.over.code == Http3Code.H3_ID_ERROR
    assert pair.machine_side.find(events.RequestReceived) == []


def test_a_second_control_stream_ends_the_connection(pair: RawPair) -> None:
    """What HTTP/3 calls a connection error is one here."""
    pair.say(control(), is_unidirectional=True)
    assert pair.over.code == Http3Code.H3_STREAM_CREATION_ERROR


# Exact rows, over a QUIC that keeps what it is told.


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
    assert early.tell(quic_events.DatagramReceived(b"\x02x")) == []
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
    assert not unready.has_news


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
    """Discarded bytes, a late reset, a delivery; and a reset that looks like the session's end waits to the last."""
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
    row.inbound.streams.end(other)
    delivered = quic_events.Delivered(other)
    assert row.tell(delivered) == [delivered]
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
    assert row.quic.priorities[asked] == (0, 0, False)


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
    row.tell(quic_events.DatagramReceived(b""))
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
