"""Whose stream this is: the first two numbers on it say that it belongs to a session, or it is HTTP/3's.

Everything that is not ours goes on to HTTP/3 as it came, and whole. HTTP/3 never sees ours: to it a stream of WebTransport
would be a request whose frame has no length.

Spec: draft-ietf-webtrans-http3 §4.2, §4.3; RFC 9114 §6.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import MAX_VARINT, VarintReader, encode_varint

__all__ = ["Passed", "SessionNamed", "StreamHeaderReader", "check_session_id", "encode_stream_header"]

_UNIDIRECTIONAL: Final = 0x54
_BIDIRECTIONAL: Final = 0x41
_KEPT_HEADERS: Final = 1_024  # the streams of a session all begin alike


@attrs.frozen
class SessionNamed:
    """The stream belongs to a session.

    Attributes:
      session_id: the id of its CONNECT stream.
      data: what followed the header; the application's.
    """

    session_id: int
    data: bytes


@attrs.frozen
class Passed:
    """The stream is HTTP/3's.

    Attributes:
      data: all that arrived on it.
    """

    data: bytes


def check_session_id(session_id: int) -> None:
    """A session's id is that of a bidirectional stream that the client opened.

    Raises:
      Http3Error: it is not; the connection is over.
    """
    if session_id & 3:
        raise Http3Error(
            f"the peer names session {session_id}, which is no bidirectional stream of a client",
            Http3Code.H3_ID_ERROR,
            ends_connection=True,
            field="session_id",
            size=session_id,
        )


@lru_cache(maxsize=_KEPT_HEADERS)
def encode_stream_header(session_id: int, *, is_unidirectional: bool) -> bytes:
    """The first bytes of a stream that belongs to a session.

    Raises:
      LocalProtocolError: there is no such session.
    """
    if session_id & 3 or not 0 <= session_id <= MAX_VARINT:
        raise LocalProtocolError(f"{session_id} is no session's id", field="session_id", size=session_id)
    return encode_varint(_UNIDIRECTIONAL if is_unidirectional else _BIDIRECTIONAL) + encode_varint(session_id)


class StreamHeaderReader:
    """The head of one stream that the peer opened.

    Args:
      is_unidirectional: which kind of stream it is.
    """

    __slots__ = ("_is_ours", "_numbers", "_signal")

    def __init__(self, *, is_unidirectional: bool) -> None:
        self._signal = _UNIDIRECTIONAL if is_unidirectional else _BIDIRECTIONAL
        self._numbers = VarintReader()
        self._is_ours = False

    def receive(self, data: bytes) -> SessionNamed | Passed | None:
        """Bytes arrived.

        Returns:
          Whose the stream is, which is the reader's last word; None while too little is there to say.

        Raises:
          Http3Error: it names a session that cannot be; the connection is over.
        """
        position = 0
        if not self._is_ours:
            before = self._numbers.kept
            signal, position = self._numbers.read(data)
            if signal is None:
                return None
            if signal != self._signal:
                return Passed(before + data)
            self._is_ours = True
        session_id, position = self._numbers.read(data, position)
        if session_id is None:
            return None
        check_session_id(session_id)
        return SessionNamed(session_id, data[position:])

    def receive_end(self) -> Passed | None:
        """The stream ended within its header.

        Returns:
          What is HTTP/3's; None for a unidirectional stream that would have been ours: it is nobody's, and that is no
          fault (RFC 9114 §6.2).

        Raises:
          Http3Error: a bidirectional one of ours was cut; the connection is over.
        """
        if not self._is_ours:
            return Passed(self._numbers.kept)
        if self._signal == _UNIDIRECTIONAL:
            return None
        raise Http3Error(
            "the peer ended a stream before it named its session", Http3Code.H3_FRAME_ERROR, ends_connection=True
        )
