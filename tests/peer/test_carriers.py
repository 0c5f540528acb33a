"""The same conversation over every carrier."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError, StreamError
from trio_streams.peer import Methods, RpcPeer, StreamOptions
from trio_streams.transports.channels import ChannelCarrier
from trio_streams.transports.tls import client_context
from trio_streams.urls import Drain, connect, open_peer, open_peer_stream, serve_peers

ROOT = str(Path(__file__).resolve().parents[2])
PATIENCE = 30
CHUNK = bytes(range(256)) * 1_000

WORKER = """
import trio
from tests.peer.test_carriers import answer
from trio_streams.urls import serve_peers
trio.run(serve_peers, answer, "stdio:")
"""


async def answer(peer: RpcPeer) -> None:
    """What the other side of each carrier does: it answers, calls back, and sends."""

    @peer.method("add")
    async def add(a: int, b: int) -> int:
        return a + b

    @peer.method("names")
    async def names(count: int) -> AsyncIterator[str]:
        for number in range(count):
            yield f"name {number}"

    @peer.method("ask_back")
    async def ask_back() -> object:
        return (await peer.request({"method": "who"})).data

    @peer.method("echo")
    async def echo(stream_id: str) -> None:
        _, stream = peer.receive_stream(stream_id, bytes)
        await peer.send_stream(stream, stream_id, content_type="application/octet-stream")

    @peer.method("fail")
    async def fail() -> None:
        raise RpcError("OUT_OF_STOCK", "none left")


async def converse(peer: RpcPeer) -> None:
    """Calls, errors, streams both ways, early ends and a drain."""

    @peer.method("who")
    async def who() -> str:
        return "me"

    assert (await peer.request({"method": "add", "params": {"a": 1, "b": 2}})).data == 3
    assert (await peer.request({"method": "ask_back"})).data == "me"
    with pytest.raises(RpcError, match="OUT_OF_STOCK: none left"):
        await peer.request({"method": "fail"})
    for count, taken in ((2_000, 2_000), (10**9, 10)):
        response = await peer.request({"method": "names", "params": [count]})
        _, stream = peer.receive_stream(response.data["streamId"], str)  # type: ignore[index]
        found: list[str] = []
        async for name in stream:
            found.append(name)
            if len(found) == taken:
                break
        assert found == [f"name {number}" for number in range(taken)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.request, {"method": "echo", "params": ["x"]})
        nursery.start_soon(partial(peer.send_stream, [CHUNK] * 5, "x", content_type="application/octet-stream"))
        assert [chunk async for chunk in peer.receive_stream("x", bytes)[1]] == [CHUNK] * 5
    assert await peer.ping() > 0
    await peer.drain()


@asynccontextmanager
async def served(scheme: str, folder: Path, **options: Any) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """A server on a scheme: its URL, and what `open_peer` needs beside it."""
    given: dict[str, Any] = {}
    if scheme in {"tls", "wss"}:
        certfile, keyfile = folder / "cert.pem", folder / "key.pem"
        certfile.write_text(CERTIFICATE, encoding="utf-8")
        keyfile.write_text(KEY, encoding="utf-8")
        options |= {"certfile": str(certfile), "keyfile": str(keyfile)}
        given = {"ssl_context": client_context(str(certfile))}
    url = f"unix:{folder / 'socket'}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
    handler = options.pop("handler", answer)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_peers, handler, url, **options))
            yield url, given
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["tcp", "tls", "unix", "ws", "wss"])
async def test_over_sockets(scheme: str, tmp_path: Path) -> None:
    """TCP, TLS, Unix sockets and WebSockets, plain and in TLS."""
    async with served(scheme, tmp_path) as (url, given), open_peer(url, **given) as peer:
        await converse(peer)
        assert peer.connection.transport == scheme


async def test_over_the_other_websocket_carrier(tmp_path: Path) -> None:
    """trio-websocket on both sides."""
    async with (
        served("ws", tmp_path, carrier="trio-websocket") as (url, _),
        open_peer(url, carrier="trio-websocket") as peer,
    ):
        await converse(peer)


async def test_over_a_childs_pipes() -> None:
    """A child process is the other peer."""
    program = f"import sys; sys.path.insert(0, {ROOT!r}){WORKER}"
    with trio.fail_after(PATIENCE):
        async with open_peer(f"process:{sys.executable} -c '{program.replace(chr(39), chr(34))}'") as peer:
            await converse(peer)


async def test_over_channels() -> None:
    """Whatever moves messages of bytes inside a process."""
    to_right, from_left = trio.open_memory_channel[bytes](4)
    to_left, from_right = trio.open_memory_channel[bytes](4)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run_right() -> None:
                async with open_peer_stream(ChannelCarrier(to_left, from_left), is_client=False) as right:
                    await answer(right)
                    await right.wait_closed()

            nursery.start_soon(run_right)
            async with open_peer_stream(ChannelCarrier(to_right, from_right), is_client=True) as left:
                await converse(left)


async def test_over_any_byte_stream() -> None:
    """Any byte stream of Trio's."""
    left_stream, right_stream = trio.testing.memory_stream_pair()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run_right() -> None:
                async with open_peer_stream(right_stream, is_client=False, peer="left") as right:
                    await answer(right)
                    await right.wait_closed()

            nursery.start_soon(run_right)
            async with open_peer_stream(left_stream, is_client=True, peer="right") as left:
                await converse(left)


async def test_shared_methods_need_no_handler(tmp_path: Path) -> None:
    """One table of methods may answer all who connect; each connection is told of."""
    methods = Methods()

    async def hello() -> str:
        return "hello"

    methods.add("hello", hello)
    seen: list[object] = []
    async with (
        served("tcp", tmp_path, handler=None, methods=methods, on_connection=seen.append) as (url, _),
        open_peer(url, options=StreamOptions(max_buffered_bytes=10_000)) as first,
        open_peer(url, config=ConnectionConfig()) as second,
    ):
        for peer in (first, second):
            assert (await peer.request({"method": "hello"})).data == "hello"
        assert len(seen) == 2


async def test_a_handler_that_fails_ends_its_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its peer hears of it, the people who run the server read it, and the others are not touched."""

    async def fail(peer: RpcPeer) -> None:
        peer.match(lambda data: data)
        if (await peer.request("are you good?")).data == "no":
            raise RuntimeError("a bad one")

    async with served("tcp", tmp_path, handler=fail) as (url, _), open_peer(url) as good:
        good.match(lambda data: "yes")
        with caplog.at_level(logging.ERROR):
            async with open_peer(url) as bad:
                bad.match(lambda data: "no")
                await bad.wait_closed()
                with pytest.raises(ConnectionLost, match="Connection closed"):
                    await bad.request(1)
        assert "a bad one" in caplog.text
        assert (await good.request("still there")).data == "still there"


async def test_a_handler_ends_with_its_connection(tmp_path: Path) -> None:
    """A handler that waits for ever is cancelled when the other side goes."""
    ended = trio.Event()

    async def handler(peer: RpcPeer) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with served("tcp", tmp_path, handler=handler) as (url, _):
        async with open_peer(url):
            pass
        await ended.wait()


async def test_a_server_drains(tmp_path: Path) -> None:
    """A drain lets the call under way finish, refuses the next one, and then the server returns."""
    drain = Drain()
    begun = trio.Event()

    async def handler(peer: RpcPeer) -> None:
        async def slowly(data: object) -> object:
            begun.set()
            await trio.sleep(0.3)
            return data

        peer.match(slowly)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_peers, handler, "tcp://127.0.0.1:0", drain=drain))
            async with open_peer(url) as peer:

                async def call() -> None:
                    assert (await peer.request(1)).data == 1

                async with trio.open_nursery() as calls:
                    calls.start_soon(call)
                    await begun.wait()
                    drain.begin()
                await peer.wait_closed()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "gopher://x:1"])
async def test_a_url_that_carries_no_peers(url: str) -> None:
    """HTTP's requests carry no peers; the error names what does."""
    with pytest.raises(LocalProtocolError, match="its scheme is not one of tcp, tls, unix, "):
        await serve_peers(answer, url)
    with pytest.raises(LocalProtocolError, match="its scheme is not one of tcp, tls, unix, "):
        async with open_peer(url):
            raise AssertionError("opened")
    with pytest.raises(LocalProtocolError, match="can't serve on no URL"):
        await serve_peers(answer)


async def test_a_client_of_procedures_meets_a_peer(tmp_path: Path) -> None:
    """Who asks a peer for a procedure is told that there is none; nobody hangs."""
    async with served("tcp", tmp_path) as (url, _), connect(url) as client:
        with pytest.raises(StreamError, match="UNIMPLEMENTED: peers open no stream"):
            await client.call("add", [1, 2])
