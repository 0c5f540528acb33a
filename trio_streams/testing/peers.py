"""Two connected peers on carriers of your making, and what the checks do with them.

Nothing here waits for "long enough": a check waits for what it wants to see, and a bound turns a wait that never ends
into a failure. So the same check runs in virtual time over memory and in real time over sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.driver import Handler, Prepare, run_client, run_server
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.streams.wire import WireStream

__all__ = [
    "PATIENCE_SECONDS",
    "ByteItems",
    "End",
    "FragileCarrier",
    "MakeCarriers",
    "Peers",
    "as_end",
    "live_tasks",
    "open_peers",
    "send_until_refused",
    "until",
]

T = TypeVar("T")

ByteItems: TypeAlias = WireStream[bytes, bytes]


@runtime_checkable
class End(Protocol):
    """One end of what is connected, where that is no carrier: a session of a foreign protocol."""

    @property
    def carries_reasons(self) -> bool:
        """Whether the words of a RESET or a STOP arrive, or its code alone."""
        ...

    def run_client(self, config: ConnectionConfig | None) -> AbstractAsyncContextManager[Connection]:
        """Run a connection as the client side for as long as the block."""
        ...

    async def run_server(
        self, prepare: Prepare, config: ConnectionConfig | None, on_connection: Callable[[Connection], None]
    ) -> None:
        """Serve a connection until it is over. Cancellation: as for `run_server` on a carrier."""
        ...

    def lose(self) -> None:
        """Break the connection at this end."""
        ...


MakeCarriers: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Carrier | End, Carrier | End]]]
"""Makes two connected carriers, or ends, for as long as a block: the client's and the server's."""

PATIENCE_SECONDS: Final = 20.0
"""What one check may take, on the run's clock, before it fails. Far more than any needs, even on a busy machine."""

_POLL_SECONDS: Final = 0.001

_MAX_ITEMS: Final = 20_000


class FragileCarrier:
    """A carrier that breaks when it is told to, as the one below would if the world broke it.

    Args:
      carrier: does the work.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._scopes: set[trio.CancelScope] = set()
        self._lost: str | None = None

    @property
    def peer(self) -> str:
        """Who is on the other side."""
        return self._carrier.peer

    def lose(self, reason: str = "the test cut the line") -> None:
        """Break the connection on this side; the other one sees what it sees when this side closes."""
        self._lost = reason
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._lost is None:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await call()
                finally:
                    self._scopes.discard(scope)
        raise ConnectionLost(str(self._lost))

    async def receive(self) -> bytes:
        """Take the next bytes."""
        return await self._run(self._carrier.receive)

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await self._run(partial(self._carrier.send, data))

    async def wait_writable(self) -> None:
        """Wait until sending is worth a try."""
        await self._run(self._carrier.wait_writable)

    async def aclose(self) -> None:
        """Close the carrier below; one that is lost says no goodbye."""
        with trio.CancelScope() as scope:
            if self._lost is not None:
                scope.cancel()
            await self._carrier.aclose()


class _CarrierEnd:
    """A carrier as an end."""

    carries_reasons = True

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = FragileCarrier(carrier)

    def run_client(self, config: ConnectionConfig | None) -> AbstractAsyncContextManager[Connection]:
        return run_client(self._carrier, config=config)

    async def run_server(
        self, prepare: Prepare, config: ConnectionConfig | None, on_connection: Callable[[Connection], None]
    ) -> None:
        await run_server(self._carrier, prepare, config=config, on_connection=on_connection)

    def lose(self) -> None:
        self._carrier.lose()


def as_end(made: Carrier | End) -> End:
    """What was made, as an end."""
    return made if isinstance(made, End) else _CarrierEnd(made)


@attrs.frozen
class Peers:
    """Two ends of one connection.

    Attributes:
      client: the end that opens streams.
      server: the end whose handlers serve them.
      lose_client, lose_server: break the connection at that end.
      stop_server: cancels the server, as the end of its program does.
      carries_reasons: see `End`.
    """

    client: Connection
    server: Connection
    lose_client: Callable[[], None]
    lose_server: Callable[[], None]
    stop_server: Callable[[], None]
    carries_reasons: bool = True

    def said(self, reason: str) -> str:
        """What arrives of the words of a RESET or a STOP."""
        return reason if self.carries_reasons else ""

    def served(self, name: str) -> ByteItems:
        """The server's end of the one live stream of a name."""
        (stream,) = [stream for stream in self.server.streams if stream.name == name]
        return stream

    async def check_alive(self) -> None:
        """A new stream on this connection still works: an item goes there and comes back."""
        async with self.client.open_stream("echo") as stream:
            await stream.send(b"still there?")
            assert await stream.receive() == b"still there?"


async def _echo(stream: ByteItems) -> None:
    async for item in stream:
        await stream.send(item)


@contextlib.asynccontextmanager
async def open_peers(
    make: MakeCarriers,
    handlers: Mapping[str, Handler] | None = None,
    *,
    config: ConnectionConfig | None = None,
    server_config: ConnectionConfig | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Peers]:
    """Connect two peers for as long as the block; afterwards no task may be left.

    Args:
      make: makes the carriers, or other ends.
      handlers: what serves a stream, by its name; `echo` is always there.
      config: the client's.
      server_config: the server's, where it is another one.
      seconds: how long the block may take.

    Yields:
      The peers.

    Raises:
      AssertionError: a task outlived the block.
      trio.TooSlowError: the block, or the end of the connection, took too long.
    """
    before = live_tasks()
    table: dict[str, Handler] = {"echo": _echo, **(handlers or {})}
    accepted: list[Connection] = []
    with trio.fail_after(seconds):
        async with make() as (left, right), open_bare_nursery() as nursery:
            client_end, server_end = as_end(left), as_end(right)
            scope = trio.CancelScope()

            async def serve() -> None:
                with scope:
                    await server_end.run_server(
                        lambda stream: table[stream.name], server_config or config, accepted.append
                    )

            nursery.start_soon(serve)
            async with client_end.run_client(config) as client:
                yield Peers(
                    client,
                    accepted[0],
                    client_end.lose,
                    server_end.lose,
                    scope.cancel,
                    carries_reasons=client_end.carries_reasons and server_end.carries_reasons,
                )
    left_behind = live_tasks() - before
    assert not left_behind, f"tasks outlived the connection: {sorted(task.name for task in left_behind)}"


def live_tasks() -> set[trio.lowlevel.Task]:
    """Every task that is alive now, Trio's own among them."""

    def below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
        yield task
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from below(child)

    root = trio.lowlevel.current_root_task()
    return set() if root is None else set(below(root))


async def send_until_refused(stream: ByteItems, item: bytes) -> NoReturn:
    """Send the same item until sending raises; what it raises passes through.

    Args:
      stream: has credit for fewer items than the bound.
      item: what to send.

    Raises:
      AssertionError: 20,000 were taken: a fault that would keep a run in virtual time busy for ever.
    """
    for _ in range(_MAX_ITEMS):
        await stream.send(item)
    raise AssertionError(f"{_MAX_ITEMS} items were taken")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until a state is reached that nothing tells of; the block around bounds the wait.

    Args:
      is_so: looks.
    """
    while not is_so():  # noqa: ASYNC110 - what it waits for sets no event
        await trio.sleep(_POLL_SECONDS)
