"""Exchanges on real sockets, whoever the host is: a handler for every test, and clients that are bare sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio

from trio_streams.errors import RpcError
from trio_streams.service.exchange import Exchange, ExchangeConfig, Routes, respond, respond_json
from trio_streams.service.sse import respond_sse
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean

__all__ = ["HOSTS", "Site", "ask", "open_request", "read_all", "read_until", "serving", "stop_growing", "until"]


HOSTS: Final[dict[str, Callable[..., Awaitable[None]]]] = {"hypercorn": serve_hypercorn, "lean": serve_lean}


async def echo(exchange: Exchange) -> None:
    await respond(exchange, 200, await exchange.receive_body())


@attrs.define
class Site:
    """A handler for every test, and what it saw."""

    started: int = 0
    finished: list[str] = attrs.field(factory=list)
    produced: int = 0

    def routes(self) -> Routes:
        table = Routes()
        table.add("GET", "/", self.hello)
        table.add("POST", "/echo", echo)
        table.add("GET", "/block", self.block)
        table.add("GET", "/flood", self.flood)
        table.add("GET", "/three", self.three)
        return table

    async def hello(self, exchange: Exchange) -> None:
        await respond_json(exchange, "hello")

    async def block(self, exchange: Exchange) -> None:
        try:
            await exchange.send_head(200)
            self.started += 1
            await trio.sleep_forever()
        finally:
            self.finished.append("block")

    async def flood(self, exchange: Exchange) -> None:
        async def items() -> AsyncIterator[bytes]:
            try:
                while True:
                    self.produced += 1
                    yield b"x" * 1_000
            finally:
                self.finished.append("flood")

        await respond_sse(exchange, items())

    async def three(self, exchange: Exchange) -> None:
        async def items() -> AsyncIterator[bytes]:
            for n in range(3):
                yield b'{"n":%d}' % n
            raise RpcError("OWN", "after three")

        await respond_sse(exchange, items())


@asynccontextmanager
async def serving(host: str, config: ExchangeConfig | None = None) -> AsyncIterator[tuple[Site, int]]:
    site = Site()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(HOSTS[host], site.routes(), config=config or ExchangeConfig()))
        port = urlsplit(url).port
        assert port
        assert url == f"http://127.0.0.1:{port}"
        yield site, port
        nursery.cancel_scope.cancel()


async def open_request(
    port: int, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{extra}\r\n".encode() + body)
    return stream


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    async with stream:
        async for part in stream:
            data += part
    return data


async def ask(port: int, path: str, *, method: str = "GET", extra: str = "", body: bytes = b"") -> bytes:
    with trio.fail_after(10):
        return await read_all(
            await open_request(port, path, method=method, extra=extra + "connection: close\r\n", body=body)
        )


async def until(claim: Callable[[], bool]) -> None:
    """Real sockets tell nobody when they are done, so look until it holds."""
    with trio.fail_after(10):
        while not claim():  # noqa: ASYNC110 - the kernel sets no event
            await trio.sleep(0.005)


async def stop_growing(figure: Callable[[], int]) -> None:
    with trio.fail_after(20):
        before = -1
        while figure() != before or before == 0:
            before = figure()
            await trio.sleep(0.2)


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    with trio.fail_after(10):
        while end not in data:
            part = await stream.receive_some()
            assert part
            data += part
    return data
