"""What a server answers in JSON envelopes: one method for each type, and what a server may not do.

An answer names its stream by the id that the client gave, with or without what the original puts behind it
(`3:stream:data:7`). One for a stream that is over has crossed our `cancel` on the wire, and is dropped. One for a stream
that never was, or that cannot be read, ends the connection: somebody may be waiting for it, and nobody can say who.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.liveness import Liveness
from trio_streams.core.outbox import Outbox
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.wire.envelope_asker import PING_PREFIX, EnvelopeAsker
from trio_streams.wire.envelope_records import (
    Envelope,
    EnvelopeFault,
    EnvelopeType,
    id_text,
    parse,
    parse_status,
)
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_inbox import MessageInbox
from trio_streams.wire.message_limits import MessageLimits

__all__ = ["AnswerInbox"]

_MAX_DIGITS: Final = 19  # of a stream's number, or a ping's


class AnswerInbox(MessageInbox):
    """The receiving side of a client's connection.

    Args:
      asker: knows what was asked.
      streams: the connection's live streams, by number.
      out: takes what is said at once.
      liveness: notes that the server lives.
      config: the limits that every dialect has; `max_streams` is how many are opened at once.
      limits: this dialect's own.
      now: seconds, on the clock that every later call uses.
    """

    def __init__(
        self,
        asker: EnvelopeAsker,
        streams: dict[int, StreamMachine],
        out: Outbox,
        liveness: Liveness,
        config: ConnectionConfig,
        limits: MessageLimits,
        *,
        now: float,
    ) -> None:
        hello = records.Hello("", agent="raffel", max_item_bytes=config.max_item_bytes, max_streams=config.max_streams)
        super().__init__(asker, streams, out, liveness, config, limits, is_client=True, hello=hello)
        self._asker = asker
        self._now = now
        self._run_key = ""
        self.open_limit: int = config.max_streams

    @property
    def heard_at(self) -> float:
        """When something last arrived."""
        return self._now

    @property
    def _has_others(self) -> bool:
        """As long as every stream has something to read, reading waits for its reader."""
        return any(
            machine.receive_state is HalfState.OPEN and not machine.receive_credit.unconsumed_bytes
            for machine in self._streams.values()
        )

    def _note_removed(self) -> None:
        self.open_limit += 1
        if self.wants_to_open:
            self._allow_streams()
            self._wake_driver()  # which tells those who wait

    # -- messages ---------------------------------------------------------------------------------------------

    def _take_message(self, message: bytes) -> None:
        try:
            envelope = parse(message)
            if envelope.type == "stream:data":
                self._take_data(envelope)
                return
            self._flush_run()
            self._BY_TYPE.get(envelope.type, AnswerInbox._take_unknown)(self, envelope)
        except EnvelopeFault as fault:
            self._flush_run()
            details = fault.details or {}
            raise RemoteProtocolError(
                f"the server sent a broken envelope: {fault.message}",
                code=Code.MESSAGE_TOO_LARGE if fault.code == "MESSAGE_TOO_LARGE" else Code.PROTOCOL_ERROR,
                field=str(details.get("field", "envelope")),
            ) from None

    def _find_answered(self, envelope: Envelope) -> tuple[int, StreamMachine | None]:
        """The stream that an answer is for; None for one that is over."""
        text = id_text(envelope.id)
        key = text.partition(":")[0]
        number = int(key) if key.isascii() and key.isdigit() and len(key) <= _MAX_DIGITS else 0
        machine = self._streams.get(number)
        if not self._has_been(number) or (machine is not None and not self._asker.is_asked(number)):
            raise RemoteProtocolError(
                f"the server answered with {envelope.type} to {text[:64]!r}, which was never asked",
                field="id",
                size=number or None,
            )
        return number, machine

    def _take_data(self, envelope: Envelope) -> None:
        item = bytes(envelope.payload) or b"null"
        key = id_text(envelope.id).partition(":")[0]
        if self._run and key == self._run_key and envelope.metadata in ({}, None):
            self._run.append(item)  # as in a server's inbox
            return
        self._flush_run()
        number, machine = self._find_answered(envelope)
        if machine is None or machine.receive_state is HalfState.ERRORED:
            return
        if machine.receive_state is not HalfState.OPEN:
            raise self._too_late(number, envelope)
        self._take_head(number, machine, envelope)
        self._run_number, self._run_key = number, key
        self._run.append(item)

    def _take_head(self, number: int, machine: StreamMachine, envelope: Envelope) -> None:
        """Metadata with the start or the first item is the answer's head; later ones have no meaning."""
        metadata = self._metadata(envelope)
        if metadata and not machine.receive_credit.items and not machine.head_received:
            machine.receive_header()
            self._events.append(events.Headed(number, metadata))

    def _too_late(self, number: int, envelope: Envelope) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"the server sent {envelope.type} on stream {number}, whose answer had ended", field="type", size=number
        )

    def _take_unknown(self, envelope: Envelope) -> None:
        kind = envelope.type[:64]
        raise EnvelopeFault("INVALID_TYPE", f"type is {kind!r}: no answer is of it", "", {"field": "type"})

    # -- answers ----------------------------------------------------------------------------------------------

    def _take_start(self, envelope: Envelope) -> None:
        number, machine = self._find_answered(envelope)
        if machine is not None and machine.receive_state is HalfState.OPEN:
            self._take_head(number, machine, envelope)

    def _take_response(self, envelope: Envelope) -> None:
        number, machine = self._find_answered(envelope)
        if machine is not None and machine.receive_state is HalfState.OPEN:
            self._take_head(number, machine, envelope)
            if self._asker.form(number) is not Form.EVENT:
                self._take_items(number, [bytes(envelope.payload) or b"null"])
        self._end_answer(number, machine, envelope, records.OK)

    def _take_end(self, envelope: Envelope) -> None:
        number, machine = self._find_answered(envelope)
        self._end_answer(number, machine, envelope, records.OK)

    def _take_error(self, envelope: Envelope) -> None:
        status = parse_status(envelope)
        if self._is_pong(envelope):
            return
        try:
            number, machine = self._find_answered(envelope)
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(
                f"the server refused what it could not read: {status.code[:64]}: {status.message[:200]}",
                code=Code.from_name(status.code),
                field=exc.field,
            ) from None
        self._end_answer(number, machine, envelope, status)

    def _end_answer(
        self, number: int, machine: StreamMachine | None, envelope: Envelope, status: records.Status
    ) -> None:
        if machine is None or machine.receive_state is HalfState.ERRORED:
            return
        if machine.receive_state is not HalfState.OPEN:
            raise self._too_late(number, envelope)
        trailers = records.NO_METADATA if envelope.type == EnvelopeType.RESPONSE else self._metadata(envelope)
        machine.receive_end()
        self._events.append(events.Ended(number, status, trailers))
        # Nobody takes more of what is asked.
        self._stop_asking(number, machine, Code.from_name(status.code), "the server has answered")
        self.remove_if_over(number, machine)

    def _stop_asking(self, number: int, machine: StreamMachine, code: Code, reason: str) -> None:
        queued = machine.queued_bytes
        if machine.stopped():
            self._out.forget(number, queued)
            self._events.append(events.Stopped(number, code, reason))

    # -- what we give up --------------------------------------------------------------------------------------

    def _refuse_item(self, stream_id: int, status: records.Status) -> None:
        """The items before it can still be taken; what comes behind it is dropped."""
        machine = self._streams[stream_id]
        self._events.append(events.Ended(stream_id, status, records.NO_METADATA))
        self._give_up(stream_id, machine, status)

    def _exhaust(self, stream_id: int, field: str, limit: int) -> None:
        status, machine = self._stalled(stream_id, field, limit), self._streams[stream_id]
        self._events.append(events.Reset(stream_id, Code.from_name(status.code), status.message))
        self._give_up(stream_id, machine, status)

    def _give_up(self, stream_id: int, machine: StreamMachine, status: records.Status) -> None:
        code = Code.from_name(status.code)
        if machine.stop(code, status.message) is not None:
            self._out.put(self._asker.encode(stream_id, records.Stop(code)))
        self.settle(machine)
        self._stop_asking(stream_id, machine, code, status.message)
        self.remove_if_over(stream_id, machine)

    def abandon(self, stream_id: int, code: Code, reason: str) -> None:
        """A question never leaves: nobody will answer it."""
        if self._streams[stream_id].receive_reset():
            self._events.append(events.Reset(stream_id, code, reason))
            self._wake_driver()  # which tells whoever waits

    # -- signs of life ----------------------------------------------------------------------------------------

    def _is_pong(self, envelope: Envelope) -> bool:
        """Whether it answers a ping; the original refuses those, which is a sign of life all the same."""
        key = id_text(envelope.id).partition(":")[0].removeprefix(PING_PREFIX)
        if id_text(envelope.id)[:1] != PING_PREFIX or not (key.isascii() and key.isdigit()) or len(key) > _MAX_DIGITS:
            return False
        round_trip = self._liveness.finish_ping(int(key), self._now)
        if round_trip is not None:
            self._events.append(events.Ponged(int(key), round_trip))
        return True

    def _take_pong(self, envelope: Envelope) -> None:
        """One that answers nothing is harmless."""
        self._is_pong(envelope)

    _BY_TYPE: Final[dict[str, Callable[[AnswerInbox, Envelope], None]]] = {
        EnvelopeType.RESPONSE: _take_response,
        EnvelopeType.ERROR: _take_error,
        EnvelopeType.STREAM_START: _take_start,
        EnvelopeType.STREAM_END: _take_end,
        EnvelopeType.STREAM_ERROR: _take_error,
        EnvelopeType.PONG: _take_pong,
    }
