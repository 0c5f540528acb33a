"""Offsets as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.offsets import format_offset, parse_offset

POSITIONS = st.integers(0, 10**16 - 1)


@given(POSITIONS, POSITIONS)
def test_offsets_sort_as_text(one: int, other: int) -> None:
    """Offsets sort as their positions do, and come back as they were."""
    assert (format_offset(one) < format_offset(other)) is (one < other)
    assert parse_offset(format_offset(one)) == one


@pytest.mark.parametrize("text", ["", "1", "-1", "now", "00000000000000001", "000000000000000x", "０" * 16, " " * 16])
def test_what_is_no_offset(text: str) -> None:
    """Only sixteen ASCII digits are an offset."""
    assert parse_offset(text) is None


def test_the_beginning_in_the_words_of_the_reference() -> None:
    """The one offset that the protocol's suite makes up stands for the beginning, and no other one of its form does."""
    assert parse_offset("0000000000000000_0000000000000000") == 0
    assert parse_offset("0000000000000000_0000000000000001") is None
