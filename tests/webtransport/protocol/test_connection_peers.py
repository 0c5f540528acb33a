"""A server's machine before a client that breaks rules: what ends the connection, and what ends less."""

from __future__ import annotations

from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, RawPair, control, frame, head
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, to_http3
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
