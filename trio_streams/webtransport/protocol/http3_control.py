"""The peer's control stream: its settings, and what it says of the connection as a whole.

Spec: RFC 9114 §5.2, §6.2.1, §7.2.3 to §7.2.7; RFC 9218 §7.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import Http3Event, PriorityUpdated, SettingsReceived, WentAway
from trio_streams.webtransport.protocol.http3_frames import (
    FrameReader,
    FrameType,
    parse_number,
    parse_settings,
    unexpected,
    wrong_layout,
)
from trio_streams.webtransport.protocol.http3_incoming import too_many_idle_frames
from trio_streams.webtransport.protocol.priority import parse_priority
from trio_streams.webtransport.protocol.varint import decode_varint

__all__ = ["PeerControl"]

_MAX_NUMBER_BYTES: Final = 8
_NUMBERS: Final = frozenset({FrameType.CANCEL_PUSH, FrameType.GOAWAY, FrameType.MAX_PUSH_ID})
_OF_CLIENTS: Final = frozenset({FrameType.MAX_PUSH_ID, FrameType.PRIORITY_UPDATE, FrameType.PUSH_PRIORITY_UPDATE})
_OF_REQUESTS: Final = frozenset({FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE})


class PeerControl:
    """What the peer says on its control stream.

    Args:
      config: limits.
      events: where it goes.
      is_client: which side *this* is.

    Attributes:
      settings: the peer's; None until they are here.
      last_id: of the peer's last GOAWAY; None before one.
      idle_frames: frames that carried nothing since somebody put it to 0.
    """

    def __init__(self, config: Http3Config, events: deque[Http3Event], *, is_client: bool) -> None:
        self._config = config
        self._events = events
        self._is_client = is_client
        self._frames = FrameReader(self)
        self._kind: int = 0
        self._payload: bytearray | None = None  # None: what comes is skipped
        self._max_push_id: int | None = None
        self.settings: dict[int, int] | None = None
        self.last_id: int | None = None
        self.idle_frames: int = 0

    def receive(self, run: Sequence[bytes]) -> None:
        """Bytes of the stream arrived, behind its type.

        Raises:
          Http3Error: the connection is over.
        """
        for chunk in run:
            self._frames.receive(chunk)

    # What the frames tell.

    @property
    def is_waiting(self) -> bool:
        """It never does."""
        return False

    def begin_frame(self, kind: int, size: int) -> None:
        """A frame begins."""
        self._kind = kind
        self._payload = None
        if (kind == FrameType.SETTINGS) is not (self.settings is None):
            if self.settings is None:
                raise Http3Error(
                    "the peer's control stream does not begin with SETTINGS",
                    Http3Code.H3_MISSING_SETTINGS,
                    ends_connection=True,
                )
            raise unexpected(kind, "twice")
        if kind in _OF_REQUESTS:
            raise unexpected(kind, "on its control stream")
        if kind in _OF_CLIENTS and self._is_client:
            raise unexpected(kind, "which only clients send")
        if kind in _NUMBERS and size > _MAX_NUMBER_BYTES:
            raise wrong_layout(FrameType(kind))
        if kind == FrameType.SETTINGS or kind in _OF_CLIENTS:
            self._check_size(FrameType(kind), size)
        elif kind not in _NUMBERS:
            self._count_idle()
            return
        self._payload = bytearray()

    def _check_size(self, kind: FrameType, size: int) -> None:
        limit = self._config.max_control_frame_bytes
        if size > limit:
            raise Http3Error(
                f"the peer's {kind.name} frame has {size} bytes: max_control_frame_bytes is {limit}",
                Http3Code.H3_EXCESSIVE_LOAD,
                ends_connection=True,
                field="max_control_frame_bytes",
                size=size,
                limit=limit,
            )

    def take_payload(self, data: bytes) -> None:
        """Bytes of a frame."""
        if self._payload is not None:
            self._payload += data

    def end_frame(self) -> None:
        """A frame was whole."""
        if self._payload is None:
            return
        payload = bytes(self._payload)
        match self._kind:
            case FrameType.SETTINGS:
                self.settings = parse_settings(payload)
                self._events.append(SettingsReceived(self.settings))
            case FrameType.GOAWAY:
                self._take_goaway(parse_number(payload, FrameType.GOAWAY))
            case FrameType.MAX_PUSH_ID:
                self._take_max_push_id(parse_number(payload, FrameType.MAX_PUSH_ID))
            case FrameType.CANCEL_PUSH:
                # A client allows none, and a server that never pushes has promised none.
                raise _wrong_id("CANCEL_PUSH", parse_number(payload, FrameType.CANCEL_PUSH))
            case _:
                self._take_priority(payload)

    def _take_goaway(self, last_id: int) -> None:
        if self._is_client and last_id & 3:
            raise _wrong_id("GOAWAY", last_id)
        if self.last_id is not None and last_id > self.last_id:
            raise _wrong_id("GOAWAY", last_id)
        self.last_id = last_id
        self._count_idle()
        self._events.append(WentAway(last_id))

    def _take_max_push_id(self, push_id: int) -> None:
        if self._max_push_id is not None and push_id < self._max_push_id:
            raise _wrong_id("MAX_PUSH_ID", push_id)
        self._max_push_id = push_id
        self._count_idle()

    def _take_priority(self, payload: bytes) -> None:
        found = decode_varint(payload)
        if found is None:
            raise wrong_layout(FrameType.PRIORITY_UPDATE)
        stream_id, end = found
        # Of pushes none was promised (RFC 9218 §7.2).
        if self._kind == FrameType.PUSH_PRIORITY_UPDATE or stream_id & 3:
            raise _wrong_id("PRIORITY_UPDATE", stream_id)
        self._count_idle()
        self._events.append(PriorityUpdated(stream_id, parse_priority([payload[end:]])))

    def _count_idle(self) -> None:
        self.idle_frames += 1
        if self.idle_frames > self._config.max_idle_frames:
            raise too_many_idle_frames(self._config.max_idle_frames)


def _wrong_id(frame: str, number: int) -> Http3Error:
    return Http3Error(
        f"the peer's {frame} names {number}, which it may not",
        Http3Code.H3_ID_ERROR,
        ends_connection=True,
        field=frame,
        size=number,
    )
