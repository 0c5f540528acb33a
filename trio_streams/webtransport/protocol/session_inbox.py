"""What arrives in a session of procedures: the frames of each stream, the ends of their halves, and the events.

A peer's fault on a stream ends that stream and no other: nothing that the streams share depends on what one of them says. A
fault on a control stream ends the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from trio_streams.codes import Code
from trio_streams.config import MAX_FRAME_PAYLOAD_BYTES, ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import ProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, SendCredit, cost
from trio_streams.core.item_limits import item_too_large
from trio_streams.core.liveness import Liveness
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.core.wire import Frame
from trio_streams.webtransport.protocol.control_streams import ControlStreams
from trio_streams.webtransport.protocol.procedure_stream import ProcedureStream
from trio_streams.webtransport.protocol.session_outbox import SessionOutbox
from trio_streams.webtransport.protocol.stream_port import StreamPort

__all__ = ["SessionInbox"]

_EarlyRun = tuple[Sequence[bytes], bool]


class SessionInbox:
    """The receiving side.

    Args:
      port: the session.
      streams: the live streams, by id.
      out: takes what the protocol owes.
      control: the control streams.
      liveness: notes that the peer lives.
      config: the limits.
      session_id: our own, which no peer may greet with.
    """

    __slots__ = (
        "_config", "_control", "_early", "_events", "_liveness", "_out", "_port", "_session_id", "_streams",
        "bytes_received", "failure", "hello", "is_going_away", "max_item_bytes_out", "peer_went_away", "wants_to_open",
    )  # fmt: skip

    def __init__(
        self,
        port: StreamPort,
        streams: dict[int, ProcedureStream],
        out: SessionOutbox,
        control: ControlStreams,
        liveness: Liveness,
        config: ConnectionConfig,
        session_id: str,
    ) -> None:
        self._port = port
        self._streams = streams
        self._out = out
        self._control = control
        self._liveness = liveness
        self._config = config
        self._session_id = session_id
        self._early: dict[int, list[_EarlyRun]] = {}
        self._events: list[events.Event] = []
        self.hello: records.Hello | None = None
        self.failure: ProtocolError | None = None
        self.is_going_away: bool = False
        self.peer_went_away: bool = False
        self.wants_to_open: bool = False
        self.max_item_bytes_out: int = config.max_item_bytes
        self.bytes_received: int = 0

    # -- what the mux asks ------------------------------------------------------------------------------------

    def take_events(self) -> Iterator[events.Event]:
        """Take the events, in order; those that handling them causes come too."""
        while self._events:
            batch, self._events = self._events, []
            yield from batch

    def settle(self, stream: ProcedureStream) -> None:
        """Nobody will take what a stream still holds."""
        assert stream.machine is not None
        stream.machine.settle()
        if freed := stream.settle():
            self._port.consumed(stream.id, freed)

    def remove_if_over(self, stream: ProcedureStream) -> None:
        """Forget a stream that is over and that nobody holds; the peer may open another one for it."""
        machine = stream.machine
        if machine is not None and stream.is_over and (machine.is_released or stream.is_ours):
            self._remove(stream)

    def _remove(self, stream: ProcedureStream) -> None:
        self._early.pop(stream.id, None)
        del self._streams[stream.id]
        self._port.release(stream.id)

    def wake(self, stream_id: int) -> None:
        """A stream that refused items takes some again, unless its own credit is used up."""
        stream = self._streams.get(stream_id)
        machine = None if stream is None else stream.machine
        if machine is not None and machine.is_blocked and machine.send_credit.is_open and self.failure is None:
            machine.is_blocked = False
            self._events.append(events.Writable(stream_id))

    def fail(self, error: ProtocolError) -> None:
        """End the session: report it as the last event. Whoever drives it closes it, and so tells the peer."""
        if self.failure is None:
            self.failure = error
            self._events.append(events.Failed(error))

    # -- what the session tells -------------------------------------------------------------------------------

    def opened(self, stream_id: int, *, is_unidirectional: bool) -> None:
        """The peer opened a stream. A further unidirectional one is refused: there may be a use for it some day."""
        if not is_unidirectional:
            self._streams[stream_id] = ProcedureStream(stream_id)
        elif self._control.peer_id is None:
            self._control.peer_id = stream_id
        else:
            self._port.stop(stream_id, Code.UNIMPLEMENTED)
            self._port.release(stream_id)

    def receive(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool, now: float) -> None:
        """Bytes arrived on a stream. Never raises for the peer's fault."""
        if self.failure is not None:
            return
        self.bytes_received += sum(map(len, run))
        self._liveness.heard(now)
        if stream_id == self._control.peer_id:
            self._receive_control(run, is_ended=is_ended, now=now)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if self.hello is None:
            # QUIC's streams overtake each other, and it takes the hello to know what the peer takes.
            self._early.setdefault(stream_id, []).append((run, is_ended))
            return
        self._receive_run(stream, run, is_ended=is_ended)

    def was_reset(self, stream_id: int, code: int | None) -> None:
        """The peer abandoned its half of a stream; what of it was not taken is dropped."""
        if stream_id == self._control.peer_id:
            self._lose_control()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.peer_is_over = True
        self._early.pop(stream_id, None)
        machine = stream.machine
        if machine is None:
            self._refuse(stream, Code.CANCELLED)
        elif machine.receive_reset():
            self.settle(stream)
            self._tell_reset(events.Reset(stream_id, _code(code), ""))
        self.remove_if_over(stream)

    def _tell_reset(self, reset: events.Reset) -> None:
        """Before a stop of the same stream: who gives a stream up says both at once, and the reset is why."""
        queue = self._events
        last = queue[-1] if queue else None
        is_behind = isinstance(last, events.Stopped) and last.stream_id == reset.stream_id
        queue.insert(len(queue) - is_behind, reset)

    def was_stopped(self, stream_id: int, code: int | None) -> None:
        """The peer refuses more of our half, which is reset by that."""
        if stream_id == self._control.id:
            self._lose_control()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        machine = stream.machine
        if machine is None:
            self._refuse(stream, Code.CANCELLED)
            return
        self._out.forget(stream, machine.queued_bytes)
        if machine.stopped():
            self._events.append(events.Stopped(stream_id, _code(code), ""))
        self.remove_if_over(stream)

    def allowed(self) -> None:
        """A stream can be opened again."""
        if self.wants_to_open:
            self.wants_to_open = False
            self._events.append(events.StreamsAllowed())

    def drained(self) -> None:
        """The peer asks to come to an end: it takes no new streams."""
        if not self.peer_went_away:
            self.peer_went_away = True
            self._events.append(events.WentAway(Code.OK, ""))

    # -- control ----------------------------------------------------------------------------------------------

    def _receive_control(self, run: Sequence[bytes], *, is_ended: bool, now: float) -> None:
        assert self._control.peer_id is not None
        self._port.consumed(self._control.peer_id, sum(map(len, run)))
        try:
            for chunk in run:
                for stream_id, frame in self._control.decode(chunk):
                    self._on_control(stream_id, frame, now)
        except ProtocolError as exc:
            self.fail(exc)
            return
        if self._control.queued_bytes > self._config.max_control_bytes:
            self.fail(_unread_control(self._control.queued_bytes, self._config.max_control_bytes))
        elif is_ended:
            self._lose_control()

    def _on_control(self, stream_id: int, frame: Frame, now: float) -> None:
        if isinstance(frame, ProtocolError):
            raise frame
        if self.hello is None and not isinstance(frame, records.Hello):
            raise RemoteProtocolError("the peer's first frame is not HELLO", field="HELLO")
        if isinstance(frame, records.Hello):
            self._on_hello(frame)
        elif isinstance(frame, records.Ping):
            self._control.put(0, records.Pong(frame.number))
        elif isinstance(frame, records.Pong):
            round_trip = self._liveness.finish_ping(frame.number, now)
            if round_trip is not None:
                self._events.append(events.Ponged(frame.number, round_trip))
        elif isinstance(frame, records.Credit):
            self._on_credit(stream_id, frame)
        else:
            raise RemoteProtocolError(f"the peer sent {_name(frame)} on its control stream", field="type")

    def _on_hello(self, hello: records.Hello) -> None:
        if self.hello is not None:
            raise RemoteProtocolError("the peer sent a second HELLO", field="HELLO")
        if hello.session_id == self._session_id:
            raise RemoteProtocolError(
                "our own HELLO came back: the other end only returns what it gets", field="session_id"
            )
        self.hello = hello
        self.max_item_bytes_out = min(hello.max_item_bytes, self._config.max_item_bytes)
        self._liveness.greeted()
        self._events.append(events.Greeted(hello))
        early, self._early = self._early, {}
        for stream_id, runs in early.items():
            for run, is_ended in runs:
                if (stream := self._streams.get(stream_id)) is not None:
                    self._receive_run(stream, run, is_ended=is_ended)

    def _on_credit(self, stream_id: int, record: records.Credit) -> None:
        stream = self._streams.get(stream_id)
        # A stream that is over here may be granted more where it is not.
        if stream is None or stream.machine is None:
            return
        if stream.machine.send_credit.raise_limits(record.items, record.bytes):
            self.wake(stream_id)

    def _lose_control(self) -> None:
        self.fail(RemoteProtocolError("the peer closed a control stream", field="control"))

    # -- streams ----------------------------------------------------------------------------------------------

    def _receive_run(self, stream: ProcedureStream, run: Sequence[bytes], *, is_ended: bool) -> None:
        try:
            for chunk in run:
                self._receive_chunk(stream, chunk)
            if is_ended:
                stream.peer_is_over = True
                self._check_ended(stream)
        except ProtocolError as exc:
            if stream.id in self._streams:
                self._fault(stream, exc)
        self.remove_if_over(stream)

    def _check_ended(self, stream: ProcedureStream) -> None:
        machine = stream.machine
        is_open = machine is None or machine.receive_state is HalfState.OPEN
        if is_open and stream.id in self._streams:
            raise RemoteProtocolError("the peer ended a stream without END", field="END")

    def _receive_chunk(self, stream: ProcedureStream, chunk: bytes) -> None:
        whole = 0
        try:
            for frame in stream.decode(chunk):
                whole += self._on_frame(stream, frame)
        finally:
            if freed := stream.hold(len(chunk), whole):
                self._port.consumed(stream.id, freed)

    def _on_frame(self, stream: ProcedureStream, frame: Frame) -> int:
        """Take a frame; how many bytes the items have that it completes."""
        machine = stream.machine
        if machine is None:
            self._on_open(stream, frame)
            return 0
        if type(frame) is list:
            return self._on_items(stream.id, machine, frame)
        if type(frame) is Piece:
            return self._on_piece(stream.id, machine, frame)
        handler = self._HANDLERS.get(type(frame))
        if handler is None:
            raise RemoteProtocolError(f"the peer sent {_name(frame)} on a stream that is open", field="type")
        handler(self, stream.id, machine, frame)
        return 0

    def _on_items(self, stream_id: int, machine: StreamMachine, items: list[bytes]) -> int:
        if self._config.max_item_bytes < MAX_FRAME_PAYLOAD_BYTES:
            self._check_total(max(map(len, items)))
        return self._deliver(stream_id, items) if machine.receive_run(items, cost(items)) else 0

    def _on_piece(self, stream_id: int, machine: StreamMachine, piece: Piece) -> int:
        if piece.total is None:
            item = machine.receive_piece(piece)
            return 0 if item is None else self._deliver(stream_id, [item])
        self._check_total(piece.total)
        if machine.receive_first(piece, piece.total) and piece.is_whole:
            return self._deliver(stream_id, [bytes(piece.data)])
        return 0

    def _check_total(self, size: int) -> None:
        if size > self._config.max_item_bytes:
            raise item_too_large(size, self._config.max_item_bytes)

    def _deliver(self, stream_id: int, items: list[bytes]) -> int:
        size = sum(map(len, items))
        last = self._events[-1] if self._events else None
        if type(last) is events.Received and last.stream_id == stream_id:
            last.items += items
        else:
            self._events.append(events.Received(stream_id, items))
        return size

    def _on_open(self, stream: ProcedureStream, frame: Frame) -> None:
        if stream.id not in self._streams:
            return  # it was refused, and this came with its OPEN
        if not isinstance(frame, records.Open):
            raise RemoteProtocolError(f"the peer's first frame on a stream is {_name(frame)}, not OPEN", field="OPEN")
        if self.is_going_away:
            self._refuse(stream, Code.UNAVAILABLE)  # it crossed our DRAIN
            return
        limits = self._config.stream
        stream.machine = StreamMachine(
            SendCredit(frame.window_items, frame.window_bytes),
            ReceiveCredit(limits.window_items, limits.window_bytes),
            priority=frame.priority,
            max_frame_bytes=MAX_FRAME_PAYLOAD_BYTES,
        )
        if frame.priority:
            self._port.set_priority(stream.id, frame.priority)
        self._events.append(events.Opened(stream.id, frame))

    def _on_header(self, stream_id: int, machine: StreamMachine, record: records.Header) -> None:
        if machine.receive_header():
            self._events.append(events.Headed(stream_id, record.metadata))

    def _on_end(self, stream_id: int, machine: StreamMachine, record: records.End) -> None:
        if machine.receive_end():
            self._events.append(events.Ended(stream_id, record.status, record.trailers))

    def _fault(self, stream: ProcedureStream, error: ProtocolError) -> None:
        """The peer broke a rule on a stream: it is over for both sides, as if each had abandoned and refused it."""
        machine = stream.machine
        if machine is None:
            self._refuse(stream, error.code)
            return
        self._out.forget(stream, machine.queued_bytes)
        self._port.reset(stream.id, error.code)
        self._port.stop(stream.id, error.code)
        stream.peer_is_over = True
        if machine.receive_reset():
            self._events.append(events.Reset(stream.id, error.code, str(error)))
        self.settle(stream)
        if machine.stopped():
            self._events.append(events.Stopped(stream.id, error.code, str(error)))

    def _refuse(self, stream: ProcedureStream, code: Code) -> None:
        """Nothing comes of a stream, and nobody has heard of it."""
        self._port.reset(stream.id, code)
        self._port.stop(stream.id, code)
        self._remove(stream)

    _HANDLERS: ClassVar[Mapping[type, Callable[[SessionInbox, int, StreamMachine, Any], None]]] = {
        records.Header: _on_header,
        records.End: _on_end,
    }
    """What each rare frame does; one table for all sessions."""


def _name(frame: Frame) -> str:
    return "DATA" if isinstance(frame, list | Piece) else type(frame).__name__.upper()


def _code(number: int | None) -> Code:
    """Why a half was given up; a peer need not say."""
    return Code.UNKNOWN if number is None else Code.from_number(number)


def _unread_control(size: int, limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the peer leaves {size} bytes unread of what it is owed, max_control_bytes is {limit}",
        code=Code.RESOURCE_EXHAUSTED,
        field="max_control_bytes",
        size=size,
        limit=limit,
    )
