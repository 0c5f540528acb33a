"""The ASGI application, driven in process by a host of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import RpcError
from trio_streams.service.exchange import Exchange, ExchangeConfig, respond
from trio_streams.service.sse import respond_sse
from trio_streams.transports.asgi import Message, asgi_app

DISCONNECT: Message = {"type": "http.disconnect"}


@attrs.define
class Host:
    """An ASGI host of one request: what the application sent, and a hand to feed it."""

    to_app: trio.MemorySendChannel[Message]
    receive: Callable[[], Awaitable[Message]]
    sent: list[Message] = attrs.field(factory=list)
    is_stuck: bool = False

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        # A write on hypercorn: deaf to cancellation while the client does not read.
        with trio.CancelScope(shield=self.is_stuck):
            while self.is_stuck:  # noqa: ASYNC110 - set from outside
                await trio.sleep(0.01)
        await trio.lowlevel.checkpoint()

    @property
    def body(self) -> bytes:
        parts = [message["body"] for message in self.sent if message["type"] == "http.response.body"]
        return b"".join(part for part in parts if isinstance(part, bytes))

    @property
    def types(self) -> list[str]:
        return [str(message["type"]).rpartition(".")[2] for message in self.sent]


def make_host() -> Host:
    send, receive = trio.open_memory_channel[Message](100)
    return Host(send, receive.receive)


def scope(method: str = "GET", path: str = "/", **more: object) -> dict[str, object]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": b"a=1",
        "headers": [(b"host", b"x")],
        "client": ("127.0.0.1", 5),
        **more,
    }


def chunk(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(exchange: Exchange) -> None:
    await respond(exchange, 200, await exchange.receive_body())


async def test_a_request_becomes_an_exchange_and_its_answer_events() -> None:
    """The scope becomes the head, body events the body, and the answer a start, a body and an end."""
    host = make_host()
    for message in (chunk(b"ab", more=True), chunk(b"c")):
        await host.to_app.send(message)

    async def handler(exchange: Exchange) -> None:
        request = exchange.request
        assert (request.method, request.path, request.query, request.peer) == ("POST", "/p", {"a": ["1"]}, "[::1]:5")
        await echo(exchange)

    await asgi_app(handler)(scope("POST", "/p", client=("::1", 5)), host.receive, host.send)
    assert host.sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"abc", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]


async def test_many_sends_are_one_body_event() -> None:
    """A thousand events that wait together leave in a few `http.response.body`."""

    async def handler(exchange: Exchange) -> None:
        async def items() -> AsyncIterator[bytes]:
            for n in range(1_000):
                yield b"%d" % n

        await respond_sse(exchange, items())

    host = make_host()
    await host.to_app.send(chunk(b""))
    await asgi_app(handler)(scope(client=None), host.receive, host.send)
    assert host.body.count(b"\n\n") == 1_001
    assert len(host.sent) <= 5


async def test_a_disconnect_cancels_the_handler() -> None:
    """A handler blocked in an await is cancelled, its `finally` runs, and nothing more is sent."""
    cleaned: list[str] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.send_head(200)
            await trio.sleep_forever()
        finally:
            cleaned.append("finally")

    host = make_host()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asgi_app(handler), scope(), host.receive, host.send)
        await host.to_app.send(chunk(b""))
        await wait_all_tasks_blocked()
        assert host.types == ["start"]
        await host.to_app.send(DISCONNECT)
    assert cleaned == ["finally"]
    assert host.types == ["start"]


async def test_a_stuck_write_ends_when_the_client_disconnects_and_the_host_lets_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The handler is cancelled at once; only the host's own write is waited for."""
    cancelled_at: list[float] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.send_head(200)
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    host = make_host()
    host.is_stuck = True
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asgi_app(handler), scope(), host.receive, host.send)
        await trio.sleep(1)
        await host.to_app.send(DISCONNECT)
        await trio.sleep(1)
        host.is_stuck = False
    assert cancelled_at == [start + 1]
    assert autojump_clock.current_time() - start < 3


async def test_a_write_that_stalls_abandons_the_exchange(autojump_clock: trio.testing.MockClock) -> None:
    """After `stall_timeout` in one write the handler is cancelled, though the host's `send` never returned."""
    cancelled_at: list[float] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.send_head(200)
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    host = make_host()
    host.is_stuck = True
    start = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        app = asgi_app(handler, config=ExchangeConfig(stall_timeout=5))
        nursery.start_soon(app, scope(), host.receive, host.send)
        await trio.sleep(10)
        assert cancelled_at == [pytest.approx(start + 5)]
        host.is_stuck = False


async def test_an_unread_request_body_is_read_to_its_end_before_the_answer_ends() -> None:
    """The last event waits for the body that the handler refused, so that the host need not reset the connection."""

    async def handler(_: Exchange) -> None:
        raise RpcError("REFUSED", "unread")

    host = make_host()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asgi_app(handler), scope("POST"), host.receive, host.send)
        for _ in range(10):
            await host.to_app.send(chunk(b"x" * 65_536, more=True))
        await wait_all_tasks_blocked()
        assert host.types == ["start", "body"]
        await host.to_app.send(chunk(b""))
    assert host.types == ["start", "body", "body"]


async def test_an_endless_unread_body_is_waited_for_within_bounds(autojump_clock: trio.testing.MockClock) -> None:
    """A client that never finishes its body holds the exchange for `linger_timeout` and `close_timeout` only."""

    async def handler(_: Exchange) -> None:
        raise RpcError("REFUSED", "unread")

    host = make_host()
    start = autojump_clock.current_time()
    app = asgi_app(handler, config=ExchangeConfig(linger_timeout=2, close_timeout=3))
    await app(scope("POST"), host.receive, host.send)
    assert host.types == ["start", "body", "body"]
    assert autojump_clock.current_time() - start == pytest.approx(5)


async def test_a_late_crash_leaves_the_answer_unfinished() -> None:
    """No last body event follows a crash after the head, so that the host breaks the answer off."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"half")
        raise ValueError("late")

    host = make_host()
    await host.to_app.send(chunk(b""))
    await asgi_app(handler)(scope(), host.receive, host.send)
    assert host.sent[1:] == [{"type": "http.response.body", "body": b"half", "more_body": True}]


async def test_lifespan_and_websocket_scopes() -> None:
    """Lifespan is answered; a WebSocket is refused before its handshake; anything else is an error."""
    host = make_host()
    for kind in ("lifespan.startup", "lifespan.shutdown"):
        await host.to_app.send({"type": kind})
    app = asgi_app(echo)
    await app({"type": "lifespan"}, host.receive, host.send)
    assert host.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    host = make_host()
    await host.to_app.send({"type": "websocket.connect"})
    await app({"type": "websocket"}, host.receive, host.send)
    assert host.types == ["close"]
    with pytest.raises(ValueError, match="'other'"):
        await app({"type": "other"}, host.receive, host.send)


@pytest.mark.parametrize(
    ("path", "root", "seen"),
    [
        ("/api/streams/x", "/api", "/streams/x"),
        ("/api/streams/x", "/api/", "/streams/x"),
        ("/apiary", "/api", "/apiary"),
        ("/streams/x", "", "/streams/x"),
    ],
)
async def test_a_mounted_application_sees_the_path_below_its_mount(path: str, root: str, seen: str) -> None:
    """ASGI's path includes the place where the application is mounted; handlers see what is below it."""

    async def show_path(exchange: Exchange) -> None:
        await respond(exchange, 200, exchange.request.path.encode())

    host = make_host()
    await host.to_app.send(chunk(b""))
    await asgi_app(show_path)(scope(path=path, root_path=root), host.receive, host.send)
    assert host.body == seen.encode()
