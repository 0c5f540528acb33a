"""What only the lean host does, or does in its own way."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
import trio
import trio.lowlevel

from tests.conformance.http.hosts import Site, ask, open_request, read_all, read_until, stop_growing, until
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.errors import ConnectionLost
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import Exchange, ExchangeConfig, ExchangeHandler, respond
from trio_streams.transports.http import AccessRecord, Http1Limits, log_access, serve_lean
from trio_streams.transports.http_client import HttpClient, HttpClientConfig
from trio_streams.urls import connect, serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@attrs.define
class Lean:
    site: Site
    port: int
    records: list[AccessRecord]


@asynccontextmanager
async def lean(
    handler: ExchangeHandler | None = None, *, config: ExchangeConfig | None = None, limits: Http1Limits | None = None
) -> AsyncIterator[Lean]:
    site = Site()
    records: list[AccessRecord] = []
    async with trio.open_nursery() as nursery:
        serve_it = partial(serve_lean, handler or site.routes(), on_access=records.append, limits=limits)
        url = await nursery.start(partial(serve_it, config=config or ExchangeConfig()))
        port = urlsplit(url).port
        assert port
        yield Lean(site, port, records)
        nursery.cancel_scope.cancel()


async def send(port: int, *parts: bytes, ends: bool = False) -> bytes:
    """What comes back for some bytes, sent in parts, until the server closes."""
    with trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for part in parts:
            await stream.send_all(part)
            await trio.testing.wait_all_tasks_blocked(0.005)
        if ends:
            await stream.send_eof()
        return await read_all(stream)


async def echo_twice(exchange: Exchange) -> None:
    """Answers while the request still comes."""
    await exchange.send_head(200)
    async for chunk in exchange.iter_body():
        await exchange.send(chunk + chunk)


SMUGGLED = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Length: 5, 6\r\n\r\nhello",
    b"Transfer-Encoding: gzip\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n",
    b"Transfer-Encoding: identity, chunked\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"X: y\n Content-Length: 5\r\n\r\n",
    b"X: y\r\n Content-Length: 5\r\n\r\n",
    b"X: y\0\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLED)
async def test_a_smuggled_request_is_never_served(rest: bytes) -> None:
    """One refusal, the connection's end, and not a word to what is behind."""
    async with lean() as host:
        answer = await send(host.port, b"POST /echo HTTP/1.1\r\nHost: x\r\n" + rest + GET)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert b"hello" not in answer


async def test_a_pipelined_flood_is_answered_in_order_and_bounded() -> None:
    """A thousand requests in one write get a thousand answers in order; behind a handler that waits, reading stops."""
    async with lean() as host:
        flood = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(1_000))
        answer = await send(host.port, flood + GET[:-2] + b"Connection: close\r\n\r\n")
        assert [answer.index(b'at /%d"' % n) for n in (0, 1, 999)] == sorted(
            answer.index(b'at /%d"' % n) for n in (0, 1, 999)
        )
        assert answer.count(b"HTTP/1.1 404") == 1_000
        assert answer.endswith(b'"hello"')
        assert [record.path for record in host.records] == [*(f"/{n}" for n in range(1_000)), "/"]
        stream = await open_request(host.port, "/block")
        await until(lambda: host.site.started == 1)
        sent = 0

        async def flood_on() -> None:
            nonlocal sent
            while True:
                await stream.send_all(GET * 1_000)
                sent += 1_000 * len(GET)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood_on)
            await stop_growing(lambda: sent)
            nursery.cancel_scope.cancel()
        assert sent < 16_000_000  # two sockets' buffers, which the kernel sizes
        await stream.aclose()


async def test_slow_heads_and_bodies_are_408() -> None:
    """By drops, or not at all; a silent connection just ends."""
    limits = Http1Limits(header_timeout=0.1, body_timeout=0.1, keep_alive_timeout=0.1)
    async with lean(limits=limits) as host:
        assert (await send(host.port, b"GET / HT")).startswith(b"HTTP/1.1 408 ")
        slow = await send(host.port, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert slow.startswith(b"HTTP/1.1 408 ")
        assert await send(host.port) == b""
        assert (await send(host.port, GET)).endswith(b'"hello"')


async def test_oversized_lines_and_headers() -> None:
    """414 and 431, and the client gets to read them although it sends on."""
    async with lean() as host:
        assert (await send(host.port, b"GET /" + b"x" * 200_000)).startswith(b"HTTP/1.1 414 ")
        assert (await send(host.port, GET[:-2] + b"a: " + b"b" * 200_000)).startswith(b"HTTP/1.1 431 ")
        assert (await send(host.port, GET[:-2] + b"a: b\r\n" * 200 + b"\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_an_early_answer_keeps_the_connection_if_the_body_ends() -> None:
    """The rest of a small body is dropped, and the next request answered."""
    async with lean() as host:
        head = b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
        answer = await send(host.port, head, b"defghi" + GET[:-2] + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'"hello"')


async def test_half_closed_clients_get_their_answers() -> None:
    """A client that ends its side after its requests, however its handler waits a little, is answered in full."""

    async def handler(exchange: Exchange) -> None:
        await trio.sleep(0.05)
        await respond(exchange, 200, exchange.request.path.encode())

    async with lean(handler) as host:
        answer = await send(host.port, GET + GET.replace(b"/ ", b"/2 "), ends=True)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.endswith(b"\r\n\r\n/2")


async def test_each_answer_to_a_client_that_has_ended_its_side_is_bounded() -> None:
    """Also the second of two pipelined ones, whose handler would wait for ever."""
    async with lean(config=ExchangeConfig(half_close_timeout=0.1)) as host:
        stream = await trio.open_tcp_stream("127.0.0.1", host.port)
        await stream.send_all(GET + GET.replace(b"/ ", b"/block "))
        await stream.send_eof()
        await until(lambda: host.site.finished == ["block"])
        await stream.aclose()


async def test_a_body_is_read_while_its_answer_is_written() -> None:
    """Chunks both ways at once, and what is more than the buffers waits for the handler."""
    async with lean(echo_twice) as host:
        stream = await open_request(host.port, "/", method="POST", extra="transfer-encoding: chunked\r\n")
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"3\r\nabc\r\n")
        await read_until(stream, b"6\r\nabcabc\r\n")
        await stream.send_all(b"0\r\n\r\n")
        await read_until(stream, b"0\r\n\r\n")
        await stream.aclose()


async def test_large_bodies_both_ways() -> None:
    """Ten megabytes go in by pieces and come out again."""
    async with lean(config=ExchangeConfig(max_body_bytes=20_000_000)) as host:
        body = bytes(range(256)) * 40_000
        head = f"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        answer = await send(host.port, head + body)
    assert answer.endswith(body)


async def test_100_continue_waits_for_somebody_who_wants_the_body() -> None:
    """It is sent when the handler reads; a handler that refuses by the length answers at once, and the body stays away."""
    expecting = "expect: 100-continue\r\ncontent-length: {}\r\n"
    async with lean(config=ExchangeConfig(max_body_bytes=10)) as host:
        stream = await open_request(host.port, "/echo", method="POST", extra=expecting.format(3))
        await read_until(stream, b"HTTP/1.1 100 Continue\r\n\r\n")
        await stream.send_all(b"abc")
        await read_until(stream, b"\r\n\r\nabc")
        await stream.aclose()
        refused = await ask(host.port, "/echo", method="POST", extra=expecting.format(11))
        assert refused.startswith(b"HTTP/1.1 413 ")


async def test_http_1_0() -> None:
    """No Host is needed, streams end with the connection, and keep-alive is granted if asked for."""
    async with lean() as host:
        answer = await send(host.port, b"GET /three HTTP/1.0\r\n\r\n")
        assert b"transfer-encoding" not in answer
        assert answer.endswith(b"\n\n")
        asking = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        assert (await send(host.port, asking, b"GET / HTTP/1.0\r\n\r\n")).count(b'"hello"') == 2


async def test_a_handler_that_fails_in_the_middle_shows() -> None:
    """After the head nothing can be said, so the body stops short and the connection is reset."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-length", "10")])
        await exchange.send(b"12345")

    async with lean(handler) as host:
        stream = await open_request(host.port, "/")
        await read_until(stream, b"12345")
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)


async def test_a_deadline_that_passes_is_504() -> None:
    """The handler's scope may end it; the client is told, if nothing was said before."""

    async def handler(exchange: Exchange) -> None:
        exchange.cancel_scope.deadline = trio.current_time() + 0.02
        await trio.sleep_forever()

    async with lean(handler) as host:
        assert (await send(host.port, GET)).startswith(b"HTTP/1.1 504 ")


async def test_a_deadline_that_is_kept_does_not_outlive_its_exchange() -> None:
    """The next one on the connection has none."""

    async def handler(exchange: Exchange) -> None:
        assert exchange.cancel_scope.deadline == float("inf")
        exchange.cancel_scope.deadline = trio.current_time() + 60
        await respond(exchange, 200, b"ok")

    async with lean(handler) as host:
        assert (await send(host.port, GET * 3, ends=True)).count(b"200 OK") == 3


async def test_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    """A record for each exchange and each refused head, which `log_access` logs with its fields."""
    async with lean() as host:
        await ask(host.port, "/echo?q=1", method="POST", extra="content-length: 3\r\n", body=b"abc")
        await send(host.port, b"nonsense\r\n\r\n")
    record, refused = host.records
    assert (record.method, record.path, record.status, record.sent_bytes) == ("POST", "/echo?q=1", 200, 3)
    assert 0 <= record.duration < 5
    assert record.peer.startswith("127.0.0.1:")
    assert (refused.method, refused.status) == ("", 400)
    with caplog.at_level(logging.INFO):
        log_access(record)
    (line,) = caplog.records
    assert '"POST /echo?q=1" 200 3' in line.getMessage()
    assert json.loads(json.dumps(vars(line)["access"]))["status"] == 200


async def test_what_a_handler_leaves_open_is_reset_at_shutdown() -> None:
    """Cancelling the host leaves no task behind, whatever its connections were doing."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with lean() as host:
        streams = [await open_request(host.port, path) for path in ("/", "/block", "/flood", "/three")]
        streams.append(await trio.open_tcp_stream("127.0.0.1", host.port))
        await until(lambda: host.site.started == 1 and host.site.produced > 0)
    assert trio.lowlevel.current_statistics().tasks_living <= before
    assert sorted(host.site.finished) == ["block", "flood"]
    for stream in streams:
        await stream.aclose()


async def test_tls(tmp_path: Path) -> None:
    """Requests, streams and large answers over TLS, by our own client."""
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)

    async def handler(exchange: Exchange) -> None:
        assert exchange.request.scheme == "https"
        body = await exchange.receive_body()
        await trio.lowlevel.checkpoint()
        await respond(exchange, 200, body * 10_000)

    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_lean, handler, certfile=str(certfile), keyfile=str(keyfile)))
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(certfile))
        async with HttpClient(HttpClientConfig(), tls=trusting) as client:
            for _ in range(2):
                answer = await client.request("POST", url + "/", body=b"0123456789")
                assert len(answer.body) == 100_000
        nursery.cancel_scope.cancel()


app = Router()


@app.call("double")
async def double(value: int) -> int:
    return 2 * value


@attrs.frozen
class Count:
    n: int


@app.stream("count")
async def count(value: Count) -> AsyncIterator[int]:
    for n in range(value.n):
        yield n


async def test_one_port_serves_http_and_websockets() -> None:
    """`host="lean"`: calls and streams over HTTP, and everything over a WebSocket on the same port, TLS or not."""
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0", host="lean"))
        for way in (url, url.replace("http", "ws")):
            async with connect(way) as client:
                assert await client.call("double", 21, returns=int) == 42
                async with client.stream("count", Count(3), returns=int) as items:
                    assert [item async for item in items] == [0, 1, 2]
        nursery.cancel_scope.cancel()


async def test_a_websocket_after_a_request_on_its_connection() -> None:
    """The reader that an earlier handler brought along steps back, and nothing that came early is lost."""
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0", host="lean"))
        port = urlsplit(url).port
        assert port
        stream = await open_request(port, "/streams/count?n=1")
        await read_until(stream, b"0\r\n\r\n")
        upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: trio-streams.v1\r\n"
        await stream.send_all(f"GET / HTTP/1.1\r\nhost: localhost\r\n{upgrade}{key}\r\n".encode())
        await read_until(stream, b"HTTP/1.1 101 ")
        await stream.aclose()
        with pytest.raises(ConnectionLost):
            async with connect(url.replace("http", "ws").replace(str(port), "1")):
                pass
        assert b'"' in await ask(port, "/double", method="POST", extra="content-length: 1\r\n", body=b"x")
        nursery.cancel_scope.cancel()
