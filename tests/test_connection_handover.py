"""The peer's streams in somebody else's hands: `hand_over`, `let_go`, `wait_sent`, and a block as the server's side."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.streams.wire_pair import Raw
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.connection import Connection
from trio_streams.driver import run_connection
from trio_streams.errors import ConnectionLost, LocalProtocolError, StreamStopped
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair

CONFIG = ConnectionConfig(stream=StreamLimits(window_items=4), idle_timeout=None)


@asynccontextmanager
async def sides() -> AsyncGenerator[tuple[Connection, Connection, MemoryCarrier], None]:
    """Both sides of a connection, each in a block of its own, and the link."""
    near, far = memory_carrier_pair()
    opened, is_over = trio.Event(), trio.Event()
    found: list[Connection] = []

    async def run_other() -> None:
        async with run_connection(far, is_client=False, config=CONFIG, on_connection=found.append):
            opened.set()
            await is_over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_other)
        async with run_connection(near, is_client=True, config=CONFIG) as connection:
            await opened.wait()
            yield connection, found[0], near
        is_over.set()


async def test_the_server_opens_streams_and_the_client_accepts_them(autojump_clock: MockClock) -> None:
    """Either side of a block opens and accepts."""
    async with sides() as (client, server, _):
        for opener, accepter in ((client, server), (server, client)):
            async with opener.open_stream("hello") as stream:
                await stream.send(b"x")
                accepted = await accepter.accept_stream()
                with accepter.own(accepted):
                    assert (accepted.name, await accepted.receive()) == ("hello", b"x")


async def test_streams_are_handed_over(autojump_clock: MockClock) -> None:
    """Those that waited come first, then each as it is opened; nobody else gets them, and nobody else may ask."""
    async with sides() as (client, server, _):
        names: list[str] = []

        def accept(stream: Raw) -> None:
            names.append(stream.name)
            server.let_go(stream)

        async with client.open_stream("a"), client.open_stream("b"):
            await wait_all_tasks_blocked()
            server.hand_over(accept)
            assert names == ["a", "b"]
            async with client.open_stream("c") as stream:
                await wait_all_tasks_blocked()
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive()
                with pytest.raises(StreamStopped):
                    await stream.send(b"x")
        assert names == ["a", "b", "c"]
        assert server.streams == ()
        with pytest.raises(LocalProtocolError, match="somebody else serves them"):
            server.hand_over(accept)
        with pytest.raises(LocalProtocolError, match="serves its streams by itself"):
            await server.accept_stream()


async def test_who_watches_hears_of_arrivals_and_of_the_loss(autojump_clock: MockClock) -> None:
    """`on_arrival` is called for items and for the end, `on_lost` once, after the streams know."""
    async with sides() as (client, server, link):
        heard: list[str] = []
        server.on_lost = lambda error: heard.append(type(error).__name__)
        async with client.open_stream("s") as stream:
            await wait_all_tasks_blocked()
            accepted = await server.accept_stream()
            accepted.on_arrival = lambda: heard.append(f"{accepted.unread_bytes} {accepted.is_drained}")
            await stream.send(b"x")
            await wait_all_tasks_blocked()
            stream.end()
            await wait_all_tasks_blocked()
            assert await accepted.receive() == b"x"
            assert accepted.is_drained
            link.lose()
            await wait_all_tasks_blocked()
        assert heard == ["65 False", "65 False", "ConnectionLost"]


async def test_the_peer_may_cancel_who_opened(autojump_clock: MockClock) -> None:
    """With `cancels_owner` STOP cancels the block that opened the stream, and the reason says by whom."""
    async with sides() as (client, server, _):
        async with client.open_stream("s") as stream:
            stream.cancels_owner = True
            (await server.accept_stream()).stop()
            await trio.sleep_forever()
        assert isinstance(stream.cancel_reason, StreamStopped)


async def test_a_half_that_has_left(autojump_clock: MockClock) -> None:
    """`wait_sent` returns when the last byte has left, at once for a stream that is gone, and when all is lost."""
    async with sides() as (client, server, link):
        async with client.open_stream("s") as stream:
            for _ in range(4):
                await stream.send(b"x")
            accepted = await server.accept_stream()
            async with trio.open_nursery() as nursery:
                sent = trio.Event()

                async def send_more() -> None:
                    await stream.send(b"y")
                    stream.end()
                    await client.wait_sent(stream.id)
                    sent.set()

                nursery.start_soon(send_more)
                await wait_all_tasks_blocked()
                assert not sent.is_set()
                assert [await accepted.receive() for _ in range(5)] == [b"x"] * 4 + [b"y"]
                await sent.wait()
        await client.wait_sent(999)
        async with client.open_stream("t") as stream:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.wait_sent, stream.id)
                await wait_all_tasks_blocked()
                link.lose()
            with pytest.raises(ConnectionLost):
                await stream.send(b"x")


async def test_waiting_for_the_end_is_cancelled_without_a_trace(autojump_clock: MockClock) -> None:
    """A cancelled `wait_sent` changes nothing."""
    async with sides() as (client, _, _link), client.open_stream("s") as stream:

        @asynccontextmanager
        async def around() -> AsyncGenerator[None, None]:
            yield
            await stream.send(b"x")

        async def wait(_: None) -> None:
            with trio.move_on_after(1):
                await client.wait_sent(stream.id)

        assert await cancel_everywhere(wait, around) >= 1
