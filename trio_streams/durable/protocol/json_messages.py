"""JSON streams: messages that keep their bytes, from a body to entries and from entries to an array.

Nothing is ever written anew: a body is checked, and its messages are cut out of it, so that 12345678901234567890, 1.10
and a key that comes twice survive. Spec: Durable Streams §9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from trio_streams.durable.protocol.refusals import Refused, bad_request

__all__ = ["MAX_DEPTH", "join_messages", "message_ends", "split_body", "to_array"]

MAX_DEPTH: Final = 256
"""Arrays and objects in each other, the outer array of a batch included."""

_SPACE: Final = b" \t\r\n"
_MANY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(msgspec.Raw)
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def split_body(body: bytes) -> list[bytes]:
    """The messages of a body: the elements of an array, or the one value that it is.

    Raises:
      Refused: 400: it is not JSON in UTF-8, or is nested too deeply.
    """
    text = body.strip(_SPACE)
    try:
        if not body.isascii():
            body.decode()
        try:
            messages = _split(text)
        except msgspec.DecodeError:
            messages = _split_surrogates(text)
    except UnicodeDecodeError as exc:
        raise bad_request("body", f"the body is not UTF-8 at byte {exc.start}") from None
    except msgspec.DecodeError as exc:
        raise bad_request("body", f"the body is not JSON: {exc}") from None
    except RecursionError:
        raise _too_deep() from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_depth(text)
    return messages


def _split(text: bytes) -> list[bytes]:
    if text.startswith(b"["):
        return [bytes(raw) for raw in _MANY.decode(text)]
    _ONE.decode(text)
    return [text]


def _split_surrogates(text: bytes) -> list[bytes]:
    """As `_split`, for text with halves of UTF-16 pairs, escaped: who cuts a string within an emoji sends such ones.

    RFC 8259 allows them, and msgspec does not. Others of the same length are looked at in their place.
    """
    masked = _SURROGATE.sub(rb"\\u0020", text.replace(rb"\\", b"__"))
    if not masked.startswith(b"["):
        _ONE.decode(masked)
        return [text]
    messages, position = [], 1
    for raw in _MANY.decode(masked):
        message = bytes(raw)
        position = masked.index(message, position)  # there are only spaces and a comma before it
        messages.append(text[position : position + len(message)])
        position += len(message)
    return messages


def _check_depth(text: bytes) -> None:
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    # Each round takes away the innermost pairs, so a flat batch is done in two.
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise _too_deep()


def _too_deep() -> Refused:
    return Refused(
        400,
        "INVALID_ARGUMENT",
        f"the body nests arrays and objects deeper than {MAX_DEPTH}",
        details={"field": "body", "limit": MAX_DEPTH},
    )


def join_messages(messages: Sequence[bytes]) -> bytes:
    """Messages as an entry holds them, with a comma behind each."""
    return b",".join(messages) + b"," if messages else b""


def to_array(pieces: Iterable[bytes]) -> bytes:
    """Entries, or parts of some, as one array."""
    parts = [b"[", *pieces]
    if len(parts) == 1:
        return b"[]"
    parts[-1] = parts[-1][:-1]
    parts.append(b"]")
    return b"".join(parts)


def message_ends(data: bytes) -> list[int]:
    """Where each message of an entry ends, its comma included, counted from the entry's beginning."""
    ends, end = [], 0
    for message in split_body(b"[" + data[:-1] + b"]"):
        end += len(message) + 1
        ends.append(end)
    return ends
