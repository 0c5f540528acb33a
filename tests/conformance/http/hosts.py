"""Exchanges on real sockets, whoever the host is: a handler for every test, and clients that are bare sockets, or as bare
as HTTP/3 allows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias, overload
from urllib.parse import urlsplit

import attrs
import trio

from tests.webtransport.http3_client import Http3Request, ask_http3, connect_http3
from tests.webtransport.quic_pair import certificate
from trio_streams.errors import RpcError
from trio_streams.service.exchange import Exchange, ExchangeConfig, Routes, respond, respond_json
from trio_streams.service.sse import respond_sse
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean
from trio_streams.webtransport.http3_serving import serve_http3
from trio_streams.webtransport.link import Link

__all__ = [
    "ALL_HOSTS",
    "HOSTS",
    "Http3Place",
    "Place",
    "Site",
    "ask",
    "open_request",
    "place_at",
    "port_of",
    "read_all",
    "read_until",
    "serving",
    "serving_anywhere",
    "stop_growing",
    "until",
]


async def _serve_http3(*args: Any, **options: Any) -> None:
    chain, key, _ = certificate()
    await serve_http3(*args, certfile=str(chain), keyfile=str(key), **options)


HOSTS: Final[dict[str, Callable[..., Awaitable[None]]]] = {"hypercorn": serve_hypercorn, "lean": serve_lean}
"""Those over TCP: a claim about bytes is about them."""

ALL_HOSTS: Final[dict[str, Callable[..., Awaitable[None]]]] = {**HOSTS, "http3": _serve_http3}


@attrs.frozen
class Http3Place:
    """A server's port of UDP, and a connection to it."""

    port: int
    link: Link


Place: TypeAlias = int | Http3Place
"""Where a server is: a port of TCP, or the other."""


def port_of(place: Place) -> int:
    return place if isinstance(place, int) else place.port


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


@asynccontextmanager
async def place_at(host: str, port: int) -> AsyncIterator[Place]:
    """A port of one of `ALL_HOSTS`, as `open_request` wants it."""
    if host != "http3":
        yield port
        return
    async with connect_http3(port) as link:
        yield Http3Place(port, link)


@asynccontextmanager
async def serving_anywhere(host: str, config: ExchangeConfig | None = None) -> AsyncIterator[tuple[Site, Place]]:
    """As `serving`, with any of `ALL_HOSTS`."""
    if host != "http3":
        async with serving(host, config) as (site, port):
            yield site, port
        return
    site = Site()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(_serve_http3, site.routes(), config=config or ExchangeConfig()))
        port = urlsplit(url).port or 0
        assert url == f"https://127.0.0.1:{port}"
        async with place_at(host, port) as place:
            yield site, place
            # The server first, and what it cancels: a client that leaves would do it in its stead.
            nursery.cancel_scope.cancel()


@overload
async def open_request(
    place: int, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> trio.SocketStream: ...


@overload
async def open_request(
    place: Place, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> trio.SocketStream | Http3Request: ...


async def open_request(
    place: Place, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> trio.SocketStream | Http3Request:
    if isinstance(place, Http3Place):
        return await _open_http3(place, path, method, extra, body)
    stream = await trio.open_tcp_stream("127.0.0.1", place)
    await stream.send_all(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{extra}\r\n".encode() + body)
    return stream


async def _open_http3(place: Http3Place, path: str, method: str, extra: str, body: bytes) -> Http3Request:
    """The same request over HTTP/3, which has no `connection`; a body of the declared length is a whole one."""
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in extra.split("\r\n")) if name]
    fields = [field for field in fields if field[0] != "connection"]
    length = int(dict(fields).get("content-length", "0"))
    request = ask_http3(place.link, path, method=method, headers=fields, is_ended=not length)
    try:
        if body:
            await request.send_all(body)
        if length and len(body) == length:
            await request.send_eof()
    except trio.BrokenResourceError:
        pass  # it has heard enough
    return request


async def read_all(stream: trio.SocketStream | Http3Request) -> bytes:
    data = b""
    async with stream:
        async for part in stream:
            data += part
    return data


async def ask(place: Place, path: str, *, method: str = "GET", extra: str = "", body: bytes = b"") -> bytes:
    with trio.fail_after(10):
        return await read_all(
            await open_request(place, path, method=method, extra=extra + "connection: close\r\n", body=body)
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


async def read_until(stream: trio.SocketStream | Http3Request, end: bytes) -> bytes:
    data = b""
    with trio.fail_after(10):
        while end not in data:
            part = await stream.receive_some()
            assert part
            data += part
    return data
