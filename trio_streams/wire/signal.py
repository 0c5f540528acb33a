"""One message of the peer RPC that ts-signal-rpc speaks: JSON text to record and back, and what is wrong with it.

There are two families. A *stream message* has `type` and `streamId`, and is recognised first; every other one has a
`category`: a request or its response, the welcome of a server, a ping or a pong, an error that belongs to nobody.
Payloads stay the JSON text that they are: whoever takes an item knows its type and decodes it once.

Two things are ours: a response may have an `error` of code and message beside its `data`, since the original has no word
for a handler that failed and answers nothing; and a `StreamError` may have a `code`. Its own peers ignore what they do not
know.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from trio_streams.core import records

__all__ = [
    "Category",
    "DataMessage",
    "RpcMessage",
    "SignalFault",
    "StreamMessage",
    "StreamMessageType",
    "decode",
    "decode_data",
    "encode",
    "encode_data",
    "quote",
]


class StreamMessageType(enum.StrEnum):
    """What a stream message is."""

    STREAM_DATA = "StreamData"
    STREAM_END = "StreamEnd"
    STREAM_ERROR = "StreamError"


class Category(enum.StrEnum):
    """What every other message is."""

    REQUEST = "request"
    RESPONSE = "response"
    WELCOME = "welcome"
    PING = "ping"
    PONG = "pong"
    ERROR = "error"


@attrs.frozen
class StreamMessage:
    """One message of a stream.

    Attributes:
      type: which.
      stream_id: `streamId`, on which both sides agreed by a call.
      payload: the item as JSON text, of data.
      error: why, of an error.
      to: for whom it is, where a relay is between; everybody on the topic where it is None. The original never says.
      code: the name of our code, of an error. Nor does it say that.
    """

    type: StreamMessageType
    stream_id: str
    payload: bytes | None = None
    error: str | None = None
    to: str | None = None
    code: str | None = None


@attrs.frozen(kw_only=True)
class RpcMessage:
    """One message that belongs to no stream. Fields that the category does not have are None.

    Attributes:
      category: which.
      request_id: of a request, and of the response to it.
      data: its content as JSON text.
      sender, sender_name: `from` and `fromName`: who sent it through a relay.
      to, to_name: for whom it is; everybody on the topic where it is None.
      status: why a request failed, of a response; OK where it did not.
      client_id, session_id, restored_session: of a welcome.
      timestamp: of a ping and its pong, in milliseconds, as it came.
      error: of an error, for people.
      details: of an error, for programs.
    """

    category: Category
    request_id: str | None = None
    data: bytes | None = None
    sender: str | None = None
    sender_name: str | None = None
    to: str | None = None
    to_name: str | None = None
    status: records.Status = records.OK
    client_id: str | None = None
    session_id: str | None = None
    restored_session: bool | None = None
    timestamp: int | float | None = None
    error: str | None = None
    details: object = None


class SignalFault(Exception):
    """A message that is refused; it is answered by an error, and changes nothing.

    Attributes:
      code: the name of our code.
      message: why, naming the field, its size and the limit where there is one.
      details: the same for programs.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class _Message(msgspec.Struct, rename="camel"):
    """Every field that any message has."""

    type: str | None = None
    stream_id: str | None = None
    payload: msgspec.Raw = msgspec.Raw()
    category: str | None = None
    request_id: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    sender: str | None = msgspec.field(default=None, name="from")
    sender_name: str | None = msgspec.field(default=None, name="fromName")
    to: str | None = None
    to_name: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    restored_session: bool | None = None
    timestamp: int | float | None = None
    error: msgspec.Raw = msgspec.Raw()
    details: object = None
    code: str | None = None


class _Failure(msgspec.Struct):
    code: str = "UNKNOWN"
    message: str = ""
    details: object = None


class DataMessage(msgspec.Struct, rename="camel", tag_field="type", tag="StreamData", gc=False):
    """An item of a stream, with no more made of it than is asked for; see `StreamMessage`."""

    stream_id: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    to: str | None = None

    def message(self) -> StreamMessage:
        """The same as any stream message."""
        return StreamMessage(StreamMessageType.STREAM_DATA, self.stream_id, bytes(self.payload), to=self.to)


_DATA_START: Final = b'{"type":"StreamData",'
_decode_data: Final = msgspec.json.Decoder(DataMessage).decode
_decode: Final = msgspec.json.Decoder(_Message).decode
_decode_failure: Final = msgspec.json.Decoder(_Failure | str | None).decode
_encode: Final = msgspec.json.Encoder().encode
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
_PATH: Final = re.compile(r"`\$\.?([^`]*)`")
_DATA: Final = StreamMessageType.STREAM_DATA
_TYPES: Final = {one.value: one for one in StreamMessageType}
_CATEGORIES: Final = {one.value: one for one in Category}


def decode_data(text: bytes) -> DataMessage | None:
    """The same as `decode`, at a third of its cost, for what nearly all messages are.

    Returns:
      An item; None for anything else, and for what is in any way unusual or wrong: `decode` says what that is.
    """
    if not text.startswith(_DATA_START) or not text.isascii():
        return None
    try:
        return _decode_data(text)
    except _MALFORMED:
        return None


def decode(text: bytes | str) -> StreamMessage | RpcMessage:
    """A message from its JSON. Unknown fields are ignored, as in the original.

    Args:
      text: JSON, as UTF-8 or a string.

    Raises:
      SignalFault: it is no JSON, no UTF-8, nested beyond the parser's stack, or no message.
    """
    try:
        if isinstance(text, bytes) and not text.isascii():
            text.decode()  # what is kept as text is not looked at otherwise
        found = _decode(text)
    except msgspec.ValidationError as exc:
        match = _PATH.search(str(exc))
        field = (match[1] if match else "") or "message"
        raise SignalFault("INVALID_ARGUMENT", f"Invalid message: {exc}", {"field": field}) from None
    except RecursionError:
        raise SignalFault("INVALID_ARGUMENT", "Invalid JSON: nested too deeply") from None
    except UnicodeDecodeError as exc:
        raise SignalFault("INVALID_ARGUMENT", f"Invalid JSON: not UTF-8 at byte {exc.start}") from None
    except _MALFORMED as exc:
        raise SignalFault("INVALID_ARGUMENT", f"Invalid JSON: {str(exc)[:200]}") from None
    if found.type is not None and found.stream_id is not None:
        return _stream_message(found, found.type, found.stream_id)
    return _rpc_message(found)


def _stream_message(found: _Message, name: str, stream_id: str) -> StreamMessage:
    kind = _TYPES.get(name)
    if kind is _DATA:
        return StreamMessage(_DATA, stream_id, bytes(found.payload) or b"null", to=found.to)
    if kind is StreamMessageType.STREAM_END:
        return StreamMessage(kind, stream_id, to=found.to)
    if kind is None:
        raise SignalFault("INVALID_ARGUMENT", f"Unknown type {name[:64]!r} of a stream message", {"field": "type"})
    reason = _failure(found.error)
    if not isinstance(reason, str):
        raise SignalFault("INVALID_ARGUMENT", "A StreamError says why in error, a string", {"field": "error"})
    return StreamMessage(kind, stream_id, error=reason, to=found.to, code=found.code)


def _failure(raw: msgspec.Raw) -> _Failure | str | None:
    if not bytes(raw):
        return None
    try:
        found: _Failure | str | None = _decode_failure(raw)
    except _MALFORMED:
        return _Failure(message="the peer's error cannot be read")  # it is an error all the same
    return found


def _rpc_message(found: _Message) -> RpcMessage:
    if found.category is None:
        raise SignalFault(
            "INVALID_ARGUMENT", "A message has a category, or a type and a streamId", {"field": "category"}
        )
    kind = _CATEGORIES.get(found.category)
    if kind is None:
        what = f"Unknown category {found.category[:64]!r}"
        raise SignalFault("INVALID_ARGUMENT", what, {"field": "category"})
    for name, label in _REQUIRED.get(kind, ()):
        if getattr(found, name) is None:
            raise SignalFault("INVALID_ARGUMENT", f"A {kind} has a {label}", {"field": label})
    failure = _failure(found.error)
    status, reason = records.OK, None
    if kind is Category.ERROR:
        reason = failure.message if isinstance(failure, _Failure) else failure or ""
    elif kind is Category.RESPONSE and failure is not None:
        failure = _Failure(message=failure) if isinstance(failure, str) else failure
        code = "UNKNOWN" if failure.code == "OK" else failure.code
        status = records.Status(code, failure.message, failure.details)
    return RpcMessage(
        category=kind,
        request_id=found.request_id,
        data=bytes(found.data) or None,
        sender=found.sender,
        sender_name=found.sender_name,
        to=found.to,
        to_name=found.to_name,
        status=status,
        client_id=found.client_id,
        session_id=found.session_id,
        restored_session=found.restored_session,
        timestamp=found.timestamp,
        error=reason,
        details=found.details,
    )


_REQUIRED: Final[Mapping[Category, Sequence[tuple[str, str]]]] = {
    Category.REQUEST: (("request_id", "requestId"),),
    Category.RESPONSE: (("request_id", "requestId"),),
    Category.WELCOME: (("client_id", "clientId"),),
    Category.PING: (("timestamp", "timestamp"),),
    Category.PONG: (("timestamp", "timestamp"),),
}
"""What the original's schema asks of each category: the field here, and its name on the wire."""


def encode_data(stream_id: bytes, items: Sequence[bytes], to: bytes | None = None) -> list[bytes]:
    """Items of a stream, each as a message.

    Args:
      stream_id: as JSON, quoted (`quote`).
      items: JSON texts.
      to: for whom, quoted; None for everybody.
    """
    before = b'{"type":"StreamData","streamId":' + stream_id + b',"payload":'
    after = b"}" if to is None else b',"to":' + to + b"}"
    return [before + (item or b"null") + after for item in items]


def encode(message: StreamMessage | RpcMessage) -> bytes:
    """A message as JSON text; fields that are None are left out, but for the content of requests and responses.

    Raises:
      TypeError, ValueError: `details` holds what JSON can't express.
    """
    parts: list[bytes] = []

    def add(name: bytes, value: object) -> None:
        if value is not None:
            parts.append(b'"%s":%s' % (name, value if isinstance(value, bytes) else _encode(value)))

    if isinstance(message, StreamMessage):
        add(b"type", message.type.value)
        add(b"streamId", message.stream_id)
        add(b"payload", (message.payload or b"null") if message.type is _DATA else None)
        add(b"error", message.error)
        add(b"to", message.to)
        add(b"code", message.code)
        return b"{" + b",".join(parts) + b"}"
    add(b"category", message.category.value)
    add(b"from", message.sender)
    add(b"fromName", message.sender_name)
    add(b"requestId", message.request_id)
    add(b"to", message.to)
    add(b"toName", message.to_name)
    if message.category in (Category.REQUEST, Category.RESPONSE):
        add(b"data", message.data or b"null")
    add(b"clientId", message.client_id)
    add(b"sessionId", message.session_id)
    add(b"restoredSession", message.restored_session)
    add(b"timestamp", message.timestamp)
    add(b"error", message.error if message.status.is_ok else _failure_of(message.status))
    add(b"details", message.details)
    return b"{" + b",".join(parts) + b"}"


def _failure_of(status: records.Status) -> dict[str, object]:
    failure: dict[str, object] = {"code": status.code, "message": status.message}
    if status.details is not None:
        failure["details"] = status.details
    return failure


def quote(text: str) -> bytes:
    """A string as JSON."""
    return _encode(text)
