"""Pieces, content types, and the limits of a reader."""

from __future__ import annotations

from typing import Any

import pytest

from trio_streams.durable.protocol.reading import Piece, ReaderConfig


def piece(*parts: bytes) -> Piece:
    return Piece(parts, "7", True, True, False, "c")


def test_a_pieces_bytes() -> None:
    """A piece's data is all of its parts."""
    assert piece().data == b""
    assert piece(b"a").data == b"a"
    assert piece(b"a", b"b").data == b"ab"


@pytest.mark.parametrize("name", ["max_piece_bytes", "max_answer_bytes", "idle_timeout", "max_short_streams"])
def test_limits_are_positive(name: str) -> None:
    """A limit of nothing fails where it is written."""
    values: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        ReaderConfig(**values)
