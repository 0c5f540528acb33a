"""Procedures on a session of WebTransport: the machine of a `Connection` where QUIC brings the multiplexing.

Each stream of items is one bidirectional stream of the session, so none holds up another one; what belongs to all of them is
on a pair of control streams. `StreamMachine` is the same as on any carrier, and so is what a command means. What differs:

- Who may open how many streams is QUIC's credit, and who sends next is its scheduler: `weight` has no effect.
- RESET and STOP are the session's own. They carry a code and no reason.
- GOAWAY is the session's DRAIN, and carries no reason either.
- A peer that breaks a rule on one stream loses that one; on a control stream, the session.
- Whoever drives this closes the session after `Failed`, with the error's code: nothing here could tell the peer.

In: what the session tells, a method each, and commands. Out: `events()`, and calls of the port, most of them in `flush`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES, MAX_FRAME_PAYLOAD_BYTES, ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.dialect import DialectFeatures
from trio_streams.core.errors import LocalProtocolError, ProtocolError
from trio_streams.core.flow import SendCredit
from trio_streams.core.item_limits import refuse_larger
from trio_streams.core.liveness import Liveness
from trio_streams.core.mux import make_hello
from trio_streams.core.opening import make_open
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.webtransport.protocol.control_streams import ControlStreams
from trio_streams.webtransport.protocol.procedure_stream import ProcedureStream, encode_frame
from trio_streams.webtransport.protocol.session_inbox import SessionInbox
from trio_streams.webtransport.protocol.session_outbox import SessionOutbox
from trio_streams.webtransport.protocol.stream_port import StreamPort

__all__ = ["SessionMux"]


class SessionMux(DialectFeatures):
    """The machine of one session.

    Args:
      port: the session.
      config: limits and timeouts. `max_streams` and `connection_window_bytes` are QUIC's matter here.
      session_id: names this side to the peer.
      now: seconds, on the clock that every later call uses.
    """

    __slots__ = ("_config", "_control", "_in", "_liveness", "_out", "_port", "_streams")

    def __init__(self, port: StreamPort, *, config: ConnectionConfig, session_id: str, now: float) -> None:
        self._port = port
        self._config = config
        self._streams: dict[int, ProcedureStream] = {}
        self._control = ControlStreams(port, make_hello(config, session_id))
        self._liveness = Liveness(config.handshake_timeout, config.idle_timeout, now)
        self._out = SessionOutbox(port, self._streams, self._control, config.max_send_buffer_bytes)
        self._in = SessionInbox(port, self._streams, self._out, self._control, self._liveness, config, session_id)

    # -- what the driver asks ---------------------------------------------------------------------------------

    @property
    def peer_hello(self) -> records.Hello | None:
        """The peer's hello, once it is here."""
        return self._in.hello

    @property
    def failure(self) -> ProtocolError | None:
        """Why the session is over, if it is by somebody's fault."""
        return self._in.failure

    @property
    def has_output(self) -> bool:
        """Whether `flush` would hand something on."""
        return self._in.failure is None and self._out.has_output

    def take_news(self) -> bool:
        """Whether commands have made something to hand on since this was last asked; of items that join others now and then."""
        out = self._out
        has_news, out.has_news = out.has_news, False
        return has_news

    @property
    def is_flushed(self) -> bool:
        """Whether everything was handed on."""
        return self._in.failure is not None or self._out.is_flushed

    @property
    def can_open(self) -> bool:
        """Whether a stream can be opened now."""
        return self._takes_streams and self._port.can_open(is_unidirectional=False)

    @property
    def _takes_streams(self) -> bool:
        inbox = self._in
        return inbox.hello is not None and not inbox.peer_went_away and inbox.failure is None

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer said that it takes no new streams."""
        return self._in.peer_went_away

    def note_wish_to_open(self) -> None:
        """Ask for a `StreamsAllowed` event when a stream can be opened."""
        self._in.wants_to_open = True

    @property
    def queued_bytes(self) -> int:
        """What waits here for the session in all streams."""
        unsent = sum(stream.unsent_bytes for stream in self._streams.values())
        return self._out.queued_bytes + self._control.queued_bytes + unsent

    @property
    def unread_bytes(self) -> int:
        """What arrived in all streams and was not taken, at its cost."""
        machines = [stream.machine for stream in self._streams.values()]
        return sum(machine.receive_credit.unconsumed_bytes for machine in machines if machine is not None)

    @property
    def bytes_sent(self) -> int:
        """What the session's streams have taken."""
        return self._out.bytes_sent

    @property
    def bytes_received(self) -> int:
        """What the session's streams have brought."""
        return self._in.bytes_received

    @property
    def stream_count(self) -> int:
        """How many streams are alive."""
        return len(self._streams)

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last ping took, if one came back."""
        return self._liveness.round_trip

    def get(self, stream_id: int) -> StreamMachine | None:
        """The machine of a live stream, for statistics."""
        stream = self._streams.get(stream_id)
        return None if stream is None else stream.machine

    def events(self) -> Iterator[events.Event]:
        """Take the events that have happened, in order; those that handling them causes come too."""
        return self._in.take_events()

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, if ever."""
        return None if self._in.failure else self._liveness.deadline

    def handle_deadline(self, now: float) -> None:
        """Do what is due: a ping into a silence, or giving up."""
        if self._in.failure is not None:
            return
        error = self._liveness.check(now, greeted=self._in.hello is not None)
        if error is not None:
            self._in.fail(error)
        elif (number := self._liveness.ping_due(now)) is not None:
            self._control.put(0, records.Ping(number))

    def flush(self) -> None:
        """Hand on what the session takes; it makes events, too."""
        if self._in.failure is not None:
            return
        for stream in self._out.flush():
            self._in.remove_if_over(stream)
        for stream_id in self._out.writable():
            self._in.wake(stream_id)

    # -- what the session tells -------------------------------------------------------------------------------

    def opened(self, stream_id: int, *, is_unidirectional: bool) -> None:
        """The peer opened a stream."""
        self._in.opened(stream_id, is_unidirectional=is_unidirectional)

    def received(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool, now: float) -> None:
        """Bytes arrived on a stream. Never raises for the peer's fault."""
        self._in.receive(stream_id, run, is_ended=is_ended, now=now)

    def was_reset(self, stream_id: int, code: int | None) -> None:
        """The peer abandoned its half of a stream; None where it did not say why."""
        self._in.was_reset(stream_id, code)

    def was_stopped(self, stream_id: int, code: int | None) -> None:
        """The peer refuses more of our half of a stream, which is reset by that; None where it did not say why."""
        self._in.was_stopped(stream_id, code)

    def writable(self, stream_id: int) -> None:
        """A stream that took less than it was given takes bytes again; a `flush` is due."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.is_full = False
            self._out.schedule(stream)
        elif stream_id == self._control.id:
            self._control.writable()

    def allowed(self) -> None:
        """A stream can be opened again; a `flush` is due."""
        self._in.allowed()

    def drained(self) -> None:
        """The peer asks to come to an end."""
        self._in.drained()

    # -- commands ---------------------------------------------------------------------------------------------

    def open(
        self,
        name: str,
        *,
        metadata: Mapping[str, str] = records.NO_METADATA,
        priority: int = 0,
        timeout_ms: int | None = None,
        window_items: int | None = None,
        window_bytes: int | None = None,
    ) -> int:
        """Open a stream; see `Mux.open`.

        Raises:
          LocalProtocolError: none can be opened now (ask `can_open`), or the OPEN does not fit.
        """
        record, credit = make_open(
            self._config.stream,
            name,
            metadata=metadata,
            priority=priority,
            timeout_ms=timeout_ms,
            window_items=window_items,
            window_bytes=window_bytes,
        )
        hello = self._in.hello
        if hello is None or not self.can_open:
            raise self._refused()
        start = encode_frame(record)
        stream_id = self._port.open_stream(is_unidirectional=False, priority=priority)
        machine = StreamMachine(
            SendCredit(hello.window_items, hello.window_bytes),
            credit,
            priority=priority,
            max_frame_bytes=MAX_FRAME_PAYLOAD_BYTES,
        )
        self._streams[stream_id] = stream = ProcedureStream(stream_id, machine, start)
        self._out.schedule(stream)
        return stream_id

    def _refused(self) -> LocalProtocolError:
        if not self._takes_streams:
            return LocalProtocolError("can't open a stream: the peer takes none now", code=Code.UNAVAILABLE)
        self.note_wish_to_open()
        return LocalProtocolError("can't open a stream: the peer allows no more now", code=Code.STREAM_LIMIT_ERROR)

    def _require(self, stream_id: int, action: str) -> tuple[ProcedureStream, StreamMachine]:
        stream = self._streams.get(stream_id)
        if stream is None or stream.machine is None:
            raise LocalProtocolError(f"can't {action} on stream {stream_id}: it is over")
        return stream, stream.machine

    def send(self, stream_id: int, payloads: Sequence[bytes]) -> int:
        """Queue items, from the first on, while credit and the send buffer allow; see `Mux.send`."""
        stream, machine = self._require(stream_id, "send")
        limit, out = self._in.max_item_bytes_out, self._out
        if len(payloads) == 1 and len(payloads[0]) <= limit:
            # The way of every single `send`, as in `Mux`.
            charge = machine.send_one(payloads[0], out.room)
            if charge:
                out.queued_bytes += charge
                out.schedule(stream)
                return 1
        refuse_larger(payloads, limit)
        before = machine.queued_bytes
        taken = machine.send(payloads, out.room)
        out.queued_bytes += machine.queued_bytes - before
        if machine.is_blocked and machine.send_credit.is_open:
            out.wait_for_room(stream_id)
        if taken:
            out.schedule(stream)
        return taken

    def is_writable(self, stream_id: int) -> bool:
        """Whether an item would be taken now. If not, `Writable` tells when; a half that is over never refuses."""
        machine = self.get(stream_id)
        if machine is None or machine.send_state is not HalfState.OPEN:
            return True
        if not machine.send_credit.is_open:
            machine.is_blocked = True
        elif self._out.room <= 0 and machine.queued_bytes:
            machine.is_blocked = True
            self._out.wait_for_room(stream_id)
        else:
            return True
        return False

    def send_header(self, stream_id: int, metadata: Mapping[str, str]) -> None:
        """Queue the head of our half; see `Mux.send_header`."""
        stream, machine = self._require(stream_id, "send a header")
        metadata = dict(metadata)  # it waits, and the caller may go on to change its own
        encode_frame(records.Header(metadata))
        machine.head(metadata)
        self._out.schedule(stream)

    def end(
        self,
        stream_id: int,
        status: records.Status = records.OK,
        trailers: Mapping[str, str] = records.NO_METADATA,
    ) -> None:
        """End our half, behind its items; see `Mux.end`."""
        stream, machine = self._require(stream_id, "end")
        if status is not records.OK or trailers:
            trailers = dict(trailers)
            encode_frame(records.End(status, trailers))
        machine.end(status, trailers)
        self._out.schedule(stream)

    def reset(self, stream_id: int, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon our half and what is queued of it; too late is no fault. The reason stays here."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.machine is None:
            return
        queued = stream.machine.queued_bytes
        if stream.machine.reset(code, reason) is not None:
            self._out.forget(stream, queued)
            self._port.reset(stream_id, code)
        self._in.remove_if_over(stream)

    def stop(self, stream_id: int, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more of the peer's half; what it still sends is discarded. Too late is no fault. The reason stays here."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.machine is None:
            return
        if stream.machine.stop(code, reason) is not None:
            stream.peer_is_over = True
            self._port.stop(stream_id, code)
        self._in.settle(stream)
        self._in.remove_if_over(stream)

    def consume(self, stream_id: int, items: int, size: int) -> None:
        """The application took items; see `Mux.consume`."""
        stream = self._streams.get(stream_id)
        machine = None if stream is None else stream.machine
        if stream is None or machine is None or machine.receive_state is HalfState.ERRORED:
            return  # settled when the half ended
        if machine.consume(items, size):
            self._out.grant(stream_id)
        if freed := stream.take(size - ITEM_OVERHEAD_BYTES * items):
            self._port.consumed(stream_id, freed)
        if machine.receive_state is HalfState.CLOSED:
            self._in.remove_if_over(stream)

    def release(self, stream_id: int) -> None:
        """The application is done with a stream: whatever is left of it is reset, stopped and counted as taken."""
        machine = self.get(stream_id)
        if machine is None or machine.is_released:
            return
        machine.is_released = True
        if machine.send_state is HalfState.OPEN or self._in.failure is not None:
            self.reset(stream_id)
        self.stop(stream_id)

    def ping(self, now: float) -> int:
        """Ask for a sign of life; the number that `Ponged` will carry."""
        number = self._liveness.start_ping(now)
        self._control.put(0, records.Ping(number))
        self._out.has_news = True
        return number

    def go_away(self, code: Code = Code.OK, reason: str = "") -> None:
        """Tell the peer to open no more streams; those that are open go on. Code and reason stay here."""
        if not self._in.is_going_away:
            self._in.is_going_away = True
            self._port.drain()
