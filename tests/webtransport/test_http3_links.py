"""Plain requests between two whole connections, in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.http3_client import Http3Request, ask_http3
from tests.webtransport.link_pair import SMALL, LinkPair, open_pair, session_pair
from tests.webtransport.quic_pair import unsteady
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, ExchangeConfig, ExchangeHandler, respond
from trio_streams.webtransport.http3_host import Http3Host

ONE_WAY: Final = 0.01
"""Seconds of the pair's network."""


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(200)
    async for chunk in exchange.iter_body():
        await exchange.send(chunk)


@asynccontextmanager
async def serving(
    handler: ExchangeHandler, exchanges: ExchangeConfig | None = None, **options: Any
) -> AsyncIterator[tuple[LinkPair, Http3Host]]:
    host = Http3Host(handler, config=exchanges or ExchangeConfig())
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        async with open_pair(**options) as pair:
            host.attach(pair.server)
            yield pair, host
        nursery.cancel_scope.cancel()


async def whole(request: Http3Request) -> tuple[int, bytes]:
    """The status and the body of an answer that ends well."""
    data = b""
    async with request:
        async for chunk in request:
            data += chunk
    return int(request.headers[":status"]), data.partition(b"\r\n\r\n")[2]


async def upload(request: Http3Request, data: bytes) -> None:
    await request.send_all(data)
    await request.send_eof()


async def test_answers_without_a_body(autojump_clock: MockClock) -> None:
    """HEAD keeps the length of what it does not have, and so does 304; 204 has neither."""

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, int(exchange.request.path[1:]), b"hello")

    async with serving(handler) as (pair, _):
        for method, status, length in (("HEAD", 200, "5"), ("GET", 304, "5"), ("GET", 204, None)):
            request = ask_http3(pair.client, f"/{status}", method=method)
            assert await whole(request) == (status, b"")
            assert request.headers.get("content-length") == length
        assert await whole(ask_http3(pair.client, "/200")) == (200, b"hello")


async def test_streams_are_given_back(autojump_clock: MockClock) -> None:
    """Ten times as many requests as there may be streams at once, one after the other, and none is left."""
    config = attrs.evolve(SMALL, quic=attrs.evolve(SMALL.quic, max_bidirectional_streams=4))
    async with serving(hello, config=config) as (pair, host):
        for _ in range(40):
            assert await whole(ask_http3(pair.client, "/")) == (200, b"hello")
            await trio.sleep(10 * ONE_WAY)
        assert host.exchanges == 0


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
async def test_bodies_arrive_whole_whatever_the_network_does(loss: float, autojump_clock: MockClock) -> None:
    """Four at once, echoed as they come, over a network that loses, doubles and reorders."""
    data = bytes(range(256)) * 300  # more than a window
    digests: list[str] = []

    async def exchange(pair: LinkPair) -> None:
        request = ask_http3(pair.client, "/", method="POST", is_ended=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload, request, data)
            status, body = await whole(request)
        assert status == 200
        digests.append(hashlib.sha256(body).hexdigest())

    async with serving(echo, network=unsteady(7, loss)) as (pair, _), trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(exchange, pair)
    assert digests == [hashlib.sha256(data).hexdigest()] * 4


async def test_what_a_handler_does_not_read_stays_with_its_client(autojump_clock: MockClock) -> None:
    """A window arrives and no byte more; other requests are answered meanwhile; then the rest follows."""
    go_on = trio.Event()
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            return await hello(exchange)
        await go_on.wait()
        seen.append(len(await exchange.receive_body()))
        return await hello(exchange)

    async with serving(handler) as (pair, _), trio.open_nursery() as nursery:
        request = ask_http3(pair.client, "/", method="POST", is_ended=False)
        window = SMALL.quic.window_bytes
        nursery.start_soon(upload, request, b"x" * 10 * window)
        await trio.sleep(1)
        assert await whole(ask_http3(pair.client, "/")) == (200, b"hello")
        assert window - 4_096 <= _held(pair, request.stream_id) <= window
        go_on.set()
        assert await whole(request) == (200, b"hello")
    assert seen == [10 * SMALL.quic.window_bytes]


def _held(pair: LinkPair, stream_id: int) -> int:
    """Bytes that have arrived and were not consumed, on the server."""
    return pair.server.machine._quic.unread_bytes(stream_id)


async def test_a_client_that_does_not_read_stops_the_handler(autojump_clock: MockClock) -> None:
    """What a handler is ahead is its client's window, the stream's buffer, a write and the exchange's buffer."""
    sent = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send_head(200)
        while True:
            await exchange.send(b"x" * 1_000)
            sent += 1_000

    config = ExchangeConfig(send_buffer_bytes=10_000, stall_timeout=None)
    async with serving(handler, config) as (pair, _):
        request = ask_http3(pair.client, "/")
        await trio.sleep(60)
        bound = SMALL.quic.window_bytes + SMALL.quic.max_send_buffer_bytes + 2 * 11_000
        assert SMALL.quic.window_bytes < sent <= bound
        before = sent
        for _ in range(50):
            await request.receive_some()
        await trio.sleep(1)
        assert sent > before
        await request.aclose()


async def test_a_stalled_client_is_reset_and_its_connection_goes_on(autojump_clock: MockClock) -> None:
    """After `stall_timeout` the handler's generator is closed, the client sees a reset, and others are answered."""
    closed = 0.0

    async def handler(exchange: Exchange) -> None:
        nonlocal closed
        if exchange.request.path == "/hello":
            return await hello(exchange)
        await exchange.send_head(200)
        try:
            while True:
                await exchange.send(b"x" * 1_000)
        finally:
            closed = trio.current_time()

    async with serving(handler, ExchangeConfig(stall_timeout=8)) as (pair, host):
        began = trio.current_time()
        request = ask_http3(pair.client, "/")
        await trio.sleep(20)
        assert 8 <= closed - began <= 10
        assert request.reset == 0x10C
        assert await whole(ask_http3(pair.client, "/hello")) == (200, b"hello")
        await trio.sleep(1)
        assert host.exchanges == 0


@pytest.mark.parametrize("leave", ["request", "connection"])
async def test_a_client_that_leaves_is_noticed_at_once(leave: str, autojump_clock: MockClock) -> None:
    """The handler is cancelled one way of the network later, and not at any deadline."""
    cancelled_at = 0.0

    async def handler(exchange: Exchange) -> None:
        nonlocal cancelled_at
        await exchange.send_head(200)
        try:
            await trio.sleep_forever()
        finally:
            cancelled_at = trio.current_time()

    async with serving(handler) as (pair, host):
        request = ask_http3(pair.client, "/")
        assert await request.wait_head() == 200
        left_at = trio.current_time()
        if leave == "request":
            await request.aclose()
        else:
            pair.client.close()
        await trio.sleep(1)
        assert cancelled_at - left_at == pytest.approx(ONE_WAY, abs=0.002)
        assert host.exchanges == 0


async def test_an_answer_before_the_request_is_over(autojump_clock: MockClock) -> None:
    """A client that reads nothing until it has sent all gets its answer, though nobody reads what it sends."""
    async with serving(hello) as (pair, host):
        request = ask_http3(pair.client, "/", method="POST", is_ended=False)
        with pytest.raises(trio.BrokenResourceError, match="refuses more: 0x100"):
            await upload(request, b"x" * 40 * SMALL.quic.window_bytes)
        assert await whole(request) == (200, b"hello")
        await trio.sleep(1)
        assert host.exchanges == 0


async def test_a_long_answer_to_a_request_that_nobody_reads(autojump_clock: MockClock) -> None:
    """Longer than all buffers: the client's upload is dropped until it begins to read, and both end well."""
    size = 10 * SMALL.quic.window_bytes

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, 200, b"x" * size)

    async with serving(handler) as (pair, _):
        request = ask_http3(pair.client, "/", method="POST", is_ended=False)
        await upload(request, b"y" * size)
        status, body = await whole(request)
        assert (status, len(body)) == (200, size)


async def test_a_failure_in_the_body_is_a_reset(autojump_clock: MockClock) -> None:
    """What was said before arrives."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"half")
        raise KeyError("secret")

    async with serving(handler) as (pair, host):
        request = ask_http3(pair.client, "/")
        assert await request.wait_head() == 200
        assert (await request.receive_some()).startswith(b"HTTP/1.1 200")
        assert await request.receive_some() == b"half"
        with pytest.raises(trio.BrokenResourceError, match="0x102"):
            await request.receive_some()
        await request.aclose()
        await trio.sleep(1)
        assert host.exchanges == 0


async def test_a_broadcast_reaches_all_connections_at_once(autojump_clock: MockClock) -> None:
    """Events arrive one way of the network after they were published."""
    broadcast = Broadcast[bytes]()
    async with serving(broadcast.respond) as (pair, _):
        requests = [ask_http3(pair.client, "/") for _ in range(5)]
        for request in requests:
            assert (await request.receive_some()).startswith(b"HTTP/1.1 200")
        began = trio.current_time()
        broadcast.publish_nowait(b"1")
        for request in requests:
            assert await request.receive_some() == b"data: 1\n\n"
        assert trio.current_time() - began == pytest.approx(ONE_WAY, abs=0.002)
        broadcast.end()
        for request in requests:
            while await request.receive_some():
                pass
            await request.aclose()


async def test_requests_and_a_session_on_one_connection(autojump_clock: MockClock) -> None:
    """Neither minds the other: a stream of the session that nobody reads stops no request, and is whole afterwards."""
    async with serving(echo) as (pair, _), session_pair(pair) as (ours, theirs):
        data = b"x" * 2 * SMALL.quic.window_bytes
        async with trio.open_nursery() as nursery:
            stream = await ours.create_unidirectional_stream()
            nursery.start_soon(stream.send_all, data)
            await trio.sleep(1)
            request = ask_http3(pair.client, "/", method="POST", is_ended=False)
            nursery.start_soon(upload, request, data)
            assert await whole(request) == (200, data)
            incoming = await theirs.accept_unidirectional_stream()
            received = 0
            while received < len(data):
                received += len(await incoming.receive_some())


async def test_too_many_requests_at_once_are_rejected(autojump_clock: MockClock) -> None:
    """Past `max_requests` they are told that nobody has looked at them; those under way are answered."""
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        await hello(exchange)

    server = attrs.evolve(SMALL, limits=attrs.evolve(SMALL.limits, max_requests=2))
    async with serving(handler, server_config=server) as (pair, _):
        requests = [ask_http3(pair.client, "/") for _ in range(3)]
        await trio.sleep(1)
        assert [request.reset for request in requests] == [None, None, 0x10B]
        go_on.set()
        assert [await whole(request) for request in requests[:2]] == [(200, b"hello")] * 2


async def test_a_drain_answers_what_is_under_way(autojump_clock: MockClock) -> None:
    """After GOAWAY the client opens no more, and what it has asked is answered."""
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        await hello(exchange)

    async with serving(handler) as (pair, host):
        request = ask_http3(pair.client, "/")
        await trio.sleep(1)
        pair.server.machine.go_away()
        pair.server.kick()
        await trio.sleep(1)
        assert pair.client.machine.peer_went_away
        go_on.set()
        assert await whole(request) == (200, b"hello")
        await host.wait_idle()
