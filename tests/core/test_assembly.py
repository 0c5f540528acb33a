"""Items that travel in pieces."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.assembly import Assembly, Piece
from trio_streams.core.errors import RemoteProtocolError


@given(st.binary(min_size=2, max_size=3_000), st.data())
def test_any_cut_gives_the_item_back(item: bytes, data: st.DataObject) -> None:
    """However an item is cut, its pieces give it back with the last one, and nothing before."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(item) - 1), min_size=1)))
    parts = [item[a:b] for a, b in zip([0, *cuts], [*cuts, len(item)], strict=True)]
    assembly = Assembly(parts[0], len(item))
    results = [assembly.add(part) for part in parts[1:]]
    assert results == [None] * (len(parts) - 2) + [item]
    assert assembly.left == 0


def test_a_whole_comes_in_several_frames() -> None:
    """A first piece that is all is a whole only where more than one frame brought it."""
    assert Piece(b"abc", 3, frames=2).is_whole
    assert not Piece(b"abc", 3).is_whole
    assert not Piece(b"abc", 4, frames=2).is_whole
    assert not Piece(b"abc", frames=2).is_whole


@pytest.mark.parametrize("first", [b"abc", b"abcd"])
def test_a_first_piece_is_not_all(first: bytes) -> None:
    """An item whose first piece holds all of it, or more, should not have been cut."""
    with pytest.raises(RemoteProtocolError, match=f"first piece of {len(first)} bytes holds all") as caught:
        Assembly(first, 3)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("piece", len(first), 3)


def test_pieces_beyond_the_announced_length() -> None:
    """Pieces that are longer together than announced are refused, and what was there stays."""
    assembly = Assembly(b"ab", 4)
    with pytest.raises(RemoteProtocolError, match="1 bytes longer than announced") as caught:
        assembly.add(b"cde")
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("piece", 3, 2)
    assert assembly.add(b"cd") == b"abcd"


def test_small_pieces_share_an_array() -> None:
    """A thousand pieces of one byte cost about their bytes, not a thousand objects; a large piece is not copied."""
    assembly = Assembly(b"x" * 1_000, 10_000)
    for _ in range(1_000):
        assembly.add(b"y")
    assembly.add(b"z" * 600)
    assert [len(part) for part in assembly._parts] == [1_000, 1_000, 600]
    assert sum(map(sys.getsizeof, assembly._parts)) < 4_000
