"""What arrives on a connection: one method for each kind of frame, the limits the peer must keep, and the events.

Validation comes first and mutation second: an error leaves the streams as they were before the frame, and the
connection failed for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES, ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import ProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, SendCredit, cost
from trio_streams.core.item_limits import item_too_large
from trio_streams.core.liveness import Liveness
from trio_streams.core.outbox import Outbox
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.core.wire import Frame, Wire

__all__ = ["Inbox"]

_UNCOUNTED: Final = (records.Hello, records.Ping, records.Pong, records.Ack)
"""Frames that belong to a carrier, not to the session: a resumed one does not repeat them."""


class Inbox:
    """The receiving side of one connection.

    Args:
      wire: decodes.
      streams: the connection's live streams, by id.
      out: takes the answers that the protocol owes.
      liveness: notes that the peer lives.
      config: the limits.
      is_client: which side this is.
      session_id: our own, which no peer may greet with.
    """

    __slots__ = (
        "_accepted",
        "_checks_runs",
        "_config",
        "_events",
        "_is_going_away",
        "_last_own_id",
        "_last_peer_id",
        "_liveness",
        "_out",
        "_peer_parity",
        "_released",
        "_session_id",
        "_stream_limit",
        "_streams",
        "_wire",
        "credit",
        "failure",
        "frames",
        "hello",
        "max_item_bytes_out",
        "open_limit",
        "owes_grant",
        "peer_went_away",
        "wants_to_open",
    )

    def __init__(
        self,
        wire: Wire,
        streams: dict[int, StreamMachine],
        out: Outbox,
        liveness: Liveness,
        config: ConnectionConfig,
        *,
        is_client: bool,
        session_id: str,
    ) -> None:
        self._wire = wire
        self._streams = streams
        self._out = out
        self._liveness = liveness
        self._config = config
        self._peer_parity = 0 if is_client else 1
        self._session_id = session_id
        self._last_peer_id = 0
        self._last_own_id = 0
        self._accepted = 0
        self._released = 0
        self._stream_limit = config.max_streams
        self._is_going_away = False
        # Larger items than a frame are judged by what they announce; runs only where the limit is that small.
        self._checks_runs = config.max_item_bytes < wire.max_frame_bytes
        self._events: list[events.Event] = []
        self.credit: ReceiveCredit = ReceiveCredit(0, config.connection_window_bytes, eager=True, name="connection")
        self.frames: int = 0
        self.hello: records.Hello | None = None
        self.failure: ProtocolError | None = None
        self.peer_went_away: bool = False
        self.open_limit: int = 0
        self.max_item_bytes_out: int = 0
        self.wants_to_open: bool = False
        self.owes_grant: bool = False

    # -- what the mux asks ------------------------------------------------------------------------------------

    def take_events(self) -> Iterator[events.Event]:
        """Take the events, in order; those that handling them causes come too."""
        while self._events:
            batch, self._events = self._events, []
            yield from batch

    def grant(self) -> records.ConnectionCredit:
        """The connection's new limits."""
        self.owes_grant = False
        self._stream_limit = self._released + self._config.max_streams
        return records.ConnectionCredit(self.credit.grant()[1], self._stream_limit)

    def consume(self, size: int) -> None:
        """Bytes of the connection's credit were taken."""
        if self.credit.consume(0, size) and self.failure is None:
            self.owes_grant = True

    def settle(self, machine: StreamMachine) -> None:
        """Nobody will take what a stream still holds: give it back to the connection."""
        self.consume(machine.settle())

    def remove_if_over(self, stream_id: int, machine: StreamMachine) -> None:
        """Forget a stream whose halves are finished and that nobody holds; the peer may open another one for it.

        A stream counts until then, not only until its handler is done: a peer that takes no data could otherwise open
        any number of streams whose ends wait here.
        """
        is_accepted = stream_id & 1 == self._peer_parity
        if machine.is_finished and (machine.is_released or not is_accepted):
            del self._streams[stream_id]
            if is_accepted:
                self._released += 1
                self._look_for_grants()

    def _look_for_grants(self) -> None:
        """A grant is due for bytes as their credit says, for streams by the same rule: at a quarter, or when few are left.

        Every finished stream could be granted at once, but then each call would be answered by a grant, too.
        """
        most = self._config.max_streams
        finished = self._released + most - self._stream_limit
        is_due = finished * 4 >= most or (finished > 0 and (self._stream_limit - self._accepted) * 4 < most)
        if (is_due or self.credit.is_due) and self.failure is None:
            self.owes_grant = True

    def wake(self, stream_id: int) -> None:
        """A stream that refused items takes some again, unless its own credit is used up."""
        machine = self._streams.get(stream_id)
        if machine is not None and machine.is_blocked and machine.send_credit.is_open and self.failure is None:
            machine.is_blocked = False
            self._events.append(events.Writable(stream_id))

    def go_away(self, code: Code, reason: str) -> None:
        """Tell the peer to open no more streams; the first reason counts."""
        if not self._is_going_away:
            self._is_going_away = True
            self._out.put_record(0, records.GoAway(code, reason, self._last_peer_id))

    def fail(self, error: ProtocolError) -> None:
        """End the connection: tell the peer, and report it as the last event."""
        if self.failure is None:
            self._is_going_away = False
            self.go_away(error.code, str(error))
            self.failure = error
            self.owes_grant = False
            self._out.close()
            self._events.append(events.Failed(error))

    # -- frames -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier."""
        if self.failure is not None:
            return
        self._liveness.heard(now)
        try:
            for stream_id, frame in self._wire.decode(data):
                if self.hello is None and type(frame) is not records.Hello and not isinstance(frame, ProtocolError):
                    raise RemoteProtocolError("the peer's first frame is not HELLO", field="HELLO")
                if type(frame) is list:
                    self.frames += 1
                    self._on_run(stream_id, frame)
                elif type(frame) is Piece:
                    self.frames += frame.frames
                    self._on_piece(stream_id, frame)
                else:
                    self._on_record(stream_id, frame, now)
        except ProtocolError as exc:
            self.fail(exc)
            return
        # What arrived may have used up what was left, while all that was taken before was too little to grant.
        self._look_for_grants()

    def _on_record(self, stream_id: int, frame: Frame, now: float) -> None:
        if isinstance(frame, ProtocolError):
            raise frame
        if not isinstance(frame, _UNCOUNTED):
            self.frames += 1
        if isinstance(frame, records.Ping):
            self._out.put_record(0, records.Pong(frame.number))
        elif isinstance(frame, records.Pong):
            round_trip = self._liveness.finish_ping(frame.number, now)
            if round_trip is not None:
                self._events.append(events.Ponged(frame.number, round_trip))
        else:
            self._HANDLERS[type(frame)](self, stream_id, frame)

    def _find(self, stream_id: int, what: str) -> StreamMachine | None:
        """The stream of a frame; None for one that is gone. A stream that never was is the peer's fault."""
        machine = self._streams.get(stream_id)
        if machine is None and not self._has_been(stream_id):
            raise RemoteProtocolError(
                f"the peer sent {what} on stream {stream_id}, which was never opened", field="stream_id", size=stream_id
            )
        return machine

    def _has_been(self, stream_id: int) -> bool:
        if stream_id & 1 == self._peer_parity:
            return 0 < stream_id <= self._last_peer_id
        return 0 < stream_id <= self._last_own_id

    def note_opened(self, stream_id: int) -> None:
        """We opened a stream: frames for it are legal from now on."""
        self._last_own_id = stream_id

    def _on_run(self, stream_id: int, items: list[bytes]) -> None:
        machine = self._find(stream_id, "DATA")
        if self._checks_runs and (longest := max(map(len, items))) > self._config.max_item_bytes:
            raise item_too_large(longest, self._config.max_item_bytes)
        size = cost(items)
        last = len(items[-1]) + ITEM_OVERHEAD_BYTES
        self.credit.receive_bytes(size, last)
        if machine is None or not machine.receive_run(items, size):
            self.consume(size)
            return
        self._deliver(stream_id, items)

    def _deliver(self, stream_id: int, items: list[bytes]) -> None:
        queue = self._events
        if queue:
            last = queue[-1]
            if type(last) is events.Received and last.stream_id == stream_id:
                last.items += items
                return
        queue.append(events.Received(stream_id, items))

    def _on_piece(self, stream_id: int, piece: Piece) -> None:
        machine = self._find(stream_id, "DATA")
        if piece.total is None:
            item = machine.receive_piece(piece) if machine is not None else None
            if item is not None:
                self._deliver(stream_id, [item])
            return
        if piece.total > self._config.max_item_bytes:
            raise item_too_large(piece.total, self._config.max_item_bytes)
        charge = piece.total + ITEM_OVERHEAD_BYTES
        self.credit.receive_bytes(charge, charge)
        if machine is None or not machine.receive_first(piece, piece.total):
            self.consume(charge)
        elif piece.is_whole:
            self._deliver(stream_id, [bytes(piece.data)])  # no copy: what a wire decodes is bytes

    def _on_hello(self, stream_id: int, hello: records.Hello) -> None:
        if self.hello is not None:
            raise RemoteProtocolError("the peer sent a second HELLO", field="HELLO")
        if hello.session_id == self._session_id:
            raise RemoteProtocolError(
                "our own HELLO came back: the other end only returns what it gets", field="session_id"
            )
        self.hello = hello
        self.open_limit = hello.max_streams
        self.max_item_bytes_out = min(hello.max_item_bytes, self._config.max_item_bytes)
        self._out.raise_credit(hello.connection_bytes)
        self._liveness.greeted()
        self._events.append(events.Greeted(hello))
        self._allow_streams()

    def _on_open(self, stream_id: int, record: records.Open) -> None:
        if stream_id & 1 != self._peer_parity or stream_id <= self._last_peer_id:
            raise RemoteProtocolError(
                f"the peer opened stream {stream_id}: not a new one of its own", field="stream_id", size=stream_id
            )
        if self._accepted >= self._stream_limit:
            raise RemoteProtocolError(
                f"the peer opened stream number {self._accepted + 1}, max_streams allows {self._stream_limit}",
                code=Code.STREAM_LIMIT_ERROR,
                field="max_streams",
                size=self._accepted + 1,
                limit=self._stream_limit,
            )
        self._last_peer_id = stream_id
        self._accepted += 1
        if self._is_going_away:
            # The OPEN crossed our GOAWAY.
            self._released += 1
            self._out.put_record(stream_id, records.Reset(Code.UNAVAILABLE, "going away"))
            self._out.put_record(stream_id, records.Stop(Code.UNAVAILABLE, "going away"))
            return
        stream = self._config.stream
        self._streams[stream_id] = StreamMachine(
            SendCredit(record.window_items, record.window_bytes),
            ReceiveCredit(stream.window_items, stream.window_bytes),
            priority=record.priority,
            max_frame_bytes=self._wire.max_frame_bytes,
        )
        self._events.append(events.Opened(stream_id, record))

    def _on_header(self, stream_id: int, record: records.Header) -> None:
        machine = self._find(stream_id, "HEADER")
        if machine is not None and machine.receive_header():
            self._events.append(events.Headed(stream_id, record.metadata))

    def _on_end(self, stream_id: int, record: records.End) -> None:
        machine = self._find(stream_id, "END")
        if machine is not None and machine.receive_end():
            self._events.append(events.Ended(stream_id, record.status, record.trailers))
            self.remove_if_over(stream_id, machine)

    def _on_reset(self, stream_id: int, record: records.Reset) -> None:
        machine = self._find(stream_id, "RESET")
        if machine is not None and machine.receive_reset():
            self.settle(machine)
            self._events.append(events.Reset(stream_id, record.code, record.reason))
            self.remove_if_over(stream_id, machine)

    def _on_stop(self, stream_id: int, record: records.Stop) -> None:
        machine = self._find(stream_id, "STOP")
        if machine is None:
            return
        queued = machine.queued_bytes
        if machine.stopped():
            self._out.forget(stream_id, queued)
            # RFC 9000 §3.5: who is asked to stop answers with a RESET, so that the other side knows the end.
            self._out.put_record(stream_id, records.Reset(record.code, record.reason))
            self._events.append(events.Stopped(stream_id, record.code, record.reason))
            self.remove_if_over(stream_id, machine)

    def _on_credit(self, stream_id: int, record: records.Credit) -> None:
        machine = self._find(stream_id, "CREDIT")
        if machine is not None and machine.send_credit.raise_limits(record.items, record.bytes):
            self.wake(stream_id)

    def _on_connection_credit(self, stream_id: int, record: records.ConnectionCredit) -> None:
        self._out.raise_credit(record.bytes)
        if record.streams > self.open_limit:
            self.open_limit = record.streams
            self._allow_streams()

    def _allow_streams(self) -> None:
        if self.wants_to_open and self.open_limit:
            self.wants_to_open = False
            self._events.append(events.StreamsAllowed())

    def _on_ack(self, stream_id: int, record: records.Ack) -> None:
        """A connection that ends with its carrier retains nothing; see `core.session` for one that does."""

    def _on_go_away(self, stream_id: int, record: records.GoAway) -> None:
        is_news, self.peer_went_away = not self.peer_went_away, True
        if record.code is Code.OK:
            if is_news:
                self._events.append(events.WentAway(record.code, record.reason))
            return
        raise RemoteProtocolError(
            f"the peer gave the connection up: {record.code.name}: {record.reason}", code=record.code
        )

    _HANDLERS: ClassVar[Mapping[type, Callable[[Inbox, int, Any], None]]] = {
        records.Hello: _on_hello,
        records.Open: _on_open,
        records.Header: _on_header,
        records.End: _on_end,
        records.Reset: _on_reset,
        records.Stop: _on_stop,
        records.Credit: _on_credit,
        records.ConnectionCredit: _on_connection_credit,
        records.Ack: _on_ack,
        records.GoAway: _on_go_away,
    }
    """What each kind of frame does; one table for all connections."""
