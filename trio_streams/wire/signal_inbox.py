"""What peers that speak ts-signal-rpc say: one method for each kind of message, and what a peer may not do.

A broken or untimely message is answered with an error and changes nothing; only one that is longer than allowed, or
takes too long, ends the connection. A response to what nobody asked, or asks no more, is dropped: through a relay every
peer hears those of the others. Items of a stream that was refused are dropped until its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.liveness import Liveness
from trio_streams.core.outbox import Outbox
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_inbox import MessageInbox
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_stream import MessageStream
from trio_streams.wire.signal import (
    Category,
    RpcMessage,
    SignalFault,
    StreamMessage,
    StreamMessageType,
    decode,
    decode_data,
    encode,
)
from trio_streams.wire.signal_names import REQUEST, STREAM, STREAM_ID
from trio_streams.wire.signal_writer import FROM, FROM_NAME, TO, Kind, Said, SignalWriter

__all__ = ["SignalInbox"]

_MAX_REFUSED: Final = 1_024
"""Ids of refused streams that are remembered until their end; of more the oldest is forgotten, and may begin again."""

_logger: Final = logging.getLogger("trio_streams.peer")


class SignalInbox(MessageInbox):
    """The receiving side of one connection.

    Args:
      writer: encodes the answers.
      streams: the connection's live streams, by number.
      out: takes the answers.
      liveness: notes that the peer lives.
      config: the limits that every dialect has.
      limits: this dialect's own.
      is_client: which side this is.
      awaits_welcome: whether the peer has greeted only when it has welcomed us.
      now: seconds.
    """

    def __init__(
        self,
        writer: SignalWriter,
        streams: dict[int, StreamMachine],
        out: Outbox,
        liveness: Liveness,
        config: ConnectionConfig,
        limits: MessageLimits,
        *,
        is_client: bool,
        awaits_welcome: bool = False,
        now: float,
    ) -> None:
        hello = records.Hello("", agent="signal", max_item_bytes=config.max_item_bytes, max_streams=config.max_streams)
        super().__init__(writer, streams, out, liveness, config, limits, is_client=is_client, hello=hello)
        self._writer = writer
        self._now = now
        self._next_number = 2 if is_client else 1
        self._calls: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._refused: dict[str, None] = {}
        self._run_id = ""
        self.pings: dict[float, int] = {}
        self.welcome: RpcMessage | None = None
        self.open_limit: int = config.max_streams
        self._greeting = events.Greeted(hello)
        if awaits_welcome:
            self.is_greeted: bool = False
            self._events.clear()

    # -- what the machine asks --------------------------------------------------------------------------------

    @property
    def heard_at(self) -> float:
        """When something last arrived."""
        return self._now

    def note_said(self, stream_id: int, said: Said) -> None:
        """A stream was opened here: what the peer says of it is understood from now on."""
        if said.kind is Kind.REQUEST:
            self._calls[said.id] = stream_id
        elif said.kind is Kind.STREAM:
            self._sent[said.id] = stream_id

    def is_sending(self, id_: str) -> bool:
        """Whether a stream under this id is being sent."""
        return id_ in self._sent

    def end_unanswered(self, stream_id: int) -> None:
        """Nothing comes back on a stream that was just opened here."""
        self._finish(stream_id, self._streams[stream_id], records.OK)

    def remove_if_over(self, stream_id: int, machine: StreamMachine) -> None:
        """As in every dialect of messages, and forget what the wire called it."""
        said = self._writer.find(stream_id)
        super().remove_if_over(stream_id, machine)
        if said is not None and self._writer.find(stream_id) is None:
            if stream_id & 1 != self._peer_parity:
                self._allow_another()
            for ids in (self._calls, self._asked, self._sent, self._heard):
                if ids.get(said.id) == stream_id:
                    del ids[said.id]
                    if ids is self._heard:
                        self._refuse(said.id)  # its end has not come

    def _refuse(self, id_: str) -> None:
        self._refused[id_] = None
        if len(self._refused) > _MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _allow_another(self) -> None:
        self.open_limit += 1
        if self.wants_to_open:
            self._allow_streams()
            self.owes_grant: bool = self.failure is None  # the driver is to tell those who wait

    def _exhaust(self, stream_id: int, field: str, limit: int) -> None:
        self._refuse_item(stream_id, self._stalled(stream_id, field, limit))

    def _refuse_item(self, stream_id: int, status: records.Status) -> None:
        machine = self._streams[stream_id]
        code = Code.from_name(status.code)
        if machine.receive_state is HalfState.OPEN:
            self._out.put_record(stream_id, records.Stop(code, status.message))
        machine.receive_reset()
        self.settle(machine)
        self._events.append(events.Reset(stream_id, code, status.message))
        self.remove_if_over(stream_id, machine)

    # -- messages ---------------------------------------------------------------------------------------------

    def _take_message(self, message: bytes) -> None:
        data = decode_data(message)
        if data is not None and self._run and data.stream_id == self._run_id:
            self._run.append(bytes(data.payload))
            return
        try:
            found = decode(message) if data is None else data.message()
            if isinstance(found, StreamMessage):
                self._take_stream_message(found)
                return
            self._flush_run()
            self._BY_CATEGORY[found.category](self, found)
        except SignalFault as fault:
            self._flush_run()
            self._out.put(self._writer.encode_fault(fault))

    def _take_stream_message(self, message: StreamMessage) -> None:
        id_ = message.stream_id
        is_data = message.type is StreamMessageType.STREAM_DATA
        if is_data and self._run and id_ == self._run_id:
            self._run.append(message.payload or b"null")
            return
        self._flush_run()
        number = self._heard.get(id_, 0)
        machine = self._streams.get(number)
        if machine is None:
            if id_ in self._refused:
                if not is_data:
                    del self._refused[id_]
                return
            number, machine = self._hear(message)
        if is_data:
            if machine.receive_state is HalfState.OPEN:
                self._run_number, self._run_id = number, id_
                self._run.append(message.payload or b"null")
            return
        status = records.OK
        if message.type is StreamMessageType.STREAM_ERROR:
            code = message.code if message.code not in (None, "", "OK") else None
            status = records.Status(code or Code.UNKNOWN.name, message.error or "")
        del self._heard[id_]
        self._finish(number, machine, status)

    def _hear(self, message: StreamMessage) -> tuple[int, StreamMachine]:
        """A stream of the peer begins with its first message."""
        id_ = message.stream_id
        self._check_id("streamId", id_)
        reason = self._refusal()
        if reason is not None:
            if message.type is StreamMessageType.STREAM_DATA:
                self._refuse(id_)
            raise SignalFault(*reason, {"streamId": id_})
        number, machine = self._accept(Said(Kind.HEARD, id_))
        self._heard[id_] = number
        self._events.append(events.Opened(number, records.Open(STREAM, {STREAM_ID: id_})))
        return number, machine

    def _accept(self, said: Said) -> tuple[int, StreamMachine]:
        number, self._next_number = self._next_number, self._next_number + 2
        machine = self._streams[number] = MessageStream(self._limits)
        self._writer.begin(number, said)
        return number, machine

    def _refusal(self) -> tuple[str, str] | None:
        """Why no stream of the peer is taken now."""
        if self._is_going_away:
            return "UNAVAILABLE", "The peer is going away"
        limit = self._config.max_streams
        if sum(1 for number in self._streams if number & 1 == self._peer_parity) >= limit:
            return "RESOURCE_EXHAUSTED", f"More than max_streams of {limit} streams"
        return None

    def _check_id(self, field: str, value: str) -> None:
        size, limit = len(value.encode("utf-8", "surrogatepass")), self._limits.max_id_bytes
        if size > limit:
            details = {"field": field, "size": size, "limit": limit}
            raise SignalFault("MESSAGE_TOO_LARGE", f"{field} of {size} bytes passes the limit of {limit}", details)

    # -- calls ------------------------------------------------------------------------------------------------

    def _take_request(self, message: RpcMessage) -> None:
        id_ = message.request_id or ""
        self._check_id("requestId", id_)
        metadata: dict[str, str] = {}
        for field, name, value in (
            ("from", FROM, message.sender),
            ("fromName", FROM_NAME, message.sender_name),
            ("to", TO, message.to),
        ):
            if value is not None:
                self._check_id(field, value)
                metadata[name] = value
        said = Said(Kind.ASKED, id_, message.sender, message.sender_name)
        reason = self._refusal()
        if reason is not None:
            number = self._next_number  # never used: it is forgotten at once
            self._writer.begin(number, said)
            self._out.put(self._writer.encode(number, records.End(records.Status(*reason))))
            self._writer.forget(number)
            return
        number, machine = self._accept(said)
        self._asked[id_] = number
        self._events.append(events.Opened(number, records.Open(REQUEST, metadata)))
        self._take_items(number, [message.data or b"null"])
        self._finish(number, machine, records.OK)

    def _take_response(self, message: RpcMessage) -> None:
        number = self._calls.get(message.request_id or "", 0)
        machine = self._streams.get(number)
        if machine is None or machine.receive_state is not HalfState.OPEN:
            return
        if message.status.is_ok:
            self._take_items(number, [message.data or b"null"])
        self._finish(number, machine, message.status)

    def _finish(self, number: int, machine: StreamMachine, status: records.Status) -> None:
        """The peer has said its last word on a stream."""
        if machine.receive_state is HalfState.OPEN:
            machine.receive_end()
            self._events.append(events.Ended(number, status, records.NO_METADATA))
        self.remove_if_over(number, machine)

    # -- what belongs to no stream ----------------------------------------------------------------------------

    def _take_welcome(self, message: RpcMessage) -> None:
        self._check_id("clientId", message.client_id or "")
        self.welcome = message
        self._writer.client_id = message.client_id
        if not self.is_greeted:
            self.is_greeted = True
            self._liveness.greeted()
            self._events.append(self._greeting)

    def _take_ping(self, message: RpcMessage) -> None:
        pong = RpcMessage(category=Category.PONG, timestamp=message.timestamp, to=message.sender)
        self._out.put(frame(encode(pong)))

    def _take_pong(self, message: RpcMessage) -> None:
        number = self.pings.pop(message.timestamp or 0, None)
        round_trip = None if number is None else self._liveness.finish_ping(number, self._now)
        if number is not None and round_trip is not None:
            self._events.append(events.Ponged(number, round_trip))

    def _take_error(self, message: RpcMessage) -> None:
        details: Mapping[object, object] = message.details if isinstance(message.details, dict) else {}
        code, request_id, stream_id = (details.get(name) for name in ("code", "requestId", "streamId"))
        name = code if isinstance(code, str) else Code.UNKNOWN.name
        reason = message.error or ""
        called, asked = (_find(ids, request_id) for ids in (self._calls, self._asked))
        stopped = asked or _find(self._sent, stream_id)
        if (machine := self._streams.get(called)) is not None:
            name = Code.UNKNOWN.name if name == "OK" else name
            self._finish(called, machine, records.Status(name, reason, message.details))
        elif (machine := self._streams.get(stopped)) is not None:
            self._stop_sending(stopped, machine, Code.from_name(name), reason)
        else:
            _logger.info("the peer reports an error: %s", reason[:1_000])

    def _stop_sending(self, number: int, machine: StreamMachine, code: Code, reason: str) -> None:
        queued = machine.queued_bytes
        if not machine.stopped():
            return
        self._out.forget(number, queued)
        self._out.put_record(number, records.Reset(code, reason))
        self._events.append(events.Stopped(number, code, reason))
        self.remove_if_over(number, machine)

    _BY_CATEGORY: Final[dict[Category, Callable[[SignalInbox, RpcMessage], None]]] = {
        Category.REQUEST: _take_request,
        Category.RESPONSE: _take_response,
        Category.WELCOME: _take_welcome,
        Category.PING: _take_ping,
        Category.PONG: _take_pong,
        Category.ERROR: _take_error,
    }


def _find(ids: Mapping[str, int], id_: object) -> int:
    return ids.get(id_, 0) if isinstance(id_, str) else 0
