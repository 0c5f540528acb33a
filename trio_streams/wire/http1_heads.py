"""Requests' heads as they arrive: found, parsed, and known again.

Clients repeat themselves: what polls, appends or asks again on a connection mostly sends the very bytes of its last head. A head
that begins with those bytes ends where the last one did, so all that was found out about it holds, and comparing them
costs a twentieth of parsing.
"""

from __future__ import annotations

from typing import Final

from trio_streams.wire.http1_head import HeadFault, find_head, parse_head
from trio_streams.wire.http1_records import Http1Limits, Request

__all__ = ["HeadReader"]

_MAX_REMEMBERED_BYTES: Final = 2_048
"""Of a head that is kept to be compared with the next one."""


class HeadReader:
    """Finds the heads of one connection's requests.

    Attributes:
      is_begun: whether a part of a head is here.
      end: behind the head that `read` returned last, counted from where its buffer began.

    Args:
      limits: for the client.
    """

    __slots__ = ("_bytes", "_limits", "_request", "_scanned", "end", "is_begun")

    def __init__(self, limits: Http1Limits) -> None:
        self._limits = limits
        self._scanned = 0
        self._bytes = b""  # of the last head
        self._request: Request | None = None  # which it was
        self.is_begun: bool = False
        self.end: int = 0

    def read(self, buffer: bytes) -> Request | None:
        """Look for a head at the buffer's beginning; None while it is not all there.

        Args:
          buffer: what the last call was given, and what has come since; after a head, something new.

        Raises:
          HeadFault: there is none, or it is refused.
        """
        request = self._request
        if request is not None and buffer.startswith(self._bytes):
            self.end = len(self._bytes)
        else:
            limits = self._limits
            self.end = find_head(
                buffer,
                self._scanned,
                max_line_bytes=limits.max_request_line_bytes,
                max_head_bytes=limits.max_head_bytes,
            )
            if not self.end:
                self._scanned = len(buffer)
                self.is_begun = True
                return None
            request = self._parse(buffer[: self.end])
        self._scanned = 0
        self.is_begun = False
        return request

    def forget(self) -> None:
        """Keep nothing of the last head."""
        self._bytes, self._request = b"", None

    def _parse(self, head: bytes) -> Request:
        request = parse_head(head, max_headers=self._limits.max_headers)
        limit = self._limits.max_body_bytes
        if limit is not None and request.length is not None and request.length > limit:
            raise HeadFault(413, f"the body has more than {limit} bytes")
        if len(head) <= _MAX_REMEMBERED_BYTES:
            self._bytes, self._request = head, request
        return request
