"""The chunked coding of HTTP/1.1 bodies, decoded as it arrives. RFC 9112 §7.1.

Strict where decoders differ: sizes are hexadecimal digits and nothing else, lines end with CR LF, extensions and trailers
are checked, bounded and dropped.
"""

from __future__ import annotations

import re
from typing import Final

from trio_streams.wire.http1_head import HeadFault

__all__ = ["ChunkedBody", "encode_chunk"]

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?+")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+")

_MAX_SIZE_LINE_BYTES: Final = 256
"""A size has 16 digits at most; nobody has a use for extensions."""

_MAX_EXTENSION_BYTES: Final = 16_384
"""Of all chunks together beyond what a chunk's own bytes pay for: many tiny chunks must not be a way to send for ever
without sending anything (CVE-2023-39326)."""


def encode_chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding; nothing for nothing, since an empty chunk is the last one.

    Spec: RFC 9112 §7.1.
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedBody:
    """One chunked body, from its first size line to the end of its trailers.

    Args:
      max_trailer_bytes: the most that the trailers may have.
    """

    def __init__(self, max_trailer_bytes: int) -> None:
        self._max_trailer_bytes = max_trailer_bytes
        self._left = 0  # of the chunk under way
        self._needs_end = False  # the chunk's own CR LF
        self._in_trailers = False
        self._overhead = 0
        self.is_ended: bool = False
        self.fault: HeadFault | None = None

    def decode(self, data: bytes) -> tuple[list[bytes], int]:
        """Take what is complete. Where the coding is broken, `fault` is set; the pieces before it are good.

        Args:
          data: from where the last call left off.

        Returns:
          The pieces of the body, and how many bytes of `data` were used.
        """
        pieces: list[bytes] = []
        try:
            return pieces, self._decode(data, pieces)
        except HeadFault as fault:
            self.fault = fault
            return pieces, len(data)

    def _decode(self, data: bytes, pieces: list[bytes]) -> int:
        at = 0
        while not self.is_ended:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._needs_end = not self._left
                continue
            limit = self._line_limit()
            end = data.find(b"\n", at, at + limit + 2)
            if end < 0:
                if len(data) - at > limit + 1:
                    raise self._too_long()
                break
            if end == at or data[end - 1] != 0x0D:
                raise HeadFault(400, "a line of the chunked body ends without CR")
            self._take_line(data[at : end - 1])
            at = end + 1
        return at

    def _line_limit(self) -> int:
        if self._needs_end:
            return 0
        return self._max_trailer_bytes if self._in_trailers else _MAX_SIZE_LINE_BYTES

    def _too_long(self) -> HeadFault:
        if self._in_trailers:
            return HeadFault(431, "the trailers are too long")
        return HeadFault(400, "the chunked body is malformed")

    def _take_line(self, line: bytes) -> None:
        if self._needs_end:
            # The limit of such a line is 0, so it is empty.
            self._needs_end = False
        elif self._in_trailers:
            self._max_trailer_bytes -= len(line) + 2
            if not line:
                self.is_ended = True
            elif not _TRAILER.fullmatch(line):
                raise HeadFault(400, "a trailer is malformed")
            elif self._max_trailer_bytes < 0:
                raise self._too_long()
        else:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise HeadFault(400, "a chunk's size is malformed")
            self._left = int(match[1], 16)
            self._in_trailers = not self._left
            self._overhead = max(0, self._overhead + len(line) - 16 - self._left)
            if self._overhead > _MAX_EXTENSION_BYTES:
                raise HeadFault(400, "the chunks are mostly extensions")
