"""Peers in the JSON dialect: what it can't carry, what it does instead, and how its connections begin and end."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.test_carriers import answer, converse, served
from trio_streams.config import ConnectionConfig
from trio_streams.errors import (
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    StreamStopped,
)
from trio_streams.peer import BatchOptions, RpcPeer, current_caller, open_peer_pair
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.transports.messages import accept_websocket
from trio_streams.urls import open_peer, serve_peers

PATIENCE = 30


@pytest.mark.parametrize("scheme", ["tcp", "tls", "unix", "ws", "wss"])
async def test_one_port_speaks_both(scheme: str, tmp_path: Path) -> None:
    """The whole conversation in our own dialect and in JSON, at the same time, on one port of every kind."""
    async with (
        served(scheme, tmp_path) as (url, given),
        open_peer(url, dialect="signal", **given) as one,
        open_peer(url, **given) as other,
        trio.open_nursery() as nursery,
    ):
        assert (one.client_id is not None, other.client_id) == (True, None)
        nursery.start_soon(converse, one)
        nursery.start_soon(converse, other)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"after": "x"}, "after"),
        ({"batch": BatchOptions()}, "batch"),
        ({"compression": "deflate"}, "compression"),
        ({"content_type": "text/plain"}, "content_type"),
        ({"to": "somebody"}, "to"),
    ],
)
async def test_what_can_not_be_carried_is_refused(
    autojump_clock: MockClock, options: dict[str, Any], field: str
) -> None:
    """Before anything is sent, by the name of the option; the next stream is none the worse."""
    async with open_peer_pair(dialect="signal") as (left, right):
        with pytest.raises(LocalProtocolError) as caught:
            await left.send_stream([1], "s", **options)
        assert caught.value.field == field
        left.start_stream([2], "s")
        assert [item async for item in right.receive_stream("s")[1]] == [2]


async def test_bytes_travel_as_base64(autojump_clock: MockClock) -> None:
    """Whoever asks for bytes gets them; whoever asks for nothing gets the text that a plain peer would."""
    chunk = bytes(range(256))
    async with open_peer_pair(dialect="signal") as (left, right):
        for name, kind in (("a", bytes), ("b", str)):
            await left.send_stream([chunk], name, content_type="application/octet-stream")
            (found,) = [item async for item in right.receive_stream(name, kind)[1]]
            assert found == (chunk if kind is bytes else base64.b64encode(chunk).decode())


async def test_to_needs_a_relay(autojump_clock: MockClock) -> None:
    """In either dialect one peer is on the other side, and nobody else can be named."""
    async with open_peer_pair() as (ours, _), open_peer_pair(dialect="signal") as (json, _):
        for peer in (ours, json):
            for ask in (peer.request, peer.send):
                with pytest.raises(LocalProtocolError, match="to= is for peers behind a relay"):
                    await ask(1, to="somebody")


async def test_outside_a_handler_nobody_has_called(autojump_clock: MockClock) -> None:
    """Who asks for the caller there is told so; in our own dialect a caller has neither id nor name."""
    with pytest.raises(LocalProtocolError, match="nobody has called"):
        current_caller()
    async with open_peer_pair() as (left, right):
        right.match(lambda _: str(current_caller().client_id))
        assert (await left.request(1)).data == "None"


async def test_a_reader_that_reads_nothing_pauses_the_sender(autojump_clock: MockClock) -> None:
    """No more arrives than the limits hold; after `stall_timeout` the stream is refused, and calls go on."""
    made = 0

    async def items() -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield "x" * 1_000

    async with open_peer_pair(dialect="signal") as (left, right), trio.open_nursery() as nursery:
        right.match(lambda data: data)
        _, stream = right.receive_stream("s")
        refused: list[StreamStopped] = []

        async def send() -> None:
            with pytest.raises(StreamStopped) as caught:
                await left.send_stream(items(), "s")
            refused.append(caught.value)

        nursery.start_soon(send)
        await stream.receive()
        await wait_all_tasks_blocked()
        with trio.move_on_after(5) as pause:
            await left.request("while it pauses")
        assert pause.cancelled_caught
        held = made
        assert held * 1_000 < 4 * 1_048_576
        started = trio.current_time()
        assert (await left.request("after it")).data == "after it"
        assert trio.current_time() - started == pytest.approx(5, abs=0.1)
        assert "stall_timeout" in refused[0].reason
        assert made <= held + 1_000
        with pytest.raises(Exception, match="stall_timeout"):
            while True:
                await stream.receive()


async def test_a_reader_that_reads_again_loses_nothing(autojump_clock: MockClock) -> None:
    """A pause that is shorter than `stall_timeout` is only that."""
    async with open_peer_pair(dialect="signal") as (left, right):
        left.start_stream(["x" * 1_000 + str(number) for number in range(5_000)], "s")
        _, stream = right.receive_stream("s", str)
        first = await stream.receive()
        await trio.sleep(9)
        found = [first, *[item async for item in stream]]
        assert [item[1_000:] for item in found] == [str(number) for number in range(5_000)]


async def test_an_abort_is_an_error_behind_what_was_sent(autojump_clock: MockClock) -> None:
    """The receiver gets the items that left, and then the reason with its code."""
    async with open_peer_pair(dialect="signal") as (left, right), trio.open_nursery() as nursery:

        async def items() -> AsyncIterator[int]:
            yield 1
            await trio.sleep_forever()

        nursery.start_soon(left.send_stream, items(), "s")
        await wait_all_tasks_blocked()
        left.abort_stream("s")
        _, stream = right.receive_stream("s", int)
        assert await stream.receive() == 1
        with pytest.raises(RpcError, match="CANCELLED: aborted"):
            await stream.receive()


async def test_streams_cancelled_at_each_of_their_awaits(autojump_clock: MockClock) -> None:
    """Wherever sending or receiving is cancelled, the connection goes on, and no stream is left."""
    async with open_peer_pair(dialect="signal") as (left, right):
        right.match(lambda data: data)

        @asynccontextmanager
        async def around() -> AsyncIterator[RpcPeer]:
            yield left
            assert (await left.request("next")).data == "next"
            await trio.sleep(15)
            assert (left.connection.streams, right.connection.streams) == ((), ())

        async def exchange(peer: RpcPeer) -> None:
            back = right.start_stream([1])
            await peer.send_stream([1, 2])
            async with peer.receive_stream(back)[1] as stream:
                await stream.receive()

        assert await cancel_everywhere(exchange, around) >= 2


async def test_a_close_is_told_to_all_that_waits() -> None:
    """Calls, receivers and senders hear of a lost connection at once, on either side."""
    heard: list[str] = []
    is_over = trio.Event()

    async def serve_one(peer: RpcPeer) -> None:
        @peer.method("stuck")
        async def stuck() -> None:
            await trio.sleep_forever()

        _, stream = peer.receive_stream("up")
        with pytest.raises(ConnectionLost, match="Connection closed"):
            async for _ in stream:
                pass
        heard.append("server")
        is_over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as serving:
            (url,) = await serving.start(serve_peers, serve_one, "ws://127.0.0.1:0")
            async with open_peer(url, dialect="signal") as peer, trio.open_nursery() as nursery:

                async def expect(call: Any) -> None:  # noqa: ANN401 - any call
                    with pytest.raises(ConnectionLost, match="Connection closed"):
                        await call()
                    heard.append("client")

                async def feed() -> AsyncIterator[int]:
                    while True:
                        yield 1
                        await trio.sleep(0.01)

                nursery.start_soon(expect, partial(peer.request, {"method": "stuck"}))
                nursery.start_soon(expect, partial(peer.send_stream, feed(), "up"))
                nursery.start_soon(expect, peer.receive_stream("down")[1].receive)
                await trio.sleep(0.05)
                peer.connection.end(True)
            await is_over.wait()
            serving.cancel_scope.cancel()
    assert sorted(heard) == ["client"] * 3 + ["server"]


async def test_who_is_not_welcomed_gives_up() -> None:
    """A server that says nothing is left after `handshake_timeout`; a cancelled wait leaves nothing behind."""

    async def say_nothing(stream: trio.SocketStream) -> None:
        carrier = await accept_websocket(stream, subprotocols=(), require_subprotocol=False)
        while await carrier.receive_messages():
            pass
        await carrier.aclose()

    config = ConnectionConfig(handshake_timeout=1.0)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1")
            )
            url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            with pytest.raises((ConnectionLost, RemoteProtocolError), match="no hello within handshake_timeout"):
                async with open_peer(url, dialect="signal", config=config):
                    raise AssertionError("entered")
            with trio.move_on_after(0.1) as scope:
                async with open_peer(url, dialect="signal"):
                    raise AssertionError("entered")
            assert scope.cancelled_caught
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ws://127.0.0.1:1", {"dialect": "morse"}, "dialect is one of trio-streams, signal, not 'morse'"),
        ("ws://127.0.0.1:1", {"relayed": True}, "relayed=True needs dialect='signal'"),
        ("process:cat", {"dialect": "signal"}, "can't speak signal on 'process:cat'"),
        ("ws://127.0.0.1:1", {"dialect": "signal", "carrier": "trio-websocket"}, "it keeps no messages apart"),
    ],
)
async def test_a_dialect_that_can_not_be_spoken(url: str, options: dict[str, Any], message: str) -> None:
    """The mistake is named before anything is opened."""
    with pytest.raises(LocalProtocolError, match=message):
        async with open_peer(url, **options):
            raise AssertionError("entered")


async def test_a_peer_says_its_name() -> None:
    """What either side calls itself reaches the other's handlers; a server's client has an id, too."""
    names: list[object] = []
    is_asked = trio.Event()

    async def serve_one(peer: RpcPeer) -> None:
        peer.match(lambda _: [current_caller().client_id, current_caller().name])
        await answer(peer)
        names.append((await peer.request("who")).data)
        is_asked.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_peers, serve_one, "ws://127.0.0.1:0", name="server"))
            async with open_peer(url, dialect="signal", name="client") as peer:
                peer.match(lambda _: [current_caller().client_id, current_caller().name])
                assert (await peer.request("who")).data == [peer.client_id, "client"]
                await is_asked.wait()
            nursery.cancel_scope.cancel()
    assert names == [[None, "server"]]
