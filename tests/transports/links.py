"""Connected WebSocket carriers of every kind, for the shared checks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import trio
import trio.testing
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from tests.transports.carrier_checks import Link, Maker, open_socket_pair, reset
from trio_streams.config import ConnectionConfig
from trio_streams.transports.bytes import open_tcp_listeners
from trio_streams.transports.carrier import Carrier
from trio_streams.transports.messages import (
    WebSocketCarrier,
    accept_trio_websocket,
    accept_websocket,
    connect_trio_websocket,
    connect_websocket,
)

__all__ = [
    "IMPATIENT",
    "WEBSOCKET_LINKS",
    "client_carrier",
    "frame",
    "listen",
    "server_carrier",
    "server_side",
    "url_of",
]

IMPATIENT = ConnectionConfig(close_timeout=0.05)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def url_of(listener: trio.SocketListener) -> str:
    return f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"


@asynccontextmanager
async def listen() -> AsyncGenerator[trio.SocketListener, None]:
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        yield listener


@asynccontextmanager
async def _ours_accepts(stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
    yield await accept_websocket(stream, config=IMPATIENT)


@asynccontextmanager
async def _ours_connects(url: str) -> AsyncGenerator[Carrier, None]:
    yield await connect_websocket(url, config=IMPATIENT)


@asynccontextmanager
async def _theirs_accepts(stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
    async with accept_trio_websocket(stream, config=IMPATIENT) as carrier:
        yield carrier


@asynccontextmanager
async def _theirs_connects(url: str) -> AsyncGenerator[Carrier, None]:
    async with connect_trio_websocket(url, config=IMPATIENT) as carrier:
        yield carrier


def _link(*, ours_connects: bool, ours_accepts: bool, client_is_left: bool) -> Maker:
    @asynccontextmanager
    async def make() -> AsyncGenerator[Link, None]:
        ready = trio.Event()
        done = trio.Event()
        servers: list[tuple[Carrier, trio.SocketStream]] = []

        async def serve(listener: trio.SocketListener) -> None:
            stream = await listener.accept()
            accept = _ours_accepts if ours_accepts else _theirs_accepts
            async with accept(stream) as carrier:
                servers.append((carrier, stream))
                ready.set()
                await done.wait()
            await trio.aclose_forcefully(stream)

        async with AsyncExitStack() as stack:
            listener = await stack.enter_async_context(listen())
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(serve, listener)
            connect = _ours_connects if ours_connects else _theirs_connects
            client = await stack.enter_async_context(connect(url_of(listener)))
            await ready.wait()
            ((server, stream),) = servers

            async def lose() -> None:
                await reset(stream)

            # Loss is always the server's, seen by the client; the checks want to see it on the right.
            yield Link(client, server, _not_lost) if client_is_left else Link(server, client, lose)
            done.set()
            await client.aclose()

    names = {True: "ours", False: "trio_websocket"}
    make.__name__ = f"{names[ours_connects]}_to_{names[ours_accepts]}_{'up' if client_is_left else 'down'}"
    return make


async def _not_lost() -> None:
    raise NotImplementedError


WEBSOCKET_LINKS: list[Maker] = [
    _link(ours_connects=True, ours_accepts=True, client_is_left=True),
    _link(ours_connects=True, ours_accepts=True, client_is_left=False),
    _link(ours_connects=True, ours_accepts=False, client_is_left=True),
    _link(ours_connects=True, ours_accepts=False, client_is_left=False),
    _link(ours_connects=False, ours_accepts=True, client_is_left=True),
    _link(ours_connects=False, ours_accepts=True, client_is_left=False),
]


def server_carrier(
    stream: trio.abc.Stream, *, config: ConnectionConfig = IMPATIENT, max_message_bytes: int = 2**20
) -> WebSocketCarrier:
    """Our server's side of a WebSocket whose handshake is taken as done."""
    machine = ServerProtocol(state=OPEN, max_size=max_message_bytes)
    return WebSocketCarrier(stream, machine, peer="test", config=config, path="/")


def client_carrier(stream: trio.abc.Stream, *, config: ConnectionConfig = IMPATIENT) -> WebSocketCarrier:
    """Our client's side of a WebSocket whose handshake is taken as done."""
    machine = ClientProtocol(parse_uri("ws://test/"), state=OPEN)
    return WebSocketCarrier(stream, machine, peer="test", config=config, path="/")


@asynccontextmanager
async def server_side(
    make: Callable[[trio.abc.Stream], WebSocketCarrier] = server_carrier,
) -> AsyncGenerator[tuple[WebSocketCarrier, trio.SocketStream], None]:
    """Our server's carrier, and the client's bare socket."""
    async with open_socket_pair() as (left, right):
        yield make(left), right
