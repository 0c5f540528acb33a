"""Connections that answer together write together, and nobody loses an answer by that."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.hosts import read_all, read_until
from trio_streams.service.exchange import Exchange, respond
from trio_streams.transports import http
from trio_streams.transports.http import serve_lean

CLIENTS = 8
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def always_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BUSY_SECONDS", 3_600.0)


async def test_every_request_is_answered() -> None:
    """Many clients, many requests each, one at a time and pipelined: each gets its own answers in order."""
    count = 0

    async def number(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        await respond(exchange, 200, exchange.request.path.encode() + b"!")

    async def ask(port: int, client: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            for turn in range(20):
                names = [f"/{client}-{turn}-{part}" for part in range(1 + turn % 3)]
                await stream.send_all(b"".join(GET.replace(b"/ ", f"{name} ".encode(), 1) for name in names))
                got = await read_until(stream, f"{names[-1]}!".encode())
                assert [got.find(f"{name}!".encode()) >= 0 for name in names] == [True] * len(names)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(serve_lean, number)
            async with trio.open_nursery() as clients:
                for client in range(CLIENTS):
                    clients.start_soon(ask, urlsplit(url).port, client)
            nursery.cancel_scope.cancel()
    assert count == CLIENTS * sum(1 + turn % 3 for turn in range(20))


async def test_a_shutdown_does_not_overtake_an_answer() -> None:
    """The last handler shuts the server down while the answers before its own wait to be written: all arrive whole."""
    shutdown = trio.Event()
    answered = 0

    async def last(exchange: Exchange) -> None:
        nonlocal answered
        answered += 1
        if answered == CLIENTS:
            shutdown.set()
        await respond(exchange, 200, b"whole")

    async with trio.open_nursery() as nursery:
        serve = partial(serve_lean, last, shutdown_trigger=shutdown.wait, graceful_timeout=10)
        port = urlsplit(await nursery.start(serve)).port
        assert port
        with trio.fail_after(30):
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(CLIENTS)]
            await trio.testing.wait_all_tasks_blocked(0.01)
            for stream in streams:
                await stream.send_all(GET)
            for stream in streams:
                assert (await read_all(stream)).endswith(b"\r\n\r\nwhole")


async def test_the_end_of_a_connection_comes_behind_its_answer() -> None:
    """An answer that says `connection: close` is written before the connection ends."""

    async def hello(exchange: Exchange) -> None:
        await respond(exchange, 200, b"hello", [("connection", "close")])

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            port = urlsplit(await nursery.start(serve_lean, hello)).port
            assert port
            for _ in range(CLIENTS):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(GET)
                assert (await read_all(stream)).endswith(b"hello")
            nursery.cancel_scope.cancel()
