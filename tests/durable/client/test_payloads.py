"""What an append's data is on the wire."""

from __future__ import annotations

import pytest

from trio_streams.durable.client.payloads import encode, join
from trio_streams.errors import CodecError, LocalProtocolError


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": [1, 2.5, None]}, b'{"a":[1,2.5,null]}'),
        ("text", b'"text"'),
        ([1, 2], b"[1,2]"),
        (b'{"n": 12345678901234567890, "x": 1.10, "x": 2}', b'{"n": 12345678901234567890, "x": 1.10, "x": 2}'),
        (bytearray(b" [1] "), b" [1] "),
    ],
)
def test_json_data(data: object, expected: bytes) -> None:
    """A value is encoded; bytes are one JSON text already, and stay as they are."""
    assert encode(data, as_json=True) == expected


@pytest.mark.parametrize("data", [b"1,2", b"", b"{", b"1]", float("nan"), {1: object()}])
def test_what_is_not_one_json_text_is_refused(data: object) -> None:
    """It would spoil the messages that leave with it."""
    with pytest.raises(CodecError):
        encode(data, as_json=True)


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes(data: object) -> None:
    """What looks like bytes is sent as they are."""
    assert encode(data, as_json=False) == b"\x00\xff"


def test_text_is_sent_as_utf_8() -> None:
    """Whatever the stream's type says."""
    assert encode("é", as_json=False) == b"\xc3\xa9"


@pytest.mark.parametrize("data", [b"", "", {"a": 1}, 5, None])
def test_what_a_byte_stream_can_not_hold_is_refused(data: object) -> None:
    """Nothing at all, and values that are neither text nor bytes."""
    with pytest.raises(LocalProtocolError, match="can't append"):
        encode(data, as_json=False)


def test_messages_are_joined_as_they_are() -> None:
    """Into one array, one after the other, or nothing."""
    assert join([b'{"x": 1.10}', b"[2]"], as_json=True) == b'[{"x": 1.10},[2]]'
    assert join([b"ab", b"c"], as_json=False) == b"abc"
    assert join([], as_json=True) == b""
