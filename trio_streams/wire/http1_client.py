"""The client's side of one HTTP/1.1 exchange whose answer is read as it comes: one GET a connection. RFC 9112.

For streams of events there is nothing to pool: a connection belongs to its stream until one of them ends. What is left is
small, and does what a general client can't: all that one read brought comes out as one piece, however many chunks the
server made of it, which is what an event costs least in.

Strict as the server's side is, and by the same grammar of heads and chunks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from trio_streams.core.errors import RemoteProtocolError
from trio_streams.wire.http1_body import ChunkedBody
from trio_streams.wire.http1_fields import check_fields
from trio_streams.wire.http1_head import HeadFault, find_head

__all__ = ["Answer", "encode_get"]

_MAX_LINE_BYTES: Final = 8_192
_MAX_HEAD_BYTES: Final = 65_536
_MAX_TRAILER_BYTES: Final = 8_192
_MAX_LENGTH_DIGITS: Final = 18

_HEAD: Final = re.compile(
    r"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n"
    r"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n",
    re.ASCII,
)

_SWITCHING: Final = 101
_BODILESS: Final = frozenset({204, 304})


def encode_get(target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """A request without a body, the last one of its connection.

    Args:
      target: the path and the query, percent-encoded.
      headers: `host` among them; names in lower case.

    Raises:
      LocalProtocolError: a header can't be sent.
    """
    lines = check_fields([*headers, ("connection", "close")])
    return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


class Answer:
    """The answer to a GET, as it arrives.

    Attributes:
      status: 0 until the head is here; those of 1xx are passed over.
      headers: names in lower case.
      is_ended: whether the whole body is here.
    """

    def __init__(self) -> None:
        self.status: int = 0
        self.headers: tuple[tuple[str, str], ...] = ()
        self.is_ended: bool = False
        self._head = b""
        self._seen = 0  # bytes of it in which no end was found
        self._chunks: ChunkedBody | None = None
        self._rest = b""  # of a line between two chunks
        self._left: int | None = None  # of a body of known length; None for one that lasts as long as the connection

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes; what comes behind the answer's end is ignored.

        Args:
          data: as large as it came; empty for the connection's end.

        Returns:
          All that they hold of the body.

        Raises:
          RemoteProtocolError: this is not HTTP, or the connection ended before the answer did.
        """
        if not data:
            return self._receive_end()
        try:
            while not self.status:
                self._head += data
                data = self._receive_head()
                if not data and not self.status:
                    return b""
            return self._receive_body(data)
        except HeadFault as exc:
            raise RemoteProtocolError(f"the answer is not HTTP: {exc.text}", field="answer") from exc

    def _receive_end(self) -> bytes:
        is_cut = not self.status or self._chunks is not None or bool(self._left)
        if is_cut and not self.is_ended:
            raise RemoteProtocolError("the connection ended before the answer did", field="answer")
        self.is_ended = True
        return b""

    def _receive_head(self) -> bytes:
        """Read one head, if it is here, and return what follows it."""
        head = self._head
        end = find_head(head, self._seen, max_line_bytes=_MAX_LINE_BYTES, max_head_bytes=_MAX_HEAD_BYTES)
        self._seen = len(head)
        if not end:
            return b""
        match = _HEAD.fullmatch(head[:end].decode("latin-1"))
        if match is None:
            raise HeadFault(400, "the head is malformed")
        self._head, self._seen = b"", 0
        status = int(match[1])
        if status == _SWITCHING:
            raise HeadFault(400, "it switches protocols")
        if status >= 200:
            pairs = [line.partition(":") for line in match[2].split("\r\n")[:-1]]
            self.headers = tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs)
            self._find_length(status)
            self.status = status
        return head[end:]

    def _find_length(self, status: int) -> None:
        codings = [value.lower() for name, value in self.headers if name == "transfer-encoding"]
        lengths = {value for name, value in self.headers if name == "content-length"}
        if status in _BODILESS:
            self.is_ended = True
        elif codings:
            # RFC 9112 §6.3: "the Transfer-Encoding overrides the Content-Length". Other codings were not asked for.
            if codings != ["chunked"]:
                raise HeadFault(400, "its transfer coding is not chunked")
            self._chunks = ChunkedBody(_MAX_TRAILER_BYTES)
        elif lengths:
            (value, *more) = lengths
            if more or not value.isascii() or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                raise HeadFault(400, "its content-length is not one number")
            self._left = int(value)
            self.is_ended = not self._left

    def _receive_body(self, data: bytes) -> bytes:
        if self.is_ended:
            return b""
        if self._chunks is not None:
            return self._receive_chunks(self._chunks, data)
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        self.is_ended = not self._left
        return data

    def _receive_chunks(self, chunks: ChunkedBody, data: bytes) -> bytes:
        data = self._rest + data
        pieces, used = chunks.decode(data)
        if chunks.fault is not None:
            raise chunks.fault
        self._rest = data[used:]
        self.is_ended = chunks.is_ended
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
