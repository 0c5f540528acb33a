"""Capsules: what the two ends of a session tell each other on its CONNECT stream.

A capsule is a type, a length and so many bytes. Those that we know are short, so one that claims to be long is wrong
before its bytes are there; the others are skipped as they come, and nothing of them is kept. Datagrams have a way of their
own, and capsules that hold some are skipped, too: what may be lost may be dropped.

Spec: RFC 9297 §3.2, §3.3; draft-ietf-webtrans-http3 §4.7, §5.6, §6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import MAX_APPLICATION_CODE, Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import VarintReader, decode_varint, encode_varint

__all__ = [
    "MAX_REASON_BYTES",
    "MAX_STREAMS",
    "Capsule",
    "CapsuleParser",
    "Close",
    "DataBlocked",
    "Drain",
    "MaxData",
    "MaxStreams",
    "StreamsBlocked",
    "cut_reason",
    "encode_capsule",
]

MAX_REASON_BYTES: Final = 1_024
MAX_STREAMS: Final = 1 << 60
"""More streams have no ids."""

_CLOSE: Final = 0x2843
_DRAIN: Final = 0x78AE
_MAX_DATA: Final = 0x190B_4D3D
_MAX_STREAM_DATA: Final = 0x190B_4D3E
_MAX_STREAMS_BIDIRECTIONAL: Final = 0x190B_4D3F
_MAX_STREAMS_UNIDIRECTIONAL: Final = 0x190B_4D40
_DATA_BLOCKED: Final = 0x190B_4D41
_STREAM_DATA_BLOCKED: Final = 0x190B_4D42
_STREAMS_BLOCKED_BIDIRECTIONAL: Final = 0x190B_4D43
_STREAMS_BLOCKED_UNIDIRECTIONAL: Final = 0x190B_4D44


@attrs.frozen
class Close:
    """The session is over.

    Attributes:
      code: the application's, 32 bits.
      reason: for people; sent up to 1,024 bytes.
    """

    code: int = 0
    reason: str = ""


@attrs.frozen
class Drain:
    """Come to an end, please; nothing is forbidden by it."""


@attrs.frozen
class MaxData:
    """Bytes that may ever be sent on the session's streams, without their headers."""

    limit_bytes: int


@attrs.frozen
class MaxStreams:
    """Streams of one kind that may ever be opened in the session."""

    limit_streams: int
    is_unidirectional: bool


@attrs.frozen
class DataBlocked:
    """The sender had more to send than this limit."""

    limit_bytes: int


@attrs.frozen
class StreamsBlocked:
    """The sender wanted to open more streams than this limit."""

    limit_streams: int
    is_unidirectional: bool


Capsule: TypeAlias = Close | Drain | MaxData | MaxStreams | DataBlocked | StreamsBlocked


def cut_reason(reason: str) -> bytes:
    """A reason in UTF-8, cut behind the last character that ends within the limit; lone surrogates become `?`."""
    text = reason[:MAX_REASON_BYTES].encode("utf-8", "replace")
    return text[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


def encode_capsule(capsule: Capsule) -> bytes:
    """A capsule's bytes.

    Raises:
      LocalProtocolError: a number in it is too large.
    """
    match capsule:
        case Close(code, reason):
            if not 0 <= code <= MAX_APPLICATION_CODE:
                raise LocalProtocolError(
                    f"a session cannot be closed with code {code}: it is not within 32 bits",
                    field="code",
                    size=code,
                    limit=MAX_APPLICATION_CODE,
                )
            return _frame(_CLOSE, code.to_bytes(4, "big") + cut_reason(reason))
        case Drain():
            return _frame(_DRAIN, b"")
        case MaxData(limit):
            return _frame(_MAX_DATA, encode_varint(limit))
        case DataBlocked(limit):
            return _frame(_DATA_BLOCKED, encode_varint(limit))
        case MaxStreams(limit, is_unidirectional):
            return _frame(_MAX_STREAMS_BIDIRECTIONAL + is_unidirectional, _count(limit))
        case _:
            return _frame(_STREAMS_BLOCKED_BIDIRECTIONAL + capsule.is_unidirectional, _count(capsule.limit_streams))


def _frame(kind: int, value: bytes) -> bytes:
    return b"".join((encode_varint(kind), encode_varint(len(value)), value))


def _count(limit: int) -> bytes:
    if limit > MAX_STREAMS:
        raise LocalProtocolError(f"{limit} streams have no ids", field="limit_streams", size=limit, limit=MAX_STREAMS)
    return encode_varint(limit)


def _parse_close(value: bytes) -> Close:
    # Whoever cuts a reason within a character is wrong, but says goodbye, and the reason is for people.
    return Close(int.from_bytes(value[:4], "big"), value[4:].decode("utf-8", "replace"))


def _parse_limit(value: bytes) -> int:
    found = decode_varint(value)
    if found is None or found[1] != len(value):
        raise _malformed(f"a flow control capsule holds {len(value)} bytes that are not one number", len(value), 8)
    return found[0]


def _parse_count(value: bytes) -> int:
    if (limit := _parse_limit(value)) > MAX_STREAMS:
        raise Http3Error(
            f"the peer names a limit of {limit} streams, which have no ids",
            Http3Code.H3_DATAGRAM_ERROR,
            field="limit_streams",
            size=limit,
            limit=MAX_STREAMS,
        )
    return limit


def _malformed(message: str, size: int, limit: int) -> Http3Error:
    return Http3Error(message, Http3Code.H3_MESSAGE_ERROR, field="capsule_bytes", size=size, limit=limit)


_KNOWN: Final[dict[int, tuple[int, int, Callable[[bytes], Capsule]]]] = {
    _CLOSE: (4, 4 + MAX_REASON_BYTES, _parse_close),
    _DRAIN: (0, 0, lambda _: Drain()),
    _MAX_DATA: (1, 8, lambda value: MaxData(_parse_limit(value))),
    _MAX_STREAMS_BIDIRECTIONAL: (1, 8, lambda value: MaxStreams(_parse_count(value), is_unidirectional=False)),
    _MAX_STREAMS_UNIDIRECTIONAL: (1, 8, lambda value: MaxStreams(_parse_count(value), is_unidirectional=True)),
    _DATA_BLOCKED: (1, 8, lambda value: DataBlocked(_parse_limit(value))),
    _STREAMS_BLOCKED_BIDIRECTIONAL: (1, 8, lambda value: StreamsBlocked(_parse_count(value), is_unidirectional=False)),
    _STREAMS_BLOCKED_UNIDIRECTIONAL: (1, 8, lambda value: StreamsBlocked(_parse_count(value), is_unidirectional=True)),
}
"""What is known: the fewest and the most bytes of its value, and what they mean."""


class CapsuleParser:
    """Bytes to capsules, split anywhere; keeps no more than the longest capsule that is known, 1,028 bytes.

    Args:
      max_skipped_bytes: the longest capsule of an unknown type that is skipped; one that claims to be longer is refused
        when its length is there.
    """

    __slots__ = ("_kept", "_kind", "_left_bytes", "_max_skipped_bytes", "_numbers")

    def __init__(self, max_skipped_bytes: int = 65_536) -> None:
        self._max_skipped_bytes = max_skipped_bytes
        self._numbers = VarintReader()
        self._kind: int | None = None
        self._left_bytes: int | None = None
        self._kept = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether no capsule is incomplete: only then the stream may end."""
        return self._kind is None and not self._numbers.kept

    @property
    def kept_bytes(self) -> int:
        """Bytes held for an incomplete capsule."""
        return len(self._kept) + len(self._numbers.kept)

    def parse_next(self, data: bytes, start: int = 0) -> tuple[Capsule | None, int]:
        """Take the next capsule that is known.

        Args:
          data: what arrived.
          start: where in it to go on.

        Returns:
          The capsule, None where there is no whole one; and where in the bytes the rest begins.

        Raises:
          Http3Error: a capsule is malformed, prohibited or too long. The parser is of no use from then on.
        """
        position = start
        while True:
            if self._left_bytes is None:
                position = self._parse_head(data, position)
            if self._left_bytes is None or self._kind is None:
                return None, position
            end = min(position + self._left_bytes, len(data))
            known = _KNOWN.get(self._kind)
            if known is not None:
                self._kept += data[position:end]
            self._left_bytes -= end - position
            position = end
            if self._left_bytes:
                return None, position
            self._kind = self._left_bytes = None
            if known is not None:
                value = bytes(self._kept)
                self._kept.clear()
                return known[2](value), position

    def _parse_head(self, data: bytes, start: int) -> int:
        position = start
        if self._kind is None:
            self._kind, position = self._numbers.read(data, position)
            if self._kind is None:
                return position
        length, position = self._numbers.read(data, position)
        if length is not None:
            self._check_length(self._kind, length)
            self._left_bytes = length
        return position

    def _check_length(self, kind: int, length: int) -> None:
        if kind in {_MAX_STREAM_DATA, _STREAM_DATA_BLOCKED}:
            raise Http3Error(
                f"the peer sent a capsule of type {kind:#x}: credit of streams is QUIC's", Http3Code.H3_DATAGRAM_ERROR
            )
        if kind in _KNOWN:
            least, most, _ = _KNOWN[kind]
            if not least <= length <= most:
                raise _malformed(f"a capsule of type {kind:#x} has {length} bytes", length, most)
        elif length > self._max_skipped_bytes:
            raise Http3Error(
                f"a capsule of the unknown type {kind:#x} has {length} bytes",
                Http3Code.H3_EXCESSIVE_LOAD,
                field="max_skipped_bytes",
                size=length,
                limit=self._max_skipped_bytes,
            )
