"""Opening handshakes, on both sides, with peers good, bad and slow."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from websockets.sync.client import connect as connect_sync

from tests.transports.carrier_checks import open_socket_pair, two
from tests.transports.links import IMPATIENT, listen, url_of
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from trio_streams.transports.messages import SUBPROTOCOL, WebSocketCarrier, accept_websocket, connect_websocket

HEAD = (
    "GET /path?k=v HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
OFFER = f"Sec-WebSocket-Protocol: other, {SUBPROTOCOL}\r\n"
MASKED_X = b"\x82\x81\0\0\0\0x"


@asynccontextmanager
async def answering(answer: bytes | None, *, is_closing: bool = True) -> AsyncGenerator[str, None]:
    """A server that answers any request with these bytes; its URL."""

    async def serve(listener: trio.SocketListener) -> None:
        stream = await listener.accept()
        async with stream:
            await stream.receive_some()
            if answer is not None:
                await stream.send_all(answer)
            if not is_closing:
                await trio.sleep_forever()

    async with listen() as listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener)
        yield url_of(listener)
        nursery.cancel_scope.cancel()


async def test_a_whole_handshake() -> None:
    """Client and server agree on the subprotocol and each knows the path; compression and headers are as asked for."""
    async with listen() as listener:

        async def serve() -> WebSocketCarrier:
            return await accept_websocket(await listener.accept(), compress=True, origins=["http://here", None])

        async def connect() -> WebSocketCarrier:
            return await connect_websocket(
                url_of(listener) + "a?b=c", compress=True, headers={"X-Token": "t"}, origin="http://here"
            )

        server, client = await two(serve, connect)
        for carrier in (server, client):
            assert (carrier.path, carrier.subprotocol) == ("/a?b=c", SUBPROTOCOL)
            assert [extension.name for extension in carrier._machine.complete().extensions] == ["permessage-deflate"]
        data = b"compressible " * 1_000
        await client.send(data)
        assert await server.receive() == data
        await two(client.aclose, server.aclose)


async def test_no_compression_unless_asked_for() -> None:
    """A client that offers permessage-deflate does not get it by default."""
    async with open_socket_pair() as (left, right):
        await right.send_all((HEAD + OFFER + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n").encode())
        carrier = await accept_websocket(left)
        assert carrier._machine.complete().extensions == []


@pytest.mark.parametrize("is_bytewise", [False, True])
async def test_frames_right_behind_the_handshake(is_bytewise: bool) -> None:
    """A client that does not wait for the answer loses nothing, and gets the answer before any pong."""
    request = (HEAD + OFFER + "\r\n").encode() + MASKED_X + b"\x89\x80\0\0\0\0"
    async with open_socket_pair() as (left, right):

        async def talk() -> None:
            for index in range(len(request)) if is_bytewise else ():
                await right.send_all(request[index : index + 1])
                await trio.testing.wait_all_tasks_blocked()
            if not is_bytewise:
                await right.send_all(request)

        async def serve() -> None:
            carrier = await accept_websocket(left, config=IMPATIENT)
            assert await carrier.receive() == b"x"
            assert await carrier.receive() == b""
            await carrier.aclose()

        async def read() -> None:
            answer = b""
            while not answer.endswith(b"\x8a\0"):
                answer += await right.receive_some()
            assert answer.startswith(b"HTTP/1.1 101 ")
            await right.send_all(b"\x88\x80\0\0\0\0")
            await right.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            nursery.start_soon(serve)
            nursery.start_soon(read)


async def test_frames_right_behind_the_answer() -> None:
    """A server's first frame may arrive in one piece with its answer."""
    async with listen() as listener:

        async def serve() -> None:
            stream = await listener.accept()
            server = await accept_websocket(_Glued(stream), peer="glued", config=IMPATIENT)
            await server.send(b"at once")
            assert await server.receive() == b""
            await server.aclose()

        async def connect() -> None:
            client = await connect_websocket(url_of(listener), config=IMPATIENT)
            assert await client.receive() == b"at once"
            await client.aclose()

        await two(serve, connect)


class _Glued(trio.abc.Stream):
    """Holds back the first write until the second one."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._held: bytes | None = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._held == b"":
            self._held = bytes(data)
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all((self._held or b"") + bytes(data))
            self._held = None

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


REFUSED = {
    "not HTTP": (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 400 ", "Expected the request of a WebSocket handshake"),
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426 ", "missing Connection header"),
    "a POST": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 ", ""),
    "a long header": (b"GET / HTTP/1.1\r\nA: " + b"x" * 9_000 + b"\r\n\r\n", b"HTTP/1.1 431 ", "8192"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", b"HTTP/1.1 431 ", "128"),
    "no subprotocol": ((HEAD + "\r\n").encode(), b"HTTP/1.1 400 ", f"subprotocol {SUBPROTOCOL}, offered: none"),
    "another subprotocol": (
        (HEAD + "Sec-WebSocket-Protocol: a, b\r\n\r\n").encode(),
        b"HTTP/1.1 400 ",
        f"subprotocol {SUBPROTOCOL}, offered: a, b",
    ),
    "a bad key": ((HEAD + OFFER + "\r\n").replace("AAA", "").encode(), b"HTTP/1.1 400 ", "Sec-WebSocket-Key"),
    "a foreign page": ((HEAD + OFFER + "Origin: http://evil\r\n\r\n").encode(), b"HTTP/1.1 403 ", "http://evil"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_requests(name: str) -> None:
    """A request that will not do is one line for us, and a status with a clear body for the client."""
    request, status, text = REFUSED[name]
    async with open_socket_pair() as (left, right):

        async def serve() -> bytes:
            with pytest.raises(RemoteProtocolError) as caught:
                await accept_websocket(left, config=IMPATIENT, origins=[None, "http://good"])
            assert caught.value.field == "handshake"
            assert "\n" not in str(caught.value)
            return b""

        async def talk() -> bytes:
            await right.send_all(request)
            answer = b""
            while part := await right.receive_some():
                answer += part
            await right.aclose()
            return answer

        _, answer = await two(serve, talk)
        assert answer.startswith(status)
        assert text in answer.decode()
        assert left.socket.fileno() == -1


async def test_a_client_without_subprotocol_may_be_accepted() -> None:
    """With `require_subprotocol=False` a client that offers none is served without one."""
    async with open_socket_pair() as (left, right):
        await right.send_all((HEAD + "\r\n").encode())
        carrier = await accept_websocket(left, require_subprotocol=False)
        assert carrier.subprotocol is None
        assert carrier.path == "/path?k=v"
        assert b"Sec-WebSocket-Protocol" not in await right.receive_some()


@pytest.mark.parametrize("request_part", [b"", HEAD.encode()])
async def test_a_slow_request(request_part: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """A client that never finishes its request is given up after `handshake_timeout`, and its stream closed."""
    left, right = trio.testing.memory_stream_pair()
    await right.send_all(request_part)
    with pytest.raises(RemoteProtocolError, match=r"no WebSocket handshake request from \w+ within 3 s") as caught:
        await accept_websocket(left, config=ConnectionConfig(handshake_timeout=3, close_timeout=1))
    assert (caught.value.code, caught.value.field) == (Code.HANDSHAKE_TIMEOUT, "handshake_timeout")
    assert autojump_clock.current_time() == pytest.approx(4)
    with pytest.raises(trio.ClosedResourceError):
        await left.receive_some()


async def test_a_client_that_leaves() -> None:
    """A client that leaves before its request is whole is a lost connection."""
    async with open_socket_pair() as (left, right):
        await right.send_all(b"GET / HT")
        await right.aclose()
        with pytest.raises(ConnectionLost, match="left before the WebSocket handshake was done"):
            await accept_websocket(left)


async def test_a_cancelled_accept_closes() -> None:
    """Cancelling an accept closes its stream."""
    async with open_socket_pair() as (left, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_websocket, left)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert left.socket.fileno() == -1


ANSWERS = {
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", RemoteProtocolError, "did not answer with a WebSocket handshake"),
    "another protocol": (b"SSH-2.0-OpenSSH\r\n", RemoteProtocolError, "did not answer with a WebSocket handshake"),
    "a refusal": (
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\ngo\n  away",
        RemoteProtocolError,
        "refused the WebSocket handshake: 403 Forbidden: go away",
    ),
    "no upgrade": (b"HTTP/1.1 101 Yes\r\n\r\n", RemoteProtocolError, "did not answer with a WebSocket handshake"),
    "nothing": (None, ConnectionLost, "left during the WebSocket handshake"),
    "half an answer": (b"HTTP/1.1 101 Switching", ConnectionLost, "left during the WebSocket handshake"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_bad_answers(name: str) -> None:
    """A server that answers with anything but a handshake is one line that names the URL."""
    answer, error, text = ANSWERS[name]
    async with answering(answer) as url:
        with pytest.raises(error) as caught:
            await connect_websocket(url)
    assert str(caught.value).startswith(url)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_server_without_subprotocol() -> None:
    """A server that chooses no subprotocol is left, unless none is required."""
    async with listen() as listener:

        async def serve() -> None:
            for _ in range(2):
                server = await accept_websocket(
                    await listener.accept(), subprotocols=[], require_subprotocol=False, config=IMPATIENT
                )
                await server.aclose()

        async def connect() -> None:
            with pytest.raises(RemoteProtocolError, match=f"did not choose the WebSocket subprotocol {SUBPROTOCOL}"):
                await connect_websocket(url_of(listener))
            carrier = await connect_websocket(url_of(listener), require_subprotocol=False)
            assert carrier.subprotocol is None
            await carrier.aclose()

        await two(serve, connect)


async def test_a_slow_answer() -> None:
    """A server that never answers is given up after `handshake_timeout`."""
    config = ConnectionConfig(handshake_timeout=0.02)
    async with answering(None, is_closing=False) as url:
        with pytest.raises(RemoteProtocolError, match="no WebSocket handshake answer from .* within 0.02 s") as caught:
            await connect_websocket(url, config=config)
    assert caught.value.code is Code.HANDSHAKE_TIMEOUT


async def test_refused_tls_and_silent_tls() -> None:
    """A server that does not speak TLS, or nothing at all, is one line about TLS."""
    async with answering(b"HTTP/1.1 400 no\r\n\r\n") as url:
        with pytest.raises(ConnectionLost, match="cannot connect to wss://"):
            await connect_websocket(url.replace("ws:", "wss:"))
    async with answering(None, is_closing=False) as url:
        with pytest.raises(ConnectionLost, match=r"cannot connect to wss://.*: no TLS within 0.5 s"):
            await connect_websocket(url.replace("ws:", "wss:"), config=ConnectionConfig(connect_timeout=0.5))


@pytest.mark.parametrize("url", ["http://x/", "ws:///nohost", "ws://x:port/", "ws://x/#fragment"])
async def test_bad_urls(url: str) -> None:
    """What is not a WebSocket's URL is the caller's mistake."""
    with pytest.raises(LocalProtocolError, match="not a WebSocket URL"):
        await connect_websocket(url)


async def test_websockets_own_client() -> None:
    """`websockets`' own blocking client, in a thread, talks with our server: fragments, text, ping and goodbye."""
    async with listen() as listener:

        def talk() -> list[str | bytes]:
            with connect_sync(url_of(listener), subprotocols=[SUBPROTOCOL], compression=None) as client:  # type: ignore[list-item]
                client.send([b"frag", b"ment"])
                client.send("text")
                assert client.ping().wait(5)
                return [client.recv(5), client.recv(5)]

        async def serve() -> list[str | bytes]:
            carrier = await accept_websocket(await listener.accept())
            while messages := await carrier.receive_messages():
                await carrier.send_messages(messages)
            await carrier.aclose()
            return []

        _, received = await two(serve, lambda: trio.to_thread.run_sync(talk))
        assert received == [b"fragment", "text"]
