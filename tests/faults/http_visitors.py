"""Clients of a soak on plain HTTP/1.1: what is a connection with streams elsewhere is a handful of sockets here."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import trio

from tests.faults.visitors import DEATHS, Tally, linger_not, open_narrow, wait_left

__all__ = ["HttpVisitors"]

_BODY: Final = b'"' + b"e" * 98 + b'"'
_SAY: Final = b"POST /say HTTP/1.1\r\nhost: soak\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
_FLOOD: Final = b"GET /streams/flood HTTP/1.1\r\nhost: soak\r\n\r\n"


class HttpVisitors:
    """Makes clients of one server.

    Args:
      url: `http://`.
      streams: sockets of each client.
      pace: the mean of seconds between two requests of a healthy client.
    """

    def __init__(self, url: str, streams: int, *, pace: float) -> None:
        self._port = urlsplit(url).port or 0
        self._streams = streams
        self._pace = pace
        self.tally = Tally()

    @asynccontextmanager
    async def _visit(self, request: bytes = b"") -> AsyncIterator[list[trio.SocketStream]]:
        sockets: list[trio.SocketStream] = []
        try:
            for _ in range(self._streams):
                sockets.append(await open_narrow(self._port))
                await sockets[-1].send_all(request)
            yield sockets
        finally:
            for stream in sockets:
                if stream not in self.tally.held:
                    stream.socket.close()

    async def healthy(self, rng: random.Random, started: Callable[[], None]) -> None:
        """Calls on connections that are kept, for ever; one that the server has closed meanwhile is opened again."""
        try:
            async with self._visit() as sockets:
                started()
                while True:
                    for n in range(self._streams):
                        await trio.sleep(self._pace * rng.uniform(0.5, 1.5))
                        seconds = await self._call(sockets[n])
                        if seconds is None:
                            sockets[n].socket.close()
                            sockets[n] = await open_narrow(self._port)
                        else:
                            self.tally.seconds.append(seconds)
        except (trio.BrokenResourceError, OSError) as exc:
            self.tally.faults.append(repr(exc))
            started()

    async def _call(self, stream: trio.SocketStream) -> float | None:
        """The seconds of a call; None where the server had closed the connection before it heard of it."""
        before, answer = perf_counter(), b""
        try:
            await stream.send_all(_SAY)
            while not answer.endswith(b"\r\n\r\n" + _BODY):
                answer += await _more(stream)
        except trio.BrokenResourceError:
            if answer:
                raise
            return None
        return perf_counter() - before

    async def stalled(self, rng: random.Random, started: Callable[[], None]) -> None:
        """Ask for endless streams and read nothing, until the server has given up each of them; then again."""
        while True:
            with suppress(trio.BrokenResourceError, OSError):
                async with self._visit(_FLOOD) as sockets:
                    started()
                    for stream in sockets:
                        await wait_left(stream)
            self.tally.dropped += self._streams

    async def vanishing(self, rng: random.Random, started: Callable[[], None], life: float) -> None:
        """Come, read a little of endless streams, vanish somehow, and come again."""
        while True:
            how = rng.choice(DEATHS)
            with suppress(trio.BrokenResourceError, OSError):
                async with self._visit(_FLOOD) as sockets:
                    started()
                    with trio.move_on_after(rng.uniform(0, 2 * life)):
                        await self._be_busy(sockets, rng)
                    await self._die(sockets, how)
            self.tally.deaths[how] += 1

    async def _be_busy(self, sockets: list[trio.SocketStream], rng: random.Random) -> None:
        while True:
            for stream in sockets:
                await trio.sleep(rng.uniform(0, 1))
                await stream.receive_some(8_192)

    async def _die(self, sockets: list[trio.SocketStream], how: str) -> None:
        for stream in sockets:
            if how == "torn":
                with trio.move_on_after(1):
                    await stream.send_all(_SAY[:70])
            if how in {"reset", "torn", "cancel"}:
                linger_not(stream)
            if how == "goodbye":
                await stream.send_eof()
            if how == "silent":
                self.tally.held.append(stream)


async def _more(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some(4_096))
    if not data:
        raise trio.BrokenResourceError("the server ended its side")
    return data
