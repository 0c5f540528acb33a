"""What one side of a peer RPC connection says, as messages of ts-signal-rpc: requests, responses, items, ends.

It remembers of each stream what its messages repeat, and whether the one message that a request or a response is has
been written. Items are JSON text already and are put in as they are.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_wire import MessageWire
from trio_streams.wire.signal import (
    Category,
    RpcMessage,
    SignalFault,
    StreamMessage,
    StreamMessageType,
    encode,
    encode_data,
    quote,
)
from trio_streams.wire.signal_names import REQUEST, SEND, STREAM, STREAM_ID

__all__ = ["FROM", "FROM_NAME", "TO", "Kind", "Said", "SignalWriter", "said_of"]

TO: Final = "to"
"""Metadata: for whom a call or a stream is, where a relay is between."""

FROM: Final = "from"
"""Metadata: who sent it, as above."""

FROM_NAME: Final = "from-name"
"""Metadata: what the sender calls itself."""


class Kind(enum.Enum):
    """What a stream of the machine is on the wire."""

    REQUEST = enum.auto()  # ours, which the peer answers
    SEND = enum.auto()  # ours, which nobody answers
    STREAM = enum.auto()  # ours
    ASKED = enum.auto()  # the peer's request, which we answer
    HEARD = enum.auto()  # the peer's stream


_KINDS: Final[Mapping[str, Kind]] = {REQUEST: Kind.REQUEST, SEND: Kind.SEND, STREAM: Kind.STREAM}
_UNSAID: Final = b""


@attrs.define
class Said:
    """One stream: what its messages repeat.

    Attributes:
      kind: what it is.
      id: the request's, or the stream's.
      to: for whom it is.
      to_name: what that peer calls itself.
      is_said: whether the one message of a request or a response was written.
    """

    kind: Kind
    id: str
    to: str | None = None
    to_name: str | None = None
    is_said: bool = False
    quoted: bytes = attrs.field(init=False)
    quoted_to: bytes | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.quoted = quote(self.id)
        self.quoted_to = None if self.to is None else quote(self.to)


class SignalWriter(MessageWire):
    """Encodes what one connection's streams say.

    Args:
      name: what this side calls itself; None for nothing.
      is_relayed: whether others may hear the peer's streams too. A stream is then refused in silence, since our word
        would end it for them; what the application has taken and closes is told all the same.
    """

    def __init__(self, name: str | None = None, *, is_relayed: bool = False) -> None:
        self._name = name
        self._is_relayed = is_relayed
        self._said: dict[int, Said] = {}
        self.client_id: str | None = None

    def begin(self, stream_id: int, said: Said) -> None:
        """Note a stream."""
        self._said[stream_id] = said

    def find(self, stream_id: int) -> Said | None:
        """What was noted of a stream that is not over."""
        return self._said.get(stream_id)

    def forget(self, stream_id: int) -> None:
        """A stream is over: nothing more is written for it."""
        self._said.pop(stream_id, None)

    # -- what the outbox asks ---------------------------------------------------------------------------------

    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of items, each as a message of its own; of a request and a response there is one."""
        said = self._said[stream_id]
        if said.kind is Kind.STREAM:
            return b"".join(map(frame, encode_data(said.quoted, items, said.quoted_to)))
        if said.kind is Kind.HEARD or said.is_said:
            return _UNSAID  # there is one answer, and it has been given
        said.is_said = True
        return frame(encode(self._message(said, data=items[0])))

    def _encode_record(self, stream_id: int, record: records.Record) -> bytes:
        if isinstance(record, records.GoAway):
            return self.encode_fault(SignalFault(record.code.name, record.reason)) if record.code else _UNSAID
        said = self._said.get(stream_id)
        if said is None:
            return _UNSAID
        if isinstance(record, records.End):
            return self._end(said, record.status)
        if isinstance(record, records.Reset):
            return self._end(said, records.Status(record.code.name, record.reason))
        if isinstance(record, records.Stop) and said.kind is Kind.HEARD:
            return self._stop(said, record)
        if isinstance(record, records.Stop) and said.kind is Kind.REQUEST and said.is_said:
            fault = SignalFault(record.code.name, record.reason or "The call was given up", {"requestId": said.id})
            return self.encode_fault(fault, said.to)
        return _UNSAID

    def _stop(self, said: Said, record: records.Stop) -> bytes:
        """Tell a sender that nobody takes more: the original has no word for it, and shows this one."""
        if self._is_relayed and record.code not in (Code.OK, Code.CANCELLED):
            return _UNSAID
        reason = record.reason or "The stream was closed by its receiver"
        return self.encode_fault(SignalFault(record.code.name, reason, {"streamId": said.id}))

    def _end(self, said: Said, status: records.Status) -> bytes:
        if said.kind is Kind.STREAM:
            kind, reason, code = StreamMessageType.STREAM_END, None, None
            if not status.is_ok:
                kind, reason, code = StreamMessageType.STREAM_ERROR, status.message or status.code, status.code
            return frame(encode(StreamMessage(kind, said.id, error=reason, to=said.to, code=code)))
        if said.is_said or said.kind is Kind.HEARD:
            return _UNSAID
        if said.kind is not Kind.ASKED and not status.is_ok:
            return _UNSAID  # nobody has heard of it
        return frame(encode(self._message(said, status=status)))

    def _message(self, said: Said, *, data: bytes | None = None, status: records.Status = records.OK) -> RpcMessage:
        return RpcMessage(
            category=Category.RESPONSE if said.kind is Kind.ASKED else Category.REQUEST,
            request_id=said.id,
            sender=self.client_id,
            sender_name=self._name,
            to=said.to,
            to_name=said.to_name,
            data=data,
            status=status,
        )

    # -- what belongs to no stream ----------------------------------------------------------------------------

    def encode_fault(self, fault: SignalFault, to: str | None = None) -> bytes:
        """The answer to a message that is refused, or to a whole connection; `to` says for whom, through a relay."""
        details: dict[str, object] = {"code": fault.code, **(fault.details or {})}
        return frame(encode(RpcMessage(category=Category.ERROR, to=to, error=fault.message, details=details)))


def said_of(name: str, metadata: Mapping[str, str], new_id: Callable[[], str]) -> Said:
    """What a stream that is opened here is on the wire.

    Args:
      name: what it is opened as, from `signal_names`.
      metadata: says for whom it is, and the id of a stream; nothing else can be carried.
      new_id: makes the id of a call, or of a stream that has none.

    Raises:
      LocalProtocolError: this dialect has no such thing.
    """
    kind = _KINDS.get(name)
    if kind is None:
        raise _cannot("name", f"{name!r} can't be opened here: this dialect has calls and one-way streams")
    allowed = (TO, STREAM_ID) if kind is Kind.STREAM else (TO,)
    unknown = [each for each in metadata if each not in allowed]
    if unknown:
        raise _cannot("metadata", f"metadata {unknown[0]!r} can't be sent: this dialect has no place for it")
    id_ = metadata.get(STREAM_ID) if kind is Kind.STREAM else None
    return Said(kind, new_id() if id_ is None else id_, metadata.get(TO))


def _cannot(field: str, message: str) -> LocalProtocolError:
    return LocalProtocolError(message, code=Code.UNIMPLEMENTED, field=field)
