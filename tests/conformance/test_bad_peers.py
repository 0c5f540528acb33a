"""Peers that are slow, silent, deaf or gone, over real sockets. One row each."""

from __future__ import annotations

import math
import socket
from typing import Final

import pytest
import trio
from websockets.frames import Opcode

from tests.conformance.faces import FACES, Face
from tests.conformance.raw import HELLO, frame, open_stream
from tests.conformance.test_bad_input import SOCKET_FACES, scene
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.testing.peers import until
from trio_streams.wire.binary import PREFACE, BinaryWire

WAIT: Final = open_stream(1, "wait") + frame(5, 1, b"")
# As long as a loaded machine may stand still, for the good peer beside the bad one has no more.
HURRIED: Final = ConnectionConfig(handshake_timeout=1.0)
IMPATIENT: Final = ConnectionConfig(idle_timeout=1.0, close_timeout=0.1)

OTHER_SUBPROTOCOL: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: soap\r\n\r\n"
)


@pytest.fixture(params=SOCKET_FACES, ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Each of our dialect's transports in turn."""
    assert isinstance(request.param, Face)
    return request.param


@pytest.mark.parametrize("said", [b"", PREFACE[:5], PREFACE, HELLO[:-1]], ids=["nothing", "some", "preface", "most"])
async def test_a_slow_hello(said: bytes, face: Face) -> None:
    """A peer that does not finish its hello in time is told so, with the limit."""
    async with scene(face, HURRIED) as at:
        if said:
            await at.peer.send(said)
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is Code.HANDSHAKE_TIMEOUT
        assert "handshake_timeout of 1 s" in goaway.reason


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"], ids=["nothing", "half"])
async def test_a_slow_websocket_handshake(said: bytes) -> None:
    """A client that does not finish its WebSocket request in time gets status 408 and the limit."""
    async with scene(FACES["ws"], HURRIED, shakes_hands=False) as at:
        await at.peer.stream.send_all(said)
        answer = b"".join([bytes(part) async for part in at.peer.stream])
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"handshake_timeout" in answer
        assert b"1 s" in answer


@pytest.mark.parametrize(
    ("request_lines", "status", "word"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"426", b"upgrade"),
        (b"\x16\x03\x01 not HTTP at all\r\n\r\n", b"400", b"WebSocket"),
        (
            OTHER_SUBPROTOCOL,
            b"400",
            b"trio-streams.v1",
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", b"4", b""),
    ],
    ids=["no-upgrade", "not-http", "other-subprotocol", "long-header"],
)
async def test_a_wrong_websocket_handshake(request_lines: bytes, status: bytes, word: bytes) -> None:
    """A request that is no WebSocket handshake of ours is refused with a status and the reason."""
    async with scene(FACES["ws"], shakes_hands=False) as at:
        await at.peer.stream.send_all(request_lines)
        answer = b"".join([bytes(part) async for part in at.peer.stream])
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert word.lower() in answer.lower()


@pytest.mark.parametrize(
    ("opcode", "data", "code"),
    [(Opcode.TEXT, b"hello", {1002, 1003, 1007, 1008}), (Opcode.TEXT, b"\xff", {1002, 1003, 1007, 1008})],
    ids=["text", "text-not-utf8"],
)
async def test_a_text_message(opcode: Opcode, data: bytes, code: set[int]) -> None:
    """A text message on the binary dialect closes the WebSocket with a code that blames the peer."""
    async with scene(FACES["ws"]) as at:
        await at.peer.send(HELLO + WAIT)
        await until(lambda: at.site.running == 1)
        await at.peer.send_frame(opcode, data)
        await at.peer.wait_end()
        assert at.peer.close_code in code


@pytest.mark.parametrize("name", ["ws", "trio-websocket"])
async def test_a_malformed_websocket_frame(name: str) -> None:
    """A frame that RFC 6455 forbids ends the connection and its handlers."""
    async with scene(FACES[name]) as at:
        await at.peer.send(HELLO + WAIT)
        await until(lambda: at.site.running == 1)
        await at.peer.stream.send_all(b"\xf3\x80\0\0\0\0")  # reserved bits, and an opcode that is not defined
        await at.peer.wait_end()
        # trio-websocket leaves without a word.
        assert at.peer.close_code == (1002 if name == "ws" else None)


async def test_a_silent_peer(face: Face) -> None:
    """A peer that says nothing after its hello, not even to a ping, is told of `idle_timeout` and its limit."""
    async with scene(face, IMPATIENT) as at:
        await at.peer.send(HELLO + WAIT)
        await at.peer.find(records.Ping)
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is Code.IDLE_TIMEOUT
        assert "idle_timeout is 1 s" in goaway.reason


async def test_a_peer_that_never_reads(face: Face) -> None:
    """A deaf peer with endless credit costs the send buffer and what the kernel holds; then it is given up."""
    async with scene(face, IMPATIENT) as at:
        at.peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await at.peer.send(HELLO + open_stream(1, "flood") + frame(5, 1, b""))
        await until(lambda: at.site.produced > 0)
        await until(lambda: at.site.running == 0)
        receive_buffer = at.peer.stream.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert isinstance(receive_buffer, int)
        # The queue counts 64 bytes more for each item. One write of 64 KiB is under way; where the carrier can tell, the
        # kernel keeps 16 KiB unsent, and otherwise as much as it likes: 4 MiB.
        kernel = receive_buffer + (4 << 20 if face.carrier == "trio-websocket" else 16_384)
        bound = math.ceil(IMPATIENT.max_send_buffer_bytes / 1_064) + (kernel + 2 * 65_536) // 1_000 + 1
        assert IMPATIENT.max_send_buffer_bytes // 1_064 <= at.site.produced <= bound


async def test_a_peer_that_makes_us_owe(face: Face) -> None:
    """Answers to a peer that sends pings and reads nothing are bounded: we stop reading it, and then give it up."""
    ping = BinaryWire().encode(0, records.Ping(7))
    async with scene(face, IMPATIENT) as at, trio.open_nursery() as nursery:
        at.peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await at.peer.send(HELLO + WAIT)
        await until(lambda: at.site.running == 1)

        async def flood() -> None:
            while at.site.running:
                await at.peer.send(ping * 3_000)

        nursery.start_soon(flood)
        await until(lambda: at.site.running == 0)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_ends_its_side(face: Face) -> None:
    """A half-open connection, on which the peer will never say anything again, is over: its handlers end."""
    async with scene(face) as at:
        await at.peer.send(HELLO + WAIT)
        await until(lambda: at.site.running == 1)
        await at.peer.stream.send_eof()
        await until(lambda: at.site.running == 0)
        await at.peer.wait_end()


async def test_a_peer_that_vanishes(face: Face) -> None:
    """A connection that is reset is over: its handlers end."""
    async with scene(face) as at:
        await at.peer.send(HELLO + WAIT)
        await until(lambda: at.site.running == 1)
        at.peer.reset()
        await until(lambda: at.site.running == 0)
