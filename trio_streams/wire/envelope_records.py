"""One JSON envelope, as Raffel has them: text to record, and what is wrong with it.

An envelope is `{"id", "procedure", "type", "payload", "metadata"}`; channel messages have `channel`, `event` and `data`
instead. A payload is kept as the JSON text that it is: whoever takes the item knows its type and decodes it once.
`bytes` are base64 there, as in every JSON of this library.

Like the original, unknown fields are ignored, ids may be numbers, and metadata's numbers and booleans become strings
while what has no such form is dropped. A broken envelope is answered, never the connection's end.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from trio_streams.codes import Code, http_status
from trio_streams.core import records

__all__ = [
    "Envelope",
    "EnvelopeFault",
    "EnvelopeType",
    "error_body",
    "id_text",
    "is_json_rpc",
    "parse",
    "parse_metadata",
    "parse_status",
    "quote",
    "remaining_ms",
]


class EnvelopeType(enum.StrEnum):
    """What an envelope is; those about channels are `CHANNEL_TYPES`."""

    REQUEST = "request"
    RESPONSE = "response"
    ERROR = "error"
    EVENT = "event"
    STREAM_START = "stream:start"
    STREAM_DATA = "stream:data"
    STREAM_END = "stream:end"
    STREAM_ERROR = "stream:error"
    CANCEL = "cancel"
    PING = "ping"
    PONG = "pong"


class Envelope(msgspec.Struct):
    """One message.

    Attributes:
      type: `request`, `stream:data`, …; empty where it was missing.
      id: as it came; `id_text` makes a string of it.
      procedure: what is asked for.
      payload: JSON text; empty where there was none.
      metadata: whatever came; `parse_metadata` makes strings of it.
      channel: of a channel's message: `private-` and `presence-` begin the names of those that need leave.
      event: what a channel's message calls itself.
      data: JSON text of a channel's message; empty where there was none.
      code, status, message: of an error that has them outside its payload, as channels' errors do.
    """

    type: str = ""
    id: str | int | None = None
    procedure: str = ""
    payload: msgspec.Raw = msgspec.Raw()
    metadata: object = None
    channel: str = ""
    event: str = ""
    data: msgspec.Raw = msgspec.Raw()
    code: str = ""
    status: int | float | None = None
    message: str = ""


class _Identified(msgspec.Struct):
    id: object = None


class _Call(msgspec.Struct):
    jsonrpc: object = None
    type: object = None


class _Failure(msgspec.Struct):
    code: str = "UNKNOWN"
    message: str = ""
    details: object = None


class EnvelopeFault(Exception):
    """An envelope that is refused.

    Attributes:
      code: the name the original has for it.
      message: why, naming the field, its size and the limit where there is one.
      id: the envelope's id, empty where it cannot be told.
      details: the same for programs.
      procedure: what was asked for, where that is what is wrong.
    """

    def __init__(
        self,
        code: str,
        message: str,
        id_: str = "",
        details: Mapping[str, object] | None = None,
        *,
        procedure: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id_
        self.details = details
        self.procedure = procedure

    @classmethod
    def too_large(cls, field: str, size: int, limit: int, id_: str) -> EnvelopeFault:
        """A field that passes its limit, both in bytes."""
        message = f"{field} of {size} bytes passes the limit of {limit}"
        return cls("MESSAGE_TOO_LARGE", message, id_, {"field": field, "size": size, "limit": limit})


_decode: Final = msgspec.json.Decoder(Envelope).decode
_decode_id: Final = msgspec.json.Decoder(_Identified).decode
_decode_call: Final = msgspec.json.Decoder(_Call).decode
_decode_failure: Final = msgspec.json.Decoder(_Failure).decode
_encode: Final = msgspec.json.Encoder().encode
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
_PATH: Final = re.compile(r"`\$\.?([^`]*)`")


def parse(message: bytes) -> Envelope:
    """An envelope from its JSON.

    Raises:
      EnvelopeFault: it is no JSON, no UTF-8, nested beyond the parser's stack, or a field has the wrong type.
    """
    try:
        if not message.isascii():
            message.decode()  # what is kept as text is not looked at otherwise
        return _decode(message)
    except msgspec.ValidationError as exc:
        match = _PATH.search(str(exc))
        field = match[1] if match else ""
        raise EnvelopeFault(
            "INVALID_ENVELOPE", f"Invalid envelope: {exc}", _find_id(message), {"field": field or "envelope"}
        ) from None
    except RecursionError:
        raise EnvelopeFault("PARSE_ERROR", "Invalid JSON: nested too deeply") from None
    except _MALFORMED as exc:
        raise EnvelopeFault("PARSE_ERROR", f"Invalid JSON: {_first_line(exc)}") from None


def _first_line(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"not UTF-8 at byte {exc.start}"
    return str(exc)[:200]


def _find_id(message: bytes) -> str:
    """The id of an envelope with another fault, so that its sender learns which one it was."""
    try:
        found = _decode_id(message).id
    except _MALFORMED:
        return ""
    return id_text(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def id_text(value: str | int | None) -> str:
    """An id as the string that answers carry; empty for none."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def is_json_rpc(message: bytes) -> bool:
    """Whether a message that is no envelope is a JSON-RPC call, or a list, which a batch of them would be."""
    try:
        if not message.isascii():
            message.decode()
        if message.lstrip()[:1] == b"[":
            msgspec.json.decode(message, type=msgspec.Raw)
            return True
        call = _decode_call(message)
    except _MALFORMED:
        return False
    return call.jsonrpc is not None and call.type is None


def parse_metadata(value: object) -> dict[str, str]:
    """Metadata as strings with names in lower case; what has no form as a string is left out."""
    if not isinstance(value, dict):
        return {}
    found = {}
    for name, item in value.items():
        text = _metadata_text(item)
        if text is not None:
            found[str(name).lower()] = text
    return found


def _metadata_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, list):
        parts = [text for text in map(_metadata_text, value) if text is not None]
        return ",".join(parts) if parts else None
    return None


def remaining_ms(metadata: Mapping[str, str], wall_ms: float) -> int | None:
    """What is left of a deadline in `x-deadline`, milliseconds since 1970, which both clocks have to agree on.

    Args:
      metadata: as `parse_metadata` gives it.
      wall_ms: the time of day here, in the same unit.

    Returns:
      At least 0; None where there is no deadline that can be read.
    """
    try:
        deadline = float(metadata["x-deadline"])
    except (KeyError, ValueError):
        return None
    if not math.isfinite(deadline):
        return None
    return max(0, math.ceil(deadline - wall_ms))


_RAFFEL_STATUS: Final[Mapping[str, int]] = {
    "FAILED_PRECONDITION": 412,
    "INVALID_ENVELOPE": 400,
    "INVALID_TYPE": 400,
    "PARSE_ERROR": 400,
    "VALIDATION_ERROR": 400,
    "NOT_ACCEPTABLE": 406,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UNPROCESSABLE_ENTITY": 422,
    "RATE_LIMITED": 429,
    "BAD_GATEWAY": 502,
    "GATEWAY_TIMEOUT": 504,
}
"""The statuses that the original gives to names of its own, and the one where it differs from our table."""

_OUR_NAMES: Final[Mapping[str, str]] = {"STREAM_ERROR": "INTERNAL", "INTERNAL_ERROR": "INTERNAL"}


def error_body(status: records.Status, *, is_stream: bool) -> dict[str, object]:
    """The payload of an error: `{"code", "status", "message", "details"?}`.

    Args:
      status: why; INTERNAL is STREAM_ERROR on a stream and INTERNAL_ERROR elsewhere, as the original says.
      is_stream: whether it ends a stream.
    """
    code = status.code
    if code == Code.INTERNAL.name:
        code = "STREAM_ERROR" if is_stream else "INTERNAL_ERROR"
    known = _RAFFEL_STATUS.get(code)
    number = http_status(code) if known is None else known
    body: dict[str, object] = {"code": code, "status": number, "message": status.message}
    if status.details is not None:
        body["details"] = status.details
    return body


def parse_status(envelope: Envelope) -> records.Status:
    """The status of an error, from its payload, or from beside it."""
    failure = _Failure(envelope.code or "UNKNOWN", envelope.message)
    if bytes(envelope.payload):
        try:
            failure = _decode_failure(envelope.payload)
        except _MALFORMED:
            pass  # an error whose reason cannot be read is an error all the same
    code = _OUR_NAMES.get(failure.code, failure.code)
    return records.Status("UNKNOWN" if code == "OK" else code, failure.message, failure.details)


def quote(text: str) -> bytes:
    """A string as JSON."""
    return _encode(text)
