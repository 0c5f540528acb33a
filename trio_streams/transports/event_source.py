"""Reads an event stream over as many connections as it takes.

    async with open_event_source("http://127.0.0.1:7002/streams/logs.tail") as events:
        async for event in events:
            ...

`EventSourceMachine` decides; here is the I/O. There is no task behind it: who wants an event reads the connection, waits
for the next attempt, or makes it, whatever the state asks for, and can be cancelled in each without a loss. So what is
read ahead is one read, a slow reader slows down the server by TCP alone, and silence is counted only while somebody
listens.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Generic, TypeVar

import trio

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.streams.abc import ReceiveStream, StreamStatistics
from trio_streams.streams.pace import BATCH_ITEMS, Pace, next_stride
from trio_streams.transports.exchange import Headers
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.http_get import HttpGet
from trio_streams.wire.event_source import EventSourceConfig as EventSourceConfig
from trio_streams.wire.event_source import EventSourceMachine
from trio_streams.wire.event_source import State as State
from trio_streams.wire.sse import Event

__all__ = ["EventReader", "EventSourceConfig", "EventStream", "State", "open_event_source"]

T = TypeVar("T")


async def _no_explanation(_: HttpGet) -> Exception | None:
    return None


class EventReader:
    """Does what a machine says, one step at a time: connects, reads, waits.

    Args:
      machine: a new one.
      http: makes connections.
      may_resume: whether a stream that is lost now can be gone on with.
      find_headers: of the attempt that begins, beside the machine's.
      explain: reads an answer that is no event stream, and says more of it than its status; None for nothing.
      check_head: looks at the headers of an answer that is one; what it returns closes the machine.
    """

    def __init__(
        self,
        machine: EventSourceMachine,
        http: HttpClient,
        *,
        may_resume: Callable[[], bool] = lambda: True,
        find_headers: Callable[[], Headers] = tuple,
        explain: Callable[[HttpGet], Awaitable[Exception | None]] = _no_explanation,
        check_head: Callable[[Headers], Exception | None] = lambda _: None,
    ) -> None:
        self.machine: EventSourceMachine = machine
        self._http = http
        self._may_resume = may_resume
        self._find_headers = find_headers
        self._explain = explain
        self._check_head = check_head
        self._get: HttpGet | None = None
        self._scope = trio.CancelScope()
        self._is_closed = False

    async def step(self) -> list[Event]:
        """Do the next thing, and return the events that it brought; there may be none. Not for a closed machine.

        Raises:
          LocalProtocolError: the URL or a header can't be sent.
        Cancellation: atomic while a stream is open; else the attempt is made again by the next step.
        """
        machine = self.machine
        if machine.state is State.WAITING:
            await self._wait()
            return []
        if machine.state is State.OPEN:
            machine.listen(trio.current_time())
        deadline = machine.next_deadline()
        events: list[Event] = []
        with trio.CancelScope(deadline=math.inf if deadline is None else deadline) as self._scope:
            try:
                if machine.state is State.OPEN:
                    events = await self._read()
                else:
                    await self._connect()
            except (ConnectionLost, RemoteProtocolError) as exc:
                self._lose(exc)
        if self._scope.cancelled_caught and not self._is_closed:
            self._lose(ConnectionLost(f"{machine.url} has been silent for too long"))
        if machine.state is not State.OPEN:
            await self._drop()
        return events

    async def _wait(self) -> None:
        with trio.CancelScope() as self._scope:
            await trio.sleep_until(self.machine.next_deadline() or -math.inf)
        self.machine.handle_deadline(trio.current_time())

    async def _read(self) -> list[Event]:
        assert self._get is not None, "an open stream has a connection"
        chunk = await self._get.receive()
        if not chunk:
            raise ConnectionLost(f"{self._get.url} ended before the stream's end")
        return self.machine.receive(chunk, trio.current_time())

    async def _connect(self) -> None:
        machine = self.machine
        headers = [*machine.headers(), *self._find_headers()]
        get = self._get = await self._http.open_get(machine.url, headers=headers)
        machine.receive_head(get.status, get.headers, trio.current_time())
        if machine.state is State.OPEN and (refusal := self._check_head(get.headers)) is not None:
            machine.close(refusal)
            return
        if machine.state is State.WAITING and not self._may_resume():
            machine.close(machine.failure)
        if machine.state is State.CLOSED and machine.failure is not None:
            machine.close(await self._explain(get) or machine.failure)

    def _lose(self, error: Exception) -> None:
        if self.machine.state is State.CLOSED:
            return  # an answer that refuses broke off while it was read
        if self._may_resume():
            self.machine.lose(error, trio.current_time())
        else:
            self.machine.close(error)

    async def _drop(self) -> None:
        get, self._get = self._get, None
        if get is not None:
            await get.aclose()

    def stop(self) -> None:
        """Want no more: a step under way ends without events."""
        self._is_closed = True
        self.machine.close()
        self._scope.cancel()

    async def aclose(self) -> None:
        """Stop, and close the connection. Idempotent."""
        self.stop()
        await self._drop()


class EventStream(ReceiveStream[T], Generic[T]):
    """What an event stream brings, in order, each item once as long as the server goes on behind the id it is told.

    Args:
      reader: a new one; this stream closes it.
      take: makes items of events.
    """

    def __init__(self, reader: EventReader, take: Callable[[list[Event]], Iterable[T]]) -> None:
        self._reader = reader
        self._take = take
        self._items: deque[T] = deque()
        self._received = 0
        self._is_closed = False
        self._failure: Exception | None = None
        self._lock = trio.Lock()  # one of those who receive reads for all
        self._pace = Pace()
        self._stride = 1
        self._left = 0  # of the stride
        self._looked_at = 0.0

    @property
    def state(self) -> State:
        """Whether it is connecting, open, waiting for its next attempt, or closed."""
        return self._reader.machine.state

    async def wait_open(self) -> None:
        """Wait until the first stream is open, or there will be none.

        Raises:
          Exception: as `receive`, but for the end.
        Cancellation: the attempt is made again by the next call.
        """
        async with self._lock:
            while self.state not in {State.OPEN, State.CLOSED}:
                await self._step()
        if self.state is State.CLOSED and (failure := self._find_failure()) is not None:
            raise failure

    async def receive(self) -> T:
        """Take the next item; see `ReceiveStream.receive`.

        Raises:
          RemoteProtocolError: the server refuses, or answers with something else than events.
          ConnectionLost: nobody is there, for longer than the configured patience.
          LocalProtocolError: the URL or a header can't be sent.
        """
        await self._pace.step()
        if not self._items:
            await self._fill()
        return self._items.popleft()

    async def __anext__(self) -> T:
        """Take the next item; the checks come once in a stride of items, see `streams.pace`."""
        if self._left and self._items:
            self._left -= 1
            return self._items.popleft()
        now = perf_counter()
        self._stride = next_stride(self._stride, now - self._looked_at)
        self._looked_at = now
        self._left = self._stride - 1
        await self._pace.step(self._stride)
        if not self._items:
            try:
                await self._fill()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        return self._items.popleft()

    def receive_nowait(self) -> T:
        """Take the next item if there is one; see `ReceiveStream.receive_nowait`."""
        if self._items:
            return self._items.popleft()
        self._check_finished()
        raise trio.WouldBlock

    async def receive_many(self, max_items: int = BATCH_ITEMS) -> list[T]:
        """Take what is there; see `ReceiveStream.receive_many`."""
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        items = self._items
        first = await self.receive()
        if len(items) < max_items:
            run = [first, *items]
            items.clear()
            return run
        return [first, *(items.popleft() for _ in range(max_items - 1))]

    async def _fill(self) -> None:
        async with self._lock:
            while not self._items:
                self._check_finished()
                await self._step()

    async def _step(self) -> None:
        events = await self._reader.step()
        if events and not self._is_closed:
            before = len(self._items)
            self._items.extend(self._take(events))
            self._received += len(self._items) - before
            self._pace.restart()

    def _check_finished(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this event stream was closed here")
        if self.state is State.CLOSED:
            raise self._find_failure() or trio.EndOfChannel

    def _find_failure(self) -> Exception | None:
        machine = self._reader.machine
        if self._failure is None and machine.failure is not None:
            self._failure = machine.failure
            if machine.attempts > 1:
                gave_up = f"gave up {machine.url} after {machine.attempts} attempts: {machine.failure}"
                self._failure = ConnectionLost(gave_up)
                self._failure.__cause__ = machine.failure
        return self._failure

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more; see `ReceiveStream.stop`. The server learns of it when the block is left, or by `aclose`."""
        if self._items or self.state is not State.CLOSED:
            self._is_closed = True
            self._items.clear()
            self._reader.stop()

    async def aclose(self) -> None:
        """Let go of the stream and its connection; see `ReceiveStream.aclose`."""
        self._is_closed = True
        self._items.clear()
        await self._reader.aclose()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> StreamStatistics:
        """A snapshot."""
        return StreamStatistics(
            id=self._reader.machine.url,
            receive_state=self.state.value,
            items_received=self._received - len(self._items),
            buffered_items=len(self._items),
        )


@asynccontextmanager
async def open_event_source(
    url: str,
    *,
    headers: Headers = (),
    last_event_id: str = "",
    config: EventSourceConfig | None = None,
    http: HttpClient | None = None,
    random: Callable[[], float] = random.random,
) -> AsyncGenerator[EventStream[Event], None]:
    """Read an event stream, connecting again and going on behind the last event whenever the connection is lost.

    The block is entered once a stream is open; until then it tries, as long as `config` says. Iteration ends when the
    server says that there is no more: by 204, or by the `end` of a stream of ours. `end` and `error` events are
    events like any other here.

    To go on later, in another process, keep an event's `id` and pass it as `last_event_id`.

    Args:
      url: `http` or `https`.
      headers: added to each request.
      last_event_id: go on behind this event.
      config: patience and limits.
      http: makes connections, and is left open; None for a client of its own.
      random: a number from 0 up to 1, which spreads waits.

    Raises:
      Exception: as `EventStream.receive`.
    Cancellation: the connection is closed; a cancelled `receive` takes nothing.
    """
    config = EventSourceConfig() if config is None else config
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(HttpClient()) if http is None else http
        now = trio.current_time()
        machine = EventSourceMachine(url, config, now=now, random=random, headers=headers, last_event_id=last_event_id)
        reader = EventReader(machine, client)
        stack.push_async_callback(reader.aclose)
        events = EventStream(reader, _as_they_are)
        await events.wait_open()
        yield events


def _as_they_are(events: list[Event]) -> list[Event]:
    return events
