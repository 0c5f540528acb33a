"""Event streams on the lean host: real sockets, the chunked coding, and clients that do not read."""

from __future__ import annotations

import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import trio

from tests.conformance.http.hosts import until
from trio_streams.durable.server import live_feed
from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.transports.http import serve_lean
from trio_streams.wire.http1_body import ChunkedBody
from trio_streams.wire.sse import SseParser


class Client:
    """A bare socket that reads one event stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._parser = SseParser()
        self._body = ChunkedBody(100)
        self._left = b""
        self.pieces: list[bytes] = []
        self.is_whole = False

    async def begin(self, path: str, offset: str) -> None:
        ask = f"GET /v1/stream/{path}?live=sse&offset={offset} HTTP/1.1\r\nhost: x\r\n\r\n"
        await self._stream.send_all(ask.encode())
        while b"\r\n\r\n" not in self._left:
            part = await self._stream.receive_some()
            assert part
            self._left += part
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding: chunked" in head
        self._decode()

    def _decode(self) -> None:
        pieces, used = self._body.decode(self._left)
        assert self._body.fault is None
        self._left = self._left[used:]
        self.is_whole = self._body.is_ended
        for piece in pieces:
            self.pieces += [event.data for event in self._parser.receive(piece) if event.event == "data"]

    async def read(self) -> None:
        """Until the answer is over, whole or not; then the connection is closed."""
        async with self._stream:
            await self._read()

    async def _read(self) -> None:
        while not self.is_whole:
            try:
                part = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return
            if not part:
                return
            self._left += part
            self._decode()


@asynccontextmanager
async def serving(config: ExchangeConfig) -> AsyncIterator[tuple[DurableServer, int, trio.Nursery]]:
    with trio.fail_after(60):
        async with DurableServer(None, DurableConfig()) as server, trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_lean, server.handle, config=config))
            yield server, urlsplit(url).port or 0, nursery
            nursery.cancel_scope.cancel()


async def open_client(port: int, path: str, offset: str = "-1") -> Client:
    client = Client(await trio.open_tcp_stream("127.0.0.1", port))
    await client.begin(path, offset)
    return client


async def test_many_clients_get_everything() -> None:
    """Each byte once and in order, in chunks that are valid, up to the last one."""
    async with serving(ExchangeConfig()) as (server, port, _):
        await server.create("a", content_type="text/plain", body=b"before;")
        clients = [await open_client(port, "a") for _ in range(100)]
        async with trio.open_nursery() as reading:
            for client in clients:
                reading.start_soon(client.read)
            for number in range(100):
                await server.append("a", b"%d;" % number)
                if number == 50:
                    await until(lambda: all(client.pieces[-1] == b"50;" for client in clients))
            await server.close("a")
        whole = b"before;" + b"".join(b"%d;" % number for number in range(100))
        assert {b"".join(client.pieces) for client in clients} == {whole}
        assert all(client.is_whole for client in clients)


async def test_a_client_that_does_not_read_is_given_up() -> None:
    """Its connection is reset after `stall_timeout`, others get everything meanwhile, and it can come again by offset."""
    async with serving(ExchangeConfig(stall_timeout=3.0)) as (server, port, nursery):
        await server.create("a", content_type="text/plain")
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.setblocking(False)
        connected = trio.socket.from_stdlib_socket(stuck)
        await connected.connect(("127.0.0.1", port))
        await connected.send(b"GET /v1/stream/a?live=sse&offset=-1 HTTP/1.1\r\nhost: x\r\n\r\n")
        quick = await open_client(port, "a")
        nursery.start_soon(quick.read)
        await until(lambda: server._running.readers.count == 2)
        piece = b"x" * 65_536
        count = 200
        most = 0
        state = server._machine.registry.get_nowait("a")
        assert state is not None
        feed = state.follower
        assert isinstance(feed, live_feed.LiveFeed)
        for number in range(count):
            await server.append("a", piece)
            await until(lambda: len(quick.pieces) > number)  # noqa: B023 - awaited here
            most = max(most, feed.log.retained_bytes)
        await until(lambda: server._running.readers.count == 1)
        assert most <= 262_144 + 2 * (65_536 + 64)
        connected.close()
        await server.close("a")
        await until(lambda: quick.is_whole)
        assert sum(map(len, quick.pieces)) == count * len(piece)
        again = await open_client(port, "a", f"{65_536:016d}")
        await again.read()
        assert sum(map(len, again.pieces)) == (count - 1) * len(piece)


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    """It falls out of the window, and goes on from the store and from the tail as often as it takes."""
    async with serving(ExchangeConfig()) as (server, port, nursery):
        await server.create("a")
        slow, quick = await open_client(port, "a"), await open_client(port, "a")
        nursery.start_soon(quick.read)
        piece = bytes(range(256)) * 1_000
        for number in range(30):
            await server.append("a", piece)
            if number == 20:
                nursery.start_soon(slow.read)
        await server.close("a")
        await until(lambda: quick.is_whole and slow.is_whole)
        assert b"".join(map(b64decode, slow.pieces)) == piece * 30
        assert b"".join(map(b64decode, quick.pieces)) == piece * 30
