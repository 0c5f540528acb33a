"""A connection of WebTransport from end to end, in virtual time: sessions, streams, datagrams, requests, and its end."""

from __future__ import annotations

import pytest

from tests.webtransport.machine_pair import REQUEST, MachinePair, MachineSide
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.requests import Answer, ConnectRequest
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.settings import Draft, SessionLimits
from trio_streams.webtransport.quic_config import QuicLimits

UNCOUNTED = WebTransportLimits(session=SessionConfig())
DATA = bytes(range(251)) * 1_000


@pytest.fixture(params=[None, UNCOUNTED], ids=["counted", "uncounted"])
def pair(request: pytest.FixtureRequest) -> MachinePair:
    """A pair that is ready, with sessions that count what they carry, and with sessions that do not."""
    return MachinePair.ready(request.param)


def test_both_sides_are_ready_once_settings_are_through() -> None:
    """Before the handshake nothing is ready; then each side knows the newest draft and the limits of the other."""
    pair = MachinePair()
    client = pair.client.machine
    assert not (client.is_ready or client.is_over or client.is_closing)
    assert (client.peer_settings, client.round_trip) == (None, None)
    with pytest.raises(LocalProtocolError, match="not ready"):
        client.connect_session(REQUEST, pair.now)
    with pytest.raises(LocalProtocolError, match="not ready"):
        client.open_request()
    with pytest.raises(LocalProtocolError, match="no session"):
        client.accept_session(0, Answer(status=200), pair.now)
    with pytest.raises(LocalProtocolError, match="not open"):
        client.send_datagram(0, b"", pair.now)
    client.drain_session(0)
    client.close_session(0, 0, "", pair.now)
    assert client.session(0) is None
    pair.shake_hands()
    for side in (pair.client, pair.server):
        (ready,) = side.find(events.Ready)
        assert side.machine.peer_settings == ready.settings
        assert ready.settings.draft is Draft.DRAFT_15
        assert ready.settings.limits == WebTransportLimits().session.limits
        assert 0.01 < (side.machine.round_trip or 0) < 0.1
        assert len(side.machine.host_connection_id) == 8
    assert client.is_settled


def test_a_session_is_asked_for_and_accepted(pair: MachinePair) -> None:
    """The server reads the request, the client the answer with the subprotocol that was chosen."""
    pair.server.answer = lambda event: Answer(status=200, protocol="chat")
    request = ConnectRequest(
        authority="server.example", path="/room?x=1", origin="https://page.example", protocols=("chat", "other")
    )
    session_id = pair.connect(request)
    (asked,) = pair.server.find(events.SessionRequested)
    assert (asked.session_id, asked.request) == (session_id, request)
    (answered,) = pair.client.find(events.SessionAnswered)
    assert (answered.session_id, answered.answer.status, answered.answer.protocol) == (session_id, 200, "chat")
    assert not pair.client.machine.is_settled
    assert pair.client.machine.session(session_id) is not None
    with pytest.raises(LocalProtocolError, match="only clients"):
        pair.server.machine.connect_session(REQUEST, pair.now)


def test_a_session_is_refused(pair: MachinePair) -> None:
    """The client hears the status, nothing more is heard of the session, and both sides settle without a deadline."""
    pair.server.answer = lambda event: Answer(status=404, headers=(("x-why", "none such"),))
    session_id = pair.connect()
    (answered,) = pair.client.find(events.SessionAnswered)
    assert (answered.answer.status, answered.answer.headers) == (404, (("x-why", "none such"),))
    pair.run_for(0.2)
    assert pair.client.machine.is_settled
    assert pair.server.machine.is_settled
    assert not pair.client.machine.can_open(session_id, is_unidirectional=True)
    assert pair.client.find(events.SessionClosed) == pair.server.find(events.SessionClosed) == []


@pytest.mark.parametrize("is_unidirectional", [False, True])
@pytest.mark.parametrize("by_client", [False, True])
def test_streams_go_both_ways(pair: MachinePair, by_client: bool, is_unidirectional: bool) -> None:
    """Whoever opens a stream of either kind, its bytes and its end arrive whole, and its opener hears that they did."""
    session_id = pair.connect()
    opener, other = (pair.client, pair.server) if by_client else (pair.server, pair.client)
    assert opener.machine.can_open(session_id, is_unidirectional=is_unidirectional)
    stream_id = opener.open(session_id, is_unidirectional=is_unidirectional, data=DATA)
    assert opener.machine.undelivered_streams(session_id) <= 1
    pair.run_until(lambda: stream_id in other.ended)
    assert other.received[stream_id] == DATA
    assert other.find(events.StreamOpened) == [events.StreamOpened(session_id, stream_id, is_unidirectional)]
    if not is_unidirectional:
        other.write(stream_id, DATA[::-1])
        pair.run_until(lambda: stream_id in opener.ended)
        assert opener.received[stream_id] == DATA[::-1]
    pair.run_until(lambda: stream_id in opener.delivered)
    assert opener.machine.undelivered_streams(session_id) == 0
    for side in (opener, other):
        side.machine.release(stream_id)
        side.machine.release(stream_id)
    pair.run_for(1)
    _assert_no_streams(pair)


def _assert_no_streams(pair: MachinePair) -> None:
    """Neither side, nor a session, remembers a stream of a session."""
    for side in (pair.client, pair.server):
        assert side.machine._streams.table == {}
        for session_id in (0, 4):
            if (session := side.machine.session(session_id)) is not None:
                assert session.stream_count == 0
        http3_streams = 6 + (not side.machine.is_settled)
        assert side.quic.stream_count == http3_streams


def test_resets_and_stops_carry_the_applications_codes(pair: MachinePair) -> None:
    """A reset and a stop arrive with the 32-bit code they were made with, in both directions, at both ends of the range."""
    session_id = pair.connect()
    first, second = (pair.client.open(session_id) for _ in range(2))
    for stream_id in (first, second):
        pair.client.machine.send(stream_id, b"abc")
    pair.run_for(0.1)
    pair.client.machine.reset(first, 0)
    pair.client.machine.stop(first, 0xFFFF_FFFF)
    pair.server.machine.reset(second, 30)
    pair.server.machine.stop(second, 29)
    pair.run_for(0.5)
    assert pair.server.stream_resets == {first: 0}
    assert pair.server.stream_stops == {first: 0xFFFF_FFFF}
    assert pair.client.stream_resets == {second: 30}
    assert pair.client.stream_stops == {second: 29}
    with pytest.raises(LocalProtocolError, match="32 bits"):
        pair.client.machine.reset(first, 1 << 32)
    with pytest.raises(LocalProtocolError, match="was stopped"):
        pair.client.machine.send(second, b"x")
    for side in (pair.client, pair.server):
        for stream_id in (first, second):
            side.machine.release(stream_id)
    pair.run_for(0.5)
    _assert_no_streams(pair)


def test_a_reset_at_once_still_says_whose_stream_it_was(pair: MachinePair) -> None:
    """A stream that is reset in the moment it is opened reaches the peer with its header, and then the reset."""
    session_id = pair.connect()
    stream_id = pair.client.open(session_id, is_unidirectional=True)
    pair.client.machine.send(stream_id, DATA)
    pair.client.machine.reset(stream_id, 77)
    pair.client.machine.release(stream_id)
    pair.run_for(0.5)
    assert pair.server.opened == {stream_id: session_id}
    assert pair.server.stream_resets == {stream_id: 77}
    pair.server.machine.release(stream_id)
    pair.run_for(0.5)
    _assert_no_streams(pair)


def test_leaving_a_stream_resets_and_stops_it(pair: MachinePair) -> None:
    """Releasing a stream whose halves are open resets ours and stops the peer's, with the code."""
    session_id = pair.connect()
    stream_id = pair.client.open(session_id)
    pair.client.machine.send(stream_id, b"abc")
    pair.run_for(0.1)
    pair.server.machine.send(stream_id, DATA)
    pair.server.machine.release(stream_id, 5)
    pair.run_for(0.5)
    assert pair.client.stream_resets == pair.client.stream_stops == {stream_id: 5}
    pair.client.machine.release(stream_id)
    pair.run_for(0.5)
    _assert_no_streams(pair)


def test_an_ended_stream_may_be_released_before_it_is_delivered(pair: MachinePair) -> None:
    """What it took still arrives, and that it did is told all the same."""
    session_id = pair.connect()
    stream_id = pair.client.open(session_id, is_unidirectional=True, data=DATA[:100_000])
    pair.client.machine.release(stream_id)
    assert pair.client.machine.undelivered_streams(session_id) == 1
    pair.run_until(lambda: stream_id in pair.client.delivered)
    assert pair.client.machine.undelivered_streams(session_id) == 0
    assert pair.server.received[stream_id] == DATA[:100_000]


def test_the_sessions_limit_on_streams_moves_as_they_are_released() -> None:
    """`can_open` says no at the limit, and `StreamsAllowed` comes when the peer has released some."""
    config = SessionConfig(
        limits=SessionLimits(window_bytes=10_000, max_bidirectional_streams=2, max_unidirectional_streams=2)
    )
    pair = MachinePair.ready(WebTransportLimits(session=config))
    session_id = pair.connect()
    client = pair.client.machine
    streams = [pair.client.open(session_id, is_unidirectional=True, data=b"x") for _ in range(2)]
    assert not client.can_open(session_id, is_unidirectional=True)
    with pytest.raises(LocalProtocolError, match="allows no more"):
        client.open_stream(session_id, is_unidirectional=True)
    pair.run_for(0.5)
    for stream_id in streams:
        pair.server.machine.release(stream_id)
    pair.run_for(0.5)
    assert pair.client.find(events.StreamsAllowed) == [events.StreamsAllowed(session_id, True)]
    assert client.can_open(session_id, is_unidirectional=True)


def test_a_flush_is_wanted_while_there_is_something_to_say() -> None:
    """A stream that was opened is something, and so is what a session owes its peer; what has all arrived is nothing."""
    pair = MachinePair.ready()
    session_id, client = pair.connect(), pair.client.machine
    pair.run_for(1)
    assert not client.wants_flush
    client.open_stream(session_id, is_unidirectional=True)
    assert client.wants_flush
    pair.run_for(1)
    assert not client.wants_flush
    client.drain_session(session_id)
    assert client.wants_flush


def test_quics_limit_on_streams_is_told_to_the_session() -> None:
    """Where QUIC's places are used up, `StreamsAllowed` comes to the sessions that asked, once there are some."""
    quic_limits = QuicLimits(max_bidirectional_streams=3)
    pair = MachinePair.ready(UNCOUNTED, quic_limits)
    session_id = pair.connect()
    streams = [pair.client.open(session_id, data=b"x") for _ in range(2)]
    assert not pair.client.machine.can_open(session_id, is_unidirectional=False)
    assert pair.client.machine.can_open(session_id, is_unidirectional=True)
    with pytest.raises(LocalProtocolError, match="allows 3"):
        pair.client.machine.open_stream(session_id, is_unidirectional=False)
    pair.run_for(0.5)
    for stream_id in streams:
        pair.server.write(stream_id, b"y")
        pair.server.machine.release(stream_id)
    pair.run_for(1)
    assert pair.client.find(events.StreamsAllowed) == [events.StreamsAllowed(session_id, False)]
    assert pair.client.machine.can_open(session_id, is_unidirectional=False)


def test_datagrams_go_both_ways(pair: MachinePair) -> None:
    """A datagram of the largest size arrives at its session, and one byte more is an error that names the limit."""
    session_id = pair.connect()
    for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
        size = side.machine.max_datagram_size(session_id)
        assert size is not None
        side.machine.send_datagram(session_id, bytes(size), pair.now)
        side.machine.send_datagram(session_id, b"", pair.now)
        pair.run_for(0.1)
        assert other.session_datagrams == {session_id: [bytes(size), b""]}
        with pytest.raises(LocalProtocolError, match="max_datagram_size") as caught:
            side.machine.send_datagram(session_id, bytes(size + 1), pair.now)
        assert caught.value.limit == size


@pytest.mark.parametrize("by_client", [False, True])
def test_closing_a_session_says_why_and_ends_its_streams(pair: MachinePair, by_client: bool) -> None:
    """Both sides hear code and reason once, no event names its streams any more, and both settle when CONNECT has ended."""
    session_id = pair.connect()
    closer, other = (pair.client, pair.server) if by_client else (pair.server, pair.client)
    streams = [side.open(session_id, is_unidirectional=kind) for side in (closer, other) for kind in (False, True)]
    for stream_id in streams[:2]:
        closer.machine.send(stream_id, b"abc")
    pair.run_for(0.1)
    closer.machine.close_session(session_id, 0xFFFF_FFFF, "good bye", pair.now)
    closer.machine.close_session(session_id, 1, "twice", pair.now)
    pair.run_for(0.5)
    mine, theirs = closer.find(events.SessionClosed), other.find(events.SessionClosed)
    assert mine == [events.SessionClosed(session_id, 0xFFFF_FFFF, "good bye", events.Closer.LOCAL)]
    assert theirs == [events.SessionClosed(session_id, 0xFFFF_FFFF, "good bye", events.Closer.PEER)]
    assert other.stream_resets == other.stream_stops == closer.stream_resets == closer.stream_stops == {}
    assert pair.client.machine.is_settled
    assert pair.server.machine.is_settled
    _assert_no_streams(pair)
    for stream_id in streams:
        _use(closer, session_id, stream_id)


def _use(side: MachineSide, session_id: int, stream_id: int) -> None:
    """Whatever is done to a stream whose session is over is no matter."""
    machine = side.machine
    assert machine.send(stream_id, b"x") == 0
    machine.end(stream_id)
    machine.reset(stream_id, 1)
    machine.stop(stream_id, 1)
    machine.consumed(stream_id, 1)
    machine.set_priority(stream_id, 1)
    machine.release(stream_id)
    machine.drain_session(session_id)
    machine.close_session(session_id, 0, "", 0.0)
    assert machine.unsent_bytes(stream_id) == machine.undelivered_streams(session_id) == 0
    assert not machine.can_open(session_id, is_unidirectional=False)
    with pytest.raises(LocalProtocolError, match="no session"):
        machine.open_stream(session_id, is_unidirectional=False)


def test_drain_asks_and_forbids_nothing(pair: MachinePair) -> None:
    """The peer hears of it, and streams may still be opened."""
    session_id = pair.connect()
    pair.server.machine.drain_session(session_id)
    pair.run_for(0.1)
    assert pair.client.find(events.SessionDrained) == [events.SessionDrained(session_id)]
    stream_id = pair.client.open(session_id, data=b"still here")
    pair.run_until(lambda: stream_id in pair.server.ended)


def test_going_away_drains_sessions_and_takes_no_new_ones(pair: MachinePair) -> None:
    """A server's GOAWAY is told with a drain of each session, later sessions and requests are refused at the client."""
    session_id = pair.connect()
    pair.server.machine.go_away()
    pair.server.machine.go_away()
    pair.run_for(1)
    assert pair.client.machine.peer_went_away
    assert [event.last_id for event in pair.client.find(events.WentAway)] == [(1 << 62) - 4, session_id + 4]
    assert events.SessionDrained(session_id) in pair.client.find(events.SessionDrained)
    with pytest.raises(LocalProtocolError, match="went away"):
        pair.client.machine.connect_session(REQUEST, pair.now)
    with pytest.raises(LocalProtocolError, match="went away"):
        pair.client.machine.open_request()
    stream_id = pair.client.open(session_id, data=b"still here")
    pair.run_until(lambda: stream_id in pair.server.ended)


def test_a_client_goes_away_too() -> None:
    """Its GOAWAY reaches the server, which hears a drain of each session."""
    pair = MachinePair.ready()
    session_id = pair.connect()
    pair.client.machine.go_away()
    pair.run_for(1)
    assert pair.server.machine.peer_went_away
    assert len(pair.server.find(events.WentAway)) == 1
    assert events.SessionDrained(session_id) in pair.server.find(events.SessionDrained)


def test_closing_the_connection_is_one_event_for_all(pair: MachinePair) -> None:
    """Both sides hear that the connection is over, with code and reason, and nothing else; whatever is asked then is no matter."""
    session_id = pair.connect()
    stream_id = pair.client.open(session_id)
    pair.client.machine.send(stream_id, b"abc")
    pair.run_for(0.1)
    pair.client.machine.close(Http3Code.H3_INTERNAL_ERROR, "enough")
    assert pair.client.machine.is_closing
    pair.run_for(5)
    for side in (pair.client, pair.server):
        over = side.told[-1]
        assert over == events.ConnectionOver(None, Http3Code.H3_INTERNAL_ERROR, "enough", False, True)
        assert side.find(events.SessionClosed) == []
        assert side.machine.is_over
        assert side.machine.is_settled
        assert side.machine.next_deadline() is None
        _use(side, session_id, stream_id)
        side.machine.handle_deadline(pair.now)
    with pytest.raises(LocalProtocolError, match="over"):
        pair.client.machine.connect_session(REQUEST, pair.now)


def test_a_stream_that_is_reset_as_if_its_session_had_ended(pair: MachinePair) -> None:
    """Where nobody says that the session is over, the reset is told behind all else, without a code of the application."""
    session_id = pair.connect()
    client = pair.client.machine
    stream_id = client.open_stream(session_id, is_unidirectional=False)
    client.send(stream_id, b"x")
    pair.run_for(0.2)
    client._quic.reset(stream_id, Http3Code.H3_CONNECT_ERROR)
    pair.run_for(0.2)
    (told,) = pair.server.find(events.StreamReset)
    assert (told.stream_id, told.code) == (stream_id, None)
    assert client.session(session_id) is not None


def test_plain_requests_go_beside_sessions(pair: MachinePair) -> None:
    """Head, content and trailers of a request and of its answer arrive, interim heads first, beside a session."""
    pair.connect()
    client, server = pair.client.machine, pair.server.machine
    stream_id = client.open_request()
    client.send_head(
        stream_id, [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
    )
    assert client.send_body(stream_id, b"question") == 8
    client.send_trailers(stream_id, [(b"x-sum", b"1")])
    pair.run_for(0.2)
    (asked,) = pair.server.find(events.RequestReceived)
    assert (asked.stream_id, asked.headers[0], asked.is_ended) == (stream_id, (b":method", b"POST"), False)
    bodies = pair.server.find(events.BodyReceived)
    assert b"".join(b"".join(body.run) for body in bodies) == b"question"
    server.consumed(stream_id, 8)
    assert [event.headers for event in pair.server.find(events.TrailersReceived)] == [[(b"x-sum", b"1")]]
    server.send_head(stream_id, [(b":status", b"103")])
    server.send_head(stream_id, [(b":status", b"200")])
    assert server.send_body(stream_id, b"answer") == 6
    assert server.unsent_bytes(stream_id) > 6
    server.end_body(stream_id)
    server.release(stream_id)
    pair.run_for(0.2)
    statuses = [event.headers[0][1] for event in pair.client.find(events.AnswerReceived)]
    assert statuses == [b"103", b"200"]
    assert b"".join(b"".join(body.run) for body in pair.client.find(events.BodyReceived)) == b"answer"
    client.release(stream_id)
    pair.run_for(0.2)
    assert pair.client.quic.stream_count == pair.server.quic.stream_count == 7


def test_a_request_is_abandoned(pair: MachinePair) -> None:
    """Its stream is reset and stopped with the code, and the other side hears both."""
    stream_id = pair.client.machine.open_request()
    pair.client.machine.send_head(
        stream_id, [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
    )
    pair.run_for(0.1)
    pair.client.machine.abandon(stream_id, Http3Code.H3_REQUEST_CANCELLED)
    pair.run_for(0.1)
    code = Http3Code.H3_REQUEST_CANCELLED
    assert pair.server.find(events.RequestReset) == [events.RequestReset(stream_id, code)]
    assert pair.server.find(events.RequestStopped) == [events.RequestStopped(stream_id, code)]


def test_a_server_without_webtransport_is_not_asked() -> None:
    """A client whose server offers no datagrams says so instead of asking."""
    pair = MachinePair.ready()
    settings = pair.client.machine._inbound.sessions
    assert settings is not None
    object.__setattr__(settings._settings, "unmet", ("H3_DATAGRAM",))
    with pytest.raises(Http3Error, match="H3_DATAGRAM") as caught:
        pair.client.machine.connect_session(REQUEST, pair.now)
    assert caught.value.http3_code is Http3Code.WT_REQUIREMENTS_NOT_MET


def test_a_peer_without_datagrams_has_no_size_for_them() -> None:
    """Before the handshake nobody knows that the peer takes datagrams."""
    pair = MachinePair()
    assert pair.client.machine.max_datagram_size(0) is None


def test_a_machine_alone_has_the_default_limits() -> None:
    """Without limits of one's own those of a service that meets strangers hold."""
    pair = MachinePair()
    machine = ConnectionMachine(pair.client.quic, is_client=True)
    assert machine._limits == WebTransportLimits()


def test_a_ping_keeps_a_silent_connection() -> None:
    """Both sides outlive their idle timeout by it."""
    pair = MachinePair.ready(None, QuicLimits(idle_timeout=5))
    for _ in range(5):
        pair.run_for(3)
        pair.client.machine.ping()
    pair.run_for(1)
    assert not (pair.client.machine.is_over or pair.server.machine.is_over)
