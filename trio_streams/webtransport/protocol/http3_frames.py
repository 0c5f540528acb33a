"""Frames of HTTP/3: read piece by piece as they come, with nothing kept but a number that is cut.

What frames mean where they stand is their sink's matter. Two things hold on every stream and are said here: HTTP/2's frames
have no place in HTTP/3, and WebTransport's signal is no frame: it has no length, and may only be the first bytes of a stream.

Spec: RFC 9114 §7.1, §7.2.4, §7.2.8; draft-ietf-webtrans-http3 §4.3.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Protocol

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import VarintReader, decode_varint, encode_varint

__all__ = [
    "FrameReader",
    "FrameSink",
    "FrameType",
    "encode_frame",
    "encode_settings",
    "parse_number",
    "parse_settings",
    "unexpected",
    "wrong_layout",
]

_HTTP2_FRAMES: Final = frozenset({0x02, 0x06, 0x08, 0x09})
_HTTP2_SETTINGS: Final = frozenset({0x00, 0x02, 0x03, 0x04, 0x05})
_WT_STREAM: Final = 0x41


class FrameType(enum.IntEnum):
    """Frames that have a meaning here."""

    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D
    PRIORITY_UPDATE = 0xF0700
    PUSH_PRIORITY_UPDATE = 0xF0701


class FrameSink(Protocol):
    """Who is told of frames. Each method may raise `Http3Error`, and the reader is of no use then."""

    @property
    def is_waiting(self) -> bool:
        """Whether nothing more can be read for now; asked at the end of each piece and frame."""
        ...

    def begin_frame(self, kind: int, size: int) -> None:
        """A frame begins, of so many bytes."""
        ...

    def take_payload(self, data: bytes) -> None:
        """Bytes of it, never none."""
        ...

    def end_frame(self) -> None:
        """It was whole."""
        ...


class FrameReader:
    """The frames of one stream.

    Args:
      sink: who is told.
    """

    __slots__ = ("_kind", "_left_bytes", "_numbers", "_sink")

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink
        self._numbers = VarintReader()
        self._kind: int | None = None
        self._left_bytes = 0

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended, so that the stream must not end here."""
        return self._kind is not None or bool(self._left_bytes) or bool(self._numbers.kept)

    def receive(self, data: bytes) -> int:
        """Read what a piece of the stream holds.

        Returns:
          How many bytes of it were read: all, unless the sink waits.

        Raises:
          Http3Error: the sink did, or a frame that has no place in HTTP/3.
        """
        sink = self._sink
        position, size = 0, len(data)
        while position < size:
            if self._left_bytes:
                taken = min(self._left_bytes, size - position)
                # A piece is a packet's worth: to copy the rest of one costs less than a view, which would keep it all.
                piece = data if taken == size else data[position : position + taken]
                position += taken
                self._left_bytes -= taken
                sink.take_payload(piece)
                if not self._left_bytes:
                    sink.end_frame()
            else:
                position = self._read_head(data, position)
            if sink.is_waiting:
                break
        return position

    def _read_head(self, data: bytes, position: int) -> int:
        """Read one number: a frame's type or its length."""
        number, position = self._numbers.read(data, position)
        if number is None:
            return position
        if self._kind is None:
            _check_kind(number)
            self._kind = number
            return position
        kind, self._kind = self._kind, None
        self._left_bytes = number
        self._sink.begin_frame(kind, number)
        if not number:
            self._sink.end_frame()
        return position


def _check_kind(kind: int) -> None:
    if kind in _HTTP2_FRAMES:
        raise unexpected(kind, "which is HTTP/2's")
    if kind == _WT_STREAM:
        raise Http3Error(
            "the peer sent WT_STREAM within a stream of HTTP/3", Http3Code.H3_FRAME_ERROR, ends_connection=True
        )


def unexpected(kind: int, why: str) -> Http3Error:
    """The error for a frame that must not be where it is; the connection is over."""
    name = FrameType(kind).name if kind in _NAMED else f"a frame of type {kind:#x}"
    return Http3Error(f"the peer sent {name}, {why}", Http3Code.H3_FRAME_UNEXPECTED, ends_connection=True)


_NAMED: Final = frozenset(FrameType)


def encode_frame(kind: int, payload: bytes) -> bytes:
    """A frame's bytes."""
    return encode_varint(kind) + encode_varint(len(payload)) + payload


def parse_number(payload: bytes, kind: FrameType) -> int:
    """The one number that a frame consists of.

    Raises:
      Http3Error: it is cut, or there is more; the connection is over.
    """
    found = decode_varint(payload)
    if found is None or found[1] != len(payload):
        raise wrong_layout(kind)
    return found[0]


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """A SETTINGS frame."""
    numbers = (encode_varint(number) for setting in settings.items() for number in setting)
    return encode_frame(FrameType.SETTINGS, b"".join(numbers))


def parse_settings(payload: bytes) -> dict[int, int]:
    """The settings of a SETTINGS frame.

    Raises:
      Http3Error: it is cut, or names a setting twice or one of HTTP/2's; the connection is over.
    """
    settings: dict[int, int] = {}
    position = 0
    while position < len(payload):
        name = decode_varint(payload, position)
        value = None if name is None else decode_varint(payload, name[1])
        if name is None or value is None:
            raise wrong_layout(FrameType.SETTINGS)
        setting = name[0]
        if setting in _HTTP2_SETTINGS or setting in settings:
            fault = "HTTP/2's" if setting in _HTTP2_SETTINGS else "there twice"
            raise Http3Error(
                f"the peer's setting {setting:#x} is {fault}",
                Http3Code.H3_SETTINGS_ERROR,
                ends_connection=True,
                field=f"{setting:#x}",
            )
        settings[setting], position = value
    return settings


def wrong_layout(kind: FrameType) -> Http3Error:
    """The error for a frame that is not what its length says (RFC 9114 §7.1); the connection is over."""
    return Http3Error(
        f"the peer's {kind.name} frame is cut, or longer than what is in it",
        Http3Code.H3_FRAME_ERROR,
        ends_connection=True,
        field=kind.name,
    )
