"""The names that the protocol gives to headers, query parameters and fields, and its two reserved offsets.

Spec: Durable Streams §5, §8, §13.2.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BEGINNING",
    "CURSOR_PARAM",
    "LIVE_PARAM",
    "NOW",
    "OFFSET_PARAM",
    "PRODUCER_EPOCH",
    "PRODUCER_EXPECTED_SEQ",
    "PRODUCER_ID",
    "PRODUCER_RECEIVED_SEQ",
    "PRODUCER_SEQ",
    "STREAM_CLOSED",
    "STREAM_CURSOR",
    "STREAM_EARLIEST_OFFSET",
    "STREAM_EXPIRES_AT",
    "STREAM_FORKED_FROM",
    "STREAM_FORK_OFFSET",
    "STREAM_FORK_SUB_OFFSET",
    "STREAM_NEXT_OFFSET",
    "STREAM_SEQ",
    "STREAM_SSE_DATA_ENCODING",
    "STREAM_TTL",
    "STREAM_UP_TO_DATE",
]

STREAM_NEXT_OFFSET: Final = "Stream-Next-Offset"
STREAM_CURSOR: Final = "Stream-Cursor"
STREAM_UP_TO_DATE: Final = "Stream-Up-To-Date"
STREAM_CLOSED: Final = "Stream-Closed"
STREAM_SEQ: Final = "Stream-Seq"
STREAM_TTL: Final = "Stream-TTL"
STREAM_EXPIRES_AT: Final = "Stream-Expires-At"
STREAM_FORKED_FROM: Final = "Stream-Forked-From"
STREAM_FORK_OFFSET: Final = "Stream-Fork-Offset"
STREAM_FORK_SUB_OFFSET: Final = "Stream-Fork-Sub-Offset"
STREAM_SSE_DATA_ENCODING: Final = "Stream-SSE-Data-Encoding"
STREAM_EARLIEST_OFFSET: Final = "Stream-Earliest-Offset"
"""An extension: the first offset that is kept, in the answer to one before it."""

PRODUCER_ID: Final = "Producer-Id"
PRODUCER_EPOCH: Final = "Producer-Epoch"
PRODUCER_SEQ: Final = "Producer-Seq"
PRODUCER_EXPECTED_SEQ: Final = "Producer-Expected-Seq"
PRODUCER_RECEIVED_SEQ: Final = "Producer-Received-Seq"

OFFSET_PARAM: Final = "offset"
LIVE_PARAM: Final = "live"
CURSOR_PARAM: Final = "cursor"

BEGINNING: Final = "-1"
"""The offset of a stream's beginning; no answer has it."""
NOW: Final = "now"
"""The offset of whatever the tail is; no answer has it."""
