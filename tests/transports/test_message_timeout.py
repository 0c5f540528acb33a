"""How long a WebSocket message may take to be whole, in virtual time; without a host of HTTP, and as an ASGI host sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from websockets.frames import Frame, Opcode

from trio_streams.errors import RemoteProtocolError
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.asgi_types import Message
from trio_streams.transports.asgi_websocket import AsgiWebSocketCarrier
from trio_streams.transports.messages import WebSocketCarrier, accept_websocket

HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TIMEOUT = 10.0


def admit() -> None:
    """Be below a server that speaks texts."""
    ADMISSION.set(Admission(lambda listener: listener, None, 100_000, TIMEOUT))


@asynccontextmanager
async def accepted(subprotocol: str = "") -> AsyncIterator[tuple[WebSocketCarrier, trio.testing.MemorySendStream]]:
    admit()
    left, right = trio.testing.memory_stream_pair()
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    await right.send_all(HEAD + offered.encode() + b"\r\n")
    carrier = await accept_websocket(left)
    try:
        yield carrier, right.send_stream
    finally:
        await right.aclose()
        await carrier.aclose()


def text(size: int, letter: bytes = b"x", *, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, letter * size, fin=fin).serialize(mask=True)


@pytest.mark.parametrize(
    "start",
    [text(9)[:1], text(9)[:7], text(9, fin=False), text(9, fin=False) + b"\x80", b"\x89"],
    ids=["head", "payload", "part", "part and head", "ping"],
)
async def test_what_has_begun_is_bounded(autojump_clock: trio.testing.MockClock, start: bytes) -> None:
    """A head, a payload, a part of a message, a ping: from the first byte on, however often one comes."""
    async with accepted() as (carrier, sender):
        await sender.send_all(text(3, b"y") + start)
        assert await carrier.receive_messages() == ["yyy"]
        began = trio.current_time()
        with pytest.raises(RemoteProtocolError, match="not complete within message_timeout of 10 s") as caught:
            await carrier.receive_messages()
        assert (trio.current_time() - began, caught.value.field) == (TIMEOUT, "message_timeout")


async def test_drops_do_not_help(autojump_clock: trio.testing.MockClock) -> None:
    """A byte each second leaves the time as it is, and so do pings between the parts of a message."""
    async with accepted() as (carrier, sender), trio.open_nursery() as nursery:

        async def drip() -> None:
            await sender.send_all(text(9, fin=False))
            while True:
                await trio.sleep(1)
                await sender.send_all(text(3, opcode=Opcode.PING))

        nursery.start_soon(drip)
        with pytest.raises(RemoteProtocolError, match="message_timeout"):
            await carrier.receive_messages()
        assert trio.current_time() == TIMEOUT
        nursery.cancel_scope.cancel()


async def test_the_time_is_one_messages(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever completes each in time goes on for ever, also where the next one has begun with it; and may be silent."""
    async with accepted() as (carrier, sender), trio.open_nursery() as nursery:

        async def say() -> None:
            data = text(200)
            await sender.send_all(data[:20])
            for _ in range(20):
                await trio.sleep(TIMEOUT - 1)
                await sender.send_all(data[20:] + data[:20])
            await sender.send_all(data[20:])
            await trio.sleep(1_000)
            await sender.send_all(data)

        nursery.start_soon(say)
        received = 0
        while received < 22:
            received += len(await carrier.receive_messages())
        assert trio.current_time() > 1_000


async def test_a_wait_for_the_rest_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    """Which loses nothing."""
    async with accepted() as (carrier, sender):
        await sender.send_all(text(9)[:7])
        with trio.move_on_after(1) as scope:
            await carrier.receive_messages()
        assert scope.cancelled_caught
        with pytest.raises(RemoteProtocolError, match="message_timeout"):
            await carrier.receive_messages()
        assert trio.current_time() == TIMEOUT


async def test_our_own_dialect_has_a_limit_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    """There a silence is the driver's business."""
    async with accepted("trio-streams.v1") as (carrier, sender):
        await sender.send_all(text(9, opcode=Opcode.BINARY)[:7])
        with trio.move_on_after(10 * TIMEOUT) as scope:
            await carrier.receive()
        assert scope.cancelled_caught


async def test_a_message_of_an_asgi_host(autojump_clock: trio.testing.MockClock) -> None:
    """The host tells of what has begun, and of what is whole; only what is not in time ends it."""
    send, receive = trio.open_memory_channel[Message](10)

    async def ignore(message: Message) -> None:
        raise NotImplementedError

    async def say(carrier: AsgiWebSocketCarrier) -> None:
        for _ in range(5):
            carrier.begun()
            await trio.sleep(TIMEOUT - 1)
            carrier.completed()
            await send.send({"type": "websocket.receive", "text": "x"})
            await trio.sleep(TIMEOUT + 1)
        carrier.begun()

    admit()
    carrier = AsgiWebSocketCarrier({"type": "websocket"}, receive.receive, ignore, close_timeout=1, subprotocol=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, carrier)
        for _ in range(5):
            assert await carrier.receive_messages() == ["x"]
        with pytest.raises(RemoteProtocolError, match="message_timeout of 10 s"):
            await carrier.receive_messages()
        assert trio.current_time() == 5 * 2 * TIMEOUT + TIMEOUT
