"""Clients of envelopes that fall silent without a goodbye: what carries them is asked, and those that are gone are let go."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import trio

from tests.procedures.envelope_site import Handled, make_router, open_envelopes, serving
from trio_streams import Connection, ConnectionConfig, connect
from trio_streams.testing.peers import until
from trio_streams.transports.bytes import keep_alive
from trio_streams.urls import listening

SOON = ConnectionConfig(idle_timeout=0.6, close_timeout=0.2)
AT_LEISURE = ConnectionConfig(idle_timeout=2, close_timeout=0.2)
"""For those who answer: a second for a pong, however busy the machine is."""

_PING, _CLOSE = 0x89, 0x88


async def _shake_hands(stream: trio.SocketStream, host: str) -> bytes:
    """A WebSocket by hand, without a subprotocol; what came behind the answer's head."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
    head = (
        f"GET / HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    )
    await stream.send_all(f"{head}sec-websocket-key: {key}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 101")
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_websocket_that_answers_no_ping_is_let_go(scheme: str) -> None:
    """Pinged once it was silent for half of `idle_timeout`; at all of it it is told, and closed. Its streams end."""
    handled = Handled()
    with trio.fail_after(30):
        async with serving(make_router(handled), scheme, config=SOON, host="lean") as url:
            host = url.partition("://")[2]
            async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
                received = await _shake_hands(stream, host)
                start = b'{"id":"s","type":"stream:start","procedure":"stuck"}'
                # Masked with zeros, which a client may not do on purpose but by chance.
                await stream.send_all(bytes((0x81, 0x80 | len(start), 0, 0, 0, 0)) + start)
                began = trio.current_time()
                async for chunk in stream:
                    received += chunk
                assert trio.current_time() - began >= 0.5
            assert bytes((_PING, 0)) in received
            assert b"IDLE_TIMEOUT" in received
            assert bytes((_CLOSE,)) in received
            await until(lambda: handled.closed == ["stuck"])


async def test_a_websocket_that_answers_pings_may_say_nothing_for_ever() -> None:
    """As browsers and the original's clients do; afterwards it is served."""
    with trio.fail_after(30):
        async with serving(make_router(Handled()), "ws", config=AT_LEISURE) as url, open_envelopes(url) as client:
            await trio.sleep(3)
            await client.say({"id": "r", "type": "request", "procedure": "ping", "payload": {}})
            assert (await client.hear())["type"] == "response"


@pytest.mark.parametrize("face", ["ws", "tcp"])
async def test_our_client_keeps_a_silent_connection(face: str) -> None:
    """Its pings are envelopes, and tell it the round trip."""
    with trio.fail_after(30):
        async with (
            serving(make_router(Handled()), face, config=AT_LEISURE) as url,
            connect(url, dialect="envelopes", config=AT_LEISURE) as client,
        ):
            connection = getattr(client, "connection", None)
            assert isinstance(connection, Connection)
            await until(lambda: connection.statistics().round_trip is not None)
            await trio.sleep(2)
            assert await client.call("ping", {}) == {"pong": {}}


async def test_our_client_notices_a_server_that_is_gone() -> None:
    """One that takes everything and says nothing, though its kernel lives."""

    async def swallow(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, swallow, 0, host="127.0.0.1"))
            url = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
            async with connect(url, dialect="envelopes", config=SOON) as client:
                with pytest.raises(Exception, match="idle_timeout"):
                    await client.call("ping", {})
            nursery.cancel_scope.cancel()


# -- TCP ------------------------------------------------------------------------------------------------------------

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names and limits of these options are Linux's")


def _options(stream: trio.SocketStream) -> tuple[int, int, int, int]:
    socket = trio.socket
    return (
        stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )


@linux_only
@pytest.mark.parametrize(
    ("idle_timeout", "idle", "interval"), [(60, 30, 8), (0.1, 1, 1), (1e9, 32_767, 32_767)], ids=str
)
async def test_the_kernel_is_asked_to_ask(idle_timeout: float, idle: int, interval: int) -> None:
    """After half of the time, and four times within the other half, in whole seconds."""
    async with await _connected_socket() as stream:
        keep_alive(stream, None)
        assert _options(stream)[0] == 0
        keep_alive(stream, idle_timeout)
        assert _options(stream) == (1, idle, interval, 4)


async def _connected_socket() -> trio.SocketStream:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])


async def test_other_sockets_are_left_as_they_are() -> None:
    """A Unix socket's peer cannot vanish."""
    left, right = trio.socket.socketpair()
    async with trio.SocketStream(left) as stream, trio.SocketStream(right):
        keep_alive(stream, 60)


@linux_only
async def test_a_server_asks_on_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection that it accepts, by its `idle_timeout`."""
    seen: list[tuple[int, int, int, int]] = []

    def note(stream: trio.SocketStream, idle_timeout: float | None) -> None:
        keep_alive(stream, idle_timeout)
        seen.append(_options(stream))

    monkeypatch.setattr(listening, "keep_alive", note)
    config = ConnectionConfig(idle_timeout=40)
    async with serving(make_router(Handled()), "tcp", config=config) as url, open_envelopes(url) as client:
        await client.say({"id": "r", "type": "request", "procedure": "ping", "payload": {}})
        await client.hear()
    assert seen == [(1, 20, 5, 4)]
