"""Variable-length integers: RFC 9000's samples, aioquic's opinion, and every split."""

from __future__ import annotations

import pytest
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.varint import MAX_VARINT, VarintReader, decode_varint, encode_varint

NUMBERS = st.integers(0, MAX_VARINT) | st.sampled_from([2**power + d for power in (6, 14, 30) for d in (-1, 0)])


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_the_specs_samples(encoded: str, value: int) -> None:
    """The samples of RFC 9000 §A.1, the one that is longer than needed among them."""
    data = bytes.fromhex(encoded)
    assert decode_varint(data) == (value, len(data))
    assert encode_varint(value) == data or encoded == "4025"


@given(NUMBERS)
def test_aioquic_agrees(value: int) -> None:
    """What we write is what aioquic writes, and what it reads."""
    data = encode_varint(value)
    assert data == encode_uint_var(value)
    assert Buffer(data=data).pull_uint_var() == value


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_what_fits_in_no_number(value: int) -> None:
    """Negative numbers, and those of more than 62 bits, are refused by name."""
    with pytest.raises(LocalProtocolError) as caught:
        encode_varint(value)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("varint", value, MAX_VARINT)


@given(NUMBERS, st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_within_bytes(value: int, before: bytes, after: bytes) -> None:
    """A number is read from where it begins, to where it ends, and not at all while some of it is missing."""
    data = encode_varint(value)
    end = len(before) + len(data)
    assert decode_varint(before + data + after, len(before)) == (value, end)
    for cut in range(len(before), end):
        assert decode_varint((before + data)[:cut], len(before)) is None


@given(st.lists(NUMBERS, max_size=6), st.lists(st.integers(1, 5), min_size=1))
def test_every_split_reads_the_same(values: list[int], sizes: list[int]) -> None:
    """Numbers that come in pieces are the numbers that were sent; at most seven bytes are kept."""
    data = b"".join(map(encode_varint, values))
    reader = VarintReader()
    found: list[int] = []
    start = turn = 0
    while start < len(data):
        piece = data[start : start + sizes[turn % len(sizes)]]
        position = 0
        while position < len(piece):
            value, position = reader.read(piece, position)
            found += [] if value is None else [value]
            assert len(reader.kept) <= 7
        start += len(piece)
        turn += 1
    assert found == values
    assert reader.kept == b""
