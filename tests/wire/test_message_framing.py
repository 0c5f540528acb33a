"""Lengths in front of messages: vectors of Raffel's, every way to cut them, and lengths that are refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.wire.binary import PREFACE
from trio_streams.wire.message_framing import MessageBuffer, frame, is_envelope_start, split

CANCEL = b'{"type":"cancel","id":"t3"}'


def decode(*chunks: bytes, max_message_bytes: int = 1_000) -> list[bytes]:
    buffer, messages = MessageBuffer(max_message_bytes), list[bytes]()
    for chunk in chunks:
        buffer.decode(chunk, messages)
    return messages


def test_a_frame_is_what_the_original_sends() -> None:
    """Four bytes of length in network byte order, then the JSON: a capture of Raffel 0.2.3 on TCP."""
    assert frame(CANCEL) == bytes.fromhex("0000001b") + CANCEL


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_messages_survive_every_cut(messages: list[bytes], data: st.DataObject) -> None:
    """Whole, by bytes and at random, the same messages come out, and nothing is left over."""
    wire = b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    parts = [wire[a:b] for a, b in pairwise([0, *cuts, len(wire)])]
    assert decode(wire) == decode(*parts) == decode(*(wire[i : i + 1] for i in range(len(wire)))) == messages
    assert split(wire) == messages


def test_a_message_of_17_mib_is_refused_by_its_length() -> None:
    """Before a byte of it is kept; the error names field, size and limit, and what came before it is served."""
    buffer, messages = MessageBuffer(16_777_216), list[bytes]()
    with pytest.raises(RemoteProtocolError) as info:
        buffer.decode(frame(CANCEL) + (17 << 20).to_bytes(4, "big") + b"{", messages)
    error = info.value
    assert (error.code, error.field, error.size, error.limit) == (
        Code.MESSAGE_TOO_LARGE,
        "max_message_bytes",
        17 << 20,
        16_777_216,
    )
    assert messages == [CANCEL]
    assert len(buffer) == 0


def test_a_message_of_exactly_the_limit_is_taken() -> None:
    """The limit is the most that passes."""
    assert decode(frame(b"x" * 10), max_message_bytes=10) == [b"x" * 10]
    with pytest.raises(RemoteProtocolError):
        decode(frame(b"x" * 11), max_message_bytes=10)


def test_what_is_incomplete_is_kept() -> None:
    """The buffer's length tells whether a message has begun."""
    buffer, messages = MessageBuffer(100), list[bytes]()
    buffer.decode(frame(CANCEL)[:-1], messages)
    assert (len(buffer), messages) == (30, [])
    buffer.decode(b"}", messages)
    assert (len(buffer), messages) == (0, [CANCEL])


@pytest.mark.parametrize("cut", [b"\0\0\0", b"\0\0\0\x05abcd"])
def test_only_whole_frames_are_split(cut: bytes) -> None:
    """What `to_send` gives is whole, so anything else is a mistake of ours."""
    with pytest.raises(LocalProtocolError, match="not whole"):
        split(frame(b"a") + cut)


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"\0", True),
        (b"\0\0\0\x1b{", True),
        (b"\0\0\0\x05nope!", True),
        ((17 << 20).to_bytes(4, "big"), True),
        (b"\x7f\xff\xff\xff", True),
        (PREFACE[:1], False),
        (PREFACE, False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"\x16\x03\x01\x02\x00\x01", False),
        (b"\xff\xff", False),
    ],
)
def test_the_first_byte_tells_the_dialect(start: bytes, answer: bool) -> None:
    """Framed messages, sound or not, are told from our own dialect, HTTP and TLS."""
    assert is_envelope_start(start) is answer
