"""Every transport as a pair of connected carriers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket

from trio_streams.carrier import Carrier
from trio_streams.nursery import open_bare_nursery
from trio_streams.testing.peers import MakeCarriers
from trio_streams.transports import ByteCarrier, connect_tcp, memory_carrier_pair, open_tcp_listeners
from trio_streams.transports.messages import (
    SUBPROTOCOL,
    TrioWebSocketCarrier,
    accept_trio_websocket,
    accept_websocket,
    connect_trio_websocket,
    connect_websocket,
)

__all__ = ["TRANSPORTS", "Transport", "open_sockets"]


@attrs.frozen
class Transport:
    """One way to connect two peers.

    Attributes:
      name: as tests show it.
      make: makes the carriers, the client's first.
      is_virtual: whether time may be virtual: nothing happens outside the process.
    """

    name: str
    make: MakeCarriers
    is_virtual: bool = False

    def __str__(self) -> str:
        return self.name


@asynccontextmanager
async def _memory() -> AsyncIterator[tuple[Carrier, Carrier]]:
    yield memory_carrier_pair()


@asynccontextmanager
async def open_sockets() -> AsyncGenerator[tuple[trio.SocketStream, trio.SocketStream], None]:
    """Two connected TCP sockets on loopback."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        left = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        right = await listener.accept()
    try:
        yield left, right
    finally:
        await trio.aclose_forcefully(left)
        await trio.aclose_forcefully(right)


@asynccontextmanager
async def _tcp() -> AsyncIterator[tuple[Carrier, Carrier]]:
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        client = await connect_tcp("127.0.0.1", listener.socket.getsockname()[1])
        try:
            server = ByteCarrier(await listener.accept())
        except BaseException:
            await _close(client)
            raise
    try:
        yield client, server
    finally:
        await _close(client, server)


async def _close(*carriers: Carrier) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        for carrier in carriers:
            try:
                await carrier.aclose()
            except trio.Cancelled:
                continue


@asynccontextmanager
async def _ours_connects(url: str) -> AsyncIterator[Carrier]:
    carrier = await connect_websocket(url)
    try:
        yield carrier
    finally:
        await _close(carrier)


@asynccontextmanager
async def _ours_accepts(stream: trio.SocketStream) -> AsyncIterator[Carrier]:
    carrier = await accept_websocket(stream)
    try:
        yield carrier
    finally:
        await _close(carrier)


@asynccontextmanager
async def _existing(
    stream: trio.SocketStream, shake_hands: Callable[[trio.Nursery], Awaitable[trio_websocket.WebSocketConnection]]
) -> AsyncIterator[Carrier]:
    # Its streams are closed by whoever opened them: trio-websocket leaves a client's open where the server closes first.
    try:
        async with open_bare_nursery() as nursery:
            yield TrioWebSocketCarrier(await shake_hands(nursery))
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def _existing_connects(url: str) -> AsyncIterator[Carrier]:
    host = urlsplit(url).netloc
    stream = await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0)

    async def shake_hands(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        return await trio_websocket.wrap_client_stream(nursery, stream, host, "/", subprotocols=[SUBPROTOCOL])

    async with _existing(stream, shake_hands) as carrier:
        yield carrier


@asynccontextmanager
async def _existing_accepts(stream: trio.SocketStream) -> AsyncIterator[Carrier]:
    async def shake_hands(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        return await request.accept(subprotocol=SUBPROTOCOL)

    async with _existing(stream, shake_hands) as carrier:
        yield carrier


_Connect = Callable[[str], AbstractAsyncContextManager[Carrier]]
_Accept = Callable[[trio.SocketStream], AbstractAsyncContextManager[Carrier]]


def _websocket(connect: _Connect, accept: _Accept) -> MakeCarriers:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Carrier, Carrier]]:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        is_accepted, is_done = trio.Event(), trio.Event()
        servers: list[Carrier] = []

        async def serve() -> None:
            async with accept(await listener.accept()) as carrier:
                servers.append(carrier)
                is_accepted.set()
                await is_done.wait()

        async with listener, open_bare_nursery() as nursery:
            nursery.start_soon(serve)
            async with connect(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/") as client:
                await is_accepted.wait()
                try:
                    yield client, servers[0]
                finally:
                    is_done.set()

    return make


TRANSPORTS: Final = (
    Transport("memory", _memory, is_virtual=True),
    Transport("tcp", _tcp),
    Transport("websocket", _websocket(_ours_connects, _ours_accepts)),
    Transport("trio-websocket", _websocket(connect_trio_websocket, accept_trio_websocket)),
    Transport("existing-trio-websocket", _websocket(_existing_connects, _existing_accepts)),
)
