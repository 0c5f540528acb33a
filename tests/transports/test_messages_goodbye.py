"""How a WebSocket ends: goodbyes of both sides, losses, and closes that are in somebody's way."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from websockets.frames import Close, Opcode

from tests.transports.carrier_checks import open_socket_pair, reset, two
from tests.transports.links import client_carrier, frame, server_carrier, server_side
from trio_streams.errors import ConnectionLost


@pytest.mark.parametrize("payload", [b"", Close(1000, "").serialize(), Close(1001, "moving on").serialize()])
async def test_clean_goodbyes(payload: bytes) -> None:
    """1000, 1001 and no code are a clean end; the answer goes out without anybody's `aclose`."""
    async with server_side() as (carrier, client):
        await client.send_all(frame(Opcode.BINARY, b"data") + frame(Opcode.CLOSE, payload) + frame(Opcode.CLOSE))
        assert await carrier.receive() == b"data"
        assert await carrier.receive() == b""
        assert await carrier.receive() == b""
        assert await client.receive_some() == frame(Opcode.CLOSE, payload, mask=False)
        with pytest.raises(ConnectionLost, match="cannot send: test has closed the WebSocket"):
            await carrier.send(b"x")


@pytest.mark.parametrize(
    ("code", "words"), [(1009, "message too big"), (1011, "internal error"), (4321, "private use")]
)
async def test_other_goodbyes(code: int, words: str) -> None:
    """Any other code is a lost connection that names code and reason."""
    async with server_side() as (carrier, client):
        await client.send_all(frame(Opcode.CLOSE, Close(code, "because").serialize()))
        with pytest.raises(ConnectionLost, match=rf"test closed the WebSocket: {code} \({words}.*\): because"):
            await carrier.receive()
        with pytest.raises(ConnectionLost, match=f"cannot send: .*{code}"):
            await carrier.send(b"x")


async def test_no_goodbye() -> None:
    """TCP that ends without a close frame is a lost connection, as is a reset."""
    async with server_side() as (carrier, client):
        await client.send_eof()
        with pytest.raises(ConnectionLost, match="it ended without a WebSocket goodbye"):
            await carrier.receive()
        await carrier.aclose()
    async with server_side() as (carrier, client):
        await reset(client)
        with pytest.raises(ConnectionLost, match="connection reset by peer"):
            await carrier.receive()
        await carrier.aclose()


async def test_reset_while_owing() -> None:
    """A reset found while a pong is being written is a lost connection, too."""
    async with server_side() as (carrier, client), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(ConnectionLost):
                await carrier.receive()

        await client.send_all(frame(Opcode.PING, b"x"))
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await reset(client)


async def test_close_code_and_reason() -> None:
    """Our goodbye carries the code and as much of the reason as a control frame holds."""
    async with open_socket_pair() as (left, right):
        server, client = server_carrier(left), client_carrier(right)

        async def receive() -> None:
            with pytest.raises(ConnectionLost, match=r"1011 .*ä{61}$"):
                await client.receive()
            await client.aclose()

        async def close() -> None:
            await server.aclose(1011, "ä" * 100)

        await two(close, receive)


async def test_close_is_bounded_when_the_peer_is_silent() -> None:
    """A peer that answers nothing delays a close by `close_timeout`; one that talks on is not heard."""
    for talk in (b"", frame(Opcode.BINARY, b"blah") * 10):
        async with server_side() as (carrier, client):
            await client.send_all(talk)
            with trio.fail_after(30):
                await carrier.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await carrier.receive()


async def test_close_while_receiving() -> None:
    """A task that is receiving while its side closes is woken, and the goodbye is completed through it."""
    async with open_socket_pair() as (left, right):
        server, client = server_carrier(left), client_carrier(right)

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await server.receive()

        async def answer() -> None:
            assert await client.receive() == b""
            await client.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(answer)
            await server.aclose()


async def test_close_while_a_send_is_blocked() -> None:
    """A send that nobody reads does not keep a close from ending within its limit, and is woken by it."""
    async with server_side() as (carrier, _):

        async def send() -> None:
            with pytest.raises((trio.ClosedResourceError, ConnectionLost)):
                await carrier.send(bytes(2**25))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.02)
            with trio.fail_after(30):
                await carrier.aclose()
