"""A connection: the streams over one machine, without the carrier under it.

The driver feeds the machine and calls `dispatch`; users open streams and accept them. This file awaits only things
that happen in this process, and it never touches a carrier.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

import trio

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.session import Session
from trio_streams.core.states import FINISHED
from trio_streams.errors import ConnectionLost, forget_frames
from trio_streams.streams.machine import Multiplexer
from trio_streams.streams.owning import Owning
from trio_streams.streams.statistics import ConnectionStatistics as ConnectionStatistics
from trio_streams.streams.wire import WireStream

__all__ = ["Connection", "ConnectionStatistics"]


_Stream = WireStream[bytes, bytes]
_AcceptChannel = tuple["trio.MemorySendChannel[_Stream]", "trio.MemoryReceiveChannel[_Stream]"]


def _nobody(*_: object) -> None:
    """Nothing drives the connection."""


def _open_accept_channel() -> _AcceptChannel:
    return trio.open_memory_channel[_Stream](math.inf)  # its bound is `max_streams`: the machine refuses more


class Connection:
    """Streams to and from one peer. Made by `connect` and `serve`, never by hand.

    Args:
      machine: does the protocol.
      peer: the other end, for people.
      config: limits and timeouts.
      transport: what carries it, for people: the scheme of its URL.
      on_accepted: called, without waiting, for each stream that the peer opens; None to use `accept_stream`.

    Attributes:
      on_lost: called once, without waiting, when the connection is over and its streams know.
      on_ponged: called, without waiting, when a ping came back.
    """

    __slots__ = (
        "_accept_channel",
        "_accepted",
        "_allowed",
        "_is_ready",
        "_lost",
        "_on_accepted",
        "_opened",
        "_opening",
        "_ready_waiters",
        "_sent",
        "_streams",
        "bytes_received",
        "bytes_sent",
        "config",
        "end",
        "kick",
        "machine",
        "on_lost",
        "on_ponged",
        "peer",
        "transport",
    )

    def __init__(
        self,
        machine: Multiplexer,
        *,
        peer: str,
        config: ConnectionConfig,
        transport: str = "",
        on_accepted: Callable[[WireStream[bytes, bytes]], None] | None = None,
    ) -> None:
        self.machine: Multiplexer = machine
        self.peer: str = peer
        self.transport: str = transport
        self.config: ConnectionConfig = config
        self.kick: Callable[[], None] = _nobody
        self.end: Callable[[bool], None] = _nobody
        self.on_lost: Callable[[ConnectionLost], None] | None = None
        self.on_ponged: Callable[[events.Ponged], None] | None = None
        self.bytes_sent: int = 0
        self.bytes_received: int = 0
        self._streams: dict[int, WireStream[bytes, bytes]] = {}
        self._lost: ConnectionLost | None = None
        self._is_ready = False
        self._opened = 0
        self._accepted = 0
        self._on_accepted = on_accepted
        # Made when they are needed: a server's connection that only waits has no use for any of them.
        self._ready_waiters: trio.lowlevel.ParkingLot | None = None
        # Whoever opens holds the lock, so that those who wait are served first come, first served.
        self._opening: trio.StrictFIFOLock | None = None
        self._allowed: trio.lowlevel.ParkingLot | None = None
        self._sent: trio.lowlevel.ParkingLot | None = None
        self._accept_channel: _AcceptChannel | None = None if on_accepted is not None else _open_accept_channel()

    # -- for users --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open_stream(
        self,
        name: str,
        *,
        metadata: Mapping[str, str] = records.NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
        deadline: float | None = None,
    ) -> AsyncIterator[WireStream[bytes, bytes]]:
        """Open a stream that lives as long as the block.

        Leaving the block normally ends our half, and tells the peer to stop if its half is unfinished; leaving it
        cancelled or by an exception resets our half and stops the peer's.

        Args:
          name: what is asked for.
          metadata: string pairs for the handler.
          high_water_mark: items the peer may send ahead of what is taken here; the configuration's by default.
          priority: higher goes first, -128 to 127.
          deadline: when we stop caring, on Trio's clock; by default the deadline of the scopes around this call. It
            travels to the peer as what is left of it.

        Raises:
          ConnectionLost: the connection is over, or takes no new streams.
          LocalProtocolError: name and metadata do not fit into a frame of 16 KiB.

        Cancellation: while it waits for the peer to allow another stream nothing has been opened. Those who wait are
          served first come, first served.
        """
        when = trio.current_effective_deadline() if deadline is None else deadline
        stream = await self._open(name, metadata, high_water_mark, priority, when)
        with self.own(stream):
            yield stream

    def own(self, stream: WireStream[bytes, bytes]) -> Owning:
        """Own an accepted stream for a block; leaving it applies the exit policy, as for `open_stream`.

        The block is inside the stream's cancel scope: the peer's RESET or STOP, its deadline and the loss of the
        connection cancel it. Left by an exception, the stream ends with the exception's status.

        Args:
          stream: from `accept_stream`, or given to `on_accepted`.
        """
        return Owning(stream, self._forget)

    def _forget(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)

    async def _open(
        self, name: str, metadata: Mapping[str, str], high_water_mark: int | None, priority: int, deadline: float
    ) -> WireStream[bytes, bytes]:
        machine = self.machine
        if self._opening is None:
            self._opening = trio.StrictFIFOLock()
        async with self._opening:
            while not machine.can_open and self._lost is None:
                if machine.peer_went_away:
                    raise ConnectionLost(f"{self.peer} takes no new streams: it is going away")
                machine.note_wish_to_open()
                if self._allowed is None:
                    self._allowed = trio.lowlevel.ParkingLot()
                await self._allowed.park()
            if self._lost is not None:
                raise self._lost_again()
            return self._open_now(name, metadata, high_water_mark, priority, deadline)

    def _open_now(
        self, name: str, metadata: Mapping[str, str], high_water_mark: int | None, priority: int, deadline: float
    ) -> WireStream[bytes, bytes]:
        machine = self.machine
        timeout = None if math.isinf(deadline) else max(0, math.ceil((deadline - trio.current_time()) * 1000))
        stream_id = machine.open(
            name, metadata=metadata, priority=priority, timeout_ms=timeout, window_items=high_water_mark
        )
        self._opened += 1
        stream = self._add(stream_id, name, metadata, deadline, is_accepted=False)
        self.kick()
        return stream

    def _add(
        self, stream_id: int, name: str, metadata: Mapping[str, str], deadline: float, *, is_accepted: bool
    ) -> WireStream[bytes, bytes]:
        state = self.machine.get(stream_id)
        assert state is not None
        stream: WireStream[bytes, bytes] = WireStream(  # without the alias, whose call costs a microsecond
            self.machine,
            self._kick,
            stream_id,
            state,
            name=name,
            metadata=metadata,
            deadline=deadline,
            is_accepted=is_accepted,
            peer=self.peer,
        )
        self._streams[stream_id] = stream
        return stream

    def _kick(self) -> None:
        self.kick()

    async def accept_stream(self) -> WireStream[bytes, bytes]:
        """Take the next stream that the peer opened; `with connection.own(stream):` makes it yours.

        Raises:
          ConnectionLost: the connection is over.
          LocalProtocolError: the connection was made with `on_accepted`, which has the streams.

        Cancellation: atomic.
        """
        if self._accept_channel is None:
            raise LocalProtocolError("can't accept a stream: this connection serves its streams by itself")
        with contextlib.suppress(trio.EndOfChannel):
            return await self._accept_channel[1].receive()
        raise self._lost_again()

    async def wait_ready(self) -> None:
        """Wait for the peer's hello, after which streams can be opened.

        Raises:
          ConnectionLost: the connection ended before.

        Cancellation: atomic.
        """
        if self._is_ready:
            await trio.lowlevel.checkpoint()
        else:
            if self._ready_waiters is None:
                self._ready_waiters = trio.lowlevel.ParkingLot()
            await self._ready_waiters.park()
        if self._lost is not None:
            raise self._lost_again()

    def hand_over(self, on_accepted: Callable[[_Stream], None]) -> None:
        """Have the peer's streams given to a function that does not wait, in place of `accept_stream`.

        Args:
          on_accepted: takes each: those that wait now, and all that come. `own` or `let_go` of them is its matter.

        Raises:
          LocalProtocolError: somebody else has them already.
        """
        if self._accept_channel is None:
            raise LocalProtocolError("can't hand over the peer's streams: somebody else serves them")
        waiting, self._accept_channel, self._on_accepted = self._accept_channel[1], None, on_accepted
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                on_accepted(waiting.receive_nowait())

    def let_go(self, stream: WireStream[bytes, bytes]) -> None:
        """Be done with a stream that no block owns: END and, if the peer's half is unfinished, STOP without an error."""
        stream.leave(None)
        self._streams.pop(stream.id, None)

    async def wait_sent(self, stream_id: int) -> None:
        """Wait until our half of a stream has left for the carrier to its end, or is over otherwise.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self._lost is None and not (
            (state := self.machine.get(stream_id)) is None or state.send_state in FINISHED
        ):
            if self._sent is None:
                self._sent = trio.lowlevel.ParkingLot()
            await self._sent.park()

    def go_away(self, reason: str = "") -> None:
        """Tell the peer to open no more streams; those that are open go on."""
        self.machine.go_away(Code.OK, reason)
        self.kick()

    @property
    def lost(self) -> ConnectionLost | None:
        """Why the connection is over, if it is."""
        return self._lost

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of the connection and its streams."""
        machine = self.machine
        session = machine if isinstance(machine, Session) else None
        return ConnectionStatistics(
            peer=self.peer,
            transport=self.transport,
            is_open=self._lost is None,
            streams=tuple(stream.statistics() for stream in self._streams.values()),
            streams_opened=self._opened,
            streams_accepted=self._accepted,
            queued_bytes=machine.queued_bytes,
            unread_bytes=machine.unread_bytes,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            round_trip=machine.round_trip,
            is_attached=session is None or session.is_attached,
            resumes=0 if session is None else session.resumes,
            retained_bytes=0 if session is None else session.retained_bytes,
        )

    @property
    def streams(self) -> tuple[WireStream[bytes, bytes], ...]:
        """The live streams, for views."""
        return tuple(self._streams.values())

    # -- for the driver ---------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Tell the streams what the machine has found. Never waits."""
        streams = self._streams
        for event in self.machine.events():
            kind = type(event)
            if kind is events.Received:
                assert isinstance(event, events.Received)
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.on_received(event.items)
            elif isinstance(event, events.Failed):
                self.lose(event.error)
            else:
                self._HANDLERS[kind](self, event)
        if self._sent is not None:
            self._sent.unpark_all()

    def _on_greeted(self, event: events.Greeted) -> None:
        self._be_ready()

    def _be_ready(self) -> None:
        self._is_ready = True
        if self._ready_waiters is not None:
            self._ready_waiters.unpark_all()

    def _on_opened(self, event: events.Opened) -> None:
        if self._lost is not None:
            return  # it arrived while writing failed: nobody would ever tell its handler that the connection is over
        opened = event.open
        timeout = opened.timeout_ms
        deadline = math.inf if timeout is None else trio.current_time() + timeout / 1000
        stream = self._add(event.stream_id, opened.name, opened.metadata, deadline, is_accepted=True)
        stream.cancel_scope.deadline = deadline
        self._accepted += 1
        if self._accept_channel is not None:
            self._accept_channel[0].send_nowait(stream)
        elif self._on_accepted is not None:
            self._on_accepted(stream)

    def _on_headed(self, event: events.Headed) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.on_headed(event.metadata)

    def _on_ended(self, event: events.Ended) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.on_ended(event.status, event.trailers)

    def _on_reset(self, event: events.Reset) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.on_reset(event.code, event.reason)

    def _on_stopped(self, event: events.Stopped) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.on_stopped(event.code, event.reason)

    def _on_writable(self, event: events.Writable) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.on_writable()

    def _on_allowance(self, event: events.StreamsAllowed | events.WentAway) -> None:
        self._wake_openers()

    def _wake_openers(self) -> None:
        if self._allowed is not None:
            self._allowed.unpark_all()

    def _on_ponged(self, event: events.Ponged) -> None:
        if self.on_ponged is not None:
            self.on_ponged(event)

    def lose(self, error: Exception) -> None:
        """End every stream, each once: the connection is over. Later reasons are dropped.

        Args:
          error: why; anything but a `ConnectionLost` becomes the cause of one.
        """
        if self._lost is not None:
            return
        forget_frames(error)
        if isinstance(error, ConnectionLost):
            self._lost = error
        else:
            self._lost = ConnectionLost(f"the connection to {self.peer} failed: {error}")
            self._lost.__cause__ = error
        for stream in list(self._streams.values()):
            stream.on_lost(self._lost)
        self._be_ready()
        self._wake_openers()
        if self._accept_channel is not None:
            self._accept_channel[0].close()
        if self._sent is not None:
            self._sent.unpark_all()
        if self.on_lost is not None:
            self.on_lost(self._lost)

    def retire(self) -> None:
        """Let go of the driver, which has ended: each would else hold the other until the collector finds them."""
        self.kick = self.end = _nobody
        self.on_lost = self.on_ponged = self._on_accepted = None

    def _lost_again(self) -> ConnectionLost:
        assert self._lost is not None
        error = ConnectionLost(*self._lost.args)
        error.__cause__ = self._lost.__cause__
        return error

    _HANDLERS: ClassVar[Mapping[type, Callable[[Connection, Any], None]]] = {
        events.Greeted: _on_greeted,
        events.Opened: _on_opened,
        events.Headed: _on_headed,
        events.Ended: _on_ended,
        events.Reset: _on_reset,
        events.Stopped: _on_stopped,
        events.Writable: _on_writable,
        events.StreamsAllowed: _on_allowance,
        events.WentAway: _on_allowance,
        events.Ponged: _on_ponged,
    }
    """What each event but the busiest does; one table for all connections."""
