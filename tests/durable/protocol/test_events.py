"""Streams as server-sent events."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.events import encode_control, encode_data, is_text
from trio_streams.wire.sse import SseParser


def test_json_is_one_array() -> None:
    """The messages of an event are one array, also where there are line ends in it."""
    (event,) = SseParser().receive(encode_data([b'{"a":\n1},', b"2,"], "application/json"))
    assert (event.event, json.loads(event.data)) == ("data", [{"a": 1}, 2])


@given(st.lists(st.text(" \r\ndata:event", min_size=1).map(str.encode), min_size=1, max_size=3))
def test_text_comes_whole(pieces: list[bytes]) -> None:
    """A text arrives as it is, but for its line ends, which become LF: no line of it is taken for a field of the event."""
    (event,) = SseParser().receive(encode_data(pieces, "text/plain; charset=utf-8"))
    assert event.event == "data"
    assert event.data == b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=3))
def test_bytes_come_in_base64(pieces: list[bytes]) -> None:
    """What is no text is base64, one unit an event."""
    (event,) = SseParser().receive(encode_data(pieces, "image/png"))
    assert b64decode(event.data, validate=True) == b"".join(pieces)


@pytest.mark.parametrize(
    ("is_up_to_date", "is_closed", "expected"),
    [
        (False, False, {"streamNextOffset": "0000000000000007", "streamCursor": "99"}),
        (True, False, {"streamNextOffset": "0000000000000007", "streamCursor": "99", "upToDate": True}),
        (True, True, {"streamNextOffset": "0000000000000007", "streamClosed": True, "upToDate": True}),
    ],
)
def test_control(is_up_to_date: bool, is_closed: bool, expected: dict[str, object]) -> None:
    """A control event says where the reader is; the last one has no cursor."""
    (event,) = SseParser().receive(encode_control(7, "99", is_up_to_date=is_up_to_date, is_closed=is_closed))
    assert (event.event, json.loads(event.data)) == ("control", expected)


def test_what_is_text() -> None:
    """JSON and texts travel as they are, whatever the case and the parameters of their types."""
    assert is_text("Application/JSON; a=b")
    assert is_text("TEXT/html")
    assert not is_text("application/ndjson")
