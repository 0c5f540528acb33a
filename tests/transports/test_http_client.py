"""The HTTP client, against servers that are a few canned bytes, and against our own."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.lowlevel

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, LocalProtocolError, ProtocolError, RemoteProtocolError
from trio_streams.service.exchange import Exchange, Routes, respond
from trio_streams.service.sse import respond_sse
from trio_streams.transports import http_client
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http_client import HttpClient, HttpClientConfig, NotConnected
from trio_streams.wire.sse import SseParser

OK = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\n"


@asynccontextmanager
async def canned(*writes: bytes, hold: bool = False) -> AsyncIterator[str]:
    """A server that reads one request, writes what it was given, and closes or holds the connection."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            for data in writes:
                await stream.send_all(data)
                await trio.lowlevel.checkpoint()
            if hold:
                await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, list[str]]]:
    """Our own server, and the peers it saw."""
    peers: list[str] = []

    async def echo(exchange: Exchange) -> None:
        peers.append(exchange.request.peer)
        headers = [("x-seen", exchange.request.header("x-sent") or "")]
        await respond(exchange, 201, await exchange.receive_body(), headers)

    async def count(exchange: Exchange) -> None:
        async def items() -> AsyncIterator[bytes]:
            for n in range(1_000):
                yield b"%d" % n

        await respond_sse(exchange, items())

    routes = Routes()
    routes.add(["GET", "POST"], "/echo", echo)
    routes.add("GET", "/count", count)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_hypercorn, routes), peers
        nursery.cancel_scope.cancel()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_requests_share_a_connection() -> None:
    """Method, headers and body arrive; the answer comes back whole; the next request finds the connection."""
    async with serving() as (url, peers), HttpClient() as client:
        for body in (b"abc", chunks(b"a", b"bc")):
            answer = await client.request("POST", f"{url}/echo", headers=[("X-Sent", "é")], body=body)
            assert (answer.status, answer.body, answer.header("x-seen")) == (201, b"abc", "é")
            assert answer.header("x-none") is None
        assert (await client.request("GET", f"{url}/nope")).status == 404
    assert len(set(peers)) == 1


async def test_a_stream_arrives_in_chunks_as_large_as_they_come() -> None:
    """A thousand events are a few chunks, which the parser takes as they are."""
    async with serving() as (url, _), HttpClient() as client, client.open_exchange("GET", f"{url}/count") as exchange:
        assert (exchange.status, exchange.header("content-type")) == (200, "text/event-stream")
        parser = SseParser()
        taken = [parser.receive(chunk) async for chunk in exchange]
    events = [event for run in taken for event in run]
    assert [event.data for event in events] == [*(b"%d" % n for n in range(1_000)), b"{}"]
    assert len(taken) < 50


async def test_several_headers_of_a_name_are_joined() -> None:
    """Names are compared in lower case."""
    async with canned(OK + b"content-length: 0\r\n\r\n") as url, HttpClient() as client:
        assert (await client.request("GET", url)).header("x-a") == "1, 2"


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    """The server sees the end at once, so that it can stop producing."""
    saw: list[bytes] = []
    has_seen = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(OK + b"\r\nfirst")
        saw.append(await stream.receive_some())
        has_seen.set()

    async with HttpClient() as client, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with client.open_exchange("GET", url) as exchange:
            assert await anext(exchange) == b"first"
        with trio.fail_after(30):
            await has_seen.wait()
        nursery.cancel_scope.cancel()
    assert saw == [b""]


async def test_cancelling_a_waiting_reader_frees_the_pool() -> None:
    """A cancelled stream gives its place back: with one connection allowed, the next request still gets it."""
    async with canned(OK + b"\r\nfirst", hold=True) as url, HttpClient(HttpClientConfig(max_connections=1)) as client:
        for _ in range(3):
            with trio.move_on_after(0.05) as scope:
                async with client.open_exchange("GET", url) as exchange:
                    async for _chunk in exchange:
                        pass
            assert scope.cancelled_caught


async def free_port() -> int:
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_connection_is_one_clear_line() -> None:
    """The message says where, and why, and nothing else."""
    port = await free_port()
    async with HttpClient() as client:
        with pytest.raises(ConnectionLost) as info:
            await client.request("GET", f"http://127.0.0.1:{port}/x")
    assert str(info.value) == f"cannot connect to http://127.0.0.1:{port}: connection refused"


async def test_a_server_that_never_shakes_hands_is_given_up() -> None:
    """`connect_timeout` bounds TLS, too."""
    config = HttpClientConfig(connect_timeout=0.05)
    async with canned(hold=True) as url, HttpClient(config) as client:
        with pytest.raises(ConnectionLost, match="cannot connect to https://127.0.0.1:[0-9]+: no answer in time"):
            await client.request("GET", url.replace("http:", "https:"))


async def test_a_server_that_speaks_no_tls_is_one_clear_line() -> None:
    """The reason is TLS's own, not a number of the kernel's."""
    async with canned(OK) as url, HttpClient() as client:
        with pytest.raises(ConnectionLost, match="TLS failed: [A-Z_]+$"):
            await client.request("GET", url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("writes", "error", "match"),
    [
        ([], ConnectionLost, "lost"),
        ([OK + b"content-length: 10\r\n\r\nabc"], ConnectionLost, "lost"),
        ([OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"], ConnectionLost, "lost"),
        ([b"not http at all\r\n\r\n"], RemoteProtocolError, "not HTTP"),
        ([OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n"], RemoteProtocolError, "not HTTP"),
        ([OK + b"content-length: 101\r\n\r\n" + b"x" * 101], RemoteProtocolError, "the limit is 100"),
    ],
)
async def test_bad_answers(writes: list[bytes], error: type[Exception], match: str) -> None:
    """A truncated answer is a lost connection, a malformed one the peer's fault, a large one refused."""
    async with canned(*writes) as url, HttpClient(HttpClientConfig(max_body_bytes=100)) as client:
        with pytest.raises(error, match=match) as info:
            await client.request("GET", url)
        if isinstance(info.value, ProtocolError) and info.value.limit:
            assert (info.value.code, info.value.field, info.value.limit) == (Code.MESSAGE_TOO_LARGE, "body", 100)


async def test_a_broken_connection_in_the_middle_of_a_body() -> None:
    """A reset while reading is a lost connection."""
    has_read = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(OK + b"\r\nabc")
        await has_read.wait()
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with HttpClient() as client, client.open_exchange("GET", url) as exchange:
            assert await anext(exchange) == b"abc"
            has_read.set()
            with pytest.raises(ConnectionLost, match="lost: connection reset by peer"):
                await anext(exchange)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url", ["", "/relative", "ftp://x/", "http://", "http://x/\r\nhost: y", "http://x/é", "http://x/a b"]
)
async def test_a_url_that_can_not_be_sent_is_refused(url: str) -> None:
    """Nothing is connected for it."""
    async with HttpClient() as client:
        with pytest.raises(LocalProtocolError, match="can't request") as info:
            await client.request("GET", url)
        assert info.value.field == "url"


@pytest.mark.parametrize(
    ("url", "field"), [("http://x:0/", "port"), ("https://x:99999/", "port"), (f"http://{'a' * 64}/", "host")]
)
async def test_a_place_that_is_nowhere_is_refused(url: str, field: str) -> None:
    """Port 0 is not the default one, and what is no host's name is not looked up."""
    async with HttpClient() as client:
        for ask in (partial(client.request, "GET", url), partial(client.open_get, url)):
            with pytest.raises(LocalProtocolError) as info:
                await ask()
            assert info.value.field == field


async def test_a_body_that_fails_is_not_taken_for_a_bad_name() -> None:
    """What encodes a body may fail as what encodes a name does."""

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield "\ud800".encode()

    async with canned(hold=True) as url, HttpClient() as client:
        with pytest.raises(UnicodeEncodeError):
            await client.request("POST", url, body=body())


async def test_a_header_that_can_not_be_sent_is_refused() -> None:
    """No header can forge another one."""
    async with canned(hold=True) as url, HttpClient() as client:
        with pytest.raises(LocalProtocolError, match="can't request"):
            await client.request("GET", url, headers=[("x", "a\r\nb: c")])


async def test_the_tls_context_is_made_once_and_not_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain requests make none; two clients share one; a client's own is used instead."""
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    monkeypatch.setattr("httpcore2.default_ssl_context", make)
    http_client.shared_tls_context.cache_clear()
    port = await free_port()
    async with HttpClient() as one, HttpClient() as two, HttpClient(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as own:
        for scheme, client, expected in (("http", one, 0), ("https", own, 0), ("https", one, 1), ("https", two, 1)):
            with pytest.raises(ConnectionLost, match="refused"):
                await client.request("GET", f"{scheme}://127.0.0.1:{port}/")
            assert len(made) == expected
    http_client.shared_tls_context.cache_clear()


@pytest.mark.parametrize(
    "make", [lambda: HttpClientConfig(max_connections=0), lambda: HttpClientConfig(connect_timeout=-1)]
)
def test_a_config_is_validated_where_it_is_made(make: Callable[[], HttpClientConfig]) -> None:
    """Limits and timeouts are positive."""
    with pytest.raises(ValueError, match="must be more than 0"):
        make()


async def test_a_client_needs_no_block() -> None:
    """It opens connections when they are needed, says how many there are, and `aclose` closes them; it can go on then."""
    client = HttpClient()
    assert client.open_connections == 0
    async with serving() as (url, peers):
        for _ in range(2):
            assert (await client.request("GET", f"{url}/echo")).status == 201
            assert client.open_connections == 1
            await client.aclose()
            await client.aclose()
            assert client.open_connections == 0
    assert len(set(peers)) == 2


async def test_an_exchange_that_outlives_a_block() -> None:
    """Closed at its end it gives the connection back; closed before, it closes it; closing again does nothing."""
    async with canned(OK + b"content-length: 2\r\n\r\nab", hold=True) as url, HttpClient() as client:
        exchange = await client.start_exchange("GET", url)
        assert await anext(exchange) == b"ab"
        assert await anext(exchange, b"") == b""
        await exchange.aclose()
        assert client.open_connections == 1
    async with canned(OK + b"content-length: 2\r\n\r\na", hold=True) as url, HttpClient() as client:
        exchange = await client.start_exchange("GET", url)
        await exchange.aclose()
        await exchange.aclose()
        assert client.open_connections == 0


async def test_who_reaches_nobody_is_told_that_nothing_was_sent() -> None:
    """Where nobody listens the loss is a `NotConnected`; where the connection breaks later it is a plain one."""
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with HttpClient() as client:
            with pytest.raises(NotConnected):
                await client.request("GET", f"http://127.0.0.1:{port}/")
    async with canned() as url, HttpClient() as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.request("GET", url)
    assert not isinstance(caught.value, NotConnected)
