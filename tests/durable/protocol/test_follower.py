"""A reader as a machine: what is asked for next, what an answer means, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.durable.protocol.model_server import follower, take
from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.protocol.follower import Follower, Mode, Phase
from trio_streams.durable.protocol.reading import Piece, ReaderConfig
from trio_streams.durable.protocol.retry import RetryOptions
from trio_streams.durable.types import LiveMode

BYTES = "application/octet-stream"


def head(machine: Follower, status: int = 200, now: float = 0.0, **fields: str) -> bool:
    """Ask, and answer with a head whose fields are the arguments."""
    machine.request(now)
    return machine.receive_head(status, [(name.replace("_", "-"), value) for name, value in fields.items()], now)


def up_to_date(machine: Follower, offset: str = "1", **fields: Any) -> None:
    """An empty answer that says that this is the tail."""
    assert head(machine, stream_next_offset=offset, stream_up_to_date="true", **fields)
    machine.receive_end(0.0)


def test_pieces_of_a_long_answer_name_where_it_began() -> None:
    """Only the piece that ends an answer has an offset right behind it; the others are had again from theirs."""
    machine = follower(config=ReaderConfig(max_piece_bytes=4))
    head(machine, stream_next_offset="9", stream_up_to_date="true")
    machine.receive(b"abcdef", 0.0)
    machine.receive(b"g", 0.0)
    machine.receive_end(0.0)
    assert take(machine) == [
        Piece((b"abcdef",), "-1", False, False, False, None),
        Piece((b"g",), "9", True, True, False, None),
    ]
    assert machine.phase is Phase.ENDED


def test_a_shorter_stream_is_an_error() -> None:
    """If bytes that were given out are not there any more, the stream is another one."""
    machine = follower(config=ReaderConfig(max_piece_bytes=1))
    head(machine, stream_next_offset="9")
    machine.receive(b"abc", 0.0)
    assert machine.lose(0.0)
    machine.handle_deadline(9.0)
    head(machine, stream_next_offset="2", stream_up_to_date="true")
    machine.receive(b"ab", 0.0)
    machine.receive_end(0.0)
    assert machine.failure is not None
    assert "1 bytes shorter" in machine.failure.message


@pytest.mark.parametrize(
    ("live", "content_type", "mode"),
    [
        ("auto", "application/json", Mode.LONG_POLL),
        ("long-poll", "application/json", Mode.LONG_POLL),
        ("sse", BYTES, Mode.SSE),
        (True, "application/json", Mode.SSE),
        (True, "text/plain; charset=utf-8", Mode.SSE),
        (True, BYTES, Mode.LONG_POLL),
    ],
)
def test_what_is_asked_for_at_the_tail(live: LiveMode, content_type: str, mode: Mode) -> None:
    """A reader catches up without `live`, and then asks as its mode says, with the cursor that it was given."""
    machine = follower(live, offset="5")
    assert machine.mode is Mode.CATCH_UP
    up_to_date(machine, "7", content_type=content_type, stream_cursor="c")
    assert machine.mode is mode
    assert machine.request(0.0) == {"offset": "7", "live": mode.value, "cursor": "c"}


def test_a_catch_up_goes_on_until_it_is_up_to_date() -> None:
    """Bounded answers are followed up by their offsets, without a wait and without `live`."""
    machine = follower("auto")
    assert machine.request(0.0) == {"offset": "-1"}
    machine.receive_head(200, [("stream-next-offset", "3")], 0.0)
    machine.receive_end(0.0)
    assert machine.request(0.0) == {"offset": "3"}


def test_no_progress_is_the_tail() -> None:
    """A server that forgets to say so is not asked the same thing for ever."""
    machine = follower(False, offset="3")
    head(machine, stream_next_offset="3")
    machine.receive_end(0.0)
    assert machine.phase is Phase.ENDED
    assert take(machine)[-1].is_up_to_date


def test_whoever_does_not_follow_ends_at_the_tail() -> None:
    """`is_following` may be taken back before the body is read; then the mode does not matter."""
    machine = follower("sse")
    machine.is_following = False
    up_to_date(machine)
    assert machine.phase is Phase.ENDED
    assert machine.failure is None


@pytest.mark.parametrize("closed", ["true", "TRUE"])
def test_a_closed_stream_ends_a_follower(closed: str) -> None:
    """`Stream-Closed` on an answer is the end, in any mode."""
    machine = follower("auto")
    up_to_date(machine)
    take(machine)
    assert head(machine, 204, stream_next_offset="1", stream_closed=closed)
    machine.receive_end(0.0)
    assert machine.phase is Phase.ENDED
    assert take(machine) == [Piece((), "1", True, True, True, None)]


def test_now_is_fixed_by_the_first_head() -> None:
    """What is appended while the first answer breaks off is not missed: its head has said where the tail was."""
    machine = follower(False, offset="now")
    assert machine.request(0.0) == {"offset": "now"}
    machine.receive_head(200, [("stream-next-offset", "8")], 0.0)
    assert machine.lose(0.0)
    machine.handle_deadline(9.0)
    assert machine.request(9.0) == {"offset": "8"}


@pytest.mark.parametrize("fields", [{}, {"stream_next_offset": ""}])
def test_an_answer_without_an_offset_is_an_error(fields: dict[str, Any]) -> None:
    """Without an offset nobody can go on."""
    machine = follower()
    assert head(machine, **fields)
    assert machine.phase is Phase.ENDED
    assert machine.failure is not None
    assert machine.failure.code == "PROTOCOL_ERROR"


@pytest.mark.parametrize(
    ("status", "is_tried_again"), [(500, True), (429, True), (None, True), (404, False), (401, False)]
)
def test_a_refusal_waits_or_is_raised(status: int | None, is_tried_again: bool) -> None:
    """What passes is waited out, and asked again for the same place; else the reader can still be asked, changed."""
    machine = follower(offset="5")
    if status is None:
        machine.request(0.0)
    else:
        assert not head(machine, status)
    assert machine.lose(10.0, status=status, retry_after=3.0) is is_tried_again
    if is_tried_again:
        assert machine.phase is Phase.WAITING
        assert machine.next_deadline() == 13.0
        machine.handle_deadline(12.9)
        assert machine.phase is Phase.WAITING
        machine.handle_deadline(13.0)
    assert machine.request(13.0) == {"offset": "5"}


def test_failures_without_progress_come_to_an_end() -> None:
    """After as many failures in a row as the options say it is enough; progress in between begins anew."""
    machine = follower(retry=RetryOptions(max_retries=1), config=ReaderConfig(max_piece_bytes=1))
    goes_on = []
    for body in (b"", b"a", b"ab", b"ab"):
        head(machine, stream_next_offset="9")
        machine.receive(body, 0.0)
        goes_on.append(machine.lose(0.0))
        machine.handle_deadline(99.0)
    assert goes_on == [True, True, True, False]
    assert b"".join(piece.data for piece in take(machine)) == b"ab"


@pytest.mark.parametrize(("live", "expected"), [("long-poll", [True, True, True, False]), (False, [True, False])])
def test_who_follows_waits_for_a_server_to_come_back(live: LiveMode, expected: list[bool]) -> None:
    """Once it was answered a live reader is patient for `max_outage` seconds, however many attempts that takes."""
    machine = follower(live, retry=RetryOptions(max_retries=1), config=ReaderConfig(max_outage=100.0))
    assert head(machine, stream_next_offset="3")
    machine.receive(b"abc", 0.0)
    machine.receive_end(0.0)
    goes_on = []
    for now in (10.0, 50.0, 109.0, 110.0)[: len(expected)]:
        machine.handle_deadline(now)
        machine.request(now)
        goes_on.append(machine.lose(now))
    assert goes_on == expected


def test_whoever_is_cancelled_asks_again() -> None:
    """A request that was dropped is repeated at once, and counts as nobody's failure."""
    machine = follower(config=ReaderConfig(max_piece_bytes=2), retry=RetryOptions(max_retries=0))
    for _ in range(3):
        machine.request(0.0)
        machine.drop()
    head(machine, stream_next_offset="9", stream_up_to_date="true")
    machine.receive(b"ab", 0.0)
    machine.receive(b"c", 0.0)
    machine.drop()
    machine.drop()
    head(machine, stream_next_offset="9", stream_up_to_date="true")
    machine.receive(b"abcd", 0.0)
    machine.receive_end(0.0)
    assert b"".join(piece.data for piece in take(machine)) == b"abcd"


def test_a_whole_answer_is_bounded() -> None:
    """What has to be here as a whole can't pass its limit."""
    machine = follower(config=ReaderConfig(max_answer_bytes=10))
    machine.takes_whole = True
    head(machine, stream_next_offset="9")
    machine.receive(b"x" * 10, 0.0)
    assert machine.phase is Phase.READING
    machine.receive(b"x", 0.0)
    assert machine.failure is not None
    assert machine.failure.code == "MESSAGE_TOO_LARGE"
    assert "max_answer_bytes" in machine.failure.message


def test_silence_has_a_deadline() -> None:
    """An answer may be silent for `idle_timeout`, counted from the last byte, or from when somebody listened again."""
    machine = follower(config=ReaderConfig(idle_timeout=5.0))
    machine.request(1.0)
    assert machine.next_deadline() == 6.0
    machine.receive_head(200, [("stream-next-offset", "9")], 2.0)
    assert machine.next_deadline() == 7.0
    machine.receive(b"x", 3.0)
    assert machine.next_deadline() == 8.0
    machine.listen(10.0)
    assert machine.next_deadline() == 15.0
    machine.end()
    assert machine.next_deadline() is None


def test_silence_may_be_allowed() -> None:
    """None sets no deadline."""
    machine = follower(config=ReaderConfig(idle_timeout=None))
    machine.request(1.0)
    assert machine.next_deadline() is None


def test_what_is_out_of_turn() -> None:
    """Whoever drives it in the wrong order is told so, and nothing changes."""
    machine = follower()
    for wrong in (
        lambda: machine.receive(b"", 0.0),
        lambda: machine.receive_end(0.0),
        lambda: machine.lose(0.0),
        lambda: machine.receive_head(200, [], 0.0),
    ):
        with pytest.raises(LocalProtocolError, match="asking"):
            wrong()
    machine.request(0.0)
    with pytest.raises(LocalProtocolError, match="asked"):
        machine.request(0.0)


def live(mode: LiveMode = "sse") -> Follower:
    """A reader that has caught up."""
    machine = follower(mode, config=ReaderConfig(max_short_streams=3))
    up_to_date(machine, "1", content_type="text/plain")
    take(machine)
    return machine


EVENTS: dict[str, Any] = {"content_type": "text/event-stream"}


@pytest.mark.parametrize("status", [400, 405, 406, 415, 501])
def test_a_server_that_refuses_events_is_asked_by_long_polls(status: int) -> None:
    """It falls back at once, from the same place, and for good."""
    machine = live()
    assert head(machine, status)
    assert machine.request(0.0) == {"offset": "1", "live": "long-poll"}


def test_what_is_no_stream_of_events_counts_as_a_refusal() -> None:
    """A server that ignores `live` answers with something else."""
    machine = live()
    assert head(machine, content_type="text/plain", stream_next_offset="1")
    assert machine.mode is Mode.LONG_POLL
    assert machine.phase is Phase.ASKING


@pytest.mark.parametrize("status", [404, 410, 500])
def test_other_refusals_of_events_are_refusals(status: int) -> None:
    """A stream that is gone is gone by long polls, too."""
    machine = live()
    assert not head(machine, status)
    assert machine.mode is Mode.SSE


def test_events_that_end_at_once_fall_back() -> None:
    """After three streams in a row that ended within a second, waits between them growing, it goes on by long polls."""
    machine = live()
    waits = []
    for _ in range(3):
        assert machine.mode is Mode.SSE
        head(machine, **EVENTS)
        machine.receive_end(0.5)
        if machine.phase is Phase.WAITING:
            waits.append((machine.next_deadline() or 0.0) - 0.5)
            machine.handle_deadline(99.0)
    assert waits == [0.5, 1.0]
    assert machine.mode is Mode.LONG_POLL
    assert machine.phase is Phase.ASKING


def test_a_connection_of_usual_length_is_followed_by_the_next_at_once() -> None:
    """Servers end connections about every minute; one that lasted also forgets the short ones before it."""
    machine = live()
    for length in (0.1, 0.1, 60.0, 0.1, 0.1, 60.0):
        head(machine, **EVENTS)
        machine.receive_end(length)
        assert machine.mode is Mode.SSE
        if length > 1:
            assert machine.phase is Phase.ASKING
        machine.handle_deadline(99.0)


@pytest.mark.parametrize(("length", "wait"), [(60.0, 0.5), (0.1, 0.5)])
def test_events_that_break_off_are_asked_for_again(length: float, wait: float) -> None:
    """A broken connection is waited for once, also if it was a short one."""
    machine = live()
    head(machine, **EVENTS)
    machine.receive(b'event: control\ndata: {"streamNextOffset":"4","streamCursor":"x"}\n\nevent: data\ndata: y', 0.0)
    assert machine.lose(length)
    assert machine.phase is Phase.WAITING
    assert machine.next_deadline() == length + wait
    machine.handle_deadline(99.0)
    assert machine.request(99.0) == {"offset": "4", "live": "sse", "cursor": "x"}


def test_the_last_of_short_streams_may_break_off() -> None:
    """The fallback comes with a wait then, for the connection failed."""
    machine = live()
    for _ in range(3):
        head(machine, **EVENTS)
        assert machine.lose(0.1)
        machine.handle_deadline(99.0)
    assert machine.mode is Mode.LONG_POLL


def test_a_closed_event_ends_it() -> None:
    """Nothing behind `streamClosed` counts, and nobody comes back."""
    machine = live()
    head(machine, **EVENTS)
    control = b'event: control\ndata: {"streamNextOffset":"4","streamClosed":true}\n\n'
    machine.receive(b"event: data\ndata: bye\n\n" + control + control, 0.0)
    assert machine.phase is Phase.ENDED
    assert machine.failure is None
    assert take(machine) == [Piece((b"bye",), "4", True, True, True, None)]


def test_an_answer_without_content_in_place_of_events() -> None:
    """204 says what it says to a long poll."""
    machine = live()
    assert head(machine, 204, stream_next_offset="1", stream_closed="true")
    machine.receive_end(0.0)
    assert machine.phase is Phase.ENDED


def test_a_malformed_event_ends_it_behind_the_good_ones() -> None:
    """What came before the fault is given out; then the fault is the reader's failure."""
    machine = live()
    head(machine, **EVENTS)
    machine.receive(b'event: control\ndata: {"streamNextOffset":"4"}\n\nevent: control\ndata: x\n\n', 0.0)
    assert [piece.next_offset for piece in take(machine)] == ["4"]
    assert machine.phase is Phase.ENDED
    assert machine.failure is not None
    assert machine.failure.code == "PARSE_ERROR"


@pytest.mark.parametrize(("encoding", "is_known"), [("base64", True), ("BASE64", True), ("rot13", False)])
def test_the_encoding_of_events(encoding: str, is_known: bool) -> None:
    """An encoding that nobody knows is an error, and not passed on as data."""
    machine = live()
    head(machine, **EVENTS, stream_sse_data_encoding=encoding)
    assert (machine.failure is None) is is_known


def test_a_server_that_does_not_hold_polls_is_waited_for() -> None:
    """Empty answers that come at once, again and again, must not become a loop without a wait."""
    machine = live("long-poll")
    phases = []
    for _ in range(7):
        head(machine, 204, now=5.0, stream_next_offset="1", stream_up_to_date="true")
        machine.receive_end(5.05)
        phases.append(machine.phase)
        machine.handle_deadline(999.0)
    assert phases == [Phase.ASKING] * 5 + [Phase.WAITING] * 2


def test_polls_that_are_held_or_bring_something_are_not() -> None:
    """A poll that took its time, or brought data, is followed by the next at once."""
    machine = live("long-poll")
    for number in range(20):
        head(machine, stream_next_offset=str(number + 2), stream_up_to_date="true")
        machine.receive(b"x", 0.0)
        machine.receive_end(0.0)
        assert machine.phase is Phase.ASKING
        head(machine, 204, stream_next_offset=str(number + 2))
        machine.receive_end(20.0)
        assert machine.phase is Phase.ASKING
