"""Runs a connection of streams of items on a session: procedures and peers use it as they use any other.

QUIC has the loops, so there is only what has to wait: one task keeps the machine's deadlines, and one waits for the peer's
DRAIN. All else happens without waiting: what arrived is told in the link's `dispatch`, and what users send comes together
until the next flush, so that items which are sent one by one leave as a run.

The order of the end is that of a carrier:

    body done → its streams have queued END or RESET → handed on and delivered (at most `close_timeout`) → session closed
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

import trio

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.errors import ConnectionLost
from trio_streams.handling import Prepare, Serving
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.errors import SessionClosed
from trio_streams.webtransport.protocol.session_mux import SessionMux
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.stream_half import OverCause

__all__ = ["run_session_connection", "run_session_server"]


class _SessionPort:
    """A session's streams, as `SessionMux` asks for them.

    Attributes:
      is_touched: whether something was done since the last flush that leaves with the next one, beside what the mux has.
      has_freed: whether the peer is owed credit for what was freed since.
    """

    __slots__ = ("_driver", "_ids", "_session", "has_freed", "is_touched")

    def __init__(self, session: WebTransportSession, driver: _SessionDriver) -> None:
        self._session = session
        self._driver = driver
        self._ids: dict[int, None] = {}
        self.is_touched: bool = False
        self.has_freed: bool = False

    def listen(self, stream_id: int) -> None:
        """Hear of what happens on a stream."""
        self._ids[stream_id] = None
        self._session.link.add_stream_sink(stream_id, _StreamEnd(self._driver, stream_id))

    def forget_all(self) -> None:
        """The session is over."""
        for stream_id in self._ids:
            self._session.link.drop_stream_sink(stream_id)
        self._ids.clear()

    def can_open(self, *, is_unidirectional: bool) -> bool:
        session = self._session
        return session.is_open and session.link.machine.can_open(
            session.session_id, is_unidirectional=is_unidirectional
        )

    def open_stream(self, *, is_unidirectional: bool, priority: int = 0) -> int:
        session = self._session
        stream_id = session.link.machine.open_stream(
            session.session_id, is_unidirectional=is_unidirectional, priority=priority
        )
        self.listen(stream_id)
        return stream_id

    def set_priority(self, stream_id: int, priority: int) -> None:
        self._session.link.machine.set_priority(stream_id, priority)
        self.is_touched = True

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        return self._session.link.machine.send(stream_id, data) if stream_id in self._ids else 0

    def end(self, stream_id: int) -> None:
        if stream_id in self._ids:
            self._session.link.machine.end(stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._ids:
            self._session.link.machine.reset(stream_id, code)
            self.is_touched = True

    def stop(self, stream_id: int, code: int) -> None:
        if stream_id in self._ids:
            self._session.link.machine.stop(stream_id, code)
            self.is_touched = True

    def consumed(self, stream_id: int, size: int) -> None:
        if stream_id in self._ids:
            self._session.link.machine.consumed(stream_id, size)
            self.has_freed = True

    def take_touch(self) -> bool:
        """Whether a flush is to be asked for, beside what the mux has."""
        was_touched = self.is_touched or self.has_freed
        self.is_touched = self.has_freed = False
        return was_touched

    def release(self, stream_id: int) -> None:
        if self._ids.pop(stream_id, False) is None:
            link = self._session.link
            link.drop_stream_sink(stream_id)
            link.machine.release(stream_id)
            self.has_freed = True

    def drain(self) -> None:
        if self._session.is_open:
            self._session.drain()


class _StreamEnd:
    """Hears of one stream."""

    __slots__ = ("_driver", "_id")

    def __init__(self, driver: _SessionDriver, stream_id: int) -> None:
        self._driver = driver
        self._id = stream_id

    def on_received(self, run: Sequence[bytes], is_ended: bool) -> None:
        driver = self._driver
        driver.mux.received(self._id, run, is_ended=is_ended, now=trio.current_time())
        driver.note_acknowledged()
        driver.follow()

    def on_reset(self, code: int | None) -> None:
        self._driver.mux.was_reset(self._id, code)
        self._driver.follow()

    def on_stopped(self, code: int | None) -> None:
        self._driver.mux.was_stopped(self._id, code)
        self._driver.ask_for_flush()  # a reset that comes with it is told before it

    def on_writable(self) -> None:
        self._driver.mux.writable(self._id)
        self._driver.follow()

    def on_delivered(self) -> None:
        """Who waits for it asks the link."""

    def on_lost(self, over: OverCause) -> None:
        """The session says so for all of them."""


class _SessionDriver(Serving):
    """What one connection on a session needs.

    Args:
      session: open; nobody else may take its streams.
      nursery: for its tasks and those that serve streams.
      prepare: for the streams that the peer opens; None to leave them to `accept_stream`.
    """

    __slots__ = (
        "_clock_scope", "_closing_scope", "_config", "_is_cut", "_is_ending", "_is_following", "_is_over", "_port",
        "_session", "_tasks_scope", "mux",
    )  # fmt: skip

    def __init__(
        self,
        session: WebTransportSession,
        nursery: trio.Nursery,
        prepare: Prepare | None,
        *,
        config: ConnectionConfig,
        transport: str,
    ) -> None:
        super().__init__(nursery, prepare)
        self._session = session
        self._config = config
        self._is_over = self._is_ending = self._is_cut = self._is_following = False
        self._clock_scope: trio.CancelScope | None = None
        self._closing_scope: trio.CancelScope | None = None
        self._tasks_scope = trio.CancelScope()
        self._port = _SessionPort(session, self)
        self.mux = SessionMux(self._port, config=config, session_id=secrets.token_hex(16), now=trio.current_time())
        self.connection = Connection(
            self.mux,
            peer=session.peer,
            config=config,
            transport=transport,
            on_accepted=None if prepare is None else self._accept,
        )
        self.connection.kick = self._kick
        self.connection.end = self._end

    def start(self) -> None:
        """Take the session over; say hello."""
        self._nursery.start_soon(self._watch_drain)
        self._session.hand_over(self)
        self.follow()

    # -- what the session tells -------------------------------------------------------------------------------

    def on_stream_opened(self, stream_id: int, is_unidirectional: bool) -> None:
        """The peer opened a stream."""
        self._port.listen(stream_id)
        self.mux.opened(stream_id, is_unidirectional=is_unidirectional)

    def on_streams_allowed(self, is_unidirectional: bool) -> None:
        """The peer allows more streams."""
        self.mux.allowed()
        self.follow()

    def on_lost(self, over: OverCause) -> None:
        """The session is over."""
        self._lose(_reason(over(), self.connection.peer))

    async def _watch_drain(self) -> None:
        with self._tasks_scope:
            await self._session.wait_drained()
            self.mux.drained()
            self.follow()

    # -- both directions --------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Tell the streams what the machine has found, and ask for a flush if it has something. Never waits."""
        if self._is_following or self._is_over:
            return
        self._is_following = True
        connection, mux = self.connection, self.mux
        try:
            connection.dispatch()
        finally:
            self._is_following = False
        connection.bytes_received = mux.bytes_received
        if mux.failure is not None:
            self._session.close(mux.failure.code, str(mux.failure))
            self._lose(mux.failure)
            return
        if mux.has_output or self._port.take_touch():
            self._session.link.kick()
        deadline = mux.next_deadline()
        # One that has moved away is looked at again when it has passed, so that a busy connection pays nothing for it.
        if deadline is not None and self._clock_scope is not None and deadline < self._clock_scope.deadline:
            self._clock_scope.deadline = deadline
        self._wake()

    def _kick(self) -> None:
        """What users do, for each item: ask for a flush if it makes something leave, since one in vain costs as much."""
        if self.mux.take_news() or self._port.take_touch():
            self._session.link.kick()

    def note_acknowledged(self) -> None:
        """Bytes arrived: they are acknowledged in any case, and the credit that they gave back leaves with that."""
        self._port.has_freed = False

    def on_flush(self) -> None:
        """Tell of what was not told yet, and hand on what has come together since the last one."""
        self.connection.dispatch()
        self._port.take_touch()  # this flush it is
        if self.mux.has_output:
            self.mux.flush()
            self.connection.bytes_sent = self.mux.bytes_sent
            self._port.take_touch()
            self.follow()
        else:
            self._wake()  # what was given up needs no handing on

    def ask_for_flush(self) -> None:
        """Have `on_flush` called soon."""
        self._session.link.kick()

    def _lose(self, error: Exception) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._port.forget_all()
        self._tasks_scope.cancel()
        self.connection.lose(error)
        if self._clock_scope is not None:
            self._clock_scope.cancel()
        self._wake()

    def _next_deadline(self) -> float:
        deadline = self.mux.next_deadline()
        return math.inf if deadline is None else deadline

    async def run(self) -> None:
        """Keep the machine's deadlines until the connection is over, or to be ended."""
        while not (self._is_over or self._is_ending):
            with trio.CancelScope(deadline=self._next_deadline()) as self._clock_scope:
                await trio.sleep_forever()
            self.mux.handle_deadline(trio.current_time())
            self.follow()

    async def run_then_close(self) -> None:
        """The same beside a block, which may outlive its connection: the peer should not wait for that."""
        with trio.CancelScope(shield=True):
            await self.run()
        if self._closing_scope is None:
            await self.close()

    # -- the end ----------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let the last bytes arrive, within `close_timeout`, and close the session; then nothing runs any more."""
        self._is_ending = True
        with trio.CancelScope(
            shield=True, deadline=trio.current_time() + self._config.close_timeout
        ) as self._closing_scope:
            if self._is_cut:
                self._closing_scope.cancel()
            session, machine = self._session, self._session.link.machine
            while not self._is_over and not self.mux.is_flushed:
                await self._park()
            while not self._is_over and machine.undelivered_streams(session.session_id):
                await session.link.wait_changed()
        self._finish()
        self.connection.retire()

    def _finish(self) -> None:
        if not self._is_over:
            self._lose(self._closed_here())
        self._session.close()
        if self._clock_scope is not None:
            self._clock_scope.cancel()

    def _end(self, is_cut: bool) -> None:
        """See `Connection.end`."""
        self._is_ending = True
        if self._clock_scope is not None:
            self._clock_scope.cancel()
        if is_cut:
            self._is_cut = True
            self._finish()
            if self._closing_scope is not None:
                self._closing_scope.cancel()

    def _closed_here(self) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self.connection.peer} was closed here")


def _reason(error: Exception, peer: str) -> Exception:
    """Why the connection is over, as it is said of one on any carrier."""
    if not isinstance(error, SessionClosed):
        return error
    if not error.code:
        return ConnectionLost(f"{peer} closed the connection")
    code = Code.from_number(error.code)
    return RemoteProtocolError(f"the peer gave the connection up: {code.name}: {error.reason}", code=code)


@contextlib.asynccontextmanager
async def run_session_connection(
    session: WebTransportSession,
    *,
    config: ConnectionConfig | None = None,
    transport: str = "wt",
    on_connection: Callable[[Connection], None] | None = None,
) -> AsyncIterator[Connection]:
    """Run either side of a connection on a session for as long as the block, which has the peer's streams.

    Args:
      session: open; its streams belong to the connection from here on, and it is closed when the block ends.
      config: limits and timeouts of the connection. How many streams there may be, and how many bytes all of them may hold,
        is what the session's `WebTransportConfig` says.
      transport: what carries it, for people.
      on_connection: told of the connection when it begins.

    Returns:
      The connection, after the peer's hello.

    Raises:
      ConnectionLost: the peer did not greet. Later faults surface from stream operations only.
      LocalProtocolError: somebody else has the session's streams.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    async with open_bare_nursery() as nursery:
        driver = _SessionDriver(session, nursery, None, config=config or ConnectionConfig(), transport=transport)
        if on_connection is not None:
            on_connection(driver.connection)
        driver.start()
        nursery.start_soon(driver.run_then_close)
        try:
            await driver.connection.wait_ready()
            yield driver.connection
        finally:
            await driver.close()


async def run_session_server(
    session: WebTransportSession,
    prepare: Prepare,
    *,
    config: ConnectionConfig | None = None,
    transport: str = "wt",
    on_connection: Callable[[Connection], None] | None = None,
) -> None:
    """Serve a connection on a session until it is over.

    Each stream that the peer opens is served in a task and a cancel scope of its own; a handler that fails ends its
    stream with a status, never the session.

    Args:
      session, config, transport, on_connection: as for `run_session_connection`.
      prepare: called without waiting when a stream opens, before anything else of it is looked at; returns what
        serves it.

    Raises:
      LocalProtocolError: somebody else has the session's streams.

    Cancellation: the handlers are cancelled, their streams reset, and the resets leave within `close_timeout`.
    """
    async with open_bare_nursery() as nursery:
        driver = _SessionDriver(session, nursery, prepare, config=config or ConnectionConfig(), transport=transport)
        try:
            if on_connection is not None:
                on_connection(driver.connection)
            driver.start()
            await driver.run()
        except BaseException:
            nursery.cancel_scope.cancel()  # the handlers
            raise
        finally:
            await driver.wait_served()
            await driver.close()
