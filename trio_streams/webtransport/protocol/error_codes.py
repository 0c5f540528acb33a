"""Numbers that say why: HTTP/3's, WebTransport's, an application's, and what they are in our one error table.

An application of WebTransport has 32 bits of its own. On the wire they are a range of HTTP/3's codes, without those of the
form 0x1f × N + 0x21, which HTTP/3 keeps free. A code outside of that range means a reset of which no application said why.

Spec: draft-ietf-webtrans-http3 §4.4, §9.5; RFC 9114 §8.1; RFC 9204 §6; RFC 9297 §5.2.
"""

from __future__ import annotations

import enum
from typing import Final

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["MAX_APPLICATION_CODE", "Http3Code", "Http3Error", "code_from_http3", "from_http3", "to_http3"]

MAX_APPLICATION_CODE: Final = 0xFFFF_FFFF

_FIRST: Final = 0x52E4_A40F_A8DB
_LAST: Final = 0x52E5_AC98_3162


class Http3Code(enum.IntEnum):
    """Why a stream or a connection of HTTP/3 ended."""

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_GENERAL_PROTOCOL_ERROR = 0x101
    H3_INTERNAL_ERROR = 0x102
    H3_STREAM_CREATION_ERROR = 0x103
    H3_CLOSED_CRITICAL_STREAM = 0x104
    H3_FRAME_UNEXPECTED = 0x105
    H3_FRAME_ERROR = 0x106
    H3_EXCESSIVE_LOAD = 0x107
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_MISSING_SETTINGS = 0x10A
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_REQUEST_INCOMPLETE = 0x10D
    H3_MESSAGE_ERROR = 0x10E
    H3_CONNECT_ERROR = 0x10F
    H3_VERSION_FALLBACK = 0x110
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202
    WT_FLOW_CONTROL_ERROR = 0x045D_4487
    WT_ALPN_ERROR = 0x0817_B3DD
    WT_SESSION_GONE = 0x170D_7B68
    WT_REQUIREMENTS_NOT_MET = 0x212C_0D48
    WT_BUFFERED_STREAM_REJECTED = 0x3994_BD84


class Http3Error(RemoteProtocolError):
    """The peer broke a rule of HTTP/3 or WebTransport.

    Attributes:
      http3_code: what to tell it.
      ends_connection: whether the connection is over; else the stream on which it happened, with the session if there
        is one.
    """

    def __init__(
        self,
        message: str,
        http3_code: Http3Code,
        *,
        ends_connection: bool = False,
        field: str = "",
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message, code=code_from_http3(http3_code), field=field, size=size, limit=limit)
        self.http3_code = http3_code
        self.ends_connection = ends_connection


_CODES: Final[dict[int, Code]] = {
    **dict.fromkeys(Http3Code, Code.PROTOCOL_ERROR),
    Http3Code.H3_NO_ERROR: Code.OK,
    Http3Code.H3_INTERNAL_ERROR: Code.INTERNAL,
    Http3Code.H3_EXCESSIVE_LOAD: Code.RESOURCE_EXHAUSTED,
    Http3Code.H3_REQUEST_REJECTED: Code.UNAVAILABLE,
    Http3Code.H3_REQUEST_CANCELLED: Code.CANCELLED,
    # Chromium resets the streams of a session that ends with this one, and not with WT_SESSION_GONE.
    Http3Code.H3_CONNECT_ERROR: Code.CANCELLED,
    Http3Code.WT_FLOW_CONTROL_ERROR: Code.FLOW_CONTROL_ERROR,
    Http3Code.WT_ALPN_ERROR: Code.FAILED_PRECONDITION,
    Http3Code.WT_SESSION_GONE: Code.CANCELLED,
    Http3Code.WT_REQUIREMENTS_NOT_MET: Code.FAILED_PRECONDITION,
    Http3Code.WT_BUFFERED_STREAM_REJECTED: Code.RESOURCE_EXHAUSTED,
}


def to_http3(application_code: int) -> int:
    """The code on the wire for an application's; our own `Code`s are applications' codes, too.

    Raises:
      LocalProtocolError: it takes more than 32 bits, or is negative.
    """
    if not 0 <= application_code <= MAX_APPLICATION_CODE:
        raise LocalProtocolError(
            f"the application's error code {application_code} is not within 32 bits",
            field="application_code",
            size=application_code,
            limit=MAX_APPLICATION_CODE,
        )
    return _FIRST + application_code + application_code // 0x1E


def from_http3(number: int) -> int | None:
    """The application's code for one on the wire; None for a reset of which no application said why."""
    if not _FIRST <= number <= _LAST or (number - 0x21) % 0x1F == 0:
        return None
    shifted = number - _FIRST
    return shifted - shifted // 0x1F


def code_from_http3(number: int) -> Code:
    """The entry of our error table for a code on the wire; UNKNOWN for one that nobody here has heard of."""
    application_code = from_http3(number)
    if application_code is None:
        return _CODES.get(number, Code.UNKNOWN)
    return Code.from_number(application_code)
