"""Bodies cut into entries, which are what a store keeps and what a read is put together from."""

from __future__ import annotations

from typing import Final

from trio_streams.durable.protocol.json_messages import join_messages, split_body
from trio_streams.durable.protocol.media_types import media_type
from trio_streams.durable.store.base import Entry

__all__ = ["MAX_ENTRY_BYTES", "make_entries"]

MAX_ENTRY_BYTES: Final = 262_144
"""What a read can't do with less of, so that a reader costs no more however large the appends are."""

_UTF8_TAIL: Final = 3


def make_entries(body: bytes, content_type: str, position: int, now: float) -> list[Entry]:
    """The entries of a body; none for an empty one, or an empty array.

    Args:
      body: of one append.
      content_type: of the stream.
      position: where the first begins.
      now: Unix seconds.

    Raises:
      Refused: 400: it is not JSON, in a JSON stream.
    """
    kind = media_type(content_type)
    if not body:
        pieces = []
    elif kind == "application/json":
        pieces = _pack(split_body(body))
    elif len(body) <= MAX_ENTRY_BYTES:
        pieces = [body]
    else:
        pieces = _cut(body, is_text=kind.startswith("text/"))
    entries = []
    for piece in pieces:
        entries.append(Entry(position, piece, now))
        position += len(piece)
    return entries


def _pack(messages: list[bytes]) -> list[bytes]:
    whole = join_messages(messages)
    if len(whole) <= MAX_ENTRY_BYTES:
        return [whole] if whole else []
    pieces: list[bytes] = []
    begin = size = 0
    for index, message in enumerate(messages):
        if size and size + len(message) + 1 > MAX_ENTRY_BYTES:
            pieces.append(join_messages(messages[begin:index]))
            begin, size = index, 0
        size += len(message) + 1
    return [*pieces, join_messages(messages[begin:])]


def _cut(body: bytes, *, is_text: bool) -> list[bytes]:
    pieces, begin = [], 0
    while begin < len(body):
        end = begin + MAX_ENTRY_BYTES
        if is_text and end < len(body):
            # Not within a character of UTF-8: events carry text, each for itself.
            end -= next((back for back in range(_UTF8_TAIL + 1) if body[end - back] & 0xC0 != 0x80), 0)
        pieces.append(body[begin:end])
        begin = end
    return pieces
