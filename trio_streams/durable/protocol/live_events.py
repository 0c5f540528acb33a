"""What a stream's server-sent events say.

A data event counts when the control event behind it is here. Other events are of a later version, and nobody's business.

Spec: Durable Streams §5.8.
"""

from __future__ import annotations

import base64
import binascii

import attrs
import msgspec

from trio_streams.codes import Code
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.durable.errors import DurableStreamError
from trio_streams.wire.sse import Event, SseParser

__all__ = ["Control", "EventsReader"]


@attrs.frozen
class Control:
    """A control event, and the data events before it.

    Attributes:
      parts: the data, one for each event.
      next_offset: right behind it.
      cursor: what the next request echoes; None where the server gave none.
      is_up_to_date: whether that is the tail.
      is_closed: whether nothing more can come.
    """

    parts: tuple[bytes, ...]
    next_offset: str
    cursor: str | None
    is_up_to_date: bool
    is_closed: bool


class _ControlFields(msgspec.Struct, rename="camel"):
    stream_next_offset: str
    stream_cursor: str | None = None
    up_to_date: bool = False
    stream_closed: bool = False


_decode_control = msgspec.json.Decoder(_ControlFields).decode


class EventsReader:
    """The events of one connection.

    Attributes:
      failure: what the server did wrong; what it said before that counts.

    Args:
      max_bytes: the most that the data between two control events may hold.
      is_base64: whether data events are.
    """

    def __init__(self, max_bytes: int, *, is_base64: bool) -> None:
        self.failure: DurableStreamError | None = None
        self._max_bytes = max_bytes
        self._is_base64 = is_base64
        self._parser = SseParser(max_event_bytes=max_bytes)
        self._parts: list[bytes] = []
        self._parts_bytes = 0

    def receive(self, chunk: bytes) -> list[Control]:
        """Take the next bytes, and return what they complete; afterwards there may be a `failure`."""
        controls: list[Control] = []
        try:
            for event in self._parser.receive(chunk):
                if event.event == "data":
                    self._take_data(event)
                elif event.event == "control":
                    controls.append(self._control(event))
        except DurableStreamError as exc:
            self.failure = exc
        except RemoteProtocolError as exc:
            code = "MESSAGE_TOO_LARGE" if exc.code is Code.MESSAGE_TOO_LARGE else "PARSE_ERROR"
            self.failure = DurableStreamError(str(exc), code=code)
        return controls

    def _take_data(self, event: Event) -> None:
        data = _decode_base64(event.data) if self._is_base64 else event.data
        self._parts_bytes += len(data)
        if self._parts_bytes > self._max_bytes:
            what = f"{self._parts_bytes} bytes without a control event pass the limit of {self._max_bytes}"
            raise DurableStreamError(what, code="MESSAGE_TOO_LARGE")
        self._parts.append(data)

    def _control(self, event: Event) -> Control:
        try:
            fields = _decode_control(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise DurableStreamError(f"a control event is not what it should be: {exc}", code="PARSE_ERROR") from exc
        if not fields.stream_next_offset:
            raise DurableStreamError("a control event has an empty streamNextOffset", code="PARSE_ERROR")
        parts, self._parts = tuple(self._parts), []
        self._parts_bytes = 0
        return Control(
            parts,
            fields.stream_next_offset,
            fields.stream_cursor,
            fields.up_to_date or fields.stream_closed,
            fields.stream_closed,
        )


def _decode_base64(data: bytes) -> bytes:
    try:
        return base64.b64decode(data.replace(b"\n", b"").replace(b"\r", b""), validate=True)
    except binascii.Error as exc:
        raise DurableStreamError(f"a data event is not base64: {exc}", code="PARSE_ERROR") from exc
