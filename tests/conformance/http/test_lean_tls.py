"""The lean host over TLS: goodbyes that have to be written, and answers that come from a source."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.hosts import until
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, ExchangeConfig, ExchangeHandler, respond
from trio_streams.transports.http import Http1Limits, serve_lean

Secure = trio.SSLStream[trio.SocketStream]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)
    return str(certfile), str(keyfile)


@asynccontextmanager
async def connected(
    files: tuple[str, str],
    handler: ExchangeHandler,
    trigger: trio.Event,
    *,
    config: ExchangeConfig | None = None,
    limits: Http1Limits | None = None,
) -> AsyncIterator[Secure]:
    serve_it = partial(serve_lean, handler, config=config or ExchangeConfig(), limits=limits)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(
            partial(serve_it, certfile=files[0], keyfile=files[1], shutdown_trigger=trigger.wait, graceful_timeout=5)
        )
        context = ssl.create_default_context(cafile=files[0])
        inner = await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0)
        async with trio.SSLStream(inner, context, server_hostname="127.0.0.1", https_compatible=True) as stream:
            with trio.fail_after(20):
                yield stream
        nursery.cancel_scope.cancel()


async def read_until(stream: Secure, end: bytes) -> bytes:
    data = b""
    while end not in data:
        part = await stream.receive_some()
        assert part
        data += part
    return data


async def test_a_slow_head_is_told_so(files: tuple[str, str]) -> None:
    """The 408 arrives over TLS, too."""
    async with connected(files, hello, trio.Event(), limits=Http1Limits(header_timeout=0.1)) as stream:
        await stream.send_all(b"GET / HT")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("asks_first", [False, True])
async def test_a_drained_connection_ends_at_once(files: tuple[str, str], *, asks_first: bool) -> None:
    """An idle one does not hold a shutdown for `linger_timeout`, and its end is a clean one."""
    trigger = trio.Event()
    async with connected(files, hello, trigger, config=ExchangeConfig(linger_timeout=30)) as stream:
        await stream.do_handshake()
        if asks_first:
            await stream.send_all(GET)
            await read_until(stream, b"hello")
        else:
            await trio.testing.wait_all_tasks_blocked(0.05)
        trigger.set()
        assert await stream.receive_some() == b""


async def test_a_broadcast(files: tuple[str, str]) -> None:
    """Events leave as they are published, the answer ends whole, and the connection goes on."""
    broadcast = Broadcast[bytes]()
    async with connected(files, broadcast.respond, trio.Event()) as stream:
        await stream.send_all(GET)
        await read_until(stream, b"\r\n\r\n")
        for n in range(20):
            await broadcast.publish(b"%d" % n)
            await read_until(stream, b"data: %d\n\n" % n)
        await broadcast.publish(b"z" * 200_000)
        await read_until(stream, b"z\n\n")
        broadcast.end()
        await read_until(stream, b"0\r\n\r\n")
        await until(lambda: broadcast.statistics().readers == 0)
