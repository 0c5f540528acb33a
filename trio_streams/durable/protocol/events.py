"""Streams as server-sent events: data, and behind each of it a control event that says where the reader is.

Spec: Durable Streams §5.8.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.media_types import media_type
from trio_streams.durable.protocol.offsets import format_offset

__all__ = ["encode_control", "encode_data", "is_text"]


def is_text(content_type: str) -> bool:
    """Whether a stream's bytes are sent as they are; others in base64."""
    kind = media_type(content_type)
    return kind == "application/json" or kind.startswith("text/")


def encode_data(pieces: Sequence[bytes], content_type: str) -> bytes:
    """Entries, or parts of some, as one event: an array of messages, text, or base64."""
    kind = media_type(content_type)
    if kind == "application/json":
        return _event(to_array(pieces))
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if kind.startswith("text/"):
        return _event(data)
    return b"event: data\ndata:" + b64encode(data) + b"\n\n"


def _event(data: bytes) -> bytes:
    # Not `wire.sse`'s, which writes a space behind each colon: the protocol's suite looks for `data:` and the text. The
    # format takes one such space away, so a line that begins with one gets another.
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    field = b"\ndata: " if data.startswith(b" ") or b"\n " in data else b"\ndata:"
    return b"".join((b"event: data", field, data.replace(b"\n", field), b"\n\n"))


def encode_control(position: int, cursor: str, *, is_up_to_date: bool, is_closed: bool) -> bytes:
    """Where the reader is.

    Args:
      position: what follows is from here on.
      cursor: for the next request; left out where there will be none.
      is_up_to_date: whether this is the tail.
      is_closed: whether nothing more will come.
    """
    if is_closed:
        text = f'{{"streamNextOffset":"{format_offset(position)}","streamClosed":true,"upToDate":true}}'
    else:
        up_to_date = ',"upToDate":true' if is_up_to_date else ""
        text = f'{{"streamNextOffset":"{format_offset(position)}","streamCursor":"{cursor}"{up_to_date}}}'
    return b"event: control\ndata:" + text.encode() + b"\n\n"
