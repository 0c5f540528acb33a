"""What clients of JSON envelopes ask a server: one method for each type, and what a client may not do.

A broken, unknown or untimely envelope is answered with an error and changes nothing; only a message that is longer than
allowed, or takes too long, ends the connection. What a client says about a stream that is over has crossed our last
word on the wire, and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.liveness import Liveness
from trio_streams.core.outbox import Outbox
from trio_streams.core.states import FINISHED, HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.wire.envelope_channels import CHANNEL_TYPES, ChannelMessage, parse_channel_message, unroutable
from trio_streams.wire.envelope_records import (
    Envelope,
    EnvelopeFault,
    EnvelopeType,
    id_text,
    is_json_rpc,
    parse,
    parse_metadata,
    parse_status,
    quote,
    remaining_ms,
)
from trio_streams.wire.envelope_writer import EnvelopeWriter, Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_inbox import MessageInbox
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_stream import MessageStream

__all__ = ["RequestInbox"]


class RequestInbox(MessageInbox):
    """The receiving side of a server's connection.

    Args:
      writer: encodes the answers.
      streams: the connection's live streams, by number.
      out: takes the answers.
      liveness: notes that the client lives.
      config: the limits that every dialect has.
      limits: this dialect's own.
      find_form: what is asked for by a name; None for a name that nothing has.
      has_channels: whether somebody takes messages about channels.
      has_json_rpc: whether somebody takes JSON-RPC texts.
      epoch: the time of day, in seconds since 1970, when the caller's clock was 0.
    """

    def __init__(
        self,
        writer: EnvelopeWriter,
        streams: dict[int, StreamMachine],
        out: Outbox,
        liveness: Liveness,
        config: ConnectionConfig,
        limits: MessageLimits,
        *,
        find_form: Callable[[str], Form | None],
        has_channels: bool,
        has_json_rpc: bool,
        epoch: float,
    ) -> None:
        hello = records.Hello("", agent="raffel", max_item_bytes=config.max_item_bytes)
        super().__init__(writer, streams, out, liveness, config, limits, is_client=False, hello=hello)
        self._writer = writer
        self._find_form = find_form
        self._has_channels = has_channels
        self._has_json_rpc = has_json_rpc
        self._epoch = epoch
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._next_number = 1
        self._run_id: str | int | None = None
        self.channel_messages: list[ChannelMessage] = []
        self.rpc_texts: list[bytes] = []
        self.peer_went_away: bool = True  # towards whoever wants to open: such a client takes no streams from us

    # -- what stands beside streams ---------------------------------------------------------------------------

    @property
    def _asides(self) -> int:
        return max(len(self.channel_messages), len(self.rpc_texts))

    def take_channel_messages(self) -> list[ChannelMessage]:
        """Take what was said about channels."""
        taken, self.channel_messages = self.channel_messages, []
        self._resume_if_possible()
        return taken

    def take_rpc_texts(self, most: int) -> list[bytes]:
        """Take the first JSON-RPC texts."""
        taken, self.rpc_texts = self.rpc_texts[:most], self.rpc_texts[most:]
        self._resume_if_possible()
        return taken

    # -- streams that are over --------------------------------------------------------------------------------

    def remove_if_over(self, stream_id: int, machine: StreamMachine) -> None:
        """As for both roles, and free its id."""
        if machine.send_state in FINISHED and machine.receive_state is not HalfState.OPEN:
            self._free(stream_id)
        super().remove_if_over(stream_id, machine)

    def _free(self, stream_id: int) -> None:
        """A client may use an id again as soon as it knows that its stream is over."""
        id_ = self._ids.pop(stream_id, None)
        if id_ is not None:
            del self._numbers[id_]

    # -- messages ---------------------------------------------------------------------------------------------

    def _take_message(self, message: bytes) -> None:
        try:
            envelope = parse(message)
            kind = envelope.type
            if kind == "stream:data":
                self._take_data(envelope)
                return
            self._flush_run()
            if (handler := self._BY_TYPE.get(kind)) is not None:
                handler(self, envelope)
            elif kind in CHANNEL_TYPES and self._has_channels:
                metadata, most = self._metadata(envelope), self._limits.max_name_bytes
                found = parse_channel_message(envelope, max_name_bytes=most, metadata=metadata)
                self.channel_messages.append(found)
            else:
                raise unroutable(envelope)
        except EnvelopeFault as fault:
            if self._has_json_rpc and is_json_rpc(message):
                self.rpc_texts.append(message)
            else:
                self._out.put(self._writer.encode_fault(fault))

    def _find_stream(self, envelope: Envelope) -> tuple[int, StreamMachine | None]:
        number = self._numbers.get(id_text(envelope.id), 0)
        return number, self._streams.get(number)

    def _take_data(self, envelope: Envelope) -> None:
        item = bytes(envelope.payload) or b"null"
        if self._run and envelope.id == self._run_id:
            # Most items come one behind the other: they are charged and told of together, at a third of the cost.
            self._run.append(item)
            return
        self._flush_run()
        number, machine = self._find_stream(envelope)
        if machine is None or machine.receive_state is HalfState.ERRORED:
            return
        if machine.receive_state is not HalfState.OPEN:
            raise EnvelopeFault(
                "INVALID_ARGUMENT", "The stream takes no more items", id_text(envelope.id), {"field": "type"}
            )
        self._run_number, self._run_id = number, envelope.id
        self._run.append(item)

    def _take_end(self, envelope: Envelope) -> None:
        self._end_input(envelope, records.OK)

    def _take_error(self, envelope: Envelope) -> None:
        self._end_input(envelope, parse_status(envelope))

    def _end_input(self, envelope: Envelope, status: records.Status) -> None:
        stream_id, machine = self._find_stream(envelope)
        if machine is not None and machine.receive_state is HalfState.OPEN:
            machine.receive_end()
            self._events.append(events.Ended(stream_id, status, parse_metadata(envelope.metadata)))
            self.remove_if_over(stream_id, machine)

    def _take_cancel(self, envelope: Envelope) -> None:
        stream_id, machine = self._find_stream(envelope)
        if machine is not None:
            answer = self._writer.encode_cancelled(stream_id)
            self._finish(stream_id, machine, Code.CANCELLED, "the client cancelled", answer)

    def _exhaust(self, stream_id: int, field: str, limit: int) -> None:
        self._refuse_item(stream_id, self._stalled(stream_id, field, limit))

    def _refuse_item(self, stream_id: int, status: records.Status) -> None:
        """End a stream in both directions, by our will."""
        answer = self._writer.encode(stream_id, records.End(status))
        self._finish(stream_id, self._streams[stream_id], Code.from_name(status.code), status.message, answer)

    def _finish(self, stream_id: int, machine: StreamMachine, code: Code, reason: str, answer: bytes) -> None:
        queued = machine.queued_bytes
        if machine.stopped():
            self._out.forget(stream_id, queued)
            self._out.put(answer)
            self._events.append(events.Stopped(stream_id, code, reason))
        if machine.receive_reset():
            self.settle(machine)
            self._events.append(events.Reset(stream_id, code, reason))
        self.remove_if_over(stream_id, machine)

    # -- starts -----------------------------------------------------------------------------------------------

    def _take_request(self, envelope: Envelope) -> None:
        self._start(envelope, self._require_form(envelope, Form.CALL.value))

    def _take_event(self, envelope: Envelope) -> None:
        self._start(envelope, self._require_form(envelope, Form.EVENT.value))

    def _take_start(self, envelope: Envelope) -> None:
        try:
            self._start(envelope, self._require_form(envelope, Form.STREAM.value))
        except EnvelopeFault as fault:
            # A duplicate of one that lives must not end that one at the client.
            self._out.put(self._writer.encode_fault(fault, is_start=fault.id not in self._numbers))

    def _require_form(self, envelope: Envelope, what: str) -> Form:
        """The form of a procedure, if it can be asked for in this way."""
        self._check_start(envelope)
        name = envelope.procedure
        form = self._find_form(name)
        if form is None or (Form.STREAM.value if form.is_stream else form.value) != what:
            shown = name if len(name) <= 100 else f"{name[:100]}…"
            message = f"{what.capitalize()} '{shown}' not found"
            raise EnvelopeFault("NOT_FOUND", message, id_text(envelope.id), procedure=shown)
        return form

    def _start(self, envelope: Envelope, form: Form) -> None:
        metadata = self._metadata(envelope)
        id_ = id_text(envelope.id)
        number = self._next_number
        self._next_number += 2
        id_ = id_ or ("" if form is Form.EVENT else f"#{number}")
        machine = self._streams[number] = MessageStream(self._limits)
        self._writer.begin(number, id_, envelope.procedure, form)
        if id_:
            self._numbers[id_], self._ids[number] = number, id_
        timeout_ms = remaining_ms(metadata, (self._epoch + self._now) * 1_000)
        self._events.append(events.Opened(number, records.Open(envelope.procedure, metadata, timeout_ms=timeout_ms)))
        if form.gives_items:
            self._out.put(self._writer.encode_start(number))
        payload = bytes(envelope.payload)
        if payload not in (b"", b"null"):  # the original, too, takes null for nothing here
            self._take_items(number, [payload])
        if not form.takes_items and machine.receive_end():
            self._events.append(events.Ended(number, records.OK, records.NO_METADATA))

    def _check_start(self, envelope: Envelope) -> None:
        id_ = id_text(envelope.id)
        limits = self._limits
        if (size := len(id_.encode())) > limits.max_id_bytes:
            raise EnvelopeFault.too_large("id", size, limits.max_id_bytes, id_[:64])
        if not envelope.procedure:
            raise EnvelopeFault("INVALID_ENVELOPE", "Missing procedure or type", id_, {"field": "procedure"})
        if (size := len(envelope.procedure.encode())) > limits.max_name_bytes:
            raise EnvelopeFault.too_large("procedure", size, limits.max_name_bytes, id_)
        if id_ in self._numbers:
            raise EnvelopeFault("ALREADY_EXISTS", "The id is in use", id_, {"field": "id"})
        if self._is_going_away:
            raise EnvelopeFault("UNAVAILABLE", "The server is going away", id_)
        if (size := len(self._streams)) >= self._config.max_streams:
            limit = self._config.max_streams
            details = {"field": "max_streams", "size": size + 1, "limit": limit}
            raise EnvelopeFault("RESOURCE_EXHAUSTED", f"More than max_streams of {limit} streams", id_, details)

    # -- signs of life ----------------------------------------------------------------------------------------

    def _take_ping(self, envelope: Envelope) -> None:
        """Not the original's, whose pings are the WebSocket's own; on TCP nothing else tells a silent server."""
        id_ = id_text(envelope.id)
        if (size := len(id_.encode())) > self._limits.max_id_bytes:
            raise EnvelopeFault.too_large("id", size, self._limits.max_id_bytes, id_[:64])
        self._out.put(frame(b'{"id":%s,"type":"pong"}' % quote(id_)))

    def _take_pong(self, envelope: Envelope) -> None:
        """Nobody asked, and there is nothing wrong with saying so."""

    _BY_TYPE: Final[dict[str, Callable[[RequestInbox, Envelope], None]]] = {
        EnvelopeType.REQUEST: _take_request,
        EnvelopeType.STREAM_START: _take_start,
        EnvelopeType.STREAM_END: _take_end,
        EnvelopeType.STREAM_ERROR: _take_error,
        EnvelopeType.EVENT: _take_event,
        EnvelopeType.CANCEL: _take_cancel,
        EnvelopeType.PING: _take_ping,
        EnvelopeType.PONG: _take_pong,
    }
