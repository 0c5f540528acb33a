"""Capsules: round trips, every split, and what is refused before it is held."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.capsules import (
    MAX_STREAMS,
    Capsule,
    CapsuleParser,
    Close,
    DataBlocked,
    Drain,
    MaxData,
    MaxStreams,
    StreamsBlocked,
    cut_reason,
    encode_capsule,
)
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import MAX_VARINT, encode_varint

LIMITS = st.integers(0, MAX_VARINT)
COUNTS = st.integers(0, MAX_STREAMS)
CAPSULES = (
    st.builds(Close, st.integers(0, 2**32 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=256))
    | st.just(Drain())
    | st.builds(MaxData, LIMITS)
    | st.builds(DataBlocked, LIMITS)
    | st.builds(MaxStreams, COUNTS, st.booleans())
    | st.builds(StreamsBlocked, COUNTS, st.booleans())
)


def raw(kind: int, value: bytes, length: int | None = None) -> bytes:
    return encode_varint(kind) + encode_varint(len(value) if length is None else length) + value


UNKNOWN = st.builds(raw, st.integers(0x100, 0x2000) | st.integers(2**40, MAX_VARINT), st.binary(max_size=100))


def parse(parser: CapsuleParser, data: bytes) -> list[Capsule]:
    found: list[Capsule] = []
    position = 0
    while position < len(data):
        capsule, position = parser.parse_next(data, position)
        found += [] if capsule is None else [capsule]
        assert parser.kept_bytes <= 1_028 + 7
    return found


@pytest.mark.parametrize(
    ("encoded", "capsule"),
    [
        ("6843 06 000000056279", Close(5, "by")),
        ("80 0078ae 00", Drain()),
        ("990b4d3d 02 4400", MaxData(1024)),
        ("990b4d3f 01 03", MaxStreams(3, is_unidirectional=False)),
        ("990b4d40 01 03", MaxStreams(3, is_unidirectional=True)),
        ("990b4d41 01 00", DataBlocked(0)),
        ("990b4d43 01 01", StreamsBlocked(1, is_unidirectional=False)),
        ("990b4d44 01 01", StreamsBlocked(1, is_unidirectional=True)),
    ],
)
def test_the_bytes_on_the_wire(encoded: str, capsule: Capsule) -> None:
    """Each capsule's bytes, put down by hand from the specification."""
    data = bytes.fromhex(encoded)
    assert parse(CapsuleParser(), data) == [capsule]
    assert encode_capsule(capsule) == data


@given(st.lists(CAPSULES | UNKNOWN, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_every_split_parses_the_same(parts: list[Capsule | bytes], sizes: list[int]) -> None:
    """Capsules in pieces are the capsules that were sent, with unknown ones between them passed over."""
    data = b"".join(part if isinstance(part, bytes) else encode_capsule(part) for part in parts)
    parser = CapsuleParser()
    found: list[Capsule] = []
    start = turn = 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        found += parse(parser, data[start : start + size])
        start += size
        turn += 1
    assert found == [part for part in parts if not isinstance(part, bytes)]
    assert parser.is_between


@given(CAPSULES)
def test_within_a_capsule_the_stream_may_not_end(capsule: Capsule) -> None:
    """Before its last byte a capsule is incomplete, wherever it is cut."""
    data = encode_capsule(capsule)
    for cut in range(1, len(data)):
        parser = CapsuleParser()
        assert parse(parser, data[:cut]) == []
        assert not parser.is_between


def test_an_unknown_capsule_is_skipped_and_not_held() -> None:
    """The bytes of an unknown capsule pass through: none is kept, and what follows is read."""
    parser = CapsuleParser(max_skipped_bytes=1_000_000)
    assert parse(parser, raw(0x1234, b"", 1_000_000)) == []
    for _ in range(1_000):
        assert parser.parse_next(bytes(1_000)) == (None, 1_000)
        assert parser.kept_bytes == 0
    assert parser.is_between
    assert parse(parser, encode_capsule(Drain())) == [Drain()]


@pytest.mark.parametrize("kind", [0x00, 0x1234, 0x2843, 0x78AE, 0x190B4D3D])
def test_a_capsule_of_a_gibibyte_is_refused(kind: int) -> None:
    """A length of 1 GiB is refused before one of its bytes is there, known or not."""
    with pytest.raises(Http3Error) as caught:
        parse(CapsuleParser(), raw(kind, b"", 1 << 30))
    assert (caught.value.size, caught.value.ends_connection) == (1 << 30, False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw(0x2843, b"abc"), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x2843, bytes(1_029)), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x78AE, b"x"), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x190B4D3D, b""), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x190B4D3D, b"\x40"), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x190B4D3D, b"\x01\x01"), Http3Code.H3_MESSAGE_ERROR),
        (raw(0x190B4D3E, b"\x01\x01"), Http3Code.H3_DATAGRAM_ERROR),
        (raw(0x190B4D42, b"\x01\x01"), Http3Code.H3_DATAGRAM_ERROR),
        (raw(0x190B4D3F, encode_varint(MAX_STREAMS + 1)), Http3Code.H3_DATAGRAM_ERROR),
        (raw(0x1234, b"", 65_537), Http3Code.H3_EXCESSIVE_LOAD),
    ],
)
def test_wrong_capsules_are_named_errors(data: bytes, code: Http3Code) -> None:
    """Lengths that cannot be, prohibited types and impossible limits end the session with the right code."""
    with pytest.raises(Http3Error) as caught:
        parse(CapsuleParser(), data)
    assert caught.value.http3_code is code


@pytest.mark.parametrize(
    ("capsule", "field"),
    [
        (Close(2**32), "code"),
        (Close(-1), "code"),
        (MaxStreams(MAX_STREAMS + 1, is_unidirectional=True), "limit_streams"),
        (MaxData(2**62), "varint"),
    ],
)
def test_what_cannot_be_said(capsule: Capsule, field: str) -> None:
    """Numbers that have no room are refused by name."""
    with pytest.raises(LocalProtocolError) as caught:
        encode_capsule(capsule)
    assert caught.value.field == field


@given(st.text(max_size=1_200) | st.text("ä€😀", max_size=600))
def test_a_reason_is_cut_at_a_character(reason: str) -> None:
    """At most 1,024 bytes of UTF-8, the beginning of the reason, and at most three bytes short of it."""
    cut = cut_reason(reason)
    whole = reason.encode("utf-8", "replace")
    assert len(cut) <= 1_024
    assert whole.startswith(cut)
    assert cut == whole or len(cut) >= 1_021
    assert cut.decode().encode() == cut


def test_a_reason_that_is_no_text_is_read_still() -> None:
    """A peer that cut its reason within a character has said goodbye all the same."""
    assert parse(CapsuleParser(), raw(0x2843, b"\0\0\0\7ok\xe2\x82")) == [Close(7, "ok�")]


@pytest.mark.parametrize("seed", range(200))
def test_random_bytes_end_in_named_errors(seed: int) -> None:
    """Any bytes are capsules, unknown ones or a named error, and never more than one capsule is held."""
    source = random.Random(seed)
    parser = CapsuleParser()
    kinds = [0x2843, 0x78AE, *range(0x190B4D3C, 0x190B4D46), 0x17, source.getrandbits(60)]
    with contextlib.suppress(Http3Error):  # anything else fails the test
        for _ in range(30):
            value = source.randbytes(source.choice([0, 1, 1, 2, 4, 9, 200]))
            data = raw(source.choice(kinds), value) if source.random() < 0.9 else value
            parse(parser, data)
