"""The names that a peer's calls and streams are opened with, in every dialect.

A call is a stream `REQUEST`: one JSON item and END; the answer is one JSON item and END, or END with the error's status.
A message `SEND` is the same without an answer but END. A stream `STREAM` carries items and END, in one direction: its
receiver ends the other half at once. Its metadata says what the items are.
"""

from __future__ import annotations

from typing import Final

__all__ = ["AFTER", "CONTENT_ENCODING", "CONTENT_TYPE", "REQUEST", "SEND", "STREAM", "STREAM_ID"]

REQUEST: Final = "peer.request"
SEND: Final = "peer.send"
STREAM: Final = "peer.stream"

STREAM_ID: Final = "stream-id"
"""The id that the two sides agree on."""

CONTENT_TYPE: Final = "content-type"
"""JSON where it is missing; `application/octet-stream` for bytes, `application/x-ndjson` for batches of JSON items."""

CONTENT_ENCODING: Final = "content-encoding"
"""`deflate` where each item is compressed, with one window for all items of the stream."""

AFTER: Final = "after"
"""The id of the stream whose end comes before the first item of this one."""
