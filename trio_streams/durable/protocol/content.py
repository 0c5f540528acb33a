"""What a stream's bytes are to whoever reads it: text, JSON values, events.

Spec: Durable Streams §9.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.protocol.failures import public_url
from trio_streams.durable.protocol.media_types import is_json, is_text
from trio_streams.durable.protocol.reading import Piece
from trio_streams.durable.types import StreamEvent

__all__ = ["decode_batch", "decode_text", "event_maker", "text_decoder"]

_MAX_DIGITS: Final = 4_300
"""Of an integer, which Python takes a time to read that grows with their square."""

_decode_array = msgspec.json.Decoder(list[Any]).decode


def decode_batch(parts: Sequence[bytes], url: str) -> list[Any]:
    """The values of JSON arrays, one behind the other.

    Args:
      parts: each an array, or nothing.
      url: where they are from, for people.

    Raises:
      DurableStreamError: with code PARSE_ERROR: one is no JSON array.
    """
    values: list[Any] = []
    for part in parts:
        if part:
            try:
                values += _decode_json(part)
            except (ValueError, RecursionError) as exc:
                what = f"{len(part)} bytes of {public_url(url)} are no JSON array: {exc}"
                raise DurableStreamError(what, code="PARSE_ERROR") from exc
    return values


def _decode_json(part: bytes) -> list[Any]:
    try:
        return _decode_array(part)
    except msgspec.DecodeError:
        # It is stricter than JSON: halves of UTF-16 pairs, and numbers that are too large for it, are none of its.
        values = json.loads(part, parse_constant=_refuse, parse_int=_parse_integer)
        if not isinstance(values, list):
            raise
        return values


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def text_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """A decoder that keeps the beginning of a character until its end is here.

    Raises:
      LocalProtocolError: nobody knows this encoding.
    """
    try:
        return codecs.getincrementaldecoder(encoding)("strict")
    except LookupError as exc:
        raise LocalProtocolError(f"no such encoding: {encoding!r}", field="encoding") from exc


def decode_text(decoder: codecs.IncrementalDecoder, data: bytes, *, final: bool = False) -> str:
    """The text that these bytes complete.

    Args:
      decoder: of `text_decoder`.
      data: bytes.
      final: whether none follow.

    Raises:
      DurableStreamError: with code PARSE_ERROR: this is no such text, or it ends within a character.
    """
    try:
        return decoder.decode(data, final)
    except UnicodeError as exc:
        raise DurableStreamError(f"not the text that it should be: {exc}", code="PARSE_ERROR") from exc


def event_maker(mode: str, content_type: str | None) -> Callable[[Piece], StreamEvent[Any]]:
    """What makes events of pieces.

    Args:
      mode: `bytes`, `text`, `json`, or `auto`, which goes by the content type.
      content_type: of the stream.

    Raises:
      LocalProtocolError: there is no such mode.
    """
    if mode == "auto":
        mode = "json" if is_json(content_type) else "text" if is_text(content_type) else "bytes"
    if mode not in {"bytes", "text", "json"}:
        raise LocalProtocolError(f"mode is auto, bytes, text or json, not {mode!r}", field="mode")
    decoder = text_decoder("utf-8")

    def make(piece: Piece) -> StreamEvent[Any]:
        data: Any
        if mode == "json":
            data = decode_batch(piece.parts, "an event")
        else:
            data = decode_text(decoder, piece.data) if mode == "text" else piece.data
        return StreamEvent(data, piece.next_offset, piece.is_up_to_date, piece.cursor)

    return make
