"""Procedures, over every way to serve and to call them, server-sent events among them."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.conformance.faces import FACES, Face, open_client, open_connection, open_server
from trio_streams import Context, Router, connect
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RpcError, StreamReset
from trio_streams.streams import ReceiveStream
from trio_streams.testing.peers import until
from trio_streams.transports import bytes as carriers
from trio_streams.transports.bytes import open_tcp_listeners
from trio_streams.transports.exchange import ExchangeConfig

ITEM_BYTES: Final = 1_000


@attrs.define
class Site:
    """An application whose handlers tell what becomes of them."""

    running: int = 0
    finished: list[str] = attrs.field(factory=list)
    produced: int = 0
    deadlines: list[float] = attrs.field(factory=list)

    def router(self) -> Router:
        app = Router()
        app.stream("flood")(self.flood)
        app.stream("three")(self.three)
        app.stream("wait")(self.wait)
        app.call("echo")(self.echo)
        app.call("sleep")(self.sleep)
        return app

    async def flood(self) -> AsyncIterator[str]:
        while True:
            self.produced += 1
            yield "x" * ITEM_BYTES

    async def three(self) -> AsyncIterator[int]:
        for n in range(3):
            yield n
        raise RpcError("OUT_OF_STOCK", "no fourth", {"left": [0]})

    async def wait(self) -> AsyncIterator[int]:
        self.running += 1
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            self.running -= 1
            self.finished.append("wait")

    async def echo(self, text: str) -> str:
        return text

    async def sleep(self, ctx: Context) -> None:
        self.running += 1
        self.deadlines.append(ctx.deadline - trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1
            self.finished.append("sleep")


@attrs.frozen
class To:
    to: int


@pytest.fixture(params=FACES.values(), ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Each way in turn."""
    assert isinstance(request.param, Face)
    return request.param


async def first(items: ReceiveStream[object]) -> None:
    assert await items.receive() == 1


async def test_order(face: Face) -> None:
    """5,000 items of a server stream arrive whole and in order."""
    app = Router()

    @app.stream("count")
    async def count(run: To) -> AsyncIterator[int]:
        for n in range(run.to):
            yield n

    async with open_client(face, app) as client, client.stream("count", To(5_000), returns=int) as items:
        assert [n async for n in items] == list(range(5_000))


async def test_an_error_comes_after_the_items(face: Face) -> None:
    """Three items, and then the error that the handler raised."""
    async with open_client(face, Site().router()) as client:
        async with client.stream("three", returns=int) as items:
            assert [await items.receive() for _ in range(3)] == [0, 1, 2]
            with pytest.raises(RpcError, match="OUT_OF_STOCK: no fourth") as caught:
                await items.receive()
        assert caught.value.details == {"left": [0]}
        assert await client.call("echo", "alive") == "alive"


@pytest.mark.parametrize("face", [face for face in FACES.values() if face.has_credit], ids=str)
async def test_an_unread_stream_stops(face: Face) -> None:
    """Where there is credit, the producer of an unread stream stops at exactly its mark."""
    site = Site()
    async with open_client(face, site.router()) as client, client.stream("flood", high_water_mark=16):
        await until(lambda: site.produced == 17)  # the 17th has been made, and waits
        assert await client.call("echo", "alive") == "alive"
        await wait_all_tasks_blocked()
        assert site.produced == 17


async def test_unread_events_stop_at_the_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credit the producer stops at the answer's buffer, one write under way, and what two sockets hold."""
    site = Site()
    listeners: list[trio.SocketListener] = []

    async def listen_narrowly(
        host: str | None, port: int, *, backlog: int | None = None, user_timeout: float | None = None
    ) -> list[trio.SocketListener]:
        listeners.extend(await open_tcp_listeners(host, port, backlog=backlog, user_timeout=user_timeout))
        # Accepted sockets inherit it; and one that was set is not tuned by the kernel.
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        return listeners

    monkeypatch.setattr(carriers, "open_tcp_listeners", listen_narrowly)
    async with open_server(FACES["http"], site.router()) as served:
        with trio.socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            await client.connect(("127.0.0.1", urlsplit(served.url).port))
            await client.send(b"GET /streams/flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await until(lambda: site.produced > 0)
            await wait_all_tasks_blocked(0.05)
            stopped_at = site.produced
            sockets = client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + listeners[0].socket.getsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF
            )
            buffer = ExchangeConfig().send_buffer_bytes
            event = len(b'data: "') + ITEM_BYTES + len(b'"\n\n')
            # Each of the two buffers is passed by an event at most, and one more has been made and waits.
            bound = (sockets + 2 * buffer) // event + 3
            assert 2 * buffer // event <= stopped_at <= bound
            async with connect(served.url) as other:
                assert await other.call("echo", "alive") == "alive"
            assert site.produced == stopped_at


@pytest.mark.parametrize("face", [face for face in FACES.values() if face.dialect == "trio-streams"], ids=str)
async def test_no_stream_holds_the_line(face: Face) -> None:
    """While four streams are never read, another one on the same client flows, and so do calls."""
    app = Site().router()

    @app.stream("numbers")
    async def numbers() -> AsyncIterator[int]:
        for n in range(2_000):
            yield n

    async with open_client(face, app) as client, AsyncExitStack() as stack:
        for _ in range(4):
            unread = await stack.enter_async_context(client.stream("flood"))
            await unread.receive()
        async with client.stream("numbers", returns=int) as items:
            assert [n async for n in items] == list(range(2_000))
        assert await client.call("echo", "alive") == "alive"


async def test_cancelling_a_caller_reaches_the_handler(face: Face) -> None:
    """Cancelling a stream's or a call's caller runs the handler's `finally`; the client goes on to work."""
    site = Site()
    async with open_client(face, site.router()) as client:
        with trio.CancelScope() as scope:
            async with client.stream("wait") as items:
                await first(items)
                scope.cancel()
                await items.receive()
        await until(lambda: site.finished == ["wait"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "sleep")
            await until(lambda: site.running == 1)
            nursery.cancel_scope.cancel()
        await until(lambda: site.finished == ["wait", "sleep"])
        assert await client.call("echo", "alive") == "alive"


async def test_leaving_the_block_reaches_the_handler(face: Face) -> None:
    """Leaving a stream's block, normally or by an exception, runs the handler's `finally`; the exception is bare."""
    site = Site()
    async with open_client(face, site.router()) as client:
        async with client.stream("wait") as items:
            await first(items)
        await until(lambda: site.finished == ["wait"])
        fault = LookupError("mine")
        with pytest.raises(LookupError) as caught:
            async with client.stream("wait") as items:
                await first(items)
                raise fault
        assert caught.value is fault
        await until(lambda: site.finished == ["wait"] * 2)


async def test_deadlines_travel(face: Face) -> None:
    """A caller's deadline is the handler's, and ends both."""
    site = Site()
    async with open_client(face, site.router()) as client:
        seconds = 0.05
        while not site.deadlines:  # on a loaded machine it may have passed before the handler is reached
            seconds *= 2
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(seconds):
                    await client.call("sleep")
        await until(lambda: len(site.finished) == len(site.deadlines))
        assert all(0 <= left <= seconds + 0.001 for left in site.deadlines)
        assert not math.isinf(site.deadlines[0])


async def test_a_server_that_ends(face: Face) -> None:
    """When the server ends, open streams end with one error, after what had arrived, and handlers' `finally` run."""
    site = Site()
    config = ConnectionConfig(close_timeout=0.2)
    async with open_server(face, site.router(), config=config) as served:  # noqa: SIM117 - the client outlives its streams
        async with open_connection(face, served.url) as client:
            async with client.stream("wait") as items, client.stream("wait") as others:
                await first(items)
                await first(others)
                served.stop.cancel()
                # Envelopes have no reset: there it is an error like others.
                ends = (StreamReset, ConnectionLost) if face.dialect == "trio-streams" else (RpcError, ConnectionLost)
                for stream in (items, others, items):
                    with pytest.raises(ends):
                        await stream.receive()
            await until(lambda: site.finished == ["wait"] * 2)
            with pytest.raises(ConnectionLost):
                await client.call("echo", "anybody?")


async def test_many_streams(face: Face) -> None:
    """Many streams (a thousand, over HTTP a hundred) are open on one client at once, and none is left afterwards."""
    site = Site()
    async with open_client(face, site.router()) as client:
        may_leave = trio.Event()

        async def use() -> None:
            async with client.stream("wait") as items:
                await first(items)
                await may_leave.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(face.max_streams):
                nursery.start_soon(use)
            await until(lambda: site.running == face.max_streams)
            may_leave.set()
        await until(lambda: site.running == 0)
        assert len(site.finished) == face.max_streams
