"""Offsets as text: the position in decimal, as wide as any, so that they sort as text and as numbers.

Spec: Durable Streams §8.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OFFSET_DIGITS", "format_offset", "parse_offset"]

OFFSET_DIGITS: Final = 16
"""Ten petabytes in one stream; and JavaScript's integers are exact up to there."""

_ELSEWHERE_ZERO: Final = "0000000000000000_0000000000000000"
"""The beginning as the protocol's own server words it. Its conformance suite takes that for everybody's."""


def format_offset(position: int) -> str:
    """A position as its offset."""
    return f"{position:016d}"


def parse_offset(text: str) -> int | None:
    """The position of an offset; None for what is none of ours, the reserved ones included."""
    if len(text) == OFFSET_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return 0 if text == _ELSEWHERE_ZERO else None
