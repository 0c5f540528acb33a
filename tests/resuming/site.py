"""A server of sessions and the network before it, in memory: what the tests of `resuming` share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from tests.fake_carrier import FakeCarrier
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.driver import Handler, run_server
from trio_streams.errors import ConnectionLost, StreamsError
from trio_streams.nursery import open_bare_nursery
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.client import run_resuming_client
from trio_streams.resuming.sessions import Sessions
from trio_streams.streams.wire import WireStream
from trio_streams.transports.memory import memory_carrier_pair

__all__ = ["AT_ONCE", "CONFIG", "Site", "connected", "open_site"]

CONFIG = ConnectionConfig(close_timeout=2, handshake_timeout=5, idle_timeout=20)
AT_ONCE = ReconnectOptions(initial_delay=0.01)

Stream = WireStream[bytes, bytes]


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async for item in stream:
        await stream.send(item)


async def count(stream: Stream) -> None:
    """Send numbers for as long as somebody wants them."""
    number = 0
    while True:
        await stream.send(b"%d" % number)
        number += 1


async def wait(stream: Stream) -> None:
    """Do nothing, for ever."""
    await trio.sleep_forever()


HANDLERS: dict[str, Handler] = {"echo": echo, "count": count, "wait": wait}


@attrs.define(eq=False)
class Site:
    """One server, and how clients get there.

    Attributes:
      sessions: the server's.
      nursery: its connections' tasks run in it.
      is_down: whether nobody can connect.
      connect_seconds: how long that takes.
      is_silent: whether connections are made, and nothing comes over them.
      is_plain: whether the server knows no sessions.
      principal: who a client is that connects now.
      links: the carriers of each connection, the client's first.
      scopes: around what the server does for each.
      connections: those that the server was told of.
      tries: when somebody tried to connect.
      ended: the names of the handlers that have come to their end.
    """

    sessions: Sessions
    nursery: trio.Nursery
    config: ConnectionConfig = CONFIG
    is_down: bool = False
    connect_seconds: float = 0
    is_silent: bool = False
    is_plain: bool = False
    principal: Hashable = None
    links: list[tuple[FakeCarrier, FakeCarrier]] = attrs.Factory(list)
    scopes: list[trio.CancelScope] = attrs.Factory(list)
    connections: list[Connection] = attrs.Factory(list)
    tries: list[float] = attrs.Factory(list)
    ended: list[str] = attrs.Factory(list)

    @asynccontextmanager
    async def open_carrier(self) -> AsyncIterator[Carrier]:
        """Connect."""
        self.tries.append(trio.current_time())
        await trio.sleep(self.connect_seconds)
        if self.is_down:
            raise ConnectionLost("nobody is there")
        near, far = map(FakeCarrier, memory_carrier_pair())
        self.links.append((near, far))
        if self.is_silent:
            self.swallow()
        self.nursery.start_soon(self._serve, far, self.principal)
        yield near

    async def _serve(self, carrier: FakeCarrier, principal: Hashable) -> None:
        self.scopes.append(trio.CancelScope())
        with suppress(StreamsError), self.scopes[-1]:
            if self.is_plain:
                await run_server(carrier, self._prepare, config=self.config, on_connection=self.connections.append)
                return
            offer = await self.sessions.receive_offer(carrier)
            if offer.hello is not None:
                await self.sessions.serve(carrier, offer, principal, self._run)

    async def _run(self, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)
            self.connections.append(connection)

        await run_server(
            carrier, self._prepare, config=self.config, make_machine=lambda: carrier.machine, on_connection=began
        )

    def _prepare(self, stream: Stream) -> Handler:
        return self._handle

    async def _handle(self, stream: Stream) -> None:
        try:
            await HANDLERS[stream.name](stream)
        finally:
            self.ended.append(stream.name)

    def cut(self) -> None:
        """Break the newest connection; both ends see it at once."""
        self.links[-1][0].inner.lose()

    def swallow(self) -> None:
        """Let whatever goes over the newest connection vanish, both ways, without a word."""
        for carrier in self.links[-1]:
            setattr(carrier.inner._outgoing, "put", len)  # noqa: B010 - a method, for the type checker


@asynccontextmanager
async def open_site(
    resume: ResumeOptions | None = None, config: ConnectionConfig = CONFIG
) -> AsyncGenerator[Site, None]:
    """A server that knows sessions, for as long as the block; then it is cancelled."""
    async with open_bare_nursery() as nursery:
        yield Site(Sessions(resume or ResumeOptions(), config, nursery), nursery, config)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    site: Site, resume: ResumeOptions | None = None, reconnect: ReconnectOptions = AT_ONCE
) -> AsyncGenerator[Connection, None]:
    """A client of a site."""
    async with run_resuming_client(
        site.open_carrier, config=site.config, resume=resume, reconnect=reconnect
    ) as connection:
        yield connection
