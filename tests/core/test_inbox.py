"""What arrives: the peer's faults, each named, and the events before them."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import CONFIG, GREETING, consume, frame, greeted, items, make_mux, only
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events, records
from trio_streams.core.errors import ProtocolError
from trio_streams.core.mux import Mux
from trio_streams.wire.binary import PREFACE, BinaryWire

SMALL = ConnectionConfig(
    stream=StreamLimits(window_items=4, window_bytes=1_000),
    connection_window_bytes=3_000,
    max_streams=2,
    max_item_bytes=20_000,
)


def open_(stream_id: int) -> bytes:
    return frame(2, stream_id, b'{"name":"x","window_items":9,"window_bytes":9000}')


def credit(stream_id: int, first: int, second: int) -> bytes:
    return frame(8, stream_id, first.to_bytes(8, "big") + second.to_bytes(8, "big"))


def code(number: int) -> bytes:
    return number.to_bytes(4, "big")


def first(total: int, data: bytes = b"abc") -> bytes:
    return frame(4, 1, total.to_bytes(4, "big") + data, 2)


@attrs.frozen
class Row:
    """Input after an OPEN of stream 1, and the error that it must end in; `after` is what is received before it."""

    name: str
    data: bytes
    field: str
    size: int | None = None
    limit: int | None = None
    code: Code = Code.PROTOCOL_ERROR
    after: bytes = b""


X = frame(4, 1, b"x")
ROWS = [
    Row("wrong frame", frame(77), "type", 77),
    Row("HELLO twice", GREETING[len(PREFACE) :], "HELLO"),
    Row("items without credit", X, "window_items", 5, 4, Code.FLOW_CONTROL_ERROR, X * 4),
    Row("a run without credit", frame(4, 1, b"\x00\x05" + bytes(10), 1), "window_items", 5, 4, Code.FLOW_CONTROL_ERROR),
    Row("bytes without credit", X, "window_bytes", 1_129, 1_000, Code.FLOW_CONTROL_ERROR, frame(4, 1, bytes(1_000))),
    Row(
        "the connection's bytes without credit",
        frame(4, 1, b"xy"),
        "connection_window_bytes",
        3_130,
        3_000,
        Code.FLOW_CONTROL_ERROR,
        open_(3) + frame(4, 3, bytes(3_000)),
    ),
    Row("an item too large", first(20_001), "max_item_bytes", 20_001, 20_000, Code.MESSAGE_TOO_LARGE),
    Row("an item after the end", X, "", after=frame(5, 1)),
    Row("END twice", frame(5, 1), "", after=frame(5, 1)),
    Row("END inside an item", frame(5, 1), "", after=first(500)),
    Row("an item inside an item", X, "piece", after=first(500)),
    Row("a piece never begun", frame(4, 1, b"x", 4), "piece"),
    Row("longer than announced", frame(4, 1, bytes(9), 4), "piece", 9, 7, after=first(10)),
    Row("all in the first piece", first(3), "piece", 3, 3),
    Row("HEADER after an item", frame(3, 1, b"{}"), "header", after=X),
    Row("HEADER twice", frame(3, 1, b"{}"), "header", after=frame(3, 1, b"{}")),
    Row("wrong parity", open_(2), "stream_id", 2),
    Row("stream 0", open_(0), "stream_id", 0),
    Row("a stream reused", open_(1), "stream_id", 1),
    Row("a smaller stream", open_(5), "stream_id", 5, after=open_(9)),
    Row("more streams than allowed", open_(5), "max_streams", 3, 2, Code.STREAM_LIMIT_ERROR, open_(3)),
    *(
        Row(f"{name} on a stream that never was", frame(kind, 3, payload), "stream_id", 3)
        for name, kind, payload in [
            ("DATA", 4, b""),
            ("HEADER", 3, b"{}"),
            ("END", 5, b""),
            ("RESET", 6, bytes(4)),
            ("STOP", 7, bytes(4)),
            ("CREDIT", 8, bytes(16)),
        ]
    ),
    Row("DATA on stream 0", frame(4, 0, b"x"), "stream_id", 0),
    Row("our stream that never was", frame(4, 2, b"x"), "stream_id", 2),
    Row("GOAWAY with an error", frame(12, 0, code(13) + bytes(8) + b"bug"), "", code=Code.INTERNAL),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_ends_the_connection_behind_what_came_before(row: Row) -> None:
    """Code, field, size and limit are named; earlier events are there; `Failed` is the last and only one; the peer is
    told by a GOAWAY; nothing that follows is looked at."""
    whole = open_(1) + row.after + row.data + X + frame(9, 0, bytes(8))
    for chunks in ([whole], [whole[n : n + 1] for n in range(len(whole))]):
        mux = greeted(SMALL)
        for chunk in chunks:
            mux.receive(chunk, 1.0)
        happened = list(mux.events())
        assert isinstance(happened[0], events.Opened)
        assert len(b"".join(items(happened, 1))) == len(b"".join(items(_events_of(open_(1) + row.after), 1)))
        [failed] = only(events.Failed, happened)
        assert happened[-1] is failed
        _check(failed.error, row)
        assert mux.failure is failed.error
        answer = BinaryWire().decode(PREFACE + mux.to_send(1.0, 1))
        assert [type(record) for _, record in answer][-1] is records.GoAway
        mux.receive(GREETING, 2.0)
        assert (list(mux.events()), mux.has_output, mux.next_deadline()) == ([], False, None)


def _events_of(data: bytes) -> list[events.Event]:
    mux = greeted(SMALL)
    mux.receive(data, 1.0)
    return list(mux.events())


def _check(error: ProtocolError, row: Row) -> None:
    assert (error.code, error.field, error.size, error.limit) == (row.code, row.field, row.size, row.limit)


@pytest.mark.parametrize("data", [open_(1), frame(9, 0, bytes(8)), frame(4, 1, b"x"), frame(12, 0, bytes(12))])
def test_the_hello_comes_first(data: bytes) -> None:
    """Any other first frame is a fault, and so is another protocol."""
    mux = make_mux(is_client=False)
    mux.receive(PREFACE + data, 0.0)
    [failed] = list(mux.events())
    assert isinstance(failed, events.Failed)
    assert (failed.error.code, failed.error.field) == (Code.PROTOCOL_ERROR, "HELLO")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"trio-streams.v2\n", frame(9, 0, bytes(8))])
def test_the_preface_comes_first(data: bytes) -> None:
    """What does not begin as ours fails without an event before it."""
    mux = make_mux(is_client=False)
    mux.receive(data, 0.0)
    [failed] = list(mux.events())
    assert isinstance(failed, events.Failed)
    assert (failed.error.field, failed.error.limit) == ("preface", 16)


def test_ten_thousand_opens_at_once_open_no_more_than_allowed() -> None:
    """The first `max_streams` are opened, the next one ends the connection, the rest is not looked at."""
    mux = greeted()
    mux.receive(b"".join(open_(n) for n in range(1, 20_000, 2)), 0.0)
    happened = list(mux.events())
    assert len(only(events.Opened, happened)) == mux.stream_count == 1_024
    [failed] = only(events.Failed, happened)
    assert (failed.error.code, failed.error.field) == (Code.STREAM_LIMIT_ERROR, "max_streams")
    assert (failed.error.size, failed.error.limit) == (1_025, 1_024)


def test_a_small_item_limit_holds_for_runs() -> None:
    """Where `max_item_bytes` is less than a frame, items in runs are judged one by one."""
    mux = greeted(attrs.evolve(CONFIG, max_item_bytes=3))
    mux.receive(open_(1) + frame(4, 1, b"\x00\x02\x00\x03\x00\x03abcdef", 1), 0.0)
    assert items(list(mux.events()), 1) == [b"abc", b"def"]
    mux.receive(frame(4, 1, b"\x00\x02\x00\x01\x00\x04abcde", 1), 0.0)
    assert mux.failure is not None
    assert (mux.failure.code, mux.failure.field) == (Code.MESSAGE_TOO_LARGE, "max_item_bytes")
    assert (mux.failure.size, mux.failure.limit) == (4, 3)


def test_credit_that_goes_backwards_is_ignored() -> None:
    """Limits only grow: an older grant changes nothing, for a stream as for the connection."""
    mux = greeted()
    mux.receive(open_(1) + credit(1, 3, 1) + credit(0, 1, 1), 0.0)
    assert mux.failure is None
    machine = mux.get(1)
    assert machine is not None
    assert (machine.send_credit.item_limit, machine.send_credit.byte_limit) == (9, 9_000)
    assert mux._in.open_limit == 1_024


@pytest.mark.parametrize("chunk_bytes", [100_000, 16, 1])
def test_an_item_in_pieces_comes_whole(chunk_bytes: int) -> None:
    """Whether its frames arrive together or byte by byte, an item is delivered once, charged once, and each frame counted."""
    mux = greeted(SMALL)
    data = open_(1) + first(9) + frame(4, 1, b"defg", 4) + frame(4, 1, b"hi", 4) + X
    for start in range(0, len(data), chunk_bytes):
        mux.receive(data[start : start + chunk_bytes], 0.0)
    assert items(list(mux.events()), 1) == [b"abcdefghi", b"x"]
    assert (mux.unread_bytes, mux.frames_received) == (9 + 1 + 2 * 64, 5)


def test_a_flood_of_pings_stops_the_reading() -> None:
    """While the peer leaves our answers unread we read no more than `max_control_bytes` and one chunk of its input."""
    mux = greeted()
    chunk = frame(9, 0, bytes(8)) * 1_000
    chunks = 0
    while mux.wants_input:
        mux.receive(chunk, 0.0)
        chunks += 1
    assert chunks == 262_144 // len(chunk) + 1
    assert len(mux.to_send(0.0, 1)) <= 262_144 + len(chunk)
    assert mux.wants_input


@pytest.mark.parametrize(
    "flood",
    [
        lambda n: frame(6, n, bytes(4)),
        lambda n: frame(7, n, bytes(4) + b"why" * 100),
        lambda n: frame(6, n, bytes(4)) + frame(7, n, bytes(4)),
        lambda n: frame(5, n),
    ],
    ids=["RESET", "STOP", "both", "END"],
)
def test_opening_and_abandoning_in_a_flood_is_bounded(flood: object) -> None:
    """An abandoned stream counts until its handler is done: 10,000 at once are refused at `max_streams`."""
    assert callable(flood)
    mux = greeted()
    mux.receive(b"".join(open_(n) + flood(n) for n in range(1, 20_000, 2)), 0.0)
    assert mux.failure is not None
    assert mux.failure.field == "max_streams"
    assert mux.stream_count == 1_024


def test_reset_and_stop_of_a_live_stream_are_events_once() -> None:
    """Each is news once; STOP is answered by a RESET, and unread items are given back at RESET."""
    mux = greeted()
    mux.receive(open_(1) + X + X + frame(6, 1, code(13) + b"a") * 2 + frame(7, 1, code(1) + b"b") * 2, 0.0)
    assert list(mux.events())[1:] == [
        events.Received(1, [b"x", b"x"]),
        events.Reset(1, Code.INTERNAL, "a"),
        events.Stopped(1, Code.CANCELLED, "b"),
    ]
    assert (mux.unread_bytes, mux.stream_count) == (0, 1)
    assert BinaryWire().decode(PREFACE + mux.to_send(0.0, 1)) == [(1, records.Reset(Code.CANCELLED, "b"))]
    mux.release(1)
    assert mux.stream_count == 0


def test_credit_wakes_a_stream_that_was_refused() -> None:
    """A grant makes `Writable` where an item was refused, and only if one can start now."""
    mux = greeted()
    mux.receive(frame(2, 1, b'{"name":"x","window_items":1,"window_bytes":1}') + credit(1, 1, 9), 0.0)
    list(mux.events())
    assert mux.send(1, [b"a", b"b"]) == 1
    mux.receive(credit(1, 2, 9), 0.0)
    assert list(mux.events()) == []
    mux.receive(credit(1, 2, 66) + credit(1, 3, 99), 0.0)
    assert list(mux.events()) == [events.Writable(1)]


def test_our_own_stream_is_gone_when_both_halves_are() -> None:
    """A stream that we opened needs no release, and costs the peer nothing of what it may open."""
    mux = greeted(is_client=True)
    stream_id = mux.open("x")
    mux.reset(stream_id)
    mux.to_send(0.0, 1)
    mux.receive(frame(5, stream_id), 0.0)
    assert (mux.stream_count, mux.has_output) == (0, False)


def test_a_quarter_of_the_connections_window_is_granted_again() -> None:
    """Consumption of a quarter makes a grant due, at once."""
    mux = greeted(attrs.evolve(CONFIG, connection_window_bytes=1_000))
    mux.receive(open_(1) + frame(4, 1, bytes(200)), 0.0)
    consume(mux, 1, [bytes(200)])
    assert BinaryWire().decode(PREFACE + mux.to_send(0.0, 1)) == [(0, records.ConnectionCredit(1_264, 1_024))]


def test_the_first_failure_counts() -> None:
    """A second one changes nothing."""
    mux = greeted()
    _fail(mux)
    before = mux.failure
    mux._in.fail(ProtocolError("another one"))
    assert mux.failure is before
    assert list(mux.events()) == []


def test_streams_that_are_gone_are_left_alone() -> None:
    """Frames for a stream that is over are dropped, but its data is counted and given back."""
    mux = greeted()
    mux.receive(open_(1) + frame(5, 1), 0.0)
    mux.reset(1)
    mux.release(1)
    assert mux.stream_count == 0
    list(mux.events())
    late = [
        frame(4, 1, b"abc"),
        frame(4, 1, b"\x00\x01\x00\x00abc", 2),
        frame(4, 1, b"def", 4),
        frame(3, 1, b"{}"),
        frame(5, 1),
        frame(6, 1, bytes(4)),
        frame(7, 1, bytes(4)),
        credit(1, 99, 99_999),
    ]
    mux.receive(b"".join(late), 0.0)
    assert (mux.failure, list(mux.events()), mux.unread_bytes) == (None, [], 0)
    assert mux._in.credit.bytes == 67 + 65_536 + 64


def test_frames_are_counted_but_not_those_of_the_carrier() -> None:
    """HELLO, PING, PONG and ACK belong to a carrier; everything else counts for a resume."""
    mux = greeted()
    mux.receive(frame(9, 0, bytes(8)) + frame(10, 0, bytes(8)) + frame(11, 0, bytes(8)), 0.0)
    assert mux.frames_received == 0
    mux.receive(open_(1) + X + first(10) + frame(4, 1, bytes(7), 4) + credit(0, 1, 1) + frame(5, 1), 0.0)
    assert mux.frames_received == 6


def test_items_without_a_gap_are_one_event() -> None:
    """All that one chunk holds for a stream without a gap is one run; another event in between parts it."""
    mux = greeted()
    mux.receive(open_(1) + open_(3), 0.0)
    list(mux.events())
    mux.receive(X + X + frame(4, 3, b"y") + X + frame(5, 1), 0.0)
    assert list(mux.events()) == [
        events.Received(1, [b"x", b"x"]),
        events.Received(3, [b"y"]),
        events.Received(1, [b"x"]),
        events.Ended(1, records.OK, {}),
    ]


def test_events_that_handling_causes_come_too() -> None:
    """An event that is queued while others are handled is not left for the next time."""
    mux = greeted()
    mux.receive(frame(9, 0, bytes(8)) + open_(1), 0.0)
    seen = []
    for event in mux.events():
        seen.append(type(event))
        if isinstance(event, events.Opened):
            mux.receive(frame(5, 1), 0.0)
    assert seen == [events.Opened, events.Ended]


def test_a_peer_that_goes_away_is_news_once() -> None:
    """GOAWAY without an error is an event, the second one is not; streams go on."""
    mux = greeted(is_client=True)
    stream_id = mux.open("x")
    mux.receive(frame(12, 0, code(0) + bytes(8) + b"bye") * 2 + frame(3, stream_id, b"{}"), 0.0)
    assert list(mux.events()) == [events.WentAway(Code.OK, "bye"), events.Headed(stream_id, {})]
    assert not mux.can_open
    mux.receive(frame(12, 0, code(2) + bytes(8)), 0.0)
    assert mux.failure is not None


def test_opens_that_cross_our_goaway_are_refused_singly() -> None:
    """They are reset and stopped with UNAVAILABLE, and what they carry is counted and given back."""
    mux = greeted()
    mux.go_away(Code.OK, "later")
    mux.go_away(Code.INTERNAL, "not any more")
    mux.receive(open_(1) + X, 0.0)
    assert list(mux.events()) == []
    assert BinaryWire().decode(PREFACE + mux.to_send(0.0, 10_000)) == [
        (0, records.GoAway(Code.OK, "later", 0)),
        (1, records.Reset(Code.UNAVAILABLE, "going away")),
        (1, records.Stop(Code.UNAVAILABLE, "going away")),
    ]
    assert (mux.unread_bytes, mux.stream_count, mux.failure) == (0, 0, None)


def test_a_pong_without_a_ping_is_no_matter() -> None:
    """Only a ping that is under way makes an event, with its round trip."""
    mux = greeted()
    number = mux.ping(1.0)
    pong = frame(10, 0, number.to_bytes(8, "big"))
    mux.receive(frame(10, 0, b"\xff" * 8) + pong + pong, 1.5)
    assert list(mux.events()) == [events.Ponged(number, 0.5)]
    assert mux.round_trip == 0.5


def test_a_wish_to_open_from_before_the_hello_is_fulfilled_by_it() -> None:
    """Who asked for `StreamsAllowed` before the hello gets it with the hello, if the peer allows any."""
    mux = make_mux(is_client=True)
    mux.note_wish_to_open()
    mux.receive(PREFACE + frame(1, 0, b'{"session_id":"x"}'), 0.0)
    assert [type(event) for event in mux.events()] == [events.Greeted]
    mux.receive(credit(0, 1, 1), 0.0)
    assert list(mux.events()) == [events.StreamsAllowed()]
    eager = make_mux(is_client=True)
    eager.note_wish_to_open()
    eager.receive(GREETING, 0.0)
    assert [type(event) for event in eager.events()] == [events.Greeted, events.StreamsAllowed]
    eager.receive(credit(0, 5_000, 1), 0.0)
    assert list(eager.events()) == []


def test_credit_that_is_used_up_by_others_is_granted_on_arrival() -> None:
    """Consumption too small for a grant is granted as soon as what arrives leaves little: a stream that nobody reads
    must not lock out one whose items were all taken."""
    config = attrs.evolve(CONFIG, connection_window_bytes=1_000)
    mux = greeted(config)
    mux.receive(open_(1) + open_(3) + frame(4, 1, bytes(100)), 0.0)
    list(mux.events())
    consume(mux, 1, [bytes(100)])
    assert not mux.has_output
    mux.receive(frame(4, 3, bytes(800)), 0.0)
    assert BinaryWire().decode(PREFACE + mux.to_send(0.0, 1)) == [(0, records.ConnectionCredit(1_164, 1_024))]


def _fail(mux: Mux) -> None:
    mux.receive(frame(77), 0.0)
    assert isinstance(list(mux.events())[-1], events.Failed)


def test_failed_is_the_last_event_and_goaway_the_last_frame() -> None:
    """Whatever the application still does with a connection that has failed: no event and no frame follows."""
    config = attrs.evolve(CONFIG, max_send_buffer_bytes=200, connection_window_bytes=500)
    mux = greeted(config)
    mux.receive(open_(1) + open_(3) + frame(4, 1, bytes(300)), 0.0)
    _fail(mux)
    assert mux.to_send(0.0, 10_000)
    for stream_id in (1, 3):
        assert mux.send(stream_id, [bytes(100)] * 9) < 9
    consume(mux, 1, [bytes(300)])
    mux.ping(0.0)
    mux.go_away()
    mux.reset(3)
    mux.stop(1)
    mux.release(3)
    mux.handle_deadline(1e9)
    assert (mux.has_output, mux.to_send(0.0, 10_000), list(mux.events())) == (False, b"", [])


def test_our_own_hello_is_not_a_peers() -> None:
    """What only returns our bytes, as `cat` does, is named for what it is, and no stream can be opened on it."""
    mux = make_mux(is_client=True)
    mux.receive(mux.to_send(0.0, 65_536), 0.0)
    assert mux.failure is not None
    assert mux.failure.field == "session_id"
    assert "our own HELLO came back" in str(mux.failure)
    assert not mux.can_open
    assert only(events.Greeted, list(mux.events())) == []
