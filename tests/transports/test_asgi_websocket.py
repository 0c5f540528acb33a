"""ASGI WebSockets: who is accepted, what hypercorn does not say, and applications that are mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing

from tests.transports.links import IMPATIENT
from tests.transports.more_links import asgi_pair
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams import ConnectionConfig, Router, StreamReset, asgi_app, connect, serve
from trio_streams.carrier import Carrier
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.service.exchange import Exchange, ExchangeConfig
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.asgi import Message, Receive, Scope, Send, serve_hypercorn
from trio_streams.transports.asgi_websocket import AsgiWebSocketCarrier, serve_asgi_websocket
from trio_streams.transports.messages import WebSocketCarrier, connect_websocket

app = Router()
over: list[str] = []


@app.call("double")
async def double(n: int) -> int:
    return 2 * n


@app.stream("count")
async def count() -> AsyncIterator[int]:
    try:
        n = 0
        while True:
            yield n
            n += 1
    finally:
        over.append("count")


async def _nothing(exchange: Exchange) -> None:
    raise NotImplementedError


async def _host(
    nursery: trio.Nursery, handler: Callable[[Carrier], Awaitable[None]], config: ExchangeConfig | None = None
) -> str:
    config = config or ExchangeConfig(close_timeout=0.1)
    url: str = await nursery.start(partial(serve_hypercorn, _nothing, config=config, websocket=handler))
    return url.replace("http", "ws")


async def test_one_port_serves_both() -> None:
    """`http://` answers requests and WebSockets; a stream over the WebSocket ends with its reader."""
    over.clear()
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0"))
        for one in (url, url.replace("http", "ws"), url.replace("http", "ws") + "/any/path?x=1"):
            for carrier in ("websockets", "trio-websocket"):
                async with connect(one, carrier=carrier) as client:
                    assert await client.call("double", 21, returns=int) == 42
        async with connect(url.replace("http", "ws")) as client, client.stream("count", returns=int) as items:
            async for n in items:
                if n == 1_000:
                    break
        with trio.fail_after(30):
            while not over:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_another_subprotocol_is_refused() -> None:
    """A client that does not offer our subprotocol gets a 400 that says so."""

    async def never(carrier: Carrier) -> None:
        pytest.fail("accepted")

    async with trio.open_nursery() as nursery:
        url = await _host(nursery, never)
        with pytest.raises(
            RemoteProtocolError, match="400.*Expected the WebSocket subprotocol trio-streams.v1"
        ) as caught:
            await connect_websocket(url, subprotocols=["chat"])
        assert caught.value.size == 400
        nursery.cancel_scope.cancel()


async def test_messages_stay_apart_where_no_subprotocol_is_needed() -> None:
    """Texts and binary messages both ways, and the end; a client that offers something else is refused all the same."""
    token = ADMISSION.set(Admission(lambda listener: listener, None, 1_000))
    heard: list[str | bytes] = []

    async def echo(carrier: Carrier) -> None:
        assert isinstance(carrier, AsgiWebSocketCarrier)
        assert carrier.subprotocol is None
        while messages := await carrier.receive_messages():
            heard.extend(messages)
            await carrier.send_messages([*messages, "and"])

    async with trio.open_nursery() as nursery:
        url = await _host(nursery, echo)
        ADMISSION.reset(token)
        client = await connect_websocket(url, subprotocols=(), require_subprotocol=False)
        await client.send_messages(["ü", b"b"])
        answers: list[str | bytes] = []
        while len(answers) < 4:
            answers += await client.receive_messages()
        assert answers == ["ü", "and", b"b", "and"]
        await client.aclose()
        with pytest.raises(RemoteProtocolError, match="Expected the WebSocket subprotocol"):
            await connect_websocket(url, subprotocols=["chat"])
        nursery.cancel_scope.cancel()
    assert heard == ["ü", b"b"]


async def test_a_host_that_can_only_close() -> None:
    """Without the extension for answers the WebSocket is closed before it is accepted."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "websocket", "subprotocols": []}
    await serve_asgi_websocket(scope, receive, send, never_called, close_timeout=1)
    assert sent == [{"type": "websocket.close", "code": 1002, "reason": ""}]


async def never_called(carrier: Carrier) -> None:
    raise NotImplementedError


async def test_a_text_message_is_refused() -> None:
    """Text breaks the protocol: the client is told with close code 1003."""
    async with asgi_pair() as (client, server):
        assert isinstance(client, WebSocketCarrier)
        await client.send_messages(["text"])
        with pytest.raises(RemoteProtocolError, match="expected binary messages") as caught:
            await server.receive()
        assert caught.value.field == "message"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            with pytest.raises(ConnectionLost, match="1003"):
                await client.receive()
            await client.aclose()


async def test_a_cancelled_send_is_sent_whole() -> None:
    """Who is cancelled while the host writes has sent all or nothing; the next message follows it whole."""
    async with asgi_pair() as (client, server):
        first, second = b"a" * 8_000_000, b"b" * 100_000
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.send, first)
                await trio.testing.wait_all_tasks_blocked(0.02)
                scope.cancel()
        assert scope.cancelled_caught
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send, second)
            while len(received) < len(first) + len(second):
                received += await client.receive()
        assert received == first + second


async def test_a_cancelled_wait_leaves_the_carrier_usable() -> None:
    """`receive` and `wait_writable` can be cancelled, and lose nothing."""
    async with asgi_pair() as (client, server):
        for wait in (server.receive, server.wait_writable):
            with trio.CancelScope() as scope:
                scope.cancel()
                await wait()
            assert scope.cancelled_caught
        with trio.move_on_after(0.01) as scope:
            await server.receive()
        assert scope.cancelled_caught
        await client.send(b"still here")
        assert await server.receive() == b"still here"


async def test_a_client_that_never_reads_delays_nobody() -> None:
    """The host's write to it can't be cancelled: the connection is cut after `close_timeout`, whoever ends it."""
    done = trio.Event()

    async def flood(carrier: Carrier) -> None:
        with trio.move_on_after(0.1):
            while True:
                await carrier.send(b"x" * 65_536)
        await carrier.aclose()
        done.set()

    async with trio.open_nursery() as nursery:
        url = await _host(nursery, flood)
        client = await connect_websocket(url, config=IMPATIENT)
        with trio.fail_after(30):
            await done.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await client.aclose()


@pytest.mark.parametrize("is_flooded", [True, False])
async def test_cancelling_the_server_ends_its_websockets(is_flooded: bool) -> None:
    """A shutdown does not wait for a WebSocket beyond its timeouts, be it idle or stuck in a write."""
    ready = trio.Event()

    async def serve_one(carrier: Carrier) -> None:
        ready.set()
        while is_flooded:
            await carrier.send(b"x" * 65_536)
        await carrier.receive()

    async with trio.open_nursery() as clients:
        start = 0.0
        async with trio.open_nursery() as nursery:
            url = await _host(nursery, serve_one)
            client = await connect_websocket(url, config=IMPATIENT)
            await ready.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
            start = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start < 20
        clients.start_soon(client.aclose)


async def test_a_cancelled_server_says_goodbye() -> None:
    """The resets of a server that is cancelled still leave: no caller has to find out by itself, and none is waited for."""
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            config = ConnectionConfig(close_timeout=60)
            (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0", config=config))
            ready, told = trio.Event(), trio.Event()

            async def listen() -> None:
                async with connect(url.replace("http", "ws")) as client:
                    with pytest.raises(StreamReset, match="CANCELLED"):
                        async with client.stream("count", returns=int) as items:
                            async for _ in items:
                                ready.set()
                    told.set()

            clients.start_soon(listen)
            await ready.wait()
            start = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start < 20
        with trio.fail_after(20):
            await told.wait()


async def test_a_handler_that_returns_closes(caplog: pytest.LogCaptureFixture) -> None:
    """When the handler is done the client gets a goodbye, also while it goes on sending; nothing is logged."""
    done = trio.Event()

    async def greet(carrier: Carrier) -> None:
        await carrier.send(b"hello")
        done.set()

    async with trio.open_nursery() as nursery:
        url = await _host(nursery, greet, ExchangeConfig(close_timeout=30))
        client = await connect_websocket(url, config=ConnectionConfig())
        for _ in range(30):  # more than hypercorn queues for us
            await client.send(b"x" * 10_000)
        assert await client.receive() == b"hello"
        assert await client.receive() == b""
        await client.aclose()
        nursery.cancel_scope.cancel()
    assert caplog.records == []


class _Host:
    """An ASGI host that says what it is told to."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []
        self.is_broken = False

    async def receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        return self.messages.pop(0) if self.messages else await trio.sleep_forever()

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_broken:
            raise OSError("gone")
        self.sent.append(message)


@pytest.mark.parametrize(("code", "is_clean"), [(1000, True), (1001, True), (1005, True), (1006, False), (1011, False)])
async def test_another_host_says_how_it_ended(code: int, is_clean: bool) -> None:
    """Elsewhere the disconnect's code tells a goodbye from a loss; sending fails from then on, to a deaf host as well."""
    host = _Host({"type": "websocket.disconnect", "code": code})
    carrier = AsgiWebSocketCarrier({"type": "websocket"}, host.receive, host.send, close_timeout=0.1)
    assert carrier.peer == "ASGI client"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carrier.pump)
        host.is_broken = True
        await carrier.send(b"lost")  # the host says so by an exception; receiving tells why
        if is_clean:
            assert await carrier.receive() == b""
        else:
            with pytest.raises(ConnectionLost, match="without a WebSocket goodbye"):
                await carrier.receive()
        with pytest.raises(ConnectionLost, match="cannot send"):
            await carrier.send(b"x")
        await carrier.aclose()
        nursery.cancel_scope.cancel()
    assert host.sent == []


async def test_mounted_in_another_application() -> None:
    """Below a path of another ASGI application, calls, events and streams work like anywhere else."""
    inner = asgi_app(app, connection_config=ConnectionConfig(close_timeout=0.2))

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan" or str(scope["path"]).startswith("/api/")
        await inner({**scope, "root_path": "/api"}, receive, send)

    import hypercorn.trio  # noqa: PLC0415 - the host of another application

    settings = hypercorn.Config()
    settings.bind = ["127.0.0.1:0"]
    settings.errorlog = None
    settings.accesslog = None
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(
            partial(hypercorn.trio.serve, outer, settings, shutdown_trigger=ended.wait)  # type: ignore[arg-type]
        )
        address = binds[0].partition("//")[2]
        async with connect(f"ws://{address}/api/streams") as client:
            assert await client.call("double", 4, returns=int) == 8
        async with connect(f"http://{address}/api") as client:
            assert await client.call("double", 4, returns=int) == 8
        ended.set()


async def test_trios_own_checks() -> None:
    """Through a thin view, an ASGI WebSocket keeps Trio's own contract for one-way streams."""
    async with AsyncExitStack() as stack:

        async def make() -> tuple[SendView, ReceiveView]:
            client, server = await stack.enter_async_context(asgi_pair())
            return SendView(client), ReceiveView(server)

        await trio.testing.check_one_way_stream(make, None)
