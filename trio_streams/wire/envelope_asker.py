"""What a client asks, as envelopes: the sending side of a connection to a server of the original's dialect.

A call, an event and a server stream are one envelope each, made when their only item is sent, or their end where there is
none. An upload and a bidirectional stream begin with `stream:start`; their items and their end follow as `stream:data` and
`stream:end`, which repeat the procedure, since the original refuses envelopes without one.

Ids are the streams' own numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.envelope_records import error_body, quote
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_wire import MessageWire

__all__ = ["PING_PREFIX", "EnvelopeAsker"]

PING_PREFIX: Final = "p"
"""What tells a ping's id from a stream's."""

_WORDS_BYTES: Final = 64
"""What an envelope has beside its head, its payload and its metadata, at most."""

_encode: Final = msgspec.json.Encoder().encode

_STARTS: Final[Mapping[Form, bytes]] = {
    Form.CALL: b"request",
    Form.EVENT: b"event",
    Form.STREAM: b"stream:start",
    Form.BIDIRECTIONAL: b"stream:start",
    Form.UPLOAD: b"stream:start",
}


@attrs.define
class _Question:
    """What one stream's envelopes repeat."""

    head: bytes  # `{"id":…,"procedure":…,"type":"`, so that a type can follow
    metadata: Mapping[str, str]
    form: Form | None = None  # until somebody says it
    overhead_bytes: int = 0
    is_asked: bool = False
    is_cancelled_at_end: bool = False

    @property
    def takes_items(self) -> bool:
        return self.form is not None and self.form.takes_items


class EnvelopeAsker(MessageWire):
    """Encodes what one connection's streams ask.

    Args:
      limits: for names and metadata.
    """

    def __init__(self, limits: MessageLimits) -> None:
        self._limits = limits
        self._questions: dict[int, _Question] = {}

    def begin(self, stream_id: int, form: Form, deadline_ms: int | None) -> bytes:
        """Say what a stream that was opened is to be.

        Args:
          stream_id: its number.
          form: what is asked for.
          deadline_ms: when the caller stops caring, in milliseconds since 1970; None for never.

        Returns:
          What begins it at once; nothing where its item does.
        """
        question = self._questions[stream_id]
        question.form = form
        if deadline_ms is not None:
            question.metadata = {**question.metadata, "x-deadline": str(deadline_ms)}
        question.overhead_bytes = len(question.head) + len(_encode(question.metadata)) + _WORDS_BYTES
        return self._ask(question, b"") if form.takes_items else b""

    def cancel_at_end(self, stream_id: int) -> None:
        """Cancel the answer behind the last item: `cancel` ends both directions, and must not overtake what is queued."""
        self._questions[stream_id].is_cancelled_at_end = True

    def form(self, stream_id: int) -> Form | None:
        """What a live stream is, if that was said."""
        question = self._questions.get(stream_id)
        return None if question is None else question.form

    def is_asked(self, stream_id: int) -> bool:
        """Whether the server has been told of a stream."""
        question = self._questions.get(stream_id)
        return question is not None and question.is_asked

    def overhead_bytes(self, stream_id: int) -> int:
        """What an envelope adds to the stream's first item, at most."""
        return self._questions[stream_id].overhead_bytes

    def forget(self, stream_id: int) -> None:
        """A stream is over: nothing more is written for it."""
        self._questions.pop(stream_id, None)

    # -- what the outbox asks ---------------------------------------------------------------------------------

    def _encode_record(self, stream_id: int, record: records.Record) -> bytes:
        if isinstance(record, records.Ping):
            # The procedure is for the original, which knows no such type: it refuses the ping, and so gives a sign of life.
            return frame(b'{"id":"%s%d","procedure":"ping","type":"ping"}' % (PING_PREFIX.encode(), record.number))
        if isinstance(record, records.Open):
            self._note(stream_id, record)
            return b""
        question = self._questions.get(stream_id)
        if question is None:
            return b""
        if isinstance(record, records.End):
            return self._end(question, record)
        if isinstance(record, records.Reset) and question.takes_items:
            if question.is_cancelled_at_end:
                return self._say(question, b"cancel")
            return self._error(question, records.Status(record.code.name, record.reason), records.NO_METADATA)
        if isinstance(record, records.Stop):
            return self._stop(question, record)
        return b""

    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of items: as many envelopes, or the one that asks."""
        question = self._questions[stream_id]
        if not question.takes_items:
            return self._ask(question, items[0])
        before = question.head + b'stream:data","payload":'
        size = len(before) + 1
        parts: list[bytes] = []
        for item in items:
            parts += ((size + len(item)).to_bytes(4, "big"), before, item, b"}")
        return b"".join(parts)

    # -- envelopes --------------------------------------------------------------------------------------------

    def _note(self, stream_id: int, record: records.Open) -> None:
        limits = self._limits
        name, metadata = quote(record.name), dict(record.metadata)
        _check("name", len(record.name.encode()), limits.max_name_bytes)
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
        _check("metadata", size, limits.max_metadata_bytes)
        if not record.name:
            raise LocalProtocolError("name is empty: an envelope names a procedure", field="name", size=0)
        head = b'{"id":"%d","procedure":%s,"type":"' % (stream_id, name)
        self._questions[stream_id] = _Question(head, metadata)

    def _ask(self, question: _Question, payload: bytes) -> bytes:
        assert question.form is not None  # the machine takes nothing before that
        question.is_asked = True
        return self._say(question, _STARTS[question.form], payload, question.metadata)

    def _end(self, question: _Question, record: records.End) -> bytes:
        if not question.takes_items:
            return b"" if question.is_asked else self._ask(question, b"")
        if not record.status.is_ok:
            return self._error(question, record.status, record.trailers)
        end = self._say(question, b"stream:end", metadata=record.trailers)
        return end + self._say(question, b"cancel") if question.is_cancelled_at_end else end

    def _error(self, question: _Question, status: records.Status, trailers: Mapping[str, str]) -> bytes:
        return self._say(question, b"stream:error", _encode(error_body(status, is_stream=True)), trailers)

    def _stop(self, question: _Question, record: records.Stop) -> bytes:
        is_plain = record.code is Code.OK
        if not question.is_asked or (is_plain and (question.is_cancelled_at_end or question.form is Form.UPLOAD)):
            return b""  # an upload that nobody waits for goes on
        return self._say(question, b"cancel")

    def _say(
        self,
        question: _Question,
        kind: bytes,
        payload: bytes = b"",
        metadata: Mapping[str, str] = records.NO_METADATA,
    ) -> bytes:
        parts = [question.head, kind, b'"']
        if payload:
            parts += (b',"payload":', payload)
        if metadata:
            parts += (b',"metadata":', _encode(dict(metadata)))
        return frame(b"".join((*parts, b"}")))


def _check(field: str, size: int, limit: int) -> None:
    if size > limit:
        raise LocalProtocolError(
            f"{field} of {size} bytes passes the limit of {limit}",
            code=Code.MESSAGE_TOO_LARGE,
            field=field,
            size=size,
            limit=limit,
        )
