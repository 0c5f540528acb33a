"""The relay on URLs: peers of ours through it, who is let in, and how it ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError, RpcError
from trio_streams.peer import RelayLimits, RelayOptions, RpcPeer, current_caller
from trio_streams.peer.relay import Relay
from trio_streams.transports.messages import connect_websocket
from trio_streams.transports.tls import client_context
from trio_streams.urls import Drain, ServerConfig, open_peer, serve_relay

PATIENCE = 30


@asynccontextmanager
async def relayed(url: str = "ws://127.0.0.1:0", **options: Any) -> AsyncGenerator[str, None]:
    """The URL of a relay that serves for as long as the block."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_relay, url, **options))
            yield url
            nursery.cancel_scope.cancel()


def enter(url: str, name: str, path: str = "/room", **options: Any) -> Any:  # noqa: ANN401 - what open_peer gives
    """A peer in a room."""
    return open_peer(url + path, dialect="signal", relayed=True, name=name, **options)


def declare(peer: RpcPeer) -> None:
    """What each answers."""

    @peer.method("who")
    async def who() -> list[str | None]:
        return [peer.client_id, current_caller().name]

    @peer.method("count")
    async def count(number: int) -> AsyncIterator[int]:
        for each in range(number):
            yield each

    @peer.method("stuck")
    async def stuck() -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_peers_reach_each_other_by_name(scheme: str, tmp_path: Path) -> None:
    """A call to one peer of three is answered by that one, and so are its streams, in TLS or without."""
    served: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if scheme == "wss":
        certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
        certfile.write_text(CERTIFICATE, encoding="utf-8")
        keyfile.write_text(KEY, encoding="utf-8")
        served = {"certfile": str(certfile), "keyfile": str(keyfile)}
        given = {"ssl_context": client_context(str(certfile))}
    async with (
        relayed(f"{scheme}://127.0.0.1:0", **served) as url,
        enter(url, "a", **given) as a,
        enter(url, "b", **given) as b,
        enter(url, "c", **given) as c,
    ):
        for peer in (b, c):
            declare(peer)
        for peer in (b, c):
            assert (await a.request({"method": "who"}, to=peer.client_id)).data == [peer.client_id, "a"]
            answer = await a.request({"method": "count", "params": [500]}, to=peer.client_id)
            _, stream = a.receive_stream(answer.data["streamId"], int)
            assert [number async for number in stream] == list(range(500))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(a.send_stream, range(100), "up", to=c.client_id))
            assert [item async for item in c.receive_stream("up", int)[1]] == list(range(100))
        assert b.streams.statistics().unclaimed_streams == 0
        await a.send({"method": "who"}, to=b.client_id)
        with pytest.raises(RpcError, match="UNAVAILABLE: Target peer not found"):
            await a.request(1, to="nobody")


async def test_rooms_are_apart() -> None:
    """Who is elsewhere hears nothing."""
    async with relayed() as url, enter(url, "a") as a, enter(url, "b", "/elsewhere") as b:
        b.match(lambda data: data)
        with trio.move_on_after(0.2) as scope:
            await a.request(1)
        assert scope.cancelled_caught


async def test_a_call_that_is_given_up_through_the_relay() -> None:
    """The handler's scope is cancelled on the other machine."""
    started, ended = trio.Event(), trio.Event()
    async with relayed() as url, enter(url, "a") as a, enter(url, "b") as b, trio.open_nursery() as nursery:

        async def handle(data: object) -> None:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        b.match(handle)
        nursery.start_soon(partial(a.request, 1, to=b.client_id))
        await started.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(PATIENCE):
            await ended.wait()


async def test_whose_peer_leaves_is_told_at_once() -> None:
    """A call to a peer that goes away fails by the relay's word, not by a timeout."""
    async with relayed() as url, enter(url, "a") as a, trio.open_nursery() as nursery, enter(url, "b") as b:
        declare(b)

        async def call() -> None:
            with pytest.raises(RpcError, match="UNAVAILABLE: Target peer left"):
                await a.request({"method": "stuck"}, to=b.client_id)

        nursery.start_soon(call)
        assert (await a.request({"method": "who"}, to=b.client_id)).data == [b.client_id, "a"]
        b.connection.end(True)


async def test_who_may_come_in() -> None:
    """The checks of Host and Origin are those of the other servers, and who speaks our own dialect is no peer here."""
    async with relayed() as url:
        with pytest.raises(RemoteProtocolError, match="403"):
            await connect_websocket(url, subprotocols=(), require_subprotocol=False, origin="https://evil.example")
        with pytest.raises(RemoteProtocolError, match="subprotocol"):
            async with open_peer(url):
                raise AssertionError("entered")


async def test_the_limits_of_a_relay() -> None:
    """One connection too many is refused, and a message that is too long ends its sender's."""
    options = RelayOptions(limits=RelayLimits(max_message_bytes=1_000))
    async with relayed(server=ServerConfig(max_connections=1), options=options) as url, enter(url, "a") as a:
        with pytest.raises((RemoteProtocolError, ConnectionLost)):
            async with enter(url, "b"):
                raise AssertionError("entered")
        with pytest.raises(ConnectionLost, match="Connection closed"):
            await a.request("x" * 2_000)


class Breaking:
    """A WebSocket that breaks for its reader and its writer at once."""

    peer = "somebody"
    subprotocol = None

    def __init__(self) -> None:
        self.broken = trio.Event()
        self.is_closed = False

    async def receive_messages(self) -> list[str | bytes]:
        await self.broken.wait()
        raise ConnectionLost("reset by peer")

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        await self.broken.wait()
        raise ConnectionLost("reset by peer")

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()


async def test_a_connection_that_breaks_both_ways_breaks_no_more(autojump_clock: MockClock) -> None:
    """Reading and writing fail at the same time: that is one bare loss, which a server tells people and survives."""
    relay, carrier = Relay(), Breaking()
    failures: list[Exception] = []

    async def run() -> None:
        try:
            await relay.run(carrier, "/room")
        except Exception as exc:  # noqa: BLE001 - looked at below
            failures.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        carrier.broken.set()
    assert [type(one) for one in failures] in ([], [ConnectionLost])
    assert carrier.is_closed
    assert relay.members == ()


async def test_a_relay_drains() -> None:
    """Nobody new is let in, an answer that is owed still comes, then everybody is sent away, and the relay returns."""
    drain = Drain()
    over, started, may_answer = trio.Event(), trio.Event(), trio.Event()
    answers: list[object] = []

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_relay("ws://127.0.0.1:0", drain=drain, task_status=task_status)
        over.set()

    async def handle(data: object) -> object:
        started.set()
        await may_answer.wait()
        return data

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve)
            async with enter(url, "a") as a, enter(url, "b") as b:
                b.match(handle)

                async def call() -> None:
                    answers.append((await a.request("last", to=b.client_id)).data)
                    await a.wait_closed()

                async with trio.open_nursery() as calling:
                    calling.start_soon(call)
                    await started.wait()
                    drain.begin()
                    await trio.sleep(0.1)
                    assert not over.is_set()
                    may_answer.set()
                await b.wait_closed()
            await over.wait()
    assert answers == ["last"]
    assert not drain.was_cut


async def test_who_still_shakes_hands_holds_up_no_drain() -> None:
    """A connection that has said nothing is closed, and a relay that is full says so to nobody but the newcomer."""
    drain = Drain()
    options = RelayOptions(limits=RelayLimits(max_members=1))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_relay, "ws://127.0.0.1:0", drain=drain, options=options))
            async with enter(url, "a") as a:
                with pytest.raises((ConnectionLost, RemoteProtocolError)):
                    async with enter(url, "b"):
                        raise AssertionError("entered")
                assert await a.ping() > 0
            silent = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            async with silent:
                drain.begin()
                with contextlib.suppress(trio.BrokenResourceError):  # where nobody had accepted it yet
                    assert await silent.receive_some() == b""
    assert not drain.was_cut


async def test_a_drain_that_takes_too_long_is_cut() -> None:
    """At `drain_timeout` the connections are closed, answers owed or not."""
    drain = Drain()
    started = trio.Event()

    async def handle(data: object) -> None:
        started.set()
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            rules = ServerConfig(drain_timeout=0.1)
            (url,) = await nursery.start(partial(serve_relay, "ws://127.0.0.1:0", drain=drain, server=rules))
            async with enter(url, "a") as a, enter(url, "b") as b, trio.open_nursery() as calling:
                b.match(handle)

                async def call() -> None:
                    with pytest.raises((ConnectionLost, RpcError)):
                        await a.request(1, to=b.client_id)

                calling.start_soon(call)
                await started.wait()
                drain.begin()
    assert drain.was_cut


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "http://127.0.0.1:0"])
async def test_a_relay_is_for_websockets(url: str) -> None:
    """Other schemes are refused by name."""
    with pytest.raises(LocalProtocolError, match="scheme"):
        await serve_relay(url)
