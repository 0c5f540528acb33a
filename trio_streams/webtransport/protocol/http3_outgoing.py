"""A message that leaves: the same rules as for those that arrive, and whole frames only.

A DATA frame is as long as the stream has room for. Fields must leave as one frame, so what of it finds no room waits here, and
all that comes behind it.

Spec: RFC 9114 §4.1, §4.1.2, §4.2.2, §4.4.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.http3_frames import FrameType, encode_frame
from trio_streams.webtransport.protocol.http3_heads import check_answer, check_request, check_trailers
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.protocol.varint import encode_varint

__all__ = ["Outgoing"]

_SMALL_BYTES: Final = 1_024  # below it, a copy behind the frame's head costs less than another piece for QUIC
_DATA: Final = encode_varint(FrameType.DATA)
_MIN_ROOM_BYTES: Final = 3  # of a frame with one byte in it


class _Phase(enum.Enum):
    HEAD = "no head was sent"
    BODY = "its head was sent"
    OVER = "it is over"


class Outgoing:
    """One message.

    Args:
      stream_id: the request's.
      quic: the connection.
      encode: makes a field section of headers, of this stream.

    Attributes:
      method: of the request; where this is the answer, whoever received the request says it.
      unsent: what of a frame found no room.
    """

    __slots__ = (
        "_body_bytes",
        "_content_bytes",
        "_encode",
        "_has_end",
        "_is_tunnel",
        "_phase",
        "_quic",
        "_stream_id",
        "method",
        "unsent",
    )

    def __init__(self, stream_id: int, quic: QuicPort, encode: Callable[[int, RawHeaders], bytes]) -> None:
        self._stream_id = stream_id
        self._quic = quic
        self._encode = encode
        self._phase = _Phase.HEAD
        self._has_end = False
        self._is_tunnel = False
        self._content_bytes: int | None = None
        self._body_bytes = 0
        self.method: bytes = b""
        self.unsent: bytes = b""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._phase is _Phase.OVER

    def send_request(self, headers: RawHeaders, *, allows_protocol: bool) -> None:
        """Send a request's head.

        Raises:
          LocalProtocolError: it is malformed or too large, or not its turn.
        """
        self._expect(_Phase.HEAD, "send a head")
        try:
            head = check_request(headers, allows_protocol=allows_protocol)
        except Http3Error as error:
            raise _refused(error) from None
        self._send_fields(headers)
        self.method = head.method
        self._begin_body(head.content_bytes, is_tunnel=head.is_tunnel)

    def send_answer(self, headers: RawHeaders) -> None:
        """Send an answer's head, or one that is not final.

        Raises:
          LocalProtocolError: it is malformed or too large, or not its turn; one that is not final finds no room.
        """
        self._expect(_Phase.HEAD, "send a head")
        try:
            head = check_answer(headers)
        except Http3Error as error:
            raise _refused(error) from None
        if not head.is_final and self.unsent:
            raise LocalProtocolError(f"can't send another head on stream {self._stream_id}: the last one has not left")
        self._send_fields(headers)
        if not head.is_final:
            return
        content_bytes = 0 if head.has_no_content(self.method) else head.content_bytes
        self._begin_body(content_bytes, is_tunnel=head.is_tunnel(self.method))

    def send_body(self, data: bytes | bytearray | memoryview) -> int:
        """Send bytes of the body.

        Returns:
          How many were taken. If not all were, `Writable` comes.

        Raises:
          LocalProtocolError: it is not its turn, or more than content-length.
        """
        self._expect(_Phase.BODY, "send a body")
        quic, stream_id = self._quic, self._stream_id
        with memoryview(data) as flat, flat.cast("B") as view:
            self._check_length(self._body_bytes + len(view), is_last=False)
            size = 0 if self.unsent else _fitting(len(view), quic.send_room(stream_id))
            if size < len(view):
                quic.want_room(stream_id)
            if not size:
                return 0
            head = _DATA + encode_varint(size)
            if size <= _SMALL_BYTES:
                taken = quic.send(stream_id, head + view[:size])
            else:
                taken = quic.send(stream_id, head)
                taken += quic.send(stream_id, data if size == len(view) and isinstance(data, bytes) else view[:size])
        assert taken == len(head) + size, "QUIC takes what it has room for"
        self._body_bytes += size
        return size

    def send_trailers(self, headers: RawHeaders) -> None:
        """Send trailers, and the end.

        Raises:
          LocalProtocolError: they are malformed or too large, or not their turn; less than content-length was sent.
        """
        self._expect(_Phase.BODY, "send trailers")
        self._check_length(self._body_bytes, is_last=True)
        if self._is_tunnel:
            raise LocalProtocolError(f"can't send trailers on stream {self._stream_id}: a tunnel has none")
        try:
            check_trailers(headers)
        except Http3Error as error:
            raise _refused(error) from None
        self._send_fields(headers)
        self.end()

    def end(self) -> None:
        """Send the end.

        Raises:
          LocalProtocolError: it is not its turn; less than content-length was sent.
        """
        self._expect(_Phase.BODY, "end")
        self._check_length(self._body_bytes, is_last=True)
        self._phase = _Phase.OVER
        self._has_end = True
        if not self.unsent:
            self._quic.end(self._stream_id)

    def receive_writable(self) -> bool:
        """QUIC takes bytes again.

        Returns:
          Whether anything more may be sent.
        """
        if self.unsent:
            self._push(self.unsent)
            if not self.unsent and self._has_end:
                self._quic.end(self._stream_id)
        return not self.unsent and not self.is_over

    def abandon(self) -> None:
        """Send nothing more."""
        self._phase = _Phase.OVER
        self.unsent = b""

    def _send_fields(self, headers: RawHeaders) -> None:
        self._push(self.unsent + encode_frame(FrameType.HEADERS, self._encode(self._stream_id, headers)))

    def _push(self, data: bytes) -> None:
        self.unsent = data[self._quic.send(self._stream_id, data) :]

    def _begin_body(self, content_bytes: int | None, *, is_tunnel: bool) -> None:
        self._is_tunnel = is_tunnel
        # What a tunnel carries is no content (RFC 9110 §9.3.6).
        self._content_bytes = None if is_tunnel else content_bytes
        self._phase = _Phase.BODY

    def _expect(self, phase: _Phase, what: str) -> None:
        if self._phase is not phase:
            raise LocalProtocolError(
                f"can't {what} on stream {self._stream_id}: {self._phase.value}",
                field="stream_id",
                size=self._stream_id,
            )

    def _check_length(self, size: int, *, is_last: bool) -> None:
        limit = self._content_bytes
        if limit is not None and (size > limit or (is_last and size < limit)):
            raise LocalProtocolError(
                f"can't send a body of {size} bytes on stream {self._stream_id}: content-length is {limit}",
                field="content-length",
                size=size,
                limit=limit,
            )


def _fitting(size: int, room: int) -> int:
    """How much of a body fits a frame that fits the room."""
    if room < _MIN_ROOM_BYTES:
        return 0
    size = min(size, room - 2)
    return min(size, room - 1 - len(encode_varint(size)))


def _refused(error: Http3Error) -> LocalProtocolError:
    return LocalProtocolError(f"can't send the fields: {error}", field=error.field)
