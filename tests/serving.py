"""A server on every kind of URL, for tests of how it is run and ended."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.config import ConnectionConfig
from trio_streams.procedures.client import Client
from trio_streams.procedures.router import Router
from trio_streams.transports.tls import client_context
from trio_streams.urls import CarrierName, Drain, ServerConfig, connect, serve
from trio_streams.urls.server import HostName

PATIENCE: Final = 30
"""Seconds until a test is given up; nothing is measured by it."""

CONFIG: Final = ConnectionConfig(close_timeout=2, handshake_timeout=5, connect_timeout=5)


@attrs.frozen
class Face:
    """A way to be served: the URL's scheme, what hosts it, and the scheme that clients use where that is another."""

    scheme: str
    host: HostName = "hypercorn"
    carrier: CarrierName = "websockets"
    client: str = ""

    def __str__(self) -> str:
        words = [self.client or self.scheme]
        if self.scheme.startswith("http"):
            words += ["in", self.host]
        elif self.scheme.startswith("ws"):
            words += ["by", self.carrier]
        return "-".join(words)

    @property
    def is_http(self) -> bool:
        """Whether clients speak plain HTTP to it."""
        return not self.client and self.scheme.startswith("http")


OWN: Final = (
    Face("tcp"),
    Face("tls"),
    Face("unix"),
    Face("ws"),
    Face("ws", carrier="trio-websocket"),
    Face("wss"),
    Face("wss", carrier="trio-websocket"),
)
HTTP: Final = (Face("http"), Face("http", "lean"))
HOSTED: Final = (Face("http", client="ws"), Face("http", "lean", client="ws"))


class Work:
    """An application whose streams and calls go on until they are let go."""

    def __init__(self) -> None:
        self.router = Router()
        self.go = trio.Event()
        self.begun = trio.Event()
        self.over = trio.Event()
        self.ended: list[str] = []

        @self.router.stream("items")
        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                self.begun.set()
                await self.go.wait()
                yield 2
            finally:
                self.ended.append("items")
                self.over.set()

        @self.router.stream("flood")
        async def flood() -> AsyncIterator[str]:
            try:
                while True:
                    self.begun.set()
                    yield "x" * 10_000
            finally:
                self.ended.append("flood")

        @self.router.call("double")
        async def double(number: int) -> int:
            return 2 * number


@attrs.define
class Served:
    """A server that runs."""

    face: Face
    url: str
    drain: Drain
    scope: trio.CancelScope
    tls: ssl.SSLContext | None
    over: trio.Event = attrs.field(factory=trio.Event)

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """A client of it."""
        url = self.url
        if self.face.client:
            url = f"{self.face.client}:{url.partition(':')[2]}"
        return connect(url, config=CONFIG, ssl_context=self.tls)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def serving(
    router: Router, face: Face, folder: Path, rules: ServerConfig | None = None, **options: Any
) -> AsyncGenerator[Served, None]:
    """Serve until the block ends."""
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_text(CERTIFICATE, encoding="utf-8")
    keyfile.write_text(KEY, encoding="utf-8")
    url = f"unix:{folder / 'socket'}" if face.scheme == "unix" else f"{face.scheme}://127.0.0.1:0"
    is_tls = face.scheme in {"tls", "wss", "https"}
    drain = Drain()
    given: dict[str, Any] = {"config": CONFIG, "server": rules, "drain": drain, "host": face.host}
    run = partial(serve, router, url, carrier=face.carrier, **{**given, **options})
    if is_tls:
        run = partial(run, certfile=str(certfile), keyfile=str(keyfile))

    async def run_all(*, task_status: trio.TaskStatus[list[str]]) -> None:
        with scope:
            await run(task_status=task_status)
        served.over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            served = Served(face, "", drain, scope, client_context(str(certfile)) if is_tls else None)
            (served.url,) = await nursery.start(run_all)
            try:
                yield served
            finally:
                scope.cancel()


async def ask(port: int, head: str, *, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One HTTP request, as it is written: the answer's status, headers and body."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return await read_answer(stream)


async def read_answer(stream: trio.SocketStream) -> tuple[int, dict[str, str], bytes]:
    """The answer on a connection: its status, headers, and a body of declared length."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some()
        assert chunk, data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += await stream.receive_some()
    return int(first.split()[1]), headers, body


@asynccontextmanager
async def stuck_reader(served: Served) -> AsyncGenerator[None, None]:
    """A client of the stream `flood` that reads nothing from the network: what it is sent stays on its way."""
    async with trio.open_nursery() as nursery:
        if served.face.is_http:
            stream = await _narrow(served.url)
            nursery.start_soon(_hold, stream)
            await stream.send_all(b"GET /streams/flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        else:
            # The client is an honest one; who carries its bytes stops.
            port = await nursery.start(_carry_for_a_while, served.url)
            nursery.start_soon(_read_flood, served, port)
        yield
        nursery.cancel_scope.cancel()


async def _hold(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


async def _narrow(url: str) -> trio.SocketStream:
    """A connection whose kernel takes little."""
    is_unix = url.startswith("unix:")
    socket = trio.socket.socket(trio.socket.AF_UNIX if is_unix else trio.socket.AF_INET)
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
    await socket.connect(url.removeprefix("unix:") if is_unix else ("127.0.0.1", int(url.rpartition(":")[2])))
    return trio.SocketStream(socket)


async def _carry_for_a_while(url: str, *, task_status: trio.TaskStatus[int]) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])
    async with listener, await listener.accept() as client, await _narrow(url) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_carry, client, server, 1_000_000)
            await _carry(server, client, 20_000)
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()


async def _carry(source: trio.SocketStream, sink: trio.SocketStream, max_bytes: int) -> None:
    left = max_bytes
    while left > 0 and (data := await source.receive_some(1_024)):
        left -= len(data)
        await sink.send_all(data)


async def _read_flood(served: Served, port: int) -> None:
    scheme = served.face.client or {"unix": "tcp"}.get(served.face.scheme, served.face.scheme)
    config = attrs.evolve(CONFIG, close_timeout=0.1)
    async with (
        connect(f"{scheme}://127.0.0.1:{port}", config=config, ssl_context=served.tls) as client,
        client.stream("flood", returns=str) as items,
    ):
        async for _ in items:
            pass
