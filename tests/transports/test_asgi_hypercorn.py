"""Exchanges hosted by hypercorn, on loopback, with clients that are bare sockets."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import RpcError
from trio_streams.service.exchange import Exchange, ExchangeConfig, Routes, respond, respond_json
from trio_streams.service.sse import respond_sse
from trio_streams.transports import asgi
from trio_streams.transports.asgi import Send, serve_hypercorn
from trio_streams.transports.asgi_hypercorn import carrier_of
from trio_streams.transports.bytes import ListenError


async def echo(exchange: Exchange) -> None:
    await respond(exchange, 200, await exchange.receive_body())


@attrs.define
class Site:
    """A handler for every test on hypercorn, and what it saw."""

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
async def serving(config: ExchangeConfig | None = None) -> AsyncIterator[tuple[Site, int]]:
    site = Site()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_hypercorn, site.routes(), config=config or ExchangeConfig()))
        port = urlsplit(url).port
        assert port
        assert url == f"http://127.0.0.1:{port}"
        yield site, port
        nursery.cancel_scope.cancel()


async def open_request(
    port: int, path: str, *, method: str = "GET", extra: str = "", body: bytes = b""
) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode() + body)
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


async def test_answers_whole_requests() -> None:
    """Bodies come back, unknown paths are 404, wrong methods 405, HEAD has no body, oversized bodies are 413."""
    async with serving(ExchangeConfig(max_body_bytes=100_000)) as (_, port):
        assert (await ask(port, "/")).endswith(b'\r\n\r\n"hello"')
        assert (await ask(port, "/nope")).startswith(b"HTTP/1.1 404")
        assert b"allow: GET, HEAD\r\n" in await ask(port, "/", method="DELETE")
        head = await ask(port, "/", method="HEAD")
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        body = b"y" * 100_000
        assert (await ask(port, "/echo", method="POST", extra="content-length: 100000\r\n", body=body)).endswith(body)
        refused = await ask(port, "/echo", method="POST", extra="content-length: 400000\r\n", body=b"y" * 400_000)
        assert refused.startswith(b"HTTP/1.1 413")
        assert b'"field":"body","size":400000,"limit":100000' in refused


async def test_streams_events_then_the_error() -> None:
    """Three items and then the error arrive, in that order."""
    async with serving() as (_, port):
        answer = await ask(port, "/three")
    assert (
        answer.index(b'"n":0') < answer.index(b'"n":2') < answer.index(b"event: error") < answer.index(b"after three")
    )


async def test_keeps_a_connection_for_the_next_request() -> None:
    """Two exchanges in a row on one connection."""
    async with serving() as (_, port):
        stream = await open_request(port, "/")
        await read_until(stream, b'"hello"')
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await read_until(stream, b'"hello"')
        await stream.aclose()


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    with trio.fail_after(10):
        while end not in data:
            part = await stream.receive_some()
            assert part
            data += part
    return data


async def test_a_disconnect_cancels_a_blocked_handler() -> None:
    """A client that leaves wakes a handler blocked in an await, and its `finally` runs."""
    async with serving() as (site, port):
        stream = await open_request(port, "/block")
        await until(lambda: site.started == 1)
        await stream.aclose()
        await until(lambda: site.finished == ["block"])
        assert b'"hello"' in await ask(port, "/")


async def test_a_client_that_never_reads_stops_the_producer_and_delays_nothing() -> None:
    """The producer stops within buffers that are counted; others are served; cancellation takes `close_timeout`."""
    start = 0.0
    async with serving(ExchangeConfig(close_timeout=0.2)) as (site, port):
        stream = await open_request(port, "/flood")
        await stop_growing(lambda: site.produced)
        # 64 KiB wait, 64 KiB are being written, and the rest is the two sockets' buffers, which the kernel sizes.
        kernel = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 4_194_304
        assert site.produced * 1_008 < 2 * 65_536 + kernel
        assert b'"hello"' in await ask(port, "/")
        assert site.finished == []
        start = trio.current_time()
    assert trio.current_time() - start < 0.2 + 0.5
    assert site.finished == ["flood"]
    await stream.aclose()


async def stop_growing(figure: Callable[[], int]) -> None:
    with trio.fail_after(20):
        before = -1
        while figure() != before or before == 0:
            before = figure()
            await trio.sleep(0.2)


async def test_a_stalled_write_resets_the_connection() -> None:
    """After `stall_timeout` without progress the client is cut off and the generator closed; others are served."""
    async with serving(ExchangeConfig(stall_timeout=0.3)) as (site, port):
        stream = await open_request(port, "/flood")
        await until(lambda: site.finished == ["flood"])
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)
        assert b'"hello"' in await ask(port, "/")


async def test_half_closed_and_unread_does_not_hold_the_server() -> None:
    """A client that shuts its sending side and reads nothing is a lost client: its connection is reset."""
    async with serving() as (site, port):
        stream = await open_request(port, "/flood")
        await stop_growing(lambda: site.produced)
        await stream.send_eof()
        await until(lambda: site.finished == ["flood"])
        await stream.aclose()


async def test_a_refused_upload_leaves_no_task_behind() -> None:
    """A client that goes on sending a body nobody reads gets its answer, and its connection ends."""
    async with serving(ExchangeConfig(linger_timeout=0.1, close_timeout=0.2)) as (_, port):
        before = trio.lowlevel.current_statistics().tasks_living
        stream = await open_request(port, "/nope", method="POST", extra="content-length: 100000000\r\n")
        with trio.move_on_after(5), pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"z" * 65_536)
        await stream.aclose()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 100_000,
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
async def test_survives_garbage(garbage: bytes) -> None:
    """Whatever one connection brings, a second one is served."""
    async with serving() as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(garbage)
        await stream.send_eof()
        with trio.fail_after(10):
            try:
                await read_all(stream)
            except trio.BrokenResourceError:
                pass
        assert b'"hello"' in await ask(port, "/")


async def test_a_taken_port_is_one_clear_line() -> None:
    """A second server on the same port fails at once, and says where and why."""
    async with serving() as (site, port):
        with pytest.raises(ListenError) as info:
            await serve_hypercorn(site.routes(), "127.0.0.1", port)
        assert str(info.value) == f"cannot listen on http://127.0.0.1:{port}: address already in use"


async def test_listens_on_a_names_first_address() -> None:
    """`localhost` with port 0 is one URL that answers."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_hypercorn, Site().routes(), "localhost")
        parts = urlsplit(url)
        assert parts.hostname in {"127.0.0.1", "::1"}
        assert parts.port
        async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/block", "/flood"])
async def test_a_shutdown_waits_for_exchanges_and_then_cancels_them(path: str) -> None:
    """After the trigger no connection is accepted; what outlasts `graceful_timeout` is cancelled within bounds."""
    site, trigger = Site(), trio.Event()
    config = ExchangeConfig(close_timeout=0.2)
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_hypercorn, site.routes(), config=config, graceful_timeout=0.3, shutdown_trigger=trigger.wait
        )
        port = urlsplit(await nursery.start(serve)).port
        assert port
        stream = await open_request(port, path)
        await until(lambda: site.started + site.produced > 0)
        start = trio.current_time()
        trigger.set()
    assert 0.25 < trio.current_time() - start < 0.3 + 0.2 + 0.5
    assert site.finished == [path[1:]]
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    await stream.aclose()


async def test_is_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Serving, answering and stopping write nothing to the terminal, and no warnings to the log."""
    with caplog.at_level(logging.WARNING):
        async with serving() as (_, port):
            await ask(port, "/")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


async def test_the_kernels_bound_reaches_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TCP_USER_TIMEOUT` is set on each accepted socket, and an exchange finds that socket below hypercorn's `send`.

    A canary: it fails when hypercorn moves what `carrier_of` walks through.
    """
    found: list[trio.SocketStream | None] = []

    def spy(send: Send) -> trio.SocketStream | None:
        found.append(carrier_of(send))
        return found[-1]

    monkeypatch.setattr(asgi, "carrier_of", spy)
    async with serving(ExchangeConfig(stall_timeout=7)) as (site, port):
        stream = await open_request(port, "/block")
        await until(lambda: site.started == 1)
        (carrier,) = found
        assert carrier is not None
        assert carrier.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000
        await stream.aclose()


async def test_a_failing_trigger_surfaces_bare() -> None:
    """What the shutdown trigger raises reaches the caller outside of any group."""

    async def trigger() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("trigger")

    with pytest.raises(ValueError, match="trigger"):
        await serve_hypercorn(echo, shutdown_trigger=trigger)


# HTTP/2, which hypercorn speaks to clients that begin with it, buffers by itself and writes in a task of its own.


class Http2Client:
    """As much of HTTP/2 as one request needs."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.machine = H2Connection()

    async def ask(self, path: str) -> None:
        self.machine.initiate_connection()
        head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "x")]
        self.machine.send_headers(1, head, end_stream=True)
        await self.flush()

    async def flush(self) -> None:
        await self.stream.send_all(self.machine.data_to_send())

    async def read(self) -> bytes:
        body = b""
        while True:
            for event in self.machine.receive_data(await self.stream.receive_some()):
                if isinstance(event, DataReceived):
                    body += event.data or b""
                    self.machine.acknowledge_received_data(event.flow_controlled_length or 0, 1)
                elif isinstance(event, StreamEnded):
                    return body
            await self.flush()


async def test_http2_streams_events() -> None:
    """The same handler answers over HTTP/2."""
    async with serving() as (_, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        client = Http2Client(stream)
        await client.ask("/three")
        with trio.fail_after(10):
            body = await client.read()
    assert body.count(b"data: ") == 4
    assert b"event: error" in body


@pytest.mark.parametrize("window", [65_535, 2**31 - 1])
async def test_http2_a_client_that_never_reads_delays_nothing(window: int) -> None:
    """The producer stops, by the client's window or by the socket; cancellation takes a little over `close_timeout`."""
    async with serving(ExchangeConfig(close_timeout=0.2)) as (site, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        client = Http2Client(stream)
        client.machine.local_settings.initial_window_size = window
        await client.ask("/flood")
        if window > 65_535:
            client.machine.increment_flow_control_window(2**30)
            await client.flush()
        await stop_growing(lambda: site.produced)
        assert site.produced * 1_008 < 10_000_000
        start = trio.current_time()
    assert trio.current_time() - start < 0.25 + 0.5
    assert site.finished == ["flood"]
    await stream.aclose()


async def test_http2_a_disconnect_cancels_a_blocked_handler() -> None:
    """A client that leaves wakes the handler, and its `finally` runs."""
    async with serving() as (site, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await Http2Client(stream).ask("/block")
        await until(lambda: site.started == 1)
        await stream.aclose()
        await until(lambda: site.finished == ["block"])


@pytest.mark.parametrize("path", ["/echo", "/\xe9"])
async def test_http2_a_fault_in_one_connection_ends_only_that_one(path: str) -> None:
    """DATA after an early answer, or a path that is not ASCII, makes hypercorn raise; the server lives on."""
    async with serving(ExchangeConfig(linger_timeout=0.05, close_timeout=0.05, max_body_bytes=1)) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        client = Http2Client(stream)
        client.machine.initiate_connection()
        head = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "x"), ("content-length", "9")]
        client.machine.send_headers(1, head)
        await client.flush()
        if path == "/echo":
            with trio.fail_after(10):
                assert b"MESSAGE_TOO_LARGE" in await client.read()
            await wait_all_tasks_blocked(0.2)
            client.machine.send_data(1, b"123456789")
            await client.flush()
        with trio.fail_after(10):
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
        assert b'"hello"' in await ask(port, "/")
