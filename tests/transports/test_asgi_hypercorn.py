"""What only hypercorn does; what every host owes is in tests/conformance/http."""

from __future__ import annotations

import socket
from functools import partial

import pytest
import trio
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from trio.testing import wait_all_tasks_blocked

from tests.conformance.http.hosts import ask, open_request, stop_growing, until
from tests.conformance.http.hosts import serving as serving_on
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.transports import asgi
from trio_streams.transports.asgi import Send
from trio_streams.transports.asgi_hypercorn import carrier_of

serving = partial(serving_on, "hypercorn")


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
    # Promised is `close_timeout`; a loaded machine is slow, and a write that stalls would have 30 s.
    assert trio.current_time() - start < 10
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
