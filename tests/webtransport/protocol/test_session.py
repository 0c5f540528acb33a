"""The session machine: from CONNECT to the end, by what is said on the CONNECT stream."""

from __future__ import annotations

import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import session_events as events
from trio_streams.webtransport.protocol.capsules import (
    Capsule,
    CapsuleParser,
    Close,
    DataBlocked,
    Drain,
    MaxData,
    MaxStreams,
    StreamsBlocked,
    encode_capsule,
)
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.session import TRANSITIONS, SessionConfig, SessionMachine, SessionState, Trigger
from trio_streams.webtransport.protocol.settings import SessionLimits

LIMITS = SessionLimits(window_bytes=100, max_bidirectional_streams=1, max_unidirectional_streams=1)
FLOW = SessionConfig(limits=LIMITS, max_waiting_capsule_bytes=50, max_skipped_capsule_bytes=50)
GREASE = bytes.fromhex("5234 03 616263")


def connecting(*, is_client: bool = False) -> SessionMachine:
    return SessionMachine(4, is_client=is_client, peer_limits=LIMITS, config=FLOW)


def opened(*, is_client: bool = False) -> SessionMachine:
    session = connecting(is_client=is_client)
    session.accept(0.0)
    assert list(session.events()) == [events.Accepted()]
    return session


def said(session: SessionMachine) -> list[Capsule]:
    """What goes on the CONNECT stream."""
    data = session.to_send()
    parser, position, found = CapsuleParser(), 0, list[Capsule]()
    while position < len(data):
        capsule, position = parser.parse_next(data, position)
        assert capsule is not None
        found.append(capsule)
    return found


def failure(session: SessionMachine) -> Http3Code:
    """The error of a session that has failed; it is the last event, and what the stream is reset with."""
    last = list(session.events())[-1]
    assert isinstance(last, events.Failed)
    assert session.reset_code is last.error.http3_code
    assert session.state is SessionState.CLOSED
    assert session.is_over
    return last.error.http3_code


def test_a_plain_session() -> None:
    """Defaults: accepted, drained by the peer, closed by it with a code and a reason; our half ends, too."""
    session = SessionMachine(0, is_client=True)
    assert not session.has_flow_control
    session.accept(0.0)
    session.receive(GREASE + encode_capsule(Drain()) + encode_capsule(Close(7, "bye")), 1.0)
    session.receive_end(1.0)
    assert list(session.events()) == [
        events.Accepted(),
        events.Drained(),
        events.Closed(7, "bye", events.Closer.PEER),
    ]
    assert (session.state, session.ends_sending, session.reset_code) == (SessionState.CLOSED, True, None)
    assert session.is_over
    assert session.next_deadline() is None
    assert said(session) == []


def test_closed_by_us() -> None:
    """CLOSE and the end of our half go out; the session is over when the peer's half has ended, too."""
    session = opened()
    session.accept_stream(2)
    session.close(9, "enough", 1.0)
    assert list(session.events()) == [events.Abandoned((2,)), events.Closed(9, "enough", events.Closer.LOCAL)]
    assert session.ends_sending
    session.receive_end(1.1)
    assert not session.is_over
    assert said(session) == [Close(9, "enough")]
    assert session.is_over
    session.receive_end(1.2)
    session.receive(b"\x00", 1.2)
    assert session.reset_code is None


def test_an_end_without_a_close() -> None:
    """It is code 0 without a reason."""
    session = opened()
    session.receive_end(1.0)
    assert list(session.events()) == [events.Closed(0, "", events.Closer.PEER)]
    assert (session.ends_sending, session.is_over, session.reset_code) == (True, True, None)


def test_an_end_within_a_capsule() -> None:
    """It is H3_MESSAGE_ERROR."""
    session = opened()
    session.receive(encode_capsule(Close(1, "x"))[:-1], 1.0)
    session.receive_end(1.0)
    assert failure(session) is Http3Code.H3_MESSAGE_ERROR


@pytest.mark.parametrize("is_split", [True, False])
def test_anything_after_a_close(*, is_split: bool) -> None:
    """It resets the stream with H3_MESSAGE_ERROR; the close stands."""
    session = opened()
    data = encode_capsule(Close(5, "x")) + b"\x00"
    for piece in [data[:-1], data[-1:]] if is_split else [data]:
        session.receive(piece, 1.0)
    assert list(session.events()) == [events.Closed(5, "x", events.Closer.PEER)]
    assert session.reset_code is Http3Code.H3_MESSAGE_ERROR
    session.receive(b"more", 1.0)
    assert list(session.events()) == []


def test_both_close_at_once() -> None:
    """The first cause wins, here ours; capsules that crossed it are nobody's fault."""
    session = opened()
    session.close(1, "we", 1.0)
    session.receive(encode_capsule(Drain()) + encode_capsule(MaxData(1)) + encode_capsule(Close(2, "they")), 1.1)
    session.receive_end(1.1)
    assert list(session.events()) == [events.Closed(1, "we", events.Closer.LOCAL)]
    assert said(session) == [Close(1, "we")]
    assert session.reset_code is None
    assert session.is_over


def test_the_peer_has_its_time_to_end() -> None:
    """After `close_timeout` the stream is reset; before it, nothing happens."""
    session = opened()
    session.close(1, "", 1.0)
    deadline = session.next_deadline()
    assert deadline == 3.0
    session.handle_deadline(2.9)
    assert session.reset_code is None
    session.handle_deadline(deadline)
    assert session.reset_code is Http3Code.H3_NO_ERROR
    assert session.is_over
    assert session.next_deadline() is None
    session.handle_deadline(9.0)
    assert list(session.events()) == [events.Closed(1, "", events.Closer.LOCAL)]


def test_capsules_wait_for_the_answer() -> None:
    """What comes before the 2xx is looked at after it; nothing goes out before it."""
    session = connecting()
    session.receive(encode_capsule(Drain()), 0.0)
    session.receive(encode_capsule(Close(3, "x")), 0.0)
    assert list(session.events()) == []
    assert said(session) == []
    session.accept(1.0)
    assert list(session.events()) == [
        events.Accepted(),
        events.Drained(),
        events.Closed(3, "x", events.Closer.PEER),
    ]


def test_too_much_before_the_answer() -> None:
    """What waits is bounded."""
    session = connecting()
    session.receive(bytes(50), 0.0)
    session.receive(b"", 0.0)
    assert session.state is SessionState.CONNECTING
    session.receive(b"x", 0.0)
    assert failure(session) is Http3Code.H3_EXCESSIVE_LOAD


@pytest.mark.parametrize(
    ("is_client", "code"), [(True, Http3Code.H3_REQUEST_CANCELLED), (False, Http3Code.H3_REQUEST_REJECTED)]
)
@pytest.mark.parametrize("is_peer", [True, False])
def test_given_up_before_the_answer(code: Http3Code, *, is_client: bool, is_peer: bool) -> None:
    """Nothing can be said yet, so the stream is reset, whoever gives up; what waited is looked at for a reason."""
    session = connecting(is_client=is_client)
    if is_peer:
        session.receive(encode_capsule(Drain()) + encode_capsule(Close(8, "late")), 0.0)
        session.receive_end(0.0)
        ended: list[events.Event] = [events.Drained(), events.Closed(8, "late", events.Closer.PEER)]
        assert list(session.events()) == ended
    else:
        session.close(8, "late", 0.0)
        assert list(session.events()) == [events.Closed(8, "late", events.Closer.LOCAL)]
    assert session.reset_code is code
    assert said(session) == []
    with pytest.raises(LocalProtocolError):
        session.accept(1.0)


def test_refused() -> None:
    """Streams that a client opened early are abandoned; the stream ends, within its time."""
    session = connecting(is_client=True)
    session.open_stream(0)
    session.refuse(404, 1.0)
    assert list(session.events()) == [events.Abandoned((0,)), events.Refused(404)]
    assert (session.ends_sending, session.is_over, session.next_deadline()) == (True, False, 3.0)
    session.receive_end(1.5)
    assert session.is_over
    assert list(session.events()) == []


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_reset_of_the_connect_stream(*, is_closed: bool) -> None:
    """It ends the session without a reason; after a close it changes nothing."""
    session = opened()
    if is_closed:
        session.close(1, "", 0.0)
    session.receive_reset(0x10C, 1.0)
    closed = events.Closed(1, "", events.Closer.LOCAL) if is_closed else events.Closed(0x10C, "", events.Closer.LOST)
    assert list(session.events()) == [closed]
    assert session.is_over
    assert said(session) == []


def test_a_stop_waits_for_the_close() -> None:
    """A peer may stop our half beside its CLOSE, and that comes later; we have nothing to say any more."""
    session = opened()
    session.drain()
    session.receive_stop(Http3Code.WT_SESSION_GONE, 1.0)
    assert said(session) == []
    session.receive(encode_capsule(Close(6, "why")), 1.5)
    session.receive_end(1.5)
    assert list(session.events()) == [events.Closed(6, "why", events.Closer.PEER)]
    assert session.is_over


def test_a_stop_without_a_close() -> None:
    """After `close_timeout` the session is lost; if we close it before, there is nobody to tell."""
    session = opened()
    session.receive_stop(Http3Code.WT_SESSION_GONE, 1.0)
    session.handle_deadline(3.0)
    assert list(session.events()) == [events.Closed(Http3Code.WT_SESSION_GONE, "", events.Closer.LOST)]
    session = opened()
    session.receive_stop(Http3Code.WT_SESSION_GONE, 1.0)
    session.close(1, "", 2.0)
    assert said(session) == []
    assert session.next_deadline() == 3.0


def test_drained_by_us() -> None:
    """DRAIN goes out, once for each time it is asked for; streams may still be opened, and the session closed."""
    session = opened()
    session.drain()
    assert session.state is SessionState.DRAINING
    assert said(session) == [Drain()]
    session.receive(encode_capsule(Drain()), 1.0)
    assert session.may_open(is_unidirectional=False)
    session.open_stream(1)
    session.drain()
    session.close(0, "", 1.0)
    assert said(session) == [Close(0, "")]


def test_what_cannot_be_done() -> None:
    """Each call in the wrong state is our own error, and changes nothing."""
    session = connecting()
    with pytest.raises(LocalProtocolError, match="session 4 cannot be drained: it is connecting"):
        session.drain()
    session.accept(0.0)
    with pytest.raises(LocalProtocolError, match="accepted"):
        session.accept(0.0)
    with pytest.raises(LocalProtocolError, match="refused"):
        session.refuse(404, 0.0)
    with pytest.raises(LocalProtocolError, match="32 bits"):
        session.close(2**32, "", 0.0)
    assert session.state is SessionState.OPEN
    session.close(0, "", 0.0)
    with pytest.raises(LocalProtocolError, match="closed"):
        session.close(0, "", 0.0)
    with pytest.raises(LocalProtocolError, match="stream"):
        session.may_open(is_unidirectional=True)
    with pytest.raises(LocalProtocolError, match="stream"):
        session.open_stream(1)


def test_the_end_abandons_the_streams() -> None:
    """All that are not finished, before the last event, with 0x170d7b68; one that comes later, at once."""
    session = opened()
    for stream_id in (0, 2):
        assert session.accept_stream(stream_id)
    session.open_stream(1)
    session.finish_stream(0)
    session.finish_stream(77)
    assert session.stream_count == 2
    session.receive_end(1.0)
    abandoned, closed = session.events()
    assert abandoned == events.Abandoned((2, 1), Http3Code(0x170D7B68))
    assert isinstance(closed, events.Closed)
    assert not session.accept_stream(4)
    assert list(session.events()) == [events.Abandoned((4,))]
    assert session.stream_count == 0


def test_streams_are_limited() -> None:
    """We wait for the peer's limit, and it for ours: a finished stream of the peer's lets it open another one."""
    session = opened(is_client=True)
    assert session.has_flow_control
    session.open_stream(0)
    with pytest.raises(LocalProtocolError):
        session.open_stream(8)
    assert not session.may_open(is_unidirectional=False)
    assert said(session) == [StreamsBlocked(1, is_unidirectional=False)]
    session.receive(encode_capsule(MaxStreams(2, is_unidirectional=False)), 0.0)
    session.receive(encode_capsule(MaxStreams(3, is_unidirectional=False)), 0.0)
    assert list(session.events()) == [events.StreamsAllowed(is_unidirectional=False)]
    assert session.accept_stream(3)
    session.finish_stream(3)
    session.finish_stream(0)
    assert said(session) == [MaxStreams(2, is_unidirectional=True)]


def test_one_stream_too_many() -> None:
    """It ends the session with WT_FLOW_CONTROL_ERROR, and is abandoned with the others."""
    session = opened()
    assert session.accept_stream(0)
    assert not session.accept_stream(4)
    assert next(session.events()) == events.Abandoned((0, 4))
    session = opened()
    session.accept_stream(0)
    session.accept_stream(4)
    assert failure(session) is Http3Code.WT_FLOW_CONTROL_ERROR


def test_bytes_are_limited() -> None:
    """We wait for the peer's limit, and it for ours."""
    session = opened()
    session.count_sent(session.sendable_bytes)
    session.want_data()
    session.count_received(100)
    session.count_consumed(100)
    assert said(session) == [MaxData(200), DataBlocked(100)]
    session.receive(encode_capsule(MaxData(150)) + encode_capsule(DataBlocked(1)), 0.0)
    session.receive(encode_capsule(MaxData(160)), 0.0)
    assert list(session.events()) == [events.DataAllowed()]
    assert session.sendable_bytes == 60
    with pytest.raises(LocalProtocolError):
        session.count_sent(61)
    session.count_received(101)
    assert failure(session) is Http3Code.WT_FLOW_CONTROL_ERROR


def test_bytes_that_were_never_sent() -> None:
    """They may be sent on another stream, and whoever waits for credit hears of it."""
    session = opened()
    session.count_sent(100)
    session.count_unsent(10)
    assert list(session.events()) == []
    session.want_data()
    session.count_unsent(10)
    assert list(session.events()) == [events.DataAllowed()]
    assert session.sendable_bytes == 20


def test_a_fault_elsewhere() -> None:
    """What is wrong in the heads, or on a stream, ends the session like what is wrong in a capsule."""
    session = connecting()
    session.fail(Http3Error("wrong", Http3Code.WT_ALPN_ERROR))
    assert failure(session) is Http3Code.WT_ALPN_ERROR


def test_a_lowered_limit() -> None:
    """It ends the session with WT_FLOW_CONTROL_ERROR."""
    session = opened()
    session.receive(encode_capsule(MaxData(99)), 0.0)
    assert failure(session) is Http3Code.WT_FLOW_CONTROL_ERROR


def test_a_fault_after_the_end() -> None:
    """Only the stream pays for it, with the first code: no second last event."""
    session = opened()
    session.close(1, "", 0.0)
    session.receive(bytes.fromhex("6843 01 00"), 0.0)
    assert list(session.events()) == [events.Closed(1, "", events.Closer.LOCAL)]
    assert session.reset_code is Http3Code.H3_MESSAGE_ERROR
    session.receive_reset(1, 0.0)
    assert list(session.events()) == []
    assert session.reset_code is Http3Code.H3_MESSAGE_ERROR


def test_the_table_is_closed_under_its_end() -> None:
    """Every state but the last one can end, and the last one is left by nothing."""
    assert {state for state, trigger in TRANSITIONS if trigger is Trigger.END} == set(SessionState) - {
        SessionState.CLOSED
    }
    assert SessionState.CLOSED not in {state for state, _ in TRANSITIONS}
