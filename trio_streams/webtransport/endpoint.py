"""All connections of one UDP socket: who gets a datagram, when each sends, and that one's fault is no other's.

Three tasks serve any number of connections. The first one receives: it takes what is here without a schedule point in between,
gives each datagram to its connection, and lets each connection that got one dispatch once. A connection that asks for a flush then
has its answer ready, and is flushed at once. The others are flushed when the tasks that were woken have had their tick, so that
what they say and the acknowledgements leave together: a flush that sends nothing costs as much as one that does.

The second one sends what users' tasks ask for: in every scheduler tick that left connections marked it flushes each of them once,
in the order in which they were marked. How much one connection may send in its turn is the business of its pacing. The third one
keeps the deadlines. None of them waits for anything but the socket and the clock, and what a connection raises ends that
connection.

Timers that are less than half a millisecond away are due: the kernel could not wake us for them anyway. A connection that is
told a time a little ahead is not told an earlier one later.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.streams.seat import Seat
from trio_streams.webtransport.attached import Attached, Roster
from trio_streams.webtransport.driven import Accept, Address, Attachment, Driven
from trio_streams.webtransport.endpoint_config import EndpointConfig, EndpointStatistics
from trio_streams.webtransport.front_door import FrontDoor
from trio_streams.webtransport.quic_packets import destination_id
from trio_streams.webtransport.timers import Timers
from trio_streams.webtransport.udp import DatagramSocket

__all__ = ["Endpoint", "EndpointConfig", "EndpointStatistics", "open_endpoint"]

_LOG: Final = logging.getLogger("trio_streams")

_GRANULARITY: Final = 0.0005
_STUCK_TIMEOUT: Final = 0.1
"""Seconds after which what the kernel does not take is lost: timers must not wait for it, and it would be stale."""

_MAX_REFUSED: Final = 3
"""A refusal can be forged by whoever sees the packets, and a server may be about to come back: for a connection that has begun
it takes several in a row."""


class Endpoint:
    """What `open_endpoint` gives.

    Args:
      socket: it belongs to the endpoint.
      accept: makes the connection of a new client; None on a client.
      config: limits.
    """

    def __init__(self, socket: DatagramSocket, accept: Accept | None, config: EndpointConfig) -> None:
        self._socket = socket
        self._accept = accept
        self._config = config
        self._door = FrontDoor(config)
        self._roster = Roster(self._on_marked)
        self._timers = Timers[Attached]()
        self._seen = EndpointStatistics()
        self._unsent: list[tuple[bytes, Address]] = []
        self._sender = Seat()
        self._alarm = trio.CancelScope()
        self._is_settling = False
        self._drained: trio.Event | None = None

    @property
    def address(self) -> Address:
        """Where its socket is bound to."""
        return self._socket.address

    def statistics(self) -> EndpointStatistics:
        """What it has seen so far."""
        roster = self._roster
        return attrs.evolve(
            self._seen,
            connections=len(roster.attached),
            half_open=roster.half_open_items,
            connection_ids=len(roster.routes),
        )

    def attach(self, driven: Driven) -> Attachment:
        """Drive a connection of ours, a client's, from now on: its first flush begins the handshake.

        Raises:
          trio.ClosedResourceError: the endpoint was left.
        """
        if self._drained is not None:
            raise trio.ClosedResourceError("this endpoint was left")
        attached = self._add(driven, "our server", trio.current_time())
        self._guard(attached, lambda: driven.attach(attached))
        attached.kick()
        return attached

    def stop_accepting(self) -> None:
        """Drop the first packets of new clients from now on; connections that are here go on."""
        self._accept = None

    # Receiving.

    async def receive_loop(self) -> None:
        """Give datagrams to their connections, until it is cancelled; `open_endpoint` runs it.

        Cancellation: at once; a datagram that was taken was given to its connection.
        """
        while True:
            await self._socket.wait_readable()
            self._is_settling = True
            quiet = self._take(self._socket.receive_nowait())
            if self._socket.take_refusal():
                self._note_refusal()
            if self._roster.dirty:
                self._turn()
            if quiet:
                await self._let_answer(quiet)
                self._turn()
            self._is_settling = False
            if self._unsent or self._roster.dirty:
                self._sender.wake()  # the task that sends has the rest

    async def _let_answer(self, quiet: list[Attached]) -> None:
        """Let the tasks that were woken run, then have their connections flushed."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        if not all(attached.was_kicked for attached in quiet):  # tasks of one tick run in any order
            await trio.lowlevel.checkpoint()
        for attached in quiet:
            attached.kick()
            if attached.has_few_kicks:
                attached.settle()

    def _take(self, batch: list[tuple[bytes, Address]]) -> list[Attached]:
        """Give datagrams to their connections; those of them that did not ask for a flush."""
        now = trio.current_time()
        routes = self._roster.routes
        touched: dict[Attached, None] = {}
        for datagram, addr in batch:
            attached = routes.get(destination_id(datagram)) or self._open(datagram, addr, now)
            if attached is None:
                continue
            touched[attached] = None
            attached.refused_items = 0
            try:
                attached.driven.receive(datagram, addr, attached.advance(now))
            except Exception as exc:  # noqa: BLE001 - the fence: whatever it is, it is this connection's
                self._fail(attached, exc)
        self._seen.received_datagrams += len(batch)
        for attached in touched:
            self._guard(attached, attached.driven.dispatch)
        return [attached for attached in touched if attached not in self._roster.dirty]

    def _open(self, datagram: bytes, addr: Address, now: float) -> Attached | None:
        """The connection that a datagram begins, if it is one that does."""
        entry = self._door.look_at(datagram, addr, now, self._roster) if self._accept is not None else None
        if isinstance(entry, bytes):
            self._answer(entry, addr)
            return None
        if entry is None or self._accept is None:
            self._seen.dropped_datagrams += 1
            return None
        try:
            driven = self._accept(entry.opening)
        except Exception:  # noqa: BLE001 - the fence: whatever it is, it is this client's
            _LOG.exception("no connection could be made for %s", _name(addr))
            driven = None
        if driven is None:
            self._answer(entry.refuse(), addr)
            return None
        attached = self._add(driven, _name(addr), now)
        attached.add_connection_id(entry.packet.destination_id)
        self._guard(attached, lambda: driven.attach(attached))
        return None if attached.is_detached else attached

    def _answer(self, answer: bytes, addr: Address) -> None:
        """Send what belongs to no connection; if there is no room, the client asks again."""
        self._seen.answered_datagrams += 1
        self._socket.send_nowait([(answer, addr)])

    def _note_refusal(self) -> None:
        for attached in list(self._roster.attached):
            attached.refused_items += 1
            if attached.is_half_open or attached.refused_items >= _MAX_REFUSED:
                self._lose(attached, ConnectionLost(f"nobody listens at {attached.name}"))

    # Sending.

    async def send_loop(self) -> None:
        """Flush connections, until it is cancelled; `open_endpoint` runs it.

        Cancellation: at once; datagrams that the kernel had no room for are lost.
        """
        while True:
            if self._unsent:
                await self._wait_room()
            else:
                await self._wait_turn()
            self._turn()

    async def _wait_room(self) -> None:
        with trio.move_on_after(_STUCK_TIMEOUT) as scope:
            await self._socket.wait_writable()
        if scope.cancelled_caught:
            self._seen.unsent_datagrams += len(self._unsent)
            self._unsent.clear()

    async def _wait_turn(self) -> None:
        """Wait for the next tick, or a kick."""
        if self._roster.dirty:
            await trio.lowlevel.checkpoint()
            return
        if self._drained is not None:
            self._drained.set()
        await self._sender.wait()

    def _on_marked(self) -> None:
        if not self._is_settling:  # the task that receives is about to have a turn
            self._sender.wake()

    async def timer_loop(self) -> None:
        """Keep the deadlines of connections, until it is cancelled; `open_endpoint` runs it.

        Cancellation: at once.
        """
        while True:
            self._alarm = trio.CancelScope(deadline=self._timers.next_deadline())
            with self._alarm:
                await trio.sleep_forever()
            self._turn()

    def _turn(self) -> None:
        """Handle what is due, and flush each connection that is marked and settled, as far as the kernel has room."""
        now = trio.current_time()
        for deadline, attached in self._timers.take_due(now + _GRANULARITY):
            self._handle_deadline(attached, max(now, deadline))
        if self._unsent:
            self._send(())
        dirty = self._roster.dirty
        for attached in list(dirty):
            if self._unsent:
                break
            if attached in dirty and attached.is_settled(now):
                del dirty[attached]
                self._flush(attached, now)
        if self._socket.take_refusal():
            self._note_refusal()
        nearest = self._timers.next_deadline()
        if nearest < self._alarm.deadline:  # noqa: PLR1730 - setting it costs Trio something each time
            self._alarm.deadline = nearest

    def _handle_deadline(self, attached: Attached, now: float) -> None:
        if attached.is_half_open and now >= attached.give_up_at:
            timeout = self._config.handshake_timeout
            self._lose(attached, ConnectionLost(f"the handshake with {attached.name} took longer than {timeout} s"))
            return
        driven = attached.driven
        self._guard(attached, lambda: driven.handle_deadline(attached.advance(now)))
        self._guard(attached, driven.dispatch)
        attached.kick()
        attached.settle()  # what is due has waited enough

    def _flush(self, attached: Attached, now: float) -> None:
        driven = attached.driven
        clock = attached.advance(now)
        attached.unsettled_ticks = attached.kicks = 0
        try:
            datagrams = driven.datagrams_to_send(clock)
        except Exception as exc:  # noqa: BLE001 - the fence: whatever it is, it is this connection's
            self._fail(attached, exc)
            return
        if datagrams:  # before all else: meanwhile the peer can work
            self._send(datagrams)
        try:
            driven.dispatch()
            is_over, deadline = driven.is_over, driven.next_deadline()
        except Exception as exc:  # noqa: BLE001 - the fence: whatever it is, it is this connection's
            self._fail(attached, exc)
            return
        if is_over:
            self._detach(attached)
        elif not attached.is_detached:
            # One that does not move costs a tick now and then, not all of them.
            soonest = None if deadline is None else max(deadline, clock + _GRANULARITY)
            if attached.is_half_open:
                soonest = attached.give_up_at if soonest is None else min(soonest, attached.give_up_at)
            self._timers.arm(attached, soonest)

    def _send(self, datagrams: list[tuple[bytes, Address]] | tuple[()]) -> None:
        """Give datagrams to the kernel, after those that wait already."""
        if self._unsent:
            self._unsent += datagrams
            del self._unsent[: self._socket.send_nowait(self._unsent)]
        else:
            self._unsent += datagrams[self._socket.send_nowait(datagrams) :]

    # Beginnings and ends.

    def _add(self, driven: Driven, name: str, now: float) -> Attached:
        attached = self._roster.add(driven, name, now + self._config.handshake_timeout)
        self._timers.arm(attached, attached.give_up_at)
        return attached

    def _detach(self, attached: Attached) -> None:
        self._roster.remove(attached)
        self._timers.discard(attached)

    def _guard(self, attached: Attached, call: Callable[[], object]) -> None:
        """Let a connection do something, unless it is gone; what it raises ends it."""
        if attached.is_detached:
            return
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - the fence: whatever it is, it is this connection's
            self._fail(attached, exc)

    def _fail(self, attached: Attached, exc: Exception) -> None:
        _LOG.error("the connection with %s failed, and was given up", attached.name, exc_info=exc)
        self._seen.failed_connections += 1
        self._lose(attached, exc)

    def _lose(self, attached: Attached, error: Exception) -> None:
        """Forget a connection, tell it, and let it say goodbye if it can."""
        self._detach(attached)
        try:
            attached.driven.lose(error)
            farewell = attached.driven.datagrams_to_send(attached.advance(trio.current_time()))
            attached.driven.dispatch()
            self._socket.send_nowait(farewell)
        except Exception:  # noqa: BLE001 - the fence, again
            _LOG.exception("the connection with %s could not be ended", attached.name)

    async def say_goodbye(self) -> None:
        """Let every connection close itself, and send what that makes; `open_endpoint` calls it.

        Cancellation: it goes on, for at most `close_timeout`.
        """
        self.stop_accepting()
        self._drained = trio.Event()
        for attached in list(self._roster.attached):
            self._guard(attached, attached.driven.close)
            attached.kick()
        self._sender.wake()
        with trio.move_on_after(self._config.close_timeout, shield=True):
            await self._drained.wait()

    def close(self) -> None:
        """Close the socket, and tell the connections that are left."""
        for attached in list(self._roster.attached):
            self._lose(attached, ConnectionLost("the endpoint was left"))
        self._socket.close()


def _name(addr: Address) -> str:
    host, port = addr[0], addr[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def open_endpoint(
    socket: DatagramSocket, *, accept: Accept | None = None, config: EndpointConfig | None = None
) -> AsyncIterator[Endpoint]:
    """Drive the connections of a socket for as long as the block.

    Its loops go on while the block is being cancelled, so that what is in it can say goodbye. At the end each connection that
    is left gets `close`, what that makes is sent within `close_timeout`, and the socket is closed.

    Args:
      socket: from `bind_udp` or `connect_udp`; it belongs to the endpoint from here on.
      accept: on a server, makes the connection of a new client.
      config: limits.

    Cancellation: the goodbyes leave first, within `close_timeout`.
    """
    endpoint = Endpoint(socket, accept, config or EndpointConfig())
    loops = trio.CancelScope(shield=True)

    async def run_loops() -> None:
        with loops:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(endpoint.timer_loop)
                nursery.start_soon(endpoint.send_loop)
                await endpoint.receive_loop()

    try:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(run_loops)
            try:
                yield endpoint
            finally:
                await endpoint.say_goodbye()
                loops.cancel()
    finally:
        endpoint.close()
