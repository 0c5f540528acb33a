"""Pages of other origins, behind `serve`, whoever the host is: what a browser would send, and what it would look at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio

from tests.conformance.http.hosts import ask
from trio_streams import Router, connect, serve
from trio_streams.errors import RemoteProtocolError
from trio_streams.service.cors import CorsPolicy
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.messages import connect_websocket
from trio_streams.urls.server import HostName

APP: Final = "https://app.example.org"
ALLOWED: Final = CorsPolicy(origins=[APP], methods=["GET", "POST"], max_age=60)

every_host = pytest.mark.parametrize("host", ["hypercorn", "lean"])


@asynccontextmanager
async def sharing(host: HostName, cors: CorsPolicy | None) -> AsyncIterator[str]:
    """The URL of a server with a policy."""
    app = Router()

    @app.call("double")
    async def double(n: int) -> int:
        return 2 * n

    @app.stream("count")
    async def count() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async with trio.open_nursery() as nursery:
        start = partial(serve, app, "http://127.0.0.1:0", host=host, server=ServerConfig(cors=cors))
        (url,) = await nursery.start(start)
        yield url
        nursery.cancel_scope.cancel()


async def ask_as(
    origin: str, url: str, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a page."""
    length = f"content-length: {len(body)}\r\n" if body else ""
    port = int(url.rpartition(":")[2])
    answer = await ask(port, path, method=method, extra=f"origin: {origin}\r\n{extra}{length}", body=body)
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, rest


@every_host
async def test_a_preflight(host: HostName) -> None:
    """An allowed page is told what it may send, for a call and for a stream; another one is refused."""
    asked = "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
    async with sharing(host, ALLOWED) as url:
        for path in ("/double", "/streams/count"):
            status, headers, body = await ask_as(APP, url, path, method="OPTIONS", extra=asked)
            assert (status, body) == (204, b"")
            assert headers["access-control-allow-origin"] == APP
            assert headers["access-control-allow-methods"] == "get, post"
            assert headers["access-control-allow-headers"] == "content-type"
            assert headers["access-control-max-age"] == "60"
            assert headers["vary"] == "origin"
        status, headers, _ = await ask_as("https://evil.example.org", url, "/double", method="OPTIONS", extra=asked)
        assert status == 403
        assert "access-control-allow-origin" not in headers


@every_host
async def test_an_answer_and_an_error_can_be_read(host: HostName) -> None:
    """Both carry the header; so does what no procedure of the application answers."""
    extra = "content-type: application/json\r\n"
    async with sharing(host, ALLOWED) as url:
        for path, sent, expected in (("/double", b"21", 200), ("/double", b'"x"', 400), ("/nope", b"1", 404)):
            status, headers, body = await ask_as(APP, url, path, method="POST", extra=extra, body=sent)
            assert (status, headers["access-control-allow-origin"]) == (expected, APP)
            assert expected != 200 or body == b"42"


@every_host
async def test_an_event_stream_can_be_read(host: HostName) -> None:
    """The head has the header, and the events follow."""
    async with sharing(host, ALLOWED) as url:
        status, headers, body = await ask_as(APP, url, "/streams/count", extra="accept: text/event-stream\r\n")
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        assert headers["access-control-allow-origin"] == APP
        assert body.count(b"data: ") >= 3


@every_host
async def test_everybody_and_nobody(host: HostName) -> None:
    """`*` is said as `*`; without a policy a page of another origin is refused, and a program that is no page goes on."""
    async with sharing(host, CorsPolicy(origins=["*"])) as url:
        status, headers, _ = await ask_as("https://any.example.org", url, "/streams/count")
        assert (status, headers["access-control-allow-origin"]) == (200, "*")
    async with sharing(host, None) as url:
        status, headers, _ = await ask_as(APP, url, "/streams/count")
        assert status == 403
        assert "access-control-allow-origin" not in headers
        async with connect(url) as client:
            assert await client.call("double", 4) == 8


@every_host
async def test_a_policy_lets_no_websocket_in(host: HostName) -> None:
    """A browser gives a page whatever a WebSocket says, cookies and all: those need `allowed_origins`."""
    async with sharing(host, ALLOWED) as url:
        with pytest.raises(RemoteProtocolError, match="403"):
            await connect_websocket(url.replace("http", "ws"), origin=APP)
