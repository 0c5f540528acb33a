"""Text, JSON values and events of a stream's bytes."""

from __future__ import annotations

from math import inf

import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.protocol.content import decode_batch, decode_text, event_maker, text_decoder
from trio_streams.durable.protocol.reading import Piece
from trio_streams.durable.types import StreamEvent


def piece(*parts: bytes) -> Piece:
    return Piece(parts, "7", True, True, False, "c")


def test_values_of_several_arrays() -> None:
    """Arrays are flattened by one level and in order; integers stay exact."""
    values = decode_batch([b"[1,[2]]", b"", b"[]", b"[12345678901234567890123]"], "http://x/")
    assert values == [1, [2], 12345678901234567890123]


@pytest.mark.parametrize(
    "part", [b"[1", b"{}", b"1", b"[1]]", b'["\xff"]', b"[NaN]", b"null", b'{"\\ud800":1}', b"[" * 100_000]
)
def test_what_is_no_array_of_json(part: bytes) -> None:
    """A body that is cut, corrupt or no array is an error, and never an empty list."""
    with pytest.raises(DurableStreamError, match="no JSON array") as caught:
        decode_batch([part], "http://x/?token=secret")
    assert caught.value.code == "PARSE_ERROR"
    assert "secret" not in str(caught.value)


def test_json_that_is_unusual() -> None:
    """What servers take for JSON stops no reader: numbers beyond what Python has, and halves of UTF-16 pairs."""
    values = decode_batch(
        [b"[1e999, -1e999]", b"[" + b"9" * 5000 + b"]", rb'["\ud83d", 5]', b"[" + b"9" * 400 + b"]"], ""
    )
    assert values == [inf, -inf, inf, "\ud83d", 5, 10**400 - 1]


def test_a_character_across_pieces() -> None:
    """The beginning of a character waits for its end."""
    decoder = text_decoder("utf-8")
    assert [decode_text(decoder, bytes([byte])) for byte in "é€".encode()] == ["", "é", "", "", "€"]


@pytest.mark.parametrize(("data", "final"), [(b"\xff", False), (b"\xe2\x82", True)])
def test_what_is_no_text(data: bytes, final: bool) -> None:
    """Bytes that are no text, and an end within a character, are errors."""
    with pytest.raises(DurableStreamError, match="not the text") as caught:
        decode_text(text_decoder("utf-8"), data, final=final)
    assert caught.value.code == "PARSE_ERROR"


def test_an_unknown_encoding() -> None:
    """It is the caller's error, and names the encoding."""
    with pytest.raises(LocalProtocolError, match="klingon"):
        text_decoder("klingon")


@pytest.mark.parametrize(
    ("mode", "content_type", "data"),
    [
        ("auto", "application/json; charset=utf-8", [1]),
        ("auto", "Text/Plain", "[1]"),
        ("auto", "application/octet-stream", b"[1]"),
        ("auto", None, b"[1]"),
        ("json", None, [1]),
        ("text", "application/json", "[1]"),
        ("bytes", "text/plain", b"[1]"),
    ],
)
def test_the_data_of_an_event(mode: str, content_type: str | None, data: object) -> None:
    """The mode says what the data is, and `auto` goes by the content type."""
    assert event_maker(mode, content_type)(piece(b"[1]")) == StreamEvent(data, "7", True, "c")


def test_an_unknown_mode() -> None:
    """It is the caller's error."""
    with pytest.raises(LocalProtocolError, match="not 'xml'"):
        event_maker("xml", None)
