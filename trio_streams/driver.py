"""Drives a machine over a carrier: two loops, and the order in which a connection ends.

One task receives and one sends, and nobody else touches the carrier, so that no cancelled user can tear a frame. The
send loop runs in a shielded scope: it would otherwise inherit an outer timeout and stop between two parts of a
frame. It is ended explicitly, in this order:

    body done → its streams have queued END or RESET → flush (at most `close_timeout`) → loops ended → carrier closed

Each loop touches the machine synchronously, awaits exactly one thing, and goes round; a loop that wakes drains until
nothing is ready before it waits again. The send loop asks the carrier to be writable *before* it asks the machine what
to send: what is urgent then overtakes what merely waits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trio

from trio_streams.carrier import Carrier, PromptCarrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.core.wire import Wire
from trio_streams.errors import ConnectionLost, StreamsError, as_rpc_error, split_cancelled
from trio_streams.nursery import open_bare_nursery
from trio_streams.streams.wire import WireStream
from trio_streams.wire.binary import BinaryWire

__all__ = ["Handler", "Prepare", "run_client", "run_server"]

_WRITE_BYTES: Final = 65_536
"""What one write takes from the machine: enough to make the system call cheap, little enough to change one's mind."""

_logger: Final = logging.getLogger("trio_streams")

Handler = Callable[[WireStream[bytes, bytes]], Awaitable[None]]
Prepare = Callable[[WireStream[bytes, bytes]], Handler]


class _Driver:
    """The two loops of one connection and what they share."""

    def __init__(self, connection: Connection, carrier: Carrier, config: ConnectionConfig) -> None:
        self._connection = connection
        self._machine = connection.machine
        self._carrier = carrier
        self._config = config
        self._is_writable = carrier.is_writable if isinstance(carrier, PromptCarrier) else lambda: False
        self._kicked = trio.Event()
        self._was_idle = False
        self._is_idle = False
        self._idle = trio.lowlevel.ParkingLot()
        self._is_over = False
        self._has_stopped_sending = False
        self._is_receiving = False
        self._is_closing = False
        # The receive loop may be cancelled anywhere: a carrier's receive loses nothing. The send loop may not.
        self.receive_scope = trio.CancelScope()
        self.send_scope = trio.CancelScope(shield=True)
        connection.kick = self._kick_for_output

    def _kick(self) -> None:
        self._kicked.set()

    def _kick_for_output(self) -> None:
        # Streams report what was taken far more often than a grant comes of it: a loop woken in vain costs a round.
        if not self._kicked.is_set() and self._machine.has_output:
            self._kicked.set()

    def _lose(self, error: Exception) -> None:
        """The connection is over: its streams end, and so does the receive loop."""
        self._connection.lose(error)
        self._is_over = True
        self.receive_scope.cancel()
        self._kick()

    async def receive_loop(self) -> None:
        """Feed the machine until the connection is over. Never waits for an application."""
        self._is_receiving = True
        try:
            with self.receive_scope:
                try:
                    await self._receive_all()
                except StreamsError as exc:
                    self._lose(exc)
                except trio.ClosedResourceError:
                    self._lose(self._closed_here())  # by whoever else holds what the carrier is made of
        finally:
            self._is_receiving = False
            self._idle.unpark_all()

    async def receive_then_close(self) -> None:
        """The receive loop of a client, whose block may outlive its connection: the peer should not wait for that."""
        await self.receive_loop()
        if not self._is_closing:
            await self.close()

    async def _receive_all(self) -> None:
        connection, machine, carrier = self._connection, self._machine, self._carrier
        while True:
            chunk = await carrier.receive()
            if not chunk:
                self._lose(ConnectionLost(f"{connection.peer} closed the connection"))
                return
            connection.bytes_received += len(chunk)
            machine.receive(chunk, trio.current_time())
            connection.dispatch()
            if machine.failure is not None:
                self._lose(machine.failure)  # what is left to send is the GOAWAY that says so
                return
            if machine.has_output:
                self._kick()
            while not machine.wants_input:
                # The peer leaves too much of what we owe it unread. It gets no more attention until it reads.
                self._kick()
                await self._idle.park()

    async def send_loop(self) -> None:
        """Write what the machine has, and keep its deadlines, until the connection is over and all is written."""
        with self.send_scope:
            try:
                while not self._is_over or self._machine.has_output:
                    if not await self._send_once():
                        await self._wait_for_output()
                    self._keep_deadline()
            except StreamsError as exc:
                self._lose(exc)
            except trio.ClosedResourceError:
                self._lose(self._closed_here())  # our own goodbye has ended the sending side
            finally:
                self._has_stopped_sending = True
                self._idle.unpark_all()

    def _keep_deadline(self) -> None:
        deadline = self._machine.next_deadline()
        if deadline is not None and (now := trio.current_time()) >= deadline:
            self._machine.handle_deadline(now)
            self._connection.dispatch()
            if self._machine.failure is not None:
                self._lose(self._machine.failure)

    async def _send_once(self) -> bool:
        """One write, if there is something to write."""
        machine, carrier = self._machine, self._carrier
        self._kicked = trio.Event()
        if not machine.has_output:
            return False
        is_greeted = machine.peer_hello is not None
        patience = self._config.idle_timeout if is_greeted else self._config.handshake_timeout
        with trio.move_on_after(math.inf if patience is None else patience) as scope:
            # Into a silence what comes first goes at once; while there is traffic, the wait lets more of it come together.
            if not (self._was_idle and self._is_writable()):
                await carrier.wait_writable()
            self._was_idle = False
            data = machine.to_send(trio.current_time(), _WRITE_BYTES)
            self._connection.dispatch()
            if data:
                await carrier.send(data)
                self._connection.bytes_sent += len(data)
            self._idle.unpark_all()
        if scope.cancelled_caught:
            limit = "idle_timeout" if is_greeted else "handshake_timeout"
            raise ConnectionLost(f"{self._connection.peer} took no bytes for {limit} of {patience:g} s")
        return True

    async def _wait_for_output(self) -> None:
        self._is_idle = True
        self._idle.unpark_all()
        deadline = self._machine.next_deadline()
        with trio.move_on_at(math.inf if deadline is None else deadline):
            await self._kicked.wait()
        self._is_idle = False
        self._was_idle = True

    async def close(self) -> None:
        """Let the last bytes leave, within `close_timeout`, and close the carrier; then nothing runs any more."""
        connection = self._connection
        self._is_closing = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.close_timeout):
            if not self._is_over:
                connection.go_away("closed")
            while not self._has_stopped_sending and not self._is_flushed:
                await self._idle.park()
            # From here on the carrier is ours: its goodbye may have to read the peer's, and what users of a lost
            # connection still queue has nowhere to go.
            self.send_scope.cancel()
            self.receive_scope.cancel()
            while self._is_receiving or not self._has_stopped_sending:
                await self._idle.park()
            await self._carrier.aclose()
        self._lose(self._closed_here())
        self.send_scope.cancel()
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()  # forceful: does nothing to a carrier that has said goodbye
            await self._carrier.aclose()

    def _closed_here(self) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self._connection.peer} was closed here")

    @property
    def _is_flushed(self) -> bool:
        return self._is_idle and not self._machine.has_output and not self._machine.queued_bytes


def _make(
    carrier: Carrier,
    wire: Wire,
    config: ConnectionConfig,
    transport: str,
    prepare: Callable[[WireStream[bytes, bytes]], None] | None,
) -> tuple[Connection, _Driver]:
    machine = Mux(
        wire,
        is_client=prepare is None,
        config=config,
        session_id=secrets.token_hex(16),
        now=trio.current_time(),
    )
    connection = Connection(machine, peer=carrier.peer, config=config, transport=transport, on_accepted=prepare)
    return connection, _Driver(connection, carrier, config)


@contextlib.asynccontextmanager
async def run_client(
    carrier: Carrier, *, config: ConnectionConfig | None = None, wire: Wire | None = None, transport: str = ""
) -> AsyncIterator[Connection]:
    """Run a connection as the client side for as long as the block.

    Args:
      carrier: connected; it is closed when the block ends, whatever happens.
      config: limits and timeouts.
      wire: the dialect; ours by default.
      transport: what the carrier is, for people.

    Returns:
      The connection, after the peer's hello.

    Raises:
      ConnectionLost: the peer did not greet. Later faults surface from stream operations only.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    async with open_bare_nursery() as nursery:
        connection, driver = _make(carrier, wire or BinaryWire(), config, transport, None)
        # Grants and goodbyes must arrive while a cancelled body cleans up.
        driver.receive_scope.shield = True
        nursery.start_soon(driver.receive_then_close)
        nursery.start_soon(driver.send_loop)
        try:
            await connection.wait_ready()
            yield connection
        finally:
            await driver.close()


async def run_server(
    carrier: Carrier,
    prepare: Prepare,
    *,
    config: ConnectionConfig | None = None,
    wire: Wire | None = None,
    transport: str = "",
    on_connection: Callable[[Connection], None] | None = None,
) -> None:
    """Serve one connection until it is over.

    Each stream that the peer opens is served in a task and a cancel scope of its own; a handler that fails ends its
    stream with a status, never the connection.

    Args:
      carrier: connected; it is closed at the end, whatever happens.
      prepare: called without waiting when a stream opens, before anything else of it is looked at; returns what
        serves it.
      config: limits and timeouts.
      wire: the dialect; ours by default.
      transport: what the carrier is, for people.
      on_connection: told of the connection when it begins.

    Cancellation: the handlers are cancelled, their streams reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    async with open_bare_nursery() as services, contextlib.AsyncExitStack() as stack:
        handlers: trio.Nursery

        def accept(stream: WireStream[bytes, bytes]) -> None:
            handlers.start_soon(_serve_stream, connection, stream, prepare(stream))

        connection, driver = _make(carrier, wire or BinaryWire(), config, transport, accept)
        services.start_soon(driver.send_loop)
        stack.push_async_callback(driver.close)
        if on_connection is not None:
            on_connection(connection)
        handlers = await stack.enter_async_context(open_bare_nursery())
        await driver.receive_loop()


async def _serve_stream(connection: Connection, stream: WireStream[bytes, bytes], handler: Handler) -> None:
    try:
        with connection.own(stream):
            await handler(stream)
    except BaseException as exc:
        cancelled, failure = split_cancelled(exc)
        if isinstance(failure, Exception):
            # The exit policy has told the peer; here it is told to the people who run the server.
            expected = not as_rpc_error(failure).is_our_fault
            _logger.log(
                logging.DEBUG if expected else logging.ERROR,
                "stream %s %r from %s failed",
                stream.id,
                stream.name,
                stream.peer,
                exc_info=failure,
            )
            if cancelled is None:
                return
            raise cancelled from None
        raise
