"""Many streams on one carrier: ids, the connection's credit, limits, hello, ping and goaway.

In: `receive(chunk, now)`, `handle_deadline(now)` and commands. Out: `events()`, `to_send(now, max_bytes)`,
`next_deadline()`. There is no clock, no task and no carrier here, so that two of them can be run against each other
in virtual time. QUIC and HTTP/2 bring their own multiplexing and replace this class; `StreamMachine` rides on theirs.

The rules:
- Client streams are odd, server streams even, and ids only grow; 0 is the connection. A frame for a stream that is
  gone is dropped, but its data is counted and credited back: both sides must agree on the connection's bytes.
- A stream is gone when both halves are finished and, on the side that accepted it, its handler has released it.
- `receive` never raises for a peer's fault: it queues `Failed` behind the events before it, and a GOAWAY.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.dialect import DialectFeatures
from trio_streams.core.errors import LocalProtocolError, ProtocolError, StreamsError
from trio_streams.core.flow import SendCredit
from trio_streams.core.inbox import Inbox
from trio_streams.core.item_limits import refuse_larger
from trio_streams.core.liveness import Liveness
from trio_streams.core.opening import make_open
from trio_streams.core.outbox import Outbox
from trio_streams.core.states import HalfState, StreamState, project
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.core.wire import Wire

__all__ = ["Mux", "make_hello"]


class Mux(DialectFeatures):
    """The machine of one connection.

    Args:
      wire: the dialect's encoder and decoder; a fresh one.
      is_client: which side this is.
      config: limits and timeouts.
      session_id: names the session to the peer.
      now: seconds, on the clock that every later call uses.
    """

    __slots__ = (
        "_config",
        "_granted_streams",
        "_in",
        "_liveness",
        "_next_id",
        "_opened",
        "_out",
        "_streams",
        "_wire",
    )

    def __init__(self, wire: Wire, *, is_client: bool, config: ConnectionConfig, session_id: str, now: float) -> None:
        self._wire = wire
        self._config = config
        self._streams: dict[int, StreamMachine] = {}
        self._out = Outbox(wire, self._streams, config.max_send_buffer_bytes)
        self._liveness = Liveness(config.handshake_timeout, config.idle_timeout, now)
        self._in = Inbox(
            wire, self._streams, self._out, self._liveness, config, is_client=is_client, session_id=session_id
        )
        self._next_id = 1 if is_client else 2
        self._opened = 0
        self._granted_streams: dict[int, None] = {}
        self._out.put(wire.preface)
        self._out.put_record(0, make_hello(config, session_id))

    # -- what the driver asks ---------------------------------------------------------------------------------

    @property
    def peer_hello(self) -> records.Hello | None:
        """The peer's hello, once it is here."""
        return self._in.hello

    @property
    def failure(self) -> ProtocolError | None:
        """Why the connection is over, if it is."""
        return self._in.failure

    @property
    def wants_input(self) -> bool:
        """Whether to go on reading; not while the peer leaves too much of what we owe it unread."""
        return self._out.control_bytes <= self._config.max_control_bytes

    @property
    def has_output(self) -> bool:
        """Whether `to_send` has something to give."""
        return self._out.has_output or bool(self._granted_streams) or self._in.owes_grant

    @property
    def is_flushed(self) -> bool:
        """Whether everything was given to the carrier."""
        return not self.has_output and not self._out.queued_bytes

    def outlives(self, fault: StreamsError) -> bool:
        """Tell the machine that its carrier is of no further use; whether another one may take its place."""
        return False

    @property
    def frames_received(self) -> int:
        """How many counted frames of the peer are here; what a resumed session's hello would say."""
        return self._in.frames

    @property
    def can_open(self) -> bool:
        """Whether a stream can be opened now."""
        return self._opened < self._in.open_limit and not self._in.peer_went_away and self._in.failure is None

    @property
    def queued_bytes(self) -> int:
        """What is queued for the carrier in all streams, at its cost."""
        return self._out.queued_bytes

    @property
    def unread_bytes(self) -> int:
        """What arrived in all streams and was not taken, at its cost."""
        return self._in.credit.unconsumed_bytes

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
        return self._streams.get(stream_id)

    def state(self, stream_id: int) -> StreamState:
        """The whole stream's state."""
        machine = self._streams.get(stream_id)
        return project(machine.send_state, machine.receive_state) if machine else StreamState.CLOSED

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier. Never raises for the peer's fault: `Failed` is the last event then."""
        self._in.receive(data, now)

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
            self._out.put_record(0, records.Ping(number))

    def to_send(self, now: float, max_bytes: int) -> bytes:
        """Whole frames to write now; see `chunks_to_send`."""
        return b"".join(self.chunks_to_send(now, max_bytes))

    def chunks_to_send(self, now: float, max_bytes: int) -> list[bytes | memoryview]:
        """Whole frames to write now: control first, then data by priority.

        Args:
          now: seconds.
          max_bytes: when to stop adding data frames; control and the last turn may exceed it.

        Returns:
          Their bytes in chunks, none of them empty. What a large item's are is not copied: the chunks look into it.
        """
        chunks, served = self._out.take(self._encode_grants(), max_bytes)
        for stream_id in served:
            self._remove_if_finished(stream_id)
        for stream_id in self._out.writable():
            self._in.wake(stream_id)
        return chunks

    def _encode_grants(self) -> list[bytes]:
        grants: list[bytes] = []
        if self._in.owes_grant:
            grants.append(self._wire.encode(0, self._in.grant()))
        if self._granted_streams:
            for stream_id in self._granted_streams:
                machine = self._streams.get(stream_id)
                if machine is not None and machine.receive_state is HalfState.OPEN:
                    items, bytes_ = machine.receive_credit.grant()
                    grants.append(self._wire.encode(stream_id, records.Credit(items, bytes_)))
            self._granted_streams.clear()
        return grants

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
        """Open a stream.

        Args:
          name: what is asked for.
          metadata: string pairs for the handler.
          priority: higher goes first, -128 to 127.
          timeout_ms: what is left of the deadline; below 0 is 0.
          window_items, window_bytes: the credit for the answer; the configuration's where None, and at least 1.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the peer allows no more streams now (ask `can_open`), or the OPEN does not fit.
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
        if not self.can_open or hello is None:
            raise self._refused()
        stream_id = self._next_id
        self._out.put(self._wire.encode(stream_id, record))
        self._in.note_opened(stream_id)
        self._next_id += 2
        self._opened += 1
        granted = SendCredit(hello.window_items, hello.window_bytes)
        self._streams[stream_id] = StreamMachine(
            granted, credit, priority=priority, max_frame_bytes=self._wire.max_frame_bytes
        )
        return stream_id

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer said that it takes no new streams."""
        return self._in.peer_went_away

    def note_wish_to_open(self) -> None:
        """Ask for a `StreamsAllowed` event when the peer allows more streams."""
        self._in.wants_to_open = True

    def _refused(self) -> LocalProtocolError:
        if self._in.failure is not None or self._in.peer_went_away or self._in.hello is None:
            return LocalProtocolError("can't open a stream: the peer takes none now", code=Code.UNAVAILABLE)
        self.note_wish_to_open()
        limit = self._in.open_limit
        return LocalProtocolError(
            f"can't open stream number {self._opened + 1}: the peer allows {limit}",
            code=Code.STREAM_LIMIT_ERROR,
            field="max_streams",
            size=self._opened + 1,
            limit=limit,
        )

    def _require(self, stream_id: int, action: str) -> StreamMachine:
        machine = self._streams.get(stream_id)
        if machine is None:
            raise LocalProtocolError(f"can't {action} on stream {stream_id}: it is over")
        return machine

    def send(self, stream_id: int, payloads: Sequence[bytes]) -> int:
        """Queue items, from the first on, while credit and the send buffer allow.

        Args:
          stream_id: the stream.
          payloads: the items.

        Returns:
          How many were taken. After fewer than all, `Writable` tells when to go on.

        Raises:
          LocalProtocolError: the half is not open, or an item is larger than the peer takes; nothing was queued.
        """
        machine = self._require(stream_id, "send")
        limit = self._in.max_item_bytes_out
        out = self._out
        if len(payloads) == 1 and len(payloads[0]) <= limit:
            # The way of every single `send`, at half the cost (tests/benchmarks/bench_wire.py).
            charge = machine.send_one(payloads[0], out.room)
            if charge:
                out.queued_bytes += charge
                if machine.queued_items == 1:
                    out.schedule(stream_id, machine)
                return 1
        refuse_larger(payloads, limit)
        before = machine.queued_bytes
        taken = machine.send(payloads, out.room)
        out.queued_bytes += machine.queued_bytes - before
        if machine.is_blocked and machine.send_credit.is_open:
            out.wait_for_room(stream_id)
        if taken:
            out.schedule(stream_id, machine)
        return taken

    def is_writable(self, stream_id: int) -> bool:
        """Whether an item would be taken now. If not, `Writable` tells when; a half that is over never refuses."""
        machine = self._streams.get(stream_id)
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
        """Queue the head of our half, before its first item.

        Raises:
          LocalProtocolError: it is too late for that, or the head does not fit into a frame.
        """
        machine = self._require(stream_id, "send a header")
        metadata = dict(metadata)  # it waits, and the caller may go on to change its own
        self._wire.encode(stream_id, records.Header(metadata))
        machine.head(metadata)
        self._out.schedule(stream_id, machine)

    def end(
        self,
        stream_id: int,
        status: records.Status = records.OK,
        trailers: Mapping[str, str] = records.NO_METADATA,
    ) -> None:
        """End our half, behind its items.

        Raises:
          LocalProtocolError: the half is not open, or status and trailers do not fit into a frame.
        """
        machine = self._require(stream_id, "end")
        if status is not records.OK or trailers:
            trailers = dict(trailers)
            self._wire.encode(stream_id, records.End(status, trailers))
        machine.end(status, trailers)
        self._out.schedule(stream_id, machine)

    def reset(self, stream_id: int, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon our half and what is queued of it; too late is no fault."""
        machine = self._streams.get(stream_id)
        if machine is None:
            return
        queued = machine.queued_bytes
        record = machine.reset(code, reason)
        if record is not None:
            self._out.forget(stream_id, queued)
            self._out.put_record(stream_id, record)
        self._remove_if_finished(stream_id)

    def stop(self, stream_id: int, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more of the peer's half; what it still sends is discarded. Too late is no fault."""
        machine = self._streams.get(stream_id)
        if machine is None:
            return
        record = machine.stop(code, reason)
        if record is not None:
            self._out.put_record(stream_id, record)
        self._in.settle(machine)
        self._remove_if_finished(stream_id)

    def consume(self, stream_id: int, items: int, size: int) -> None:
        """The application took items.

        Args:
          stream_id: the stream.
          items: how many.
          size: what they cost together (`flow.cost`).
        """
        machine = self._streams.get(stream_id)
        if machine is None or machine.receive_state is HalfState.ERRORED:
            return  # settled when the half ended
        if machine.consume(items, size) and self._in.failure is None:
            self._granted_streams[stream_id] = None
        self._in.consume(size)
        if machine.receive_state is HalfState.CLOSED:
            self._remove_if_finished(stream_id)

    def release(self, stream_id: int) -> None:
        """The application is done with a stream: whatever is left of it is reset, stopped and counted as taken."""
        machine = self._streams.get(stream_id)
        if machine is None or machine.is_released:
            return
        machine.is_released = True
        # Behind a failure nothing leaves any more, not even an END that is queued.
        if machine.send_state is HalfState.OPEN or self._out.is_closed:
            self.reset(stream_id)
        self.stop(stream_id)

    def ping(self, now: float) -> int:
        """Ask for a sign of life.

        Returns:
          The number that `Ponged` will carry.
        """
        number = self._liveness.start_ping(now)
        self._out.put_record(0, records.Ping(number))
        return number

    def go_away(self, code: Code = Code.OK, reason: str = "") -> None:
        """Tell the peer to open no more streams; those that are open go on."""
        self._in.go_away(code, reason)

    def _remove_if_finished(self, stream_id: int) -> None:
        machine = self._streams.get(stream_id)
        if machine is not None:
            self._in.remove_if_over(stream_id, machine)


def make_hello(config: ConnectionConfig, session_id: str) -> records.Hello:
    """The first record that a side says."""
    return records.Hello(
        session_id=session_id,
        window_items=config.stream.window_items,
        window_bytes=config.stream.window_bytes,
        connection_bytes=config.connection_window_bytes,
        max_streams=config.max_streams,
        max_item_bytes=config.max_item_bytes,
        idle_timeout_ms=int((config.idle_timeout or 0) * 1000),
        agent="trio_streams",
    )
