"""Offsets as text: the position in decimal, as wide as any, so that they sort as text and as numbers.

Spec: Durable Streams §8.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OFFSET_DIGITS", "format_offset", "parse_offset"]

OFFSET_DIGITS: Final = 16
"""Ten petabytes in one stream; and JavaScript's integers are exact up to there."""


def format_offset(position: int) -> str:
    """A position as its offset."""
    return f"{position:016d}"


def parse_offset(text: str) -> int | None:
    """The position of an offset; None for what is none of ours, the reserved ones included."""
    if len(text) == OFFSET_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return None
