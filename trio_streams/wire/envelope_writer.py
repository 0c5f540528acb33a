"""A server's answers as envelopes: what a `Wire` is to our own dialect, for one that names streams by strings.

It remembers of each stream what its envelopes repeat (id and procedure, as JSON), and which form its answer has: a
single `response`, or `stream:data` and an end. Items are JSON text already and are put in as they are; no item is
decoded or copied twice on its way.

An answer's head and trailers are the `metadata` of the envelope that comes next, and of the last one: these have a
place for it, while the echo of a start has left before the handler runs.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import attrs
import msgspec

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.wire.envelope_records import EnvelopeFault, error_body, quote
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_wire import MessageWire

__all__ = ["EnvelopeWriter", "Form"]

_encode: Final = msgspec.json.Encoder().encode


class Form(enum.Enum):
    """What was asked for, which decides who sends a run of items and which form the answer has."""

    CALL = "procedure"  # one `response` or one `error`
    EVENT = "event"  # a `response` that says so, for those who gave an id
    STREAM = "stream"  # `stream:start`, `stream:data`, `stream:end` or `stream:error`
    BIDIRECTIONAL = "bidirectional"  # as above, and `stream:data` and `stream:end` from the client
    UPLOAD = "upload"  # the client's `stream:data` and `stream:end`, answered by a `response` or by `stream:error`

    @property
    def takes_items(self) -> bool:
        """Whether the client sends a run of items."""
        return self in _TAKES_ITEMS

    @property
    def gives_items(self) -> bool:
        """Whether the answer is a run of items."""
        return self in _GIVES_ITEMS

    @property
    def is_stream(self) -> bool:
        """Whether `stream:start` asks for it."""
        return self in _TAKES_ITEMS or self in _GIVES_ITEMS


_TAKES_ITEMS: Final = (Form.BIDIRECTIONAL, Form.UPLOAD)
_GIVES_ITEMS: Final = (Form.STREAM, Form.BIDIRECTIONAL)


@attrs.define
class _Answer:
    """What one stream's envelopes repeat."""

    form: Form
    id: bytes  # JSON without its closing quote, so that a suffix can follow
    name: bytes
    has_id: bool
    items: int = 0
    metadata: bytes = b"{}"


class EnvelopeWriter(MessageWire):
    """Encodes what one connection's streams answer."""

    def __init__(self) -> None:
        self._answers: dict[int, _Answer] = {}

    def begin(self, stream_id: int, id_: str, name: str, form: Form) -> None:
        """Note a stream.

        Args:
          stream_id: our number for it.
          id_: the client's name for it; empty where it gave none.
          name: the procedure.
          form: what was asked.
        """
        self._answers[stream_id] = _Answer(form, quote(id_)[:-1], quote(name), bool(id_))

    def forget(self, stream_id: int) -> None:
        """A stream is over: nothing more is written for it."""
        self._answers.pop(stream_id, None)

    # -- what the outbox asks ---------------------------------------------------------------------------------

    def _encode_record(self, stream_id: int, record: records.Record) -> bytes:
        answer = self._answers.get(stream_id)
        if isinstance(record, records.GoAway) and record.code is not Code.OK:
            return self.encode_fault(EnvelopeFault(record.code.name, record.reason))
        if answer is None:
            return b""
        if isinstance(record, records.Header):
            answer.metadata = _encode(dict(record.metadata))
        elif isinstance(record, records.End):
            return self._end(answer, record)
        elif isinstance(record, records.Reset):
            return self._error(answer, records.Status(record.code.name, record.reason), b"{}")
        return b""

    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of items, each as an envelope of its own."""
        answer = self._answers[stream_id]
        number = answer.items
        answer.items = number + len(items)
        if answer.form.gives_items:
            return self._data(answer, number, items)
        if answer.form is Form.EVENT or number:
            return b""  # there is one answer, and it has been given
        return _envelope(answer, b":response", b"response", items[0] or b"null", answer.metadata)

    # -- envelopes --------------------------------------------------------------------------------------------

    def encode_start(self, stream_id: int) -> bytes:
        """The echo that a stream has begun, for forms that give items."""
        answer = self._answers[stream_id]
        return _envelope(answer, b":stream:start", b"stream:start", b"null", b"{}")

    def encode_cancelled(self, stream_id: int) -> bytes:
        """The answer to `cancel`; it names no procedure, as in the original."""
        answer = self._answers[stream_id]
        words = "Stream cancelled" if answer.form.is_stream else "Request cancelled"
        return self._error(attrs.evolve(answer, name=b'""'), records.Status("CANCELLED", words), b"{}")

    def encode_fault(self, fault: EnvelopeFault, *, is_start: bool = False) -> bytes:
        """The answer to an envelope that is refused, or to a whole connection.

        Args:
          fault: why.
          is_start: whether it was to start a stream: the original's client waits for ever for anything but
            `stream:error` then.
        """
        kind = b"stream:error" if is_start else b"error"
        answer = _Answer(Form.CALL, quote(fault.id)[:-1], quote(fault.procedure), has_id=True)
        status = records.Status(fault.code, fault.message, fault.details)
        return _envelope(answer, b":" + kind, kind, _encode(error_body(status, is_stream=is_start)), b"{}")

    def _data(self, answer: _Answer, number: int, items: Sequence[bytes]) -> bytes:
        before = b'{"id":' + answer.id + b":stream:data:"
        between = b'","procedure":' + answer.name + b',"type":"stream:data","payload":'
        after = b',"metadata":' + answer.metadata + b"}"
        answer.metadata = b"{}"
        parts: list[bytes] = []
        for item in items:
            message = b"%s%d%s%s%s" % (before, number, between, item or b"null", after)
            parts += (len(message).to_bytes(4, "big"), message)
            number += 1
            after = b',"metadata":{}}'  # the head goes with the first one alone
        return b"".join(parts)

    def _end(self, answer: _Answer, record: records.End) -> bytes:
        metadata = _encode(dict(record.trailers)) if record.trailers else answer.metadata
        if not record.status.is_ok:
            return self._error(answer, record.status, metadata)
        if answer.form.gives_items:
            return _envelope(answer, b":stream:end", b"stream:end", b"null", metadata)
        if not answer.has_id or (answer.items and answer.form is not Form.EVENT):
            return b""
        payload = b'{"received":true}' if answer.form is Form.EVENT else b"null"
        return _envelope(answer, b":response", b"response", payload, metadata)

    def _error(self, answer: _Answer, status: records.Status, metadata: bytes) -> bytes:
        if not answer.has_id or (answer.items and not answer.form.gives_items):
            return b""  # nobody can be told, or somebody was told the opposite
        is_stream = answer.form.is_stream
        kind = b"stream:error" if is_stream else b"error"
        return _envelope(answer, b":" + kind, kind, _encode(error_body(status, is_stream=is_stream)), metadata)


def _envelope(answer: _Answer, suffix: bytes, kind: bytes, payload: bytes, metadata: bytes) -> bytes:
    return frame(
        b'{"id":%s%s","procedure":%s,"type":"%s","payload":%s,"metadata":%s}'
        % (answer.id, suffix, answer.name, kind, payload, metadata)
    )
