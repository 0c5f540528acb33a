"""What arrives in a session of procedures, and what becomes of a peer that breaks a rule."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import CONFIG, HELLO, consume, frame
from tests.webtransport.protocol.port_log import PortLog
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.flow import cost
from trio_streams.webtransport.protocol.procedure_stream import encode_frame
from trio_streams.webtransport.protocol.session_mux import SessionMux
from trio_streams.wire.binary import PREFACE, BinaryWire

OPEN = encode_frame(records.Open("x", window_items=10, window_bytes=10_000))
END = encode_frame(records.End())
CONTROL, STREAM = 3, 5


class Raw:
    """A mux whose peer is the test."""

    def __init__(self, config: ConnectionConfig = CONFIG, *, greets: bool = True) -> None:
        self.port = PortLog()
        self.mux = SessionMux(self.port, config=config, session_id="me", now=0.0)
        self.mux.flush()
        self.now = 0.0
        self.port.take_calls()
        self.port.sent.clear()
        if greets:
            self.mux.opened(CONTROL, is_unidirectional=True)
            assert [type(event) for event in self.control(PREFACE + HELLO)] == [events.Greeted]
            self.mux.flush()
            self.port.take_calls()

    def control(self, data: bytes, *, is_ended: bool = False) -> list[events.Event]:
        self.mux.received(CONTROL, [data], is_ended=is_ended, now=self.now)
        return list(self.mux.events())

    def receive(self, *chunks: bytes, is_ended: bool = False, stream_id: int = STREAM) -> list[events.Event]:
        self.mux.received(stream_id, chunks, is_ended=is_ended, now=self.now)
        return list(self.mux.events())

    def open(self, *chunks: bytes, is_ended: bool = False, stream_id: int = STREAM) -> list[events.Event]:
        """Let the peer open a stream; without its OPEN, unless a chunk is one."""
        self.mux.opened(stream_id, is_unidirectional=False)
        return self.receive(*chunks, is_ended=is_ended, stream_id=stream_id) if chunks or is_ended else []


# -- control ------------------------------------------------------------------------------------------------------


def test_the_peers_hello_comes_first() -> None:
    """It is told with its limits, and its bytes are given back at once: nobody has to take them."""
    raw = Raw(greets=False)
    raw.mux.opened(CONTROL, is_unidirectional=True)
    (greeted,) = raw.control(PREFACE + HELLO)
    assert isinstance(greeted, events.Greeted)
    assert raw.mux.peer_hello == greeted.hello
    assert raw.port.take_calls() == [("consumed", CONTROL, len(PREFACE + HELLO))]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (frame(9, 0, bytes(8)), "the peer's first frame is not HELLO"),
        (HELLO + HELLO, "the peer sent a second HELLO"),
        (
            HELLO.replace(b'"peer"', b'"me"').replace(bytes([len(HELLO) - 12]), bytes([len(HELLO) - 14])),
            "our own HELLO",
        ),
        (HELLO + frame(4, 1, b"a"), "the peer sent DATA on its control stream"),
        (HELLO + OPEN, "the peer sent OPEN on its control stream"),
        (HELLO + frame(77), "unknown type 77"),
    ],
)
def test_a_fault_on_the_control_stream_ends_the_session(said: bytes, error: str) -> None:
    """`Failed` is the last event; nothing of the session is heard or handed on any more."""
    raw = Raw(greets=False)
    raw.mux.opened(CONTROL, is_unidirectional=True)
    told = raw.control(PREFACE + said)
    assert isinstance(told[-1], events.Failed)
    assert error in str(told[-1].error)
    assert raw.mux.failure is told[-1].error
    raw.port.take_calls()
    assert raw.control(frame(9, 0, bytes(8))) == []
    raw.mux.flush()
    assert (raw.port.take_calls(), raw.port.sent, raw.mux.has_output, raw.mux.is_flushed) == ([], {}, False, True)


def test_a_control_stream_is_for_the_whole_session() -> None:
    """Its end, its reset and a stop of ours are faults of the peer."""
    for index in range(3):
        raw = Raw()
        if index == 0:
            raw.control(b"", is_ended=True)
        elif index == 1:
            raw.mux.was_reset(CONTROL, 0)
        else:
            raw.mux.was_stopped(2, 0)
        assert str(raw.mux.failure) == "the peer closed a control stream"


def test_a_ping_is_answered() -> None:
    """With its number, on our control stream."""
    raw = Raw()
    raw.control(frame(9, 0, (7).to_bytes(8, "big")))
    raw.mux.flush()
    assert BinaryWire(expects_preface=False).decode(raw.port.sent[2]) == [(0, records.Pong(7))]


def test_a_pong_tells_the_round_trip() -> None:
    """Once; a number that is not under way says nothing."""
    raw = Raw()
    number = raw.mux.ping(1.0)
    raw.now = 1.5
    pong = frame(10, 0, number.to_bytes(8, "big"))
    assert raw.control(pong + pong) == [events.Ponged(number, 0.5)]
    assert raw.mux.round_trip == 0.5


def test_a_peer_that_leaves_its_answers_unread_is_given_up() -> None:
    """What we owe it is bounded."""
    raw = Raw(attrs.evolve(CONFIG, max_control_bytes=1_024))
    raw.port.room[2] = 0
    assert raw.control(frame(9, 0, bytes(8)) * 51) == []
    (failed,) = raw.control(frame(9, 0, bytes(8)))
    assert isinstance(failed, events.Failed)
    assert (failed.error.code, failed.error.field) == (Code.RESOURCE_EXHAUSTED, "max_control_bytes")
    assert (failed.error.size, failed.error.limit) == (1_040, 1_024)


def test_a_second_unidirectional_stream_is_refused() -> None:
    """It costs that stream alone: a later version may have a use for it."""
    raw = Raw()
    raw.mux.opened(7, is_unidirectional=True)
    assert raw.port.take_calls()[-2:] == [("stop", 7, Code.UNIMPLEMENTED), ("release", 7)]
    assert raw.mux.failure is None


def test_credit_goes_to_its_stream() -> None:
    """A stream that waited is writable; one that is gone, or whose OPEN is not here, is passed over."""
    raw = Raw()
    raw.open(encode_frame(records.Open("x", window_items=1, window_bytes=1_000)))
    assert raw.mux.send(STREAM, [b"a", b"b"]) == 1
    assert raw.control(_credit(STREAM, 2, 1_000)) == [events.Writable(STREAM)]
    assert raw.control(_credit(STREAM, 2, 1_000)) == []
    assert raw.control(_credit(STREAM, 3, 1_000)) == []
    assert raw.mux.send(STREAM, [b"b", b"c", b"d"]) == 2
    assert raw.control(_credit(4_000, 2, 1_000)) == []
    raw.open(stream_id=9)
    assert raw.control(_credit(9, 2, 1_000)) == []


def _credit(stream_id: int, items: int, size: int) -> bytes:
    return frame(8, stream_id, items.to_bytes(8, "big") + size.to_bytes(8, "big"))


# -- streams ------------------------------------------------------------------------------------------------------


def test_a_stream_of_the_peers_is_told_with_its_first_frame() -> None:
    """Head, items and end follow; items that come together are one run, over chunks, too."""
    raw = Raw()
    head = encode_frame(records.Header({"a": "b"}))
    told = raw.open(OPEN + head + frame(4, 1, b"a"), frame(4, 1, b"b") + frame(4, 1, b"c") + END, is_ended=True)
    assert told == [
        events.Opened(STREAM, records.Open("x", window_items=10, window_bytes=10_000)),
        events.Headed(STREAM, {"a": "b"}),
        events.Received(STREAM, [b"a", b"b", b"c"]),
        events.Ended(STREAM, records.OK, {}),
    ]
    held = sum(size for call, _, size in raw.port.take_calls() if call == "consumed")  # type: ignore[misc]
    assert held == len(OPEN + head + END) + 3 * 12
    consume(raw.mux, STREAM, [b"a", b"b", b"c"])
    assert raw.port.take_calls() == [("consumed", STREAM, 3)]


def test_a_priority_is_passed_on() -> None:
    """What the opener asks for is the send order of our half, too."""
    raw = Raw()
    raw.open(encode_frame(records.Open("x", priority=-3)))
    assert ("priority", STREAM, -3) in raw.port.take_calls()


def test_streams_that_overtake_the_hello_wait_for_it() -> None:
    """What came of them is told behind it, but for those that were reset meanwhile; what was not told holds its bytes."""
    raw = Raw(greets=False)
    assert raw.open(OPEN, frame(4, 1, b"a")) == []
    assert raw.receive(frame(4, 1, b"b") + END, is_ended=True) == []
    assert raw.open(OPEN, stream_id=9) == []
    assert raw.port.take_calls() == []
    raw.mux.was_reset(9, 1)
    raw.mux.opened(CONTROL, is_unidirectional=True)
    greeted, opened, received, ended = raw.control(PREFACE + HELLO)
    assert isinstance(greeted, events.Greeted)
    assert isinstance(opened, events.Opened)
    assert received == events.Received(STREAM, [b"a", b"b"])
    assert isinstance(ended, events.Ended)
    assert ("release", 9) in raw.port.take_calls()


def test_what_overtook_the_hello_may_be_refused_in_part() -> None:
    """A stream that breaks a rule in one of its early runs has no further ones."""
    raw = Raw(greets=False)
    raw.open(END)
    raw.receive(OPEN)
    raw.mux.opened(CONTROL, is_unidirectional=True)
    assert [type(event) for event in raw.control(PREFACE + HELLO)] == [events.Greeted]
    assert raw.mux.stream_count == 0


def test_a_large_item_holds_no_more_than_what_completed_it() -> None:
    """Its parts are given back as they come: streams that wait for the rest of an item must not use up the windows."""
    raw = Raw()
    raw.open(OPEN)
    raw.port.take_calls()
    item = bytes(range(256)) * 100
    first = frame(4, 1, len(item).to_bytes(4, "big") + item[:16_000], flags=2)
    last = frame(4, 1, item[16_000:], flags=4)
    assert raw.receive(first) == []
    assert raw.port.take_calls() == [("consumed", STREAM, len(first))]
    assert raw.receive(last) == [events.Received(STREAM, [item])]
    assert raw.port.take_calls() == []
    consume(raw.mux, STREAM, [item])
    assert raw.port.take_calls() == [("consumed", STREAM, len(last))]


def test_a_large_item_that_comes_as_a_whole_is_one() -> None:
    """Pieces in one chunk are joined by the decoder."""
    raw = Raw()
    item = bytes(range(256)) * 100
    whole = frame(4, 1, len(item).to_bytes(4, "big") + item[:16_000], flags=2) + frame(4, 1, item[16_000:], flags=4)
    assert raw.open(OPEN, whole)[1:] == [events.Received(STREAM, [item])]


FAULTS = [
    ("an OPEN that comes twice", OPEN, "the peer sent OPEN on a stream that is open"),
    ("a record of the session's", frame(8, 1, bytes(16)), "the peer sent CREDIT on a stream that is open"),
    ("a reset that is no reset", frame(6, 1, bytes(4)), "the peer sent RESET on a stream that is open"),
    ("another stream's frame", frame(4, 3, b"a"), "a frame of stream 3"),
    ("no frame", frame(77, 1), "unknown type 77"),
    ("an item too many", frame(4, 1, b"a") * 2, "window_items limit is 1"),
    ("an item that is too large", frame(4, 1, (101).to_bytes(4, "big") + b"a", flags=2), "max_item_bytes is 100"),
    ("a whole item that is too large", frame(4, 1, bytes(101)), "max_item_bytes is 100"),
    ("a piece of nothing", frame(4, 1, b"a", flags=4), "an item that it never began"),
    ("a late head", frame(4, 1, b"a") + encode_frame(records.Header()), "a header after its first item"),
]


@pytest.mark.parametrize(("said", "error"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_a_fault_on_a_stream_ends_that_stream(said: bytes, error: str) -> None:
    """Both halves are over with the error's code, its words are told here, and the session goes on."""
    limits = attrs.evolve(CONFIG.stream, window_items=1)
    raw = Raw(attrs.evolve(CONFIG, max_item_bytes=100, stream=limits))
    raw.open(OPEN)
    raw.port.take_calls()
    *_, reset, stopped = raw.receive(said)
    assert isinstance(reset, events.Reset)
    assert isinstance(stopped, events.Stopped)
    assert (reset.code, reset.reason) == (stopped.code, stopped.reason)
    assert error in reset.reason
    calls = raw.port.take_calls()
    assert ("reset", STREAM, reset.code) in calls
    assert ("stop", STREAM, reset.code) in calls
    assert raw.mux.failure is None
    assert raw.receive(frame(4, 1, b"late")) == []
    raw.mux.release(STREAM)
    assert raw.port.take_calls()[-1] == ("release", STREAM)
    assert raw.mux.stream_count == 0


@pytest.mark.parametrize("said", [END, frame(4, 1, b"a"), frame(4, 1, bytes(5), flags=2), frame(77, 1), b""])
def test_a_stream_that_does_not_begin_with_open_is_nobodys(said: bytes) -> None:
    """It is reset, stopped and released, and told to nobody."""
    raw = Raw()
    raw.port.take_calls()
    assert raw.open(said, is_ended=True) == []
    code = Code.PROTOCOL_ERROR
    assert raw.port.take_calls()[-3:] == [("reset", STREAM, code), ("stop", STREAM, code), ("release", STREAM)]
    assert raw.receive(OPEN) == []
    assert raw.mux.stream_count == 0


def test_a_stream_that_ends_without_end_is_broken() -> None:
    """The end of the session's stream is not the end of the items."""
    raw = Raw()
    raw.open(OPEN)
    reset, stopped = raw.receive(b"", is_ended=True)
    assert isinstance(reset, events.Reset)
    assert reset.reason == "the peer ended a stream without END"
    assert isinstance(stopped, events.Stopped)


def test_an_item_behind_the_end_breaks_our_half_alone() -> None:
    """The peer's was complete, and what of it is here can be taken; nothing more is sent to who breaks the rules."""
    raw = Raw()
    raw.open(OPEN + END)
    told = raw.receive(frame(4, 1, b"a"))
    assert [type(event) for event in told] == [events.Stopped]


def test_a_fault_behind_our_end_breaks_the_peers_half_alone() -> None:
    """Ours was complete."""
    raw = Raw()
    raw.open(OPEN)
    raw.mux.end(STREAM)
    raw.mux.flush()
    assert [type(event) for event in raw.receive(frame(77, 1))] == [events.Reset]


def test_a_reset_drops_what_was_not_taken() -> None:
    """Its code is told; what it held is given back, and a second one is no news."""
    raw = Raw()
    raw.open(OPEN + frame(4, 1, b"abc"))
    raw.port.take_calls()
    raw.mux.was_reset(STREAM, Code.CANCELLED)
    assert list(raw.mux.events()) == [events.Reset(STREAM, Code.CANCELLED, "")]
    assert raw.port.take_calls() == [("consumed", STREAM, 3)]
    raw.mux.was_reset(STREAM, Code.CANCELLED)
    consume(raw.mux, STREAM, [b"abc"])
    assert list(raw.mux.events()) == []
    assert raw.port.take_calls() == []


@pytest.mark.parametrize(
    ("code", "told"), [(None, Code.UNKNOWN), (4_000, Code.UNKNOWN), (14, Code.UNAVAILABLE), (0, Code.OK)]
)
def test_codes_are_those_of_the_table(code: int | None, told: Code) -> None:
    """A number that nobody knows, or none, is UNKNOWN; a reset is told before a stop that it came behind."""
    raw = Raw()
    raw.open(OPEN)
    raw.mux.was_stopped(STREAM, code)
    raw.mux.was_reset(STREAM, code)
    assert list(raw.mux.events()) == [events.Reset(STREAM, told, ""), events.Stopped(STREAM, told, "")]


def test_a_stop_drops_what_is_queued() -> None:
    """Also what was in frames already; a second one is no news."""
    raw = Raw()
    raw.open(OPEN)
    raw.port.room[STREAM] = 5
    raw.mux.send(STREAM, [b"a", b"b"])
    raw.mux.flush()
    assert raw.mux.queued_bytes
    raw.mux.was_stopped(STREAM, 0)
    raw.mux.was_stopped(STREAM, 0)
    assert list(raw.mux.events()) == [events.Stopped(STREAM, Code.OK, "")]
    assert raw.mux.queued_bytes == 0


@pytest.mark.parametrize("is_stop", [False, True])
def test_a_stream_that_is_given_up_before_its_open_is_nobodys(is_stop: bool) -> None:
    """It is released; nobody has heard of it."""
    raw = Raw()
    raw.open()
    raw.port.take_calls()
    if is_stop:
        raw.mux.was_stopped(STREAM, 1)
    else:
        raw.mux.was_reset(STREAM, 1)
    assert list(raw.mux.events()) == []
    assert raw.port.take_calls()[-1] == ("release", STREAM)


def test_what_concerns_no_stream_is_no_matter() -> None:
    """It crossed the end of one."""
    raw = Raw()
    raw.mux.was_reset(STREAM, 1)
    raw.mux.was_stopped(STREAM, 1)
    raw.mux.writable(STREAM)
    assert raw.receive(OPEN) == []
    assert raw.mux.failure is None


def test_streams_that_cross_our_drain_are_refused() -> None:
    """With UNAVAILABLE, and what came with their OPEN is not looked at; those that are open go on."""
    raw = Raw()
    raw.open(OPEN)
    raw.mux.go_away()
    raw.port.take_calls()
    assert raw.open(OPEN + frame(4, 1, b"a") + END, frame(77), is_ended=True, stream_id=9) == []
    code = Code.UNAVAILABLE
    assert [call for call in raw.port.take_calls() if call[0] != "consumed"] == [
        ("reset", 9, code),
        ("stop", 9, code),
        ("release", 9),
    ]
    assert raw.receive(frame(4, 1, b"a")) == [events.Received(STREAM, [b"a"])]


def test_the_peers_drain_is_told_once() -> None:
    """No stream can be opened afterwards."""
    raw = Raw()
    assert raw.mux.can_open
    raw.mux.drained()
    raw.mux.drained()
    assert list(raw.mux.events()) == [events.WentAway(Code.OK, "")]
    assert (raw.mux.peer_went_away, raw.mux.can_open) == (True, False)


def test_streams_are_allowed_to_who_asked() -> None:
    """Once for each time that somebody wished to open one."""
    raw = Raw()
    raw.mux.allowed()
    assert list(raw.mux.events()) == []
    raw.mux.note_wish_to_open()
    raw.mux.allowed()
    raw.mux.allowed()
    assert list(raw.mux.events()) == [events.StreamsAllowed()]


def test_a_failure_is_told_once() -> None:
    """The first one counts."""
    raw = Raw()
    raw.mux.was_reset(CONTROL, 1)
    raw.mux.was_stopped(2, 1)
    (failed,) = raw.mux.events()
    assert isinstance(failed, events.Failed)
    assert isinstance(failed.error, RemoteProtocolError)


def test_what_was_received_is_counted() -> None:
    """Every byte of every stream, at its length on the session's streams."""
    raw = Raw()
    before = raw.mux.bytes_received
    raw.open(OPEN, frame(4, 1, b"abc"))
    assert raw.mux.bytes_received - before == len(OPEN) + 15
    assert raw.mux.unread_bytes == cost([b"abc"])


def test_items_for_a_half_that_was_stopped_are_dropped() -> None:
    """Where our STOP crossed them; a port tells no more of such a half, but nothing here depends on that."""
    raw = Raw()
    raw.open(OPEN)
    raw.mux.stop(STREAM)
    raw.port.take_calls()
    item = frame(4, 1, b"a")
    cut = frame(4, 1, (20_000).to_bytes(4, "big") + b"a", flags=2)
    assert raw.receive(item + encode_frame(records.Header()) + cut + frame(4, 1, b"b", flags=4) + END) == []
    assert sum(size for call, _, size in raw.port.take_calls() if call == "consumed") > 0  # type: ignore[misc]
