"""A real proxy for sockets and pipes whose weather is a seed's: late, in pieces, silent in one direction, or cut.

What it does to the bytes is `trio_streams.testing.link`'s business, as in virtual time; here is what moves them between
two connections, and what the two ends see when the line is cut.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from tests.faults.visitors import linger_not
from trio_streams.testing.link import Link, Pipe

__all__ = ["Cut", "Ending", "Weather", "open_proxy", "pass_on"]

_BUFFERED_BYTES: Final = 65_536

Connect = Callable[[], Awaitable[trio.SocketStream]]


class Ending(enum.Enum):
    """What both ends see of a cut."""

    FIN = "fin"
    RESET = "reset"
    SILENCE = "silence"  # nothing at all; the other direction goes on


@attrs.frozen
class Cut:
    """Where the line is cut.

    Attributes:
      ending: what is seen of it.
      is_upwards: whether the direction to the server is cut; else the one to the client.
      after_bytes: how many pass before.
    """

    ending: Ending
    is_upwards: bool
    after_bytes: int

    def __str__(self) -> str:
        return f"{self.ending.value}-{'up' if self.is_upwards else 'down'}-{self.after_bytes}"


@attrs.frozen
class Weather:
    """What happens to the bytes of every connection.

    Attributes:
      seed: the same one gives the same pieces and delays.
      max_chunk: bytes of the largest piece; None to cut nothing into pieces.
      latency: seconds of the shortest and the longest delay of a piece.
      cut: how the connection ends, if not by itself.
    """

    seed: int = 0
    max_chunk: int | None = None
    latency: tuple[float, float] = (0.0, 0.0)
    cut: Cut | None = None

    def of(self, number: int) -> Weather:
        """That of one connection, by its number."""
        return self

    def make_link(self, number: int) -> Link:
        """The link of a connection, which is cut already where it will be."""
        link = Link(self.seed * 1_000 + number, latency=self.latency, max_chunk=self.max_chunk)
        if self.cut is not None:
            (link.to_server if self.cut.is_upwards else link.to_client).cut(self.cut.after_bytes)
        return link


class _Sink(Protocol):
    async def send_all(self, data: bytes) -> None: ...


class _Way:
    """One direction of a connection: a task that takes bytes and one that gives them."""

    def __init__(
        self, pipe: Pipe, source: trio.abc.ReceiveStream, sink: _Sink, end: Callable[[], Awaitable[None]]
    ) -> None:
        self._pipe = pipe
        self._source = source
        self._sink = sink
        self._end = end
        self._is_ended = False
        self._changed = trio.lowlevel.ParkingLot()

    async def take(self) -> None:
        """Read until the end, a little ahead of what was passed on."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := bytes(await self._source.receive_some(_BUFFERED_BYTES)):
                self._pipe.send(data, trio.current_time())
                self._changed.unpark_all()
                while self._pipe.in_flight > _BUFFERED_BYTES:
                    await self._changed.park()
        self._is_ended = True
        self._changed.unpark_all()

    async def give(self, cut: Callable[[], Awaitable[None]] | None) -> None:
        """Pass on what has arrived; then the end of the source, or the cut."""
        pipe = self._pipe
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                if pipe.next_arrival is not None:
                    await trio.sleep_until(pipe.next_arrival)
                    await self._sink.send_all(pipe.receive(trio.current_time()))
                    self._changed.unpark_all()
                elif cut is not None and pipe.is_cut:
                    await cut()
                    return
                elif self._is_ended and not pipe.is_cut:
                    await self._end()
                    return
                else:
                    await self._changed.park()


async def pass_on(
    link: Link,
    client: tuple[trio.abc.ReceiveStream, _Sink, Callable[[], Awaitable[None]]],
    server: tuple[trio.abc.ReceiveStream, _Sink, Callable[[], Awaitable[None]]],
    *,
    cut: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Move bytes both ways until both have ended.

    Args:
      link: decides about them.
      client: what to read from it, what to write to, and how to end that.
      server: the same.
      cut: called once a direction that is cut has delivered its last byte; None where nobody is told.
    """
    up = _Way(link.to_server, client[0], server[1], server[2])
    down = _Way(link.to_client, server[0], client[1], client[2])
    async with trio.open_nursery() as nursery:
        for way in (up, down):
            nursery.start_soon(way.take)
            nursery.start_soon(way.give, cut)


@attrs.define
class _Proxy:
    weather: Weather
    connect: Connect
    served: int = 0

    async def serve(self, client: trio.SocketStream) -> None:
        self.served += 1
        weather = self.weather.of(self.served)
        link = weather.make_link(self.served)
        async with client, await self.connect() as server:
            with trio.CancelScope() as scope:

                async def cut() -> None:
                    await trio.lowlevel.checkpoint()
                    assert weather.cut is not None
                    if weather.cut.ending is Ending.RESET:
                        linger_not(client)
                        linger_not(server)
                    client.socket.close()
                    server.socket.close()
                    scope.cancel()

                tells = weather.cut is not None and weather.cut.ending is not Ending.SILENCE
                await pass_on(
                    link,
                    (client, client, partial(_end, client)),
                    (server, server, partial(_end, server)),
                    cut=cut if tells else None,
                )


async def _end(stream: trio.SocketStream) -> None:
    with suppress(OSError):
        await stream.send_eof()


@asynccontextmanager
async def open_proxy(listener: trio.SocketListener, connect: Connect, weather: Weather) -> AsyncIterator[None]:
    """Stand between the clients of a listener and a server, for as long as the block.

    Args:
      listener: where clients come; it is closed at the end.
      connect: makes a connection to the server.
      weather: what happens on the way.
    """
    proxy = _Proxy(weather, connect)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.serve, [listener])
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
