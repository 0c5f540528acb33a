"""WebSocket messages that are too long, or never whole: the client is told, and the connection ends, whoever the host is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import pytest
import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from trio_streams import Router, serve
from trio_streams.transports.messages import SUBPROTOCOL
from trio_streams.urls.server import HostName
from trio_streams.wire.envelope import MessageLimits

every_way = pytest.mark.parametrize(("scheme", "host"), [("ws", "lean"), ("http", "lean"), ("http", "hypercorn")])
TOO_LONG: Final = 17 * 1_048_576


@asynccontextmanager
async def opened(
    scheme: str, host: HostName, *, limits: MessageLimits | None = None, subprotocol: str | None = None
) -> AsyncIterator[tuple[trio.SocketStream, ClientProtocol]]:
    """A bare socket with a WebSocket on it that a server has accepted."""
    app = Router()

    @app.call("echo")
    async def echo(text: str) -> str:
        return text

    async with trio.open_nursery() as nursery:
        start = partial(serve, app, f"{scheme}://127.0.0.1:0", host=host, envelopes=limits)
        (url,) = await nursery.start(start)
        parts = urlsplit(url)
        offered = None if subprotocol is None else [Subprotocol(subprotocol)]
        machine = ClientProtocol(parse_uri(f"ws://{parts.netloc}/"), subprotocols=offered, max_size=None)
        machine.send_request(machine.connect())
        async with await trio.open_tcp_stream("127.0.0.1", parts.port or 0) as stream:
            await stream.send_all(b"".join(machine.data_to_send()))
            with trio.fail_after(30):
                while machine.state is not OPEN:
                    machine.receive_data(await stream.receive_some(4_096))
            machine.events_received()
            yield stream, machine
        nursery.cancel_scope.cancel()


async def read_to_the_end(stream: trio.SocketStream, machine: ClientProtocol) -> int | None:
    """The close code, once the server has closed TCP; nothing is answered."""
    with trio.fail_after(60):
        try:
            async for data in stream:
                machine.receive_data(data)
        except trio.BrokenResourceError:
            pass
    return None if machine.close_rcvd is None else machine.close_rcvd.code


async def send_quietly(stream: trio.SocketStream, data: bytes, drops: bytes = b"") -> None:
    """Send it, and then drop by drop; a server that has left is no fault."""
    try:
        await stream.send_all(data)
        for drop in drops:
            await trio.sleep(0.05)
            await stream.send_all(bytes([drop]))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@every_way
@pytest.mark.parametrize(("opcode", "subprotocol"), [(Opcode.TEXT, None), (Opcode.BINARY, SUBPROTOCOL)])
async def test_a_message_that_is_too_long(scheme: str, host: HostName, opcode: Opcode, subprotocol: str | None) -> None:
    """17 MiB are refused with 1009, and the connection is closed although its client answers nothing."""
    async with opened(scheme, host, subprotocol=subprotocol) as (stream, machine), trio.open_nursery() as nursery:
        nursery.start_soon(send_quietly, stream, Frame(opcode, b"x" * TOO_LONG).serialize(mask=True))
        assert await read_to_the_end(stream, machine) == 1009
        nursery.cancel_scope.cancel()


@every_way
@pytest.mark.parametrize("is_in_parts", [False, True])
async def test_a_text_by_drops(scheme: str, host: HostName, is_in_parts: bool) -> None:
    """What is not whole within `message_timeout` ends the connection with 1008, however often a byte of it comes."""
    first = Frame(Opcode.TEXT, b"y" * 100, fin=False).serialize(mask=True) if is_in_parts else b""
    rest = Frame(Opcode.CONT if is_in_parts else Opcode.TEXT, b"x" * 10_000).serialize(mask=True)
    limits = MessageLimits(message_timeout=0.3)
    async with opened(scheme, host, limits=limits) as (stream, machine), trio.open_nursery() as nursery:
        nursery.start_soon(send_quietly, stream, first + rest[:200], rest[200:])
        assert await read_to_the_end(stream, machine) == 1008
        nursery.cancel_scope.cancel()
