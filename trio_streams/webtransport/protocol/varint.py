"""Variable-length integers: the first two bits say how many bytes there are.

Spec: RFC 9000 §16.
"""

from __future__ import annotations

from typing import Final

from trio_streams.core.errors import LocalProtocolError

__all__ = ["MAX_VARINT", "VarintReader", "decode_varint", "encode_varint"]

MAX_VARINT: Final = (1 << 62) - 1

_ONE: Final = [bytes([value]) for value in range(64)]


def encode_varint(value: int) -> bytes:
    """The shortest encoding of a number.

    Raises:
      LocalProtocolError: it is negative, or takes more than 62 bits.
    """
    if 0 <= value < 64:
        return _ONE[value]
    if not 0 <= value <= MAX_VARINT:
        raise LocalProtocolError(
            f"{value} is no variable-length integer: 0 to {MAX_VARINT}", field="varint", size=value, limit=MAX_VARINT
        )
    exponent = 1 if value < 1 << 14 else 2 if value < 1 << 30 else 3
    length = 1 << exponent
    return (value | exponent << (8 * length - 2)).to_bytes(length, "big")


def decode_varint(data: bytes, start: int = 0) -> tuple[int, int] | None:
    """Read a number; longer encodings than needed are right.

    Args:
      data: bytes that hold it.
      start: where in them it begins.

    Returns:
      The number and where it ends; None while some of it is missing.
    """
    if start >= len(data):
        return None
    first = data[start]
    end = start + (1 << (first >> 6))
    if end > len(data):
        return None
    if first < 64:
        return first, end
    return int.from_bytes(data[start:end], "big") & ((1 << (8 * (end - start) - 2)) - 1), end


class VarintReader:
    """Reads numbers that may be split over any pieces; keeps at most seven bytes.

    Attributes:
      kept: the bytes of an incomplete number.
    """

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: bytes = b""

    def read(self, data: bytes, start: int = 0) -> tuple[int | None, int]:
        """Read the next number, or what there is of it.

        Args:
          data: the next piece.
          start: where in it to go on.

        Returns:
          The number, None while it is incomplete; and where in the piece the rest begins.
        """
        if not self.kept:
            if (found := decode_varint(data, start)) is not None:
                return found
            self.kept = data[start:]
            return None, len(data)
        missing = (1 << (self.kept[0] >> 6)) - len(self.kept)
        self.kept += data[start : start + missing]
        if (whole := decode_varint(self.kept)) is None:
            return None, len(data)
        self.kept = b""
        return whole[0], start + missing
