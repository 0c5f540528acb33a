"""Streams for users: the two halves, the in-process stream and the byte view."""

from __future__ import annotations

from trio_streams.streams.abc import ReceiveStream as ReceiveStream
from trio_streams.streams.abc import SendStream as SendStream
from trio_streams.streams.abc import Stream as Stream
from trio_streams.streams.abc import StreamChunk as StreamChunk
from trio_streams.streams.abc import StreamStatistics as StreamStatistics
from trio_streams.streams.bytes import ByteStream as ByteStream
from trio_streams.streams.local import LocalStream as LocalStream
from trio_streams.streams.local import open_stream as open_stream

__all__ = [
    "ByteStream",
    "LocalStream",
    "ReceiveStream",
    "SendStream",
    "Stream",
    "StreamChunk",
    "StreamStatistics",
    "open_stream",
]
