"""What an append's data is on the wire, by the stream's content type.

Spec: Durable Streams §7.1 (JSON mode: an array's elements are messages; exactly one level is flattened).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trio_streams.codecs.base import Codec
from trio_streams.codecs.document import parse
from trio_streams.codecs.json import json_codec
from trio_streams.errors import LocalProtocolError

__all__ = ["encode", "join"]

_JSON: Final[Codec[object]] = json_codec(object)


def encode(data: object, *, as_json: bool) -> bytes:
    """The bytes of one append.

    Args:
      data: in JSON mode `bytes` that are one JSON text already, and kept as they are, or a value, which is encoded; a
        `str` is a value, and an array is one message. Else `bytes` or what looks like it, or a `str`, which is
        sent as UTF-8.
      as_json: whether the stream is in JSON mode.

    Raises:
      LocalProtocolError: nothing to append, or not of a type that the stream can hold.
      CodecError: not JSON, or can't be JSON.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        payload = bytes(data)
        if as_json:
            parse(payload)  # one bad text would spoil the messages of others, and two would count as two
    elif as_json:
        return _JSON.encode(data)
    elif isinstance(data, str):
        payload = data.encode("utf-8")
    else:
        what = type(data).__name__
        raise LocalProtocolError(f"can't append a {what} to a stream that is not application/json", field="data")
    if not payload:
        raise LocalProtocolError("can't append nothing: the data is empty", field="data", size=0)
    return payload


def join(payloads: Sequence[bytes], *, as_json: bool) -> bytes:
    """The body of a request that appends these, in order; none at all make an empty one."""
    if as_json and payloads:
        return b"[" + b",".join(payloads) + b"]"
    return b"".join(payloads)
