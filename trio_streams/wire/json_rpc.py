"""JSON-RPC 2.0 without I/O: one request text, the calls in it, and the one answer text.

A text is a call or a batch of them; a call without an id is a notification, which is run and never answered. Whoever
runs the calls says what came of each, in any order, by its number; when all have been answered, the text of the answer
is complete, and is empty where nothing is owed. Parameters and results stay the JSON text that they are.

The same machine serves `POST /rpc`, where a text is a body, and a WebSocket, where it is a message. Like Raffel, whose
clients it serves, it gives a single positional parameter as the input itself, and its own numbers for refusals.

Spec: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError

__all__ = ["JsonRpcCall", "JsonRpcExchange", "JsonRpcLimits"]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600

_NUMBERS: Final = {
    "PARSE_ERROR": PARSE_ERROR,
    "INVALID_ENVELOPE": INVALID_REQUEST,
    "INVALID_TYPE": INVALID_REQUEST,
    "VALIDATION_ERROR": -32602,
    "UNPROCESSABLE_ENTITY": -32602,
    "UNAUTHENTICATED": -32001,
    "PERMISSION_DENIED": -32001,
    "RATE_LIMITED": -32002,
    "RESOURCE_EXHAUSTED": -32002,
}
"""The original's numbers, where the error table has none or a less telling one."""

_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def _positive(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}")


@attrs.frozen(kw_only=True)
class JsonRpcLimits:
    """What one text may hold.

    Attributes:
      max_text_bytes: the whole text.
      max_batch_items: the calls of a batch.
      max_method_bytes: a method's name.
      max_id_bytes: a call's id, which its answer repeats.
    """

    max_text_bytes: int = attrs.field(default=1_048_576, validator=_positive)
    max_batch_items: int = attrs.field(default=100, validator=_positive)
    max_method_bytes: int = attrs.field(default=1_024, validator=_positive)
    max_id_bytes: int = attrs.field(default=256, validator=_positive)


@attrs.frozen
class JsonRpcCall:
    """One call that is to be run.

    Attributes:
      number: its place among the text's calls, for its answer.
      method: what is asked for.
      params: the input as JSON text; None where there is none.
      is_notification: whether nobody waits for an answer.
    """

    number: int
    method: str
    params: bytes | None
    is_notification: bool


class _Request(msgspec.Struct):
    jsonrpc: object = None
    method: object = None
    params: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


class _Fault(Exception):
    """Why a call, or a whole text, is refused."""

    def __init__(self, number: int, message: str, field: str = "", size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.number = number
        self.details = {"field": field, "size": size, "limit": limit} if limit else {"field": field} if field else None


_decode_batch: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_request: Final = msgspec.json.Decoder(_Request).decode
_decode_id: Final = msgspec.json.Decoder(str | int | float | None).decode
_encode: Final = msgspec.json.Encoder().encode


class JsonRpcExchange:
    """One text and its answer.

    Args:
      text: as it came.
      limits: what it may hold.

    Attributes:
      calls: what is to be run, in order; those that are refused are not among them.
    """

    def __init__(self, text: bytes, limits: JsonRpcLimits | None = None) -> None:
        self._limits = limits or JsonRpcLimits()
        self._ids: list[bytes] = []
        self._answers: list[bytes | None] = []
        self._unanswered: set[int] = set()
        self._is_batch = False
        self._left = 0
        self.calls: list[JsonRpcCall] = []
        try:
            texts = self._split(text)
        except _Fault as fault:
            self._is_batch = False
            self._ids, self._answers = [b"null"], [None]
            self._left = 1
            self._refuse(0, fault)
            return
        self._left = len(texts)
        self._answers = [None] * len(texts)
        for number, one in enumerate(texts):
            self._ids.append(b"null")
            try:
                self._take(number, one)
            except _Fault as fault:
                self._refuse(number, fault)

    @property
    def is_complete(self) -> bool:
        """Whether every call has been answered."""
        return not self._left

    def respond(self, number: int, result: bytes = b"null") -> None:
        """A call has succeeded.

        Args:
          number: the call's.
          result: JSON text.

        Raises:
          LocalProtocolError: there is no such call, or it has been answered.
        """
        self._answer(number, b'{"jsonrpc":"2.0","result":%s,"id":%s}' % (result, self._id(number)))

    def fail(self, number: int, status: records.Status) -> None:
        """A call has failed; `data` has the details, where there are some.

        Raises:
          LocalProtocolError: there is no such call, it has been answered, or JSON has no form for the details.
        """
        known = _NUMBERS.get(status.code)
        code = Code.from_name(status.code).projection.jsonrpc if known is None else known
        self._answer(number, self._error(self._id(number), code, status.message, status.details))

    def text(self) -> bytes:
        """The answer; empty where none is owed.

        Raises:
          LocalProtocolError: not every call has been answered.
        """
        if self._left:
            raise LocalProtocolError(f"can't answer: {self._left} calls are still running", size=self._left)
        owed = [answer for answer in self._answers if answer]
        if not self._is_batch or not owed:
            return b"".join(owed)
        return b"[" + b",".join(owed) + b"]"

    # -- in ---------------------------------------------------------------------------------------------------

    def _split(self, text: bytes) -> list[bytes]:
        limits = self._limits
        if len(text) > limits.max_text_bytes:
            raise _too_large("max_text_bytes", "the text", len(text), limits.max_text_bytes)
        try:
            if not text.isascii():
                text.decode()
            if text.lstrip()[:1] != b"[":
                msgspec.json.decode(text, type=msgspec.Raw)
                return [text]
            texts = [bytes(one) for one in _decode_batch(text)]
        except _MALFORMED:
            raise _Fault(PARSE_ERROR, "Parse error") from None
        if not texts:
            raise _Fault(INVALID_REQUEST, "Empty batch")
        if len(texts) > limits.max_batch_items:
            raise _too_large("max_batch_items", "a batch", len(texts), limits.max_batch_items, "calls")
        self._is_batch = True
        return texts

    def _take(self, number: int, text: bytes) -> None:
        limits = self._limits
        try:
            request = _decode_request(text)
        except _MALFORMED:
            raise _Fault(INVALID_REQUEST, "Not a request object") from None
        id_ = bytes(request.id)
        if len(id_) > limits.max_id_bytes:
            raise _too_large("max_id_bytes", "an id", len(id_), limits.max_id_bytes)
        if id_:
            try:
                _decode_id(id_)
            except _MALFORMED:
                raise _Fault(INVALID_REQUEST, "The id must be a string, a number or null", "id") from None
            self._ids[number] = id_
        if request.jsonrpc != "2.0":
            raise _Fault(INVALID_REQUEST, "Invalid JSON-RPC version", "jsonrpc")
        method = request.method
        if not isinstance(method, str) or not method:
            raise _Fault(INVALID_REQUEST, "Method must be a non-empty string", "method")
        if (size := len(method.encode())) > limits.max_method_bytes:
            raise _too_large("max_method_bytes", "a method", size, limits.max_method_bytes)
        params = _input(bytes(request.params))
        if not id_:
            self._unanswered.add(number)
        self.calls.append(JsonRpcCall(number, method, params, not id_))

    # -- out --------------------------------------------------------------------------------------------------

    def _id(self, number: int) -> bytes:
        if not 0 <= number < len(self._answers) or self._answers[number] is not None:
            raise LocalProtocolError(f"can't answer call {number}: it is none, or has been answered", size=number)
        return self._ids[number]

    def _answer(self, number: int, text: bytes) -> None:
        self._answers[number] = b"" if number in self._unanswered else text
        self._left -= 1

    def _refuse(self, number: int, fault: _Fault) -> None:
        self._answer(number, self._error(self._id(number), fault.number, str(fault), fault.details))

    def _error(self, id_: bytes, code: int, message: str, data: object) -> bytes:
        error: dict[str, object] = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        try:
            return b'{"jsonrpc":"2.0","error":%s,"id":%s}' % (_encode(error), id_)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise LocalProtocolError(f"an error's data can't be encoded: {exc}", field="data") from exc


def _input(params: bytes) -> bytes | None:
    """The input that parameters stand for: named ones are an object, a single positional one is itself."""
    if not params or params == b"null":
        return None
    if params[:1] == b"{":
        return params
    if params[:1] != b"[":
        raise _Fault(INVALID_REQUEST, "Params must be an array or an object", "params")
    values = _decode_batch(params)
    if not values:
        return None
    return bytes(values[0]) if len(values) == 1 else params


def _too_large(field: str, what: str, size: int, limit: int, unit: str = "bytes") -> _Fault:
    return _Fault(INVALID_REQUEST, f"{what} of {size} {unit} passes {field} of {limit}", field, size, limit)
