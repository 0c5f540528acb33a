"""trio-websocket connections as carriers, and the faults that are fenced off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trio_websocket

from tests.transports.carrier_checks import open_socket_pair, two
from tests.transports.links import IMPATIENT, listen, url_of
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.messages import (
    SUBPROTOCOL,
    TrioWebSocketCarrier,
    accept_trio_websocket,
    accept_websocket,
    connect_trio_websocket,
    connect_websocket,
)


@asynccontextmanager
async def trio_pair() -> AsyncGenerator[tuple[TrioWebSocketCarrier, TrioWebSocketCarrier], None]:
    async with listen() as listener, trio.open_nursery() as nursery:
        ready, done = trio.Event(), trio.Event()
        servers: list[TrioWebSocketCarrier] = []

        async def serve() -> None:
            async with accept_trio_websocket(await listener.accept(), config=IMPATIENT) as server:
                servers.append(server)
                ready.set()
                await done.wait()

        nursery.start_soon(serve)
        async with connect_trio_websocket(url_of(listener) + "a?b", config=IMPATIENT) as client:
            await ready.wait()
            yield client, servers[0]
            done.set()


async def test_a_users_own_connection() -> None:
    """A connection that somebody else opened with trio-websocket carries our bytes to our own server."""
    async with listen() as listener:

        async def serve() -> None:
            server = await accept_websocket(await listener.accept(), config=IMPATIENT)
            while data := await server.receive():
                await server.send(data)
            await server.aclose()

        async def connect() -> None:
            url = url_of(listener)
            async with trio_websocket.open_websocket_url(url, subprotocols=[SUBPROTOCOL]) as ws:
                carrier = TrioWebSocketCarrier(ws)
                assert carrier.peer == url.removeprefix("ws://").rstrip("/")
                await carrier.send(b"hello")
                assert await carrier.receive() == b"hello"
                await carrier.aclose()

        await two(serve, connect)


async def test_path_and_subprotocol() -> None:
    """Both ends know what was asked for and agreed on."""
    async with trio_pair() as (client, server):
        for carrier in (client, server):
            assert (carrier.path, carrier.subprotocol) == ("/a?b", SUBPROTOCOL)


@pytest.mark.parametrize("is_reading", [True, False])
async def test_a_cancelled_send_is_whole_or_the_end(is_reading: bool) -> None:
    """A send cancelled in mid-frame is finished if the peer reads, else the connection is closed; never torn."""
    big = bytes(2**20)
    async with trio_pair() as (client, server):
        received = 0

        async def read() -> None:
            nonlocal received
            while True:
                received += len(await server.receive())

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def send() -> None:
                with scope:
                    for _ in range(64):
                        await client.send(big)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.03)
            scope.cancel()
            if is_reading:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked(0.03)
                await client.send(b"x")
                nursery.cancel_scope.cancel()
        if is_reading:
            assert received % len(big) == 1
        else:
            with pytest.raises(ConnectionLost, match="a cancelled send left a message unfinished"):
                await client.send(b"x")


async def test_text_and_too_large() -> None:
    """A text message is the peer's mistake; one that is too large ends the connection with 1009."""
    async with trio_pair() as (client, server):
        await client._ws.send_message("text")
        with pytest.raises(RemoteProtocolError, match="expected binary messages, not a text message"):
            await server.receive()
        await client._ws.send_message(b"")
        await client.send(b"after an empty one")
        assert await server.receive() == b"after an empty one"

        async def send() -> None:
            try:
                await client.send(bytes(17 * 2**20))
            except ConnectionLost:
                pass

        async def receive() -> None:
            with pytest.raises(ConnectionLost, match=r"1009 \(message too big\): Exceeded maximum message size"):
                await server.receive()
            await server.aclose()

        await two(send, receive)


async def test_pings_are_answered_while_the_driver_receives() -> None:
    """As long as somebody receives, pings behind many messages are answered."""
    async with trio_pair() as (client, server):

        async def read() -> None:
            while await server.receive():
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(50):
                await client.send(b"x")
            with trio.fail_after(30):
                await client._ws.ping()
            nursery.cancel_scope.cancel()


async def test_refusals() -> None:
    """A client that does not offer our subprotocol gets 400 with a clear body; ours says so in one line."""
    async with listen() as listener:

        async def serve() -> None:
            with pytest.raises(RemoteProtocolError, match=f"expected the subprotocol {SUBPROTOCOL}, offered: other"):
                async with accept_trio_websocket(await listener.accept(), config=IMPATIENT):
                    raise AssertionError

        async def connect_ours() -> None:
            with pytest.raises(RemoteProtocolError, match="refused the WebSocket handshake: 400 .*offered: other"):
                await connect_websocket(url_of(listener), subprotocols=["other"])

        async def connect_theirs() -> None:
            with pytest.raises(RemoteProtocolError, match="refused the WebSocket handshake: 400: .*offered: other"):
                async with connect_trio_websocket(url_of(listener), subprotocols=["other"]):
                    raise AssertionError

        await two(serve, connect_ours)
        await two(serve, connect_theirs)


async def test_slow_malformed_and_missing_requests() -> None:
    """A slow request runs into `handshake_timeout`; a malformed or missing one is noticed at once."""
    slow = ConnectionConfig(handshake_timeout=0.02)
    patient = ConnectionConfig(handshake_timeout=60)
    for data, config, error, match in (
        (b"GET / HTTP/1.1\r\n", slow, RemoteProtocolError, "no WebSocket handshake from .* within 0.02 s"),
        (b"\0\1\2\r\n\r\n", patient, Exception, "WebSocket"),
        (None, patient, ConnectionLost, "left during the WebSocket handshake"),
    ):
        async with open_socket_pair() as (left, right):
            if data is None:
                await right.aclose()
            else:
                await right.send_all(data)
            with pytest.raises(error, match=match) as caught, trio.fail_after(30):
                async with accept_trio_websocket(left, config=config):
                    raise AssertionError
            assert isinstance(caught.value, (ConnectionLost, RemoteProtocolError))
            if config is slow:
                assert isinstance(caught.value, RemoteProtocolError)
                assert caught.value.code is Code.HANDSHAKE_TIMEOUT


async def test_a_users_exception_comes_out_bare() -> None:
    """What is raised inside the block reaches its caller without a group, and closes the connection."""
    async with listen() as listener, trio.open_nursery() as nursery:

        async def serve() -> None:
            async with accept_trio_websocket(await listener.accept(), config=IMPATIENT) as server:
                assert await server.receive() == b""

        nursery.start_soon(serve)
        with pytest.raises(KeyError):
            async with connect_trio_websocket(url_of(listener)):
                raise KeyError
