"""What server-sent events say: data counts with its control event, and what is malformed is an error."""

from __future__ import annotations

import base64
import itertools
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.live_events import Control, EventsReader

LARGE = 1_000_000


def control(text: str) -> bytes:
    return f"event: control\ndata: {text}\n\n".encode()


def read(data: bytes, *, is_base64: bool = False, max_bytes: int = LARGE) -> tuple[list[Control], str | None]:
    events = EventsReader(max_bytes, is_base64=is_base64)
    found = events.receive(data)
    return found, None if events.failure is None else events.failure.code


def test_data_comes_with_its_control_event() -> None:
    """Data events are given out with the control event behind them, each as a part of its own."""
    data = b"event: data\ndata: [1]\n\nevent: data\ndata: [2,\ndata: 3]\n\n"
    found, failure = read(data + control('{"streamNextOffset":"7","streamCursor":"c","upToDate":true}'))
    assert found == [Control((b"[1]", b"[2,\n3]"), "7", "c", True, False)]
    assert failure is None


def test_a_closed_stream_is_up_to_date() -> None:
    """`streamClosed` implies `upToDate`, and needs no cursor."""
    found, _ = read(control('{"streamNextOffset":"7","streamClosed":true}'))
    assert found == [Control((), "7", None, True, True)]


def test_data_without_its_control_event_is_kept_back() -> None:
    """A connection that ends behind a data event, or within an event, has delivered nothing of it."""
    data = b"event: data\ndata: x\n\n"
    whole = data + control('{"streamNextOffset":"7"}')
    for cut in range(len(whole)):
        assert read(whole[:cut]) == ([], None)


def test_unknown_events_and_fields_are_ignored() -> None:
    """What a later version may add changes nothing."""
    data = b'event: future\ndata: {"streamNextOffset":"1"}\n\ndata: plain\n\n: comment\n\n'
    found, failure = read(data + control('{"streamNextOffset":"7","more":[1]}'))
    assert found == [Control((), "7", None, False, False)]
    assert failure is None


@pytest.mark.parametrize(
    "text",
    [
        "{invalid json here",
        "",
        "[]",
        "null",
        "{}",
        '{"streamNextOffset":7}',
        '{"streamNextOffset":""}',
        '{"streamNextOffset":"7","upToDate":"yes"}',
        '{"streamNextOffset":"7","streamCursor":1}',
    ],
)
def test_a_control_event_that_is_none_is_an_error(text: str) -> None:
    """A control event must be a JSON object with an offset; what came before it counts."""
    good = b"event: data\ndata: x\n\n" + control('{"streamNextOffset":"1"}')
    found, failure = read(good + control(text) + control('{"streamNextOffset":"9"}'))
    assert [each.next_offset for each in found] == ["1"]
    assert failure == "PARSE_ERROR"


def test_a_control_event_that_is_not_utf_8_is_an_error() -> None:
    """Bytes that are no text are no JSON either."""
    assert read(b'event: control\ndata: {"streamNextOffset":"\xff"}\n\n') == ([], "PARSE_ERROR")


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=5), st.lists(st.integers(0, 500), max_size=6))
def test_base64_in_any_lines_and_chunks(payload: bytes, breaks: list[int], cuts: list[int]) -> None:
    """Base64 may be broken into lines anywhere, and the connection's bytes into chunks."""
    text = base64.b64encode(payload).decode()
    places = [0, *sorted(at for at in breaks if at < len(text)), len(text)]
    lines = "".join(f"data: {text[a:b]}\n" for a, b in itertools.pairwise(places))
    whole = f"event: data\n{lines}\n".encode() + control('{"streamNextOffset":"7"}')
    ends = [0, *sorted(at for at in cuts if at < len(whole)), len(whole)]
    events = EventsReader(LARGE, is_base64=True)
    found = [each for a, b in itertools.pairwise(ends) for each in events.receive(whole[a:b])]
    assert [b"".join(each.parts) for each in found] == [payload]
    assert events.failure is None


@pytest.mark.parametrize("text", ["A", "AB==C", "A*==", "ABC"])
def test_what_is_not_base64_is_an_error(text: str) -> None:
    """Nothing is guessed from base64 that is cut or holds something else."""
    data = f"event: data\ndata: {text}\n\n".encode()
    assert read(data + control('{"streamNextOffset":"7"}'), is_base64=True) == ([], "PARSE_ERROR")


@pytest.mark.parametrize(
    "data", [b"event: data\ndata: 12345678901\n\n", b"event: data\ndata: 123456\n\n" * 2, b"x" * 100]
)
def test_what_waits_for_its_control_event_is_bounded(data: bytes) -> None:
    """An event, a line, or several events without a control event can't pass the limit."""
    assert read(data, max_bytes=10) == ([], "MESSAGE_TOO_LARGE")


def test_reading_events_is_linear() -> None:
    """Eight times the events, or one event that is eight times as long, in pieces of one size, are eight times the work."""

    def lines_run(data: bytes) -> int:
        count = 0

        def trace(_frame: object, event: str, _arg: object) -> Any:  # noqa: ANN401 - a trace function
            nonlocal count
            count += event == "line"
            return trace

        events = EventsReader(LARGE, is_base64=False)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for start in range(0, len(data), 50):
                events.receive(data[start : start + 50])
        finally:
            sys.settrace(before)
        return count

    many = (b"event: data\ndata: " + b"x" * 40 + b"\n\n") * 20
    assert lines_run(many * 8) <= 8.5 * lines_run(many)
    long = b"data: " + b"x" * 2_000 + b"\n"
    assert lines_run(b"event: data\n" + long * 8 + b"\n") <= 8.5 * lines_run(b"event: data\n" + long + b"\n")
