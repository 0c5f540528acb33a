"""Compressed items: raw DEFLATE, one window for all items of a stream, each flushed so that it can be read at once.

As permessage-deflate does (RFC 7692 §7.2), the four bytes that every flush ends with are left out. Items have to be
inflated in order, each once; so a stream is over with the first one that cannot be.
"""

from __future__ import annotations

import zlib
from typing import Final

from trio_streams.codes import Code
from trio_streams.errors import RemoteProtocolError

__all__ = ["Deflater", "Inflater"]

_TAIL: Final = b"\x00\x00\xff\xff"
_RAW: Final = -zlib.MAX_WBITS
_LEVEL: Final = 6  # from here on little is gained


class Deflater:
    """Compresses the items of one stream, in order."""

    __slots__ = ("_compressor",)

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)

    def compress(self, item: bytes) -> bytes:
        """One item, compressed by what it shares with those before it."""
        data = self._compressor.compress(item) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(_TAIL)


class Inflater:
    """The other direction, bounded: what inflates to more than is allowed is refused before it does.

    Args:
      max_item_bytes: the largest item, inflated.
    """

    __slots__ = ("_decompressor", "_failure", "_max_item_bytes")

    def __init__(self, max_item_bytes: int) -> None:
        self._decompressor = zlib.decompressobj(_RAW)
        self._max_item_bytes = max_item_bytes
        self._failure: RemoteProtocolError | None = None

    def inflate(self, data: bytes) -> bytes:
        """One item as it was.

        Raises:
          RemoteProtocolError: it is not DEFLATE, or passes `max_item_bytes`; from then on every item fails so.
        """
        if self._failure is None:
            limit = self._max_item_bytes
            try:
                item = self._decompressor.decompress(data + _TAIL, limit + 1)
            except zlib.error as exc:
                self._failure = RemoteProtocolError(
                    f"an item of {len(data)} bytes is not DEFLATE: {exc}", field="content-encoding", size=len(data)
                )
            else:
                if len(item) <= limit and not self._decompressor.unconsumed_tail and not self._decompressor.eof:
                    return item
                self._failure = self._refusal(len(data), len(item))
        raise self._failure

    def _refusal(self, size: int, inflated: int) -> RemoteProtocolError:
        limit = self._max_item_bytes
        if inflated <= limit:
            return RemoteProtocolError(
                f"an item of {size} bytes ends the DEFLATE stream", field="content-encoding", size=size
            )
        return RemoteProtocolError(
            f"an item of {size} bytes inflates to more than max_item_bytes of {limit}",
            code=Code.MESSAGE_TOO_LARGE,
            field="max_item_bytes",
            size=inflated,
            limit=limit,
        )
