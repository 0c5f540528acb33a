"""JSON text: what is refused before and after the parser, whatever the declared type."""

# Parsed JSON is `object` here, which strict pyright narrows to Unknown; mypy stays strict.
# pyright: basic

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Final, NoReturn

import msgspec

from trio_streams.codecs.failure import OutOfRange, field_step, index_step
from trio_streams.errors import CodecError

__all__ = ["check_depth", "check_finite", "check_utf8", "parse"]

_parse: Final = msgspec.json.Decoder().decode

# Possessive, so that a string of backslashes costs linear time; the closing quote is optional for cut input.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_NOT_FINITE: Final = re.compile(rb"NaN|Infinity")


def check_utf8(data: bytes) -> None:
    """Refuse broken UTF-8 anywhere, also in fields that the parser skips.

    Raises:
      CodecError: with the position of the first bad byte.
    """
    if data.isascii():
        return
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CodecError(f"$: broken UTF-8 at byte {exc.start} of {len(data)}") from None


def check_depth(data: bytes, max_depth: int) -> None:
    """Refuse arrays and objects nested deeper than the limit, in time linear in the text.

    Each round of `replace` removes the innermost level everywhere, at the speed of C: text nested `n` deep is gone
    after `n` rounds. Unbalanced text is left to the parser, unless it opens too much.

    Raises:
      CodecError: nested deeper than `max_depth`.
    """
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    rest = _STRING.sub(b"", data).translate(_BRACKETS_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(max_depth):
        smaller = rest.replace(b"[]", b"")
        if len(smaller) == len(rest):
            break
        rest = smaller
    if rest.startswith(b"]"):
        return
    if b"[]" in rest or len(rest) - len(rest.lstrip(b"[")) > max_depth:
        raise CodecError(f"$: nested deeper than {max_depth} levels")


def parse(data: bytes) -> object:
    """Parse JSON text into builtins, exactly: integers of up to 4,300 digits, finite floats.

    A number that is out of range becomes `OutOfRange`, which every declared type refuses, so that it matters only
    in a field that somebody reads.

    Raises:
      CodecError: the text is not JSON.
    """
    check_utf8(data)
    try:
        return _parse(data)
    except msgspec.ValidationError:
        return _parse_out_of_range(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise CodecError(f"$: {_syntax(data, str(exc))}") from None
    except RecursionError:
        raise CodecError("$: nested deeper than the interpreter's stack allows") from None


def _syntax(data: bytes, message: str) -> str:
    if not data.strip():
        return f"expected JSON, got an empty payload of {len(data)} bytes"
    at = re.search(r"\(byte (\d+)\)", message)
    if at is not None and _NOT_FINITE.match(data, int(at[1])):
        return f"numbers must be finite: NaN or Infinity at byte {at[1]}"
    if message == "Input data was truncated":
        return f"JSON is malformed: it ends too early, after {len(data)} bytes"
    return message


def _parse_out_of_range(data: bytes) -> object:
    def number(text: str) -> object:
        value = float(text)
        return value if math.isfinite(value) else OutOfRange()

    def integer(text: str) -> object:
        # The sign is no digit; the limit is the parser's, and CPython's own for text.
        return int(text) if len(text.lstrip("-")) <= 4_300 else OutOfRange()

    def constant(name: str) -> NoReturn:
        raise CodecError(f"$: numbers must be finite, got {name}")

    try:
        text = data.decode("utf-8")
        document: object = json.loads(text, parse_float=number, parse_int=integer, parse_constant=constant)
        # The standard parser lets lone surrogates pass.
        json.dumps(document, ensure_ascii=False, default=lambda _: None).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        raise CodecError(f"$: JSON is malformed ({type(exc).__name__})") from None
    return document


def check_finite(value: object) -> None:
    """Refuse NaN and Infinity anywhere in builtins: the encoder would write them as null.

    Raises:
      CodecError: with the path of the first one.
    """
    path = _find_not_finite(value)
    if path is not None:
        raise CodecError(f"${path}: numbers must be finite, got NaN or Infinity", path=f"${path}")


def _find_not_finite(value: object) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    items: Iterable[tuple[object, object]]
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = enumerate(value)
    else:
        return None
    for key, item in items:
        inner = _find_not_finite(item)
        if inner is not None:
            step = field_step(key) if isinstance(value, dict) else index_step(key)
            return step + inner
    return None
