"""Server-sent events as bytes: the encoder, and a parser that follows the WHATWG standard to the letter.

Both work on runs. A run of payloads becomes one `bytes` with one join and two scans; a chunk of plain
`data: …` events becomes a list with one split. What is not plain takes the line-by-line path, which alone decides
what anything means: the fast path accepts only what it can prove (by counting line ends) to be plain.

Line ends are normalised first: CR and CRLF become LF, and a CR at the end of a chunk swallows an LF at the start of
the next. UTF-8 never hides a CR or LF inside another character, so lines are split as bytes, and payloads stay bytes:
whoever decodes JSON would only encode them again.

Spec: HTML Living Standard §9.2.5 "Parsing an event stream" and §9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import Final, NamedTuple

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "CONTENT_TYPE",
    "DEFAULT_MAX_EVENT_BYTES",
    "END_ID",
    "Event",
    "SseParser",
    "encode_comment",
    "encode_event",
    "encode_events",
    "encode_id",
    "encode_retry",
]

CONTENT_TYPE: Final = "text/event-stream"

DEFAULT_MAX_EVENT_BYTES: Final = 16_777_216
"""As large as the largest item of a connection (`ConnectionConfig.max_item_bytes`)."""

END_ID: Final = "trio-streams:end"
"""The id of an event of our servers after which there is nothing to resume. No item can have it."""

_BOM: Final = b"\xef\xbb\xbf"

_MAX_RETRY_DIGITS: Final = 15
"""30,000 years in milliseconds. The standard sets no limit; Python refuses to convert thousands of digits."""


_ONE: Final = re.compile(rb"id: ([^\n\0]*+)\ndata: ([^\n]*+)\n\n")
_WITH_IDS: Final = re.compile(rb"(?:id: [^\n\0]*+\ndata: [^\n]*+\n\n)++")
"""A run of events as our encoder writes those that have ids. Linear: every step is possessive."""


class Event(NamedTuple):
    """One event as it is dispatched. A tuple, because one is made per event and it costs a third of an attrs class.

    Attributes:
      data: the payload; several `data` lines are joined by LF.
      event: the event's type.
      id: the last event id that the stream has named so far, as a reconnect would send it.
    """

    data: bytes
    event: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The payload as a browser would show it: what is not UTF-8 becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")


_make: Final = partial(tuple.__new__, Event)


def encode_event(data: bytes, *, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002
    """One event as bytes.

    Args:
      data: the payload. The format has one kind of line end: CR and CRLF arrive as LF.
      event: the type; None for none, which browsers call `message`.
      id: what a reconnecting client will send as `Last-Event-ID`; an empty one clears it.

    Raises:
      LocalProtocolError: `event` or `id` holds a line end, or `id` a NUL, which would forge or lose a field.
    """
    head = _event_field(event)
    if id is not None:
        head += _field("id", id)
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return head + b"data: " + data + b"\n\n"


def encode_events(items: Sequence[bytes], *, event: str | None = None) -> bytes:
    """A run of payloads as the bytes of that many events.

    Args:
      items: the payloads; none give no bytes.
      event: one type for all of them.

    Raises:
      LocalProtocolError: `event` holds a line end.
    """
    if not items:
        return b""
    prefix = _event_field(event) + b"data: "
    separator = b"\n\n" + prefix
    joined = separator.join(items)
    # The separators' own line ends are known, so any other count means that a payload has some.
    if joined.count(b"\n") == separator.count(b"\n") * (len(items) - 1) and b"\r" not in joined:
        return b"".join((prefix, joined, b"\n\n"))
    return b"".join([encode_event(item, event=event) for item in items])


def encode_comment(text: str = "") -> bytes:
    """A comment, which a client ignores: a heartbeat that keeps proxies from closing a quiet stream.

    Raises:
      LocalProtocolError: the text holds a line end.
    """
    return b": " + _checked("comment", text, "\r\n") + b"\n\n"


def encode_id(id: str) -> bytes:  # noqa: A002
    """Name the last event id without an event: what a client brings that is lost before the first one.

    Raises:
      LocalProtocolError: it holds a line end or NUL.

    Spec: HTML Living Standard §9.2.6: an event without data sets the id, and is not dispatched.
    """
    return _field("id", id) + b"\n"


def encode_retry(milliseconds: int) -> bytes:
    """Tell the client how long to wait before it reconnects.

    Raises:
      LocalProtocolError: the time is negative or has more than 15 digits, which no client would take.
    """
    digits = str(milliseconds)
    if not digits.isdigit() or len(digits) > _MAX_RETRY_DIGITS:
        raise LocalProtocolError(f"can't send a retry time of {digits} ms", code=Code.INVALID_ARGUMENT, field="retry")
    return b"retry: " + digits.encode() + b"\n\n"


@lru_cache(maxsize=64)
def _event_field(event: str | None) -> bytes:
    """Remembered: a stream has few types, and to make the line again costs half of an event."""
    return b"" if event is None else _field("event", event)


def _field(name: str, value: str) -> bytes:
    return f"{name}: ".encode() + _checked(name, value, "\r\n\0" if name == "id" else "\r\n") + b"\n"


def _checked(field: str, value: str, forbidden: str) -> bytes:
    if any(character in value for character in forbidden):
        raise LocalProtocolError(
            f"can't send an event whose {field} holds a line end or NUL: {value!r}",
            code=Code.INVALID_ARGUMENT,
            field=field,
        )
    return value.encode("utf-8")


class SseParser:
    """Turns the bytes of an event stream, however they are cut, into events.

    What a stream ends with but does not finish by an empty line is never delivered: there is no `end`.

    Attributes:
      last_event_id: what to send as `Last-Event-ID` when reconnecting.
      retry_ms: the reconnection time that the server asked for; None until it does.

    Args:
      max_event_bytes: the most that one event's data, or one line, may hold.
      last_event_id: of the stream that this one goes on with.

    Spec: HTML Living Standard §9.2.5, §9.2.6.
    """

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES, last_event_id: str = "") -> None:
        if max_event_bytes < 1:
            raise ValueError(f"max_event_bytes must be at least 1, not {max_event_bytes}")
        self.last_event_id: str = last_event_id
        self.retry_ms: int | None = None
        self._limit = max_event_bytes
        self._start: bytes | None = b""  # what may still turn out to be a BOM; None once decided
        self._after_cr = False
        self._line = bytearray()  # the unfinished line; a bytearray, so that growing it by single bytes stays linear
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = ""
        self._id = last_event_id  # dispatched into last_event_id by the next empty line
        self._error: RemoteProtocolError | None = None

    def receive(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete.

        Raises:
          RemoteProtocolError: an event passes the limit. Events before it in the chunk are returned first, and the
            call after that raises; so do all later ones.
        """
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            self._receive(self._normalised(chunk), events)
        except RemoteProtocolError as exc:
            self._error = exc
            self._line.clear()
            self._data.clear()
            if not events:
                raise
        return events

    def _normalised(self, chunk: bytes) -> bytes:
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return b""
            self._start = None
            chunk = chunk.removeprefix(_BOM)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _receive(self, chunk: bytes, events: list[Event]) -> None:
        if self._line or self._data or self._type:
            # First finish the event that an earlier chunk began, so that the rest can go the fast way.
            cut = self._end_of_event(chunk)
            self._receive_lines(chunk[:cut], events)
            chunk = chunk[cut:]
        end = chunk.rfind(b"\n\n") + 2
        if end > 2 and chunk.startswith(b"data: "):
            payloads = chunk[6 : end - 2].split(b"\n\ndata: ")
            # Two line ends an event: no payload hides another field, line or event.
            if chunk.count(b"\n", 0, end) == 2 * len(payloads):
                self._dispatch_plain(payloads, end, events)
                chunk = chunk[end:]
        elif 2 < end <= self._limit and (run := _WITH_IDS.match(chunk, 0, end)) is not None and run.end() == end:
            events += [
                Event(data, "message", name.decode("utf-8", "replace")) for name, data in _ONE.findall(chunk, 0, end)
            ]
            self._id = self.last_event_id = events[-1].id
            chunk = chunk[end:]
        self._receive_lines(chunk, events)

    def _end_of_event(self, chunk: bytes) -> int:
        if not self._line and chunk.startswith(b"\n"):
            return 1
        found = chunk.find(b"\n\n")
        return len(chunk) if found < 0 else found + 2

    def _dispatch_plain(self, payloads: list[bytes], total: int, events: list[Event]) -> None:
        if total > self._limit:
            for payload in payloads:
                self._check(len(payload))
                events.append(Event(payload, "message", self._id))
        else:
            # `Event(…)` would call two functions of Python's for each.
            events += map(_make, zip(payloads, repeat("message"), repeat(self._id), strict=False))
        self.last_event_id = self._id

    def _receive_lines(self, chunk: bytes, events: list[Event]) -> None:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        for line in lines:
            self._check(len(line) - len(b"data: "))
            if line:
                self._interpret(line)
            else:
                self._dispatch(events)
        self._line += rest
        self._check(len(self._line) - len(b"data: "))

    def _interpret(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value) + 1
            self._check(self._data_bytes - 1)
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            # "If the field value does not contain U+0000 NULL, then set the last event ID buffer".
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value.lstrip(b"0")) <= _MAX_RETRY_DIGITS:
            self.retry_ms = int(value.lstrip(b"0") or b"0")

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id
        if self._data:
            events.append(Event(b"\n".join(self._data), self._type or "message", self._id))
            self._data = []
            self._data_bytes = 0
        self._type = ""

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise RemoteProtocolError(
                f"an event of at least {size} bytes passes the limit of {self._limit}",
                code=Code.MESSAGE_TOO_LARGE,
                field="event",
                size=size,
                limit=self._limit,
            )
