"""What drives a machine over a carrier: two loops, and the order in which a connection ends.

One task receives and one sends, and nobody else touches the carrier, so that no cancelled user can tear a frame. The
task that sends exists only while there is something to send, since most connections are idle most of the time and a
task that waits costs 2.5 KiB; so it is the receive loop that keeps the deadlines of a silence. The send loop runs in a
shielded scope: it would otherwise inherit an outer timeout and stop between two parts of a frame. It is ended
explicitly, in this order:

    body done → its streams have queued END or RESET → flush (at most `close_timeout`) → loops ended → carrier closed

Each loop touches the machine synchronously, awaits exactly one thing, and goes round; a loop that wakes drains until
nothing is ready before it waits again. The send loop asks the carrier to be writable *before* it asks the machine what
to send: what is urgent then overtakes what merely waits.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import Final

import trio

from trio_streams.carrier import Carrier, GatheringCarrier, PromptCarrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.core.wire import Wire
from trio_streams.errors import ConnectionLost, StreamsError
from trio_streams.handling import Prepare, Serving

__all__ = ["Driver"]

_WRITE_BYTES: Final = 69_632
"""What one write takes from the machine: enough to make the system call cheap, little enough to change one's mind, and an
item of 64 KiB with its frames' heads, as that is how most cut what is large."""

_MOST_WRITE_BYTES: Final = 8 * _WRITE_BYTES
"""What it grows to, doubling, while the kernel has sent off all that it was given: what is urgent waits a write at most, and
of a fast link that is little. One that has to wait for the kernel is half as long again."""


def _unknown() -> bool:
    return False


def _make_mux(wire: Wire, is_client: bool, config: ConnectionConfig) -> Mux:
    session_id = secrets.token_hex(16)
    return Mux(wire, is_client=is_client, config=config, session_id=session_id, now=trio.current_time())


class Driver(Serving):
    """The two loops of one connection and what they share.

    Args:
      carrier: connected.
      nursery: for the task that sends and for those that serve streams.
      prepare: for the streams that the peer opens; None to leave them to `accept_stream`.
    """

    __slots__ = (
        "_carrier", "_closing_scope", "_config", "_gathering", "_is_closing", "_is_cut", "_is_over", "_is_paused",
        "_is_receiving", "_is_sending", "_is_writable", "_machine", "_may_receive", "_may_send", "_receive_scope",
        "_send_scope",
    )  # fmt: skip

    def __init__(
        self,
        carrier: Carrier,
        nursery: trio.Nursery,
        prepare: Prepare | None,
        *,
        config: ConnectionConfig,
        wire: Wire,
        transport: str,
        is_client: bool = False,
        make_machine: Callable[[], Mux] | None = None,
    ) -> None:
        super().__init__(nursery, prepare)
        self._machine = _make_mux(wire, is_client, config) if make_machine is None else make_machine()
        self._carrier = carrier
        self._is_writable: Callable[[], bool] = carrier.is_writable if isinstance(carrier, PromptCarrier) else _unknown
        self._gathering = carrier if isinstance(carrier, GatheringCarrier) else None
        self._config = config
        self._is_over = self._is_closing = self._is_cut = False
        self._closing_scope: trio.CancelScope | None = None
        self._is_sending = False
        self._may_send = True
        self._send_scope: trio.CancelScope | None = None
        self._is_receiving = False
        self._is_paused = False
        self._may_receive = True
        self._receive_scope: trio.CancelScope | None = None
        self.connection: Connection = Connection(
            self._machine,
            peer=carrier.peer,
            config=config,
            transport=transport,
            on_accepted=None if prepare is None else self._accept,
        )
        self.connection.kick = self._kick
        self.connection.end = self._end
        self._kick()

    def _lose(self, error: Exception) -> None:
        """The connection is over: its streams end, and so does the receive loop."""
        self.connection.lose(error)
        self._is_over = True
        self._stop_receiving()
        self._kick()  # what is left to send may be the GOAWAY that says so

    # -- receiving --------------------------------------------------------------------------------------------

    async def receive_loop(self, received: bytes = b"", *, shield: bool = False) -> None:
        """Feed the machine and keep its deadlines until the connection is over. Never waits for an application.

        Args:
          received: comes before what the carrier has.
          shield: whether to go on in a cancelled scope.
        """
        self._is_receiving = True
        try:
            while self._may_receive:
                # The loop may be cancelled anywhere: a carrier's receive loses nothing.
                self._receive_scope = trio.CancelScope(shield=shield, deadline=self._next_deadline())
                with self._receive_scope:
                    taken, received = received, b""
                    await self._receive_all(taken)
                if not self._is_sending:
                    self._keep_deadline()
        except StreamsError as exc:
            self._lose(exc)
        except trio.ClosedResourceError:
            self._lose(self._closed_here())  # by whoever else holds what the carrier is made of
        finally:
            self._is_receiving = False
            self._wake()

    async def receive_then_close(self, received: bytes = b"") -> None:
        """The receive loop beside a block, which may outlive its connection: the peer should not wait for that."""
        # Shielded, as grants and goodbyes must arrive while a cancelled body cleans up.
        await self.receive_loop(received, shield=True)
        if not self._is_closing:
            await self.close()

    async def _receive_all(self, received: bytes) -> None:
        connection, machine, carrier, scope = self.connection, self._machine, self._carrier, self._receive_scope
        assert scope is not None
        while True:
            while not machine.wants_input:
                # The peer leaves too much of what we owe it unread. It gets no more attention until it reads.
                self._is_paused = True
                self._kick()
                await self._park()
            self._is_paused = False
            chunk, received = received or await carrier.receive(), b""
            if not chunk:
                self._lose(ConnectionLost(f"{connection.peer} closed the connection"))
                return
            connection.bytes_received += len(chunk)
            machine.receive(chunk, trio.current_time())
            del chunk  # not to be held for as long as the connection is silent
            connection.dispatch()
            if machine.failure is not None:
                self._lose(machine.failure)
                return
            if machine.has_output:
                self._kick()
            if scope.deadline != machine.next_deadline():
                scope.deadline = self._next_deadline()

    def _stop_receiving(self) -> None:
        self._may_receive = False
        if self._receive_scope is not None:
            self._receive_scope.cancel()

    # -- deadlines --------------------------------------------------------------------------------------------

    def _next_deadline(self) -> float:
        """When the receive loop looks at the machine's deadlines; the send loop does while it runs, after each write."""
        deadline = self._machine.next_deadline()
        return math.inf if deadline is None or self._is_sending else deadline

    def _keep_deadline(self) -> None:
        deadline = self._machine.next_deadline()
        if deadline is None or (now := trio.current_time()) < deadline:
            return
        self._machine.handle_deadline(now)
        self.connection.dispatch()
        if self._machine.failure is not None:
            self._lose(self._machine.failure)
        self._kick()

    # -- sending ----------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        if self._is_paused and self._machine.wants_input:
            self._wake()  # not only after a write, which may itself wait for the peer
        # Streams report what was taken far more often than a grant comes of it: a task made in vain costs a round.
        if not self._is_sending and self._may_send and self._machine.has_output:
            self._is_sending = True
            self._nursery.start_soon(self._send_loop)

    async def _send_loop(self) -> None:
        """Write what the machine has until there is nothing more; an idle connection has no such task."""
        # Shielded: it would otherwise inherit an outer timeout and stop between two parts of a frame.
        self._send_scope = scope = trio.CancelScope(shield=True)
        is_broken = True
        try:
            with scope:
                await self._send_all(scope)
            if scope.cancelled_caught and self._may_send:
                limit, patience = self._patience
                error = ConnectionLost(f"{self.connection.peer} took no bytes for {limit} of {patience:g} s")
                if not self._machine.outlives(error):
                    raise error
            is_broken = False
        except StreamsError as exc:
            self._may_send = False
            self._lose(exc)
        except trio.ClosedResourceError:
            self._may_send = False
            self._lose(self._closed_here())  # our own goodbye has ended the sending side
        finally:
            self._may_send = self._may_send and not is_broken
            self._is_sending = False
            self._send_scope = None
            self._wake()
            if self._receive_scope is not None:
                self._receive_scope.deadline = self._next_deadline()

    async def _send_all(self, scope: trio.CancelScope) -> None:
        machine, carrier = self._machine, self._carrier
        # Into a silence what comes first goes at once; while there is traffic, the wait lets more of it come together.
        is_at_once = self._is_writable()
        most = _WRITE_BYTES
        while self._may_send and machine.has_output:
            scope.deadline = trio.current_time() + self._patience[1]
            # With a whole write at hand there is nothing to be gained by waiting.
            if is_at_once or (machine.queued_bytes >= _WRITE_BYTES and self._is_writable()):
                most = min(2 * most, _MOST_WRITE_BYTES)
            else:
                most = max(_WRITE_BYTES, most >> 1)
                await carrier.wait_writable()
            is_at_once = False
            chunks = machine.chunks_to_send(trio.current_time(), most)
            self.connection.dispatch()
            if chunks:
                await self._write(chunks)
            self._wake()
            self._keep_deadline()

    async def _write(self, chunks: list[bytes | memoryview]) -> None:
        size = sum(map(len, chunks))
        if self._gathering is not None:
            await self._gathering.send_chunks(chunks)
        else:
            await self._carrier.send(b"".join(chunks))
        self.connection.bytes_sent += size

    @property
    def _patience(self) -> tuple[str, float]:
        """How long a write may take, and the name of that limit."""
        if self._machine.peer_hello is None:
            return "handshake_timeout", self._config.handshake_timeout
        patience = self._config.idle_timeout
        return "idle_timeout", math.inf if patience is None else patience

    def _stop_sending(self) -> None:
        self._may_send = False
        if self._send_scope is not None:
            self._send_scope.cancel()

    # -- the end ----------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let the last bytes leave, within `close_timeout`, and close the carrier; then nothing runs any more."""
        self._is_closing = True
        with trio.CancelScope(
            shield=True, deadline=trio.current_time() + self._config.close_timeout
        ) as self._closing_scope:
            if self._is_cut:
                self._closing_scope.cancel()
            if not self._is_over:
                self.connection.go_away("closed")
            while self._may_send and not self._is_flushed:
                await self._park()
            # From here on the carrier is ours: its goodbye may have to read the peer's, and what users of a lost
            # connection still queue has nowhere to go.
            self._stop_sending()
            self._stop_receiving()
            while self._is_receiving or self._is_sending:
                await self._park()
            await self._carrier.aclose()
        self._stop_sending()
        self._lose(self._closed_here())
        try:
            with trio.CancelScope(shield=True) as scope:
                scope.cancel()  # forceful: does nothing to a carrier that has said goodbye
                await self._carrier.aclose()
        finally:
            self.connection.retire()

    def _end(self, is_cut: bool) -> None:
        """See `Connection.end`."""
        self._stop_receiving()
        if is_cut:
            self._is_cut = True
            self._stop_sending()
            self._lose(self._closed_here())
            if self._closing_scope is not None:
                self._closing_scope.cancel()

    def _closed_here(self) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self.connection.peer} was closed here")

    @property
    def _is_flushed(self) -> bool:
        return not self._is_sending and self._machine.is_flushed
