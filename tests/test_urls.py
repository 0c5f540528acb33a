"""From URLs to carriers: serving and connecting on every scheme."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import trio
import trio.testing
import trio_websocket

from tests.procedures.application import Application, Line, Query
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError, RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.bytes import ListenError
from trio_streams.urls import asgi_app, connect, serve, serve_connection
from trio_streams.urls.peers import open_peer

Carriers = Literal["websockets", "trio-websocket"]

QUICK = ConnectionConfig(close_timeout=0.2, handshake_timeout=0.5, connect_timeout=2)


def make_certificate(folder: Path) -> tuple[str, str]:
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)
    return str(certfile), str(keyfile)


@asynccontextmanager
async def served(
    *urls: str, carrier: Carriers = "websockets", application: Application | None = None
) -> AsyncGenerator[tuple[list[str], list[Connection]], None]:
    connections: list[Connection] = []
    app = application or Application()
    async with trio.open_nursery() as nursery:
        start = partial(serve, config=QUICK, carrier=carrier, on_connection=connections.append)
        yield await nursery.start(start, app.router, *urls), connections
        nursery.cancel_scope.cancel()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
async def test_serve_and_connect(scheme: str) -> None:
    """On each scheme a call and a server stream work, at the URL that `serve` reports."""
    async with served(f"{scheme}://127.0.0.1:0") as (urls, connections):
        assert urls[0].startswith(f"{scheme}://127.0.0.1:")
        async with connect(urls[0], config=QUICK) as client:
            assert await client.call("add", [1, 2], returns=int) == 3
            async with client.stream("lines", Query(limit=2), returns=Line) as lines:
                assert [line.number async for line in lines] == [0, 1]
        assert len(connections) == (scheme != "http")


@pytest.mark.parametrize("server", ["websockets", "trio-websocket"])
@pytest.mark.parametrize("client", ["websockets", "trio-websocket"])
async def test_both_websocket_carriers(server: Carriers, client: Carriers) -> None:
    """Either carrier at either end carries WebSockets."""
    async with (
        served("ws://127.0.0.1:0", carrier=server) as (urls, _),
        connect(urls[0], config=QUICK, carrier=client) as caller,
    ):
        assert await caller.upload("total", [1, 2], returns=int) == 3


async def test_several_urls_in_order() -> None:
    """The bound URLs come back in the order in which they were given, and an HTTP refusal names the others."""
    async with served("http://127.0.0.1:0", "tcp://127.0.0.1:0", "ws://127.0.0.1:0") as (urls, _):
        assert [url.partition(":")[0] for url in urls] == ["http", "tcp", "ws"]
        async with connect(urls[0], config=QUICK) as client:
            with pytest.raises(RpcError, match="connect to the server's tcp:// or ws:// URL"):
                async with client.bidi("double"):
                    pass


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6 on loopback")
async def test_ipv6() -> None:
    """An IPv6 address is shown in brackets, and can be connected to."""
    async with served("tcp://[::1]:0") as (urls, _):
        assert urls[0].startswith("tcp://[::1]:")
        async with connect(urls[0], config=QUICK) as client:
            assert await client.call("add", [1]) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "its scheme is not one of tcp, tls, unix"),
        ("127.0.0.1:80", "its scheme is not one of tcp, tls, unix"),
        ("ftp://h:1", "can't use 'ftp://h:1': its scheme is not one of tcp, tls, unix"),
        ("tcp://h", "can't use 'tcp://h': it names no host and port"),
        ("tcp://:80", "it names no host and port"),
        ("ws://", "it names no host and port"),
        ("http://:80", "it names no host and port"),
        ("tcp://h:99999", "can't use 'tcp://h:99999': Port out of range"),
        ("tcp://h:x", "can't use 'tcp://h:x': Port could not be cast"),
        ("tcp://[::1", r"can't use 'tcp://\[::1': Invalid IPv6 URL"),
        ("tcp://h:1\n", None),
    ],
)
async def test_bad_urls(url: str, message: str | None) -> None:
    """A URL that can't be used is one clear line, for servers and clients alike, before anything is opened."""
    with pytest.raises((LocalProtocolError, ListenError), match=message) as caught:
        await serve(Application().router, url)
    assert "\n" not in str(caught.value)
    with pytest.raises((LocalProtocolError, ConnectionLost), match=message) as caught:
        async with connect(url, config=QUICK):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss", "wt", "http", "https"])
async def test_what_is_no_name_of_a_host(scheme: str) -> None:
    """A part of it is too long, or missing: the one who has named it is told, and not as if nobody had that name."""
    for host in ("a" * 64 + ".example", "a..example"):
        with pytest.raises(LocalProtocolError, match="a name is parts of 1 to 63 characters") as caught:
            async with connect(f"{scheme}://{host}:1", config=QUICK) as client:
                await client.call("add", [1])
        assert (caught.value.field, caught.value.size, caught.value.limit) == ("host", len(host), 253)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
async def test_what_is_no_name_of_a_host_is_not_listened_on(scheme: str) -> None:
    """The name is shown as far as a line goes."""
    with pytest.raises(LocalProtocolError, match=f"^can't look up '{'a' * 64}…': ") as caught:
        await serve(Application().router, f"{scheme}://{'a' * 300}:0")
    assert (caught.value.field, caught.value.size) == ("host", 300)


@pytest.mark.parametrize(
    ("open_client", "scheme"),
    [
        *((connect, scheme) for scheme in ("tcp", "tls", "ws", "wss", "wt", "http", "https")),
        *((open_peer, scheme) for scheme in ("tcp", "tls", "ws", "wss", "wt")),
    ],
)
async def test_nobody_listens_on_port_0(open_client: Callable[..., Any], scheme: str) -> None:
    """It is no other way to write the default one."""
    with pytest.raises(
        LocalProtocolError, match=f"can't connect to '{scheme}://127.0.0.1:0': a port is 1 to"
    ) as caught:
        async with open_client(f"{scheme}://127.0.0.1:0"):
            raise AssertionError("connected")
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("port", 0, 65_535)


async def test_no_url() -> None:
    """Serving on nothing is refused."""
    with pytest.raises(LocalProtocolError, match="can't serve on no URL"):
        await serve(Application().router)


@pytest.mark.parametrize(
    ("url", "message"),
    [("wss://h:1", "without"), ("https://h", "without certfile and keyfile")],
)
async def test_tls_that_cannot_be_served(url: str, message: str) -> None:
    """A server refuses wss by name, and https without a certificate."""
    with pytest.raises(LocalProtocolError, match=message):
        await serve(Application().router, url)


async def test_carrier_names() -> None:
    """An unknown carrier is refused by name, at both ends."""
    message = "carrier is one of websockets, trio-websocket, not 'socks'"
    with pytest.raises(LocalProtocolError, match=message):
        await serve(Application().router, "ws://127.0.0.1:0", carrier="socks")  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match=message):
        async with connect("ws://127.0.0.1:1", carrier="socks"):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
async def test_a_taken_port(scheme: str) -> None:
    """A taken port is one clear line; what was listening already is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"{port}: address already in use") as caught:
            await serve(Application().router, "tcp://127.0.0.1:0", f"{scheme}://127.0.0.1:{port}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
@pytest.mark.parametrize("carrier", ["websockets", "trio-websocket"])
async def test_a_refused_connection(scheme: str, carrier: Carriers) -> None:
    """A port on which nobody listens is one clear line."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ConnectionLost, match="refused") as caught:
            async with connect(f"{scheme}://127.0.0.1:{port}", config=QUICK, carrier=carrier) as client:
                await client.call("add", [1])
    assert str(port) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_server_that_speaks_something_else() -> None:
    """Connecting to something else fails with ConnectionLost, and the peer's fault is the cause."""

    async def babble(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail ready\r\n")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, babble, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(ConnectionLost, match="does not speak trio-streams.v1") as caught:
            async with connect(f"tcp://127.0.0.1:{port}", config=QUICK):
                pass
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("carrier", ["websockets", "trio-websocket"])
async def test_a_stranger_costs_one_connection(carrier: Carriers, caplog: pytest.LogCaptureFixture) -> None:
    """A client that speaks something else is closed and told to the log; the next one is served."""
    with caplog.at_level(logging.INFO, logger="trio_streams"):
        async with served("ws://127.0.0.1:0", carrier=carrier) as (urls, _):
            port = int(urls[0].rpartition(":")[2])
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"\x16\x03\x01 not http\r\n\r\n")
                with trio.fail_after(30):
                    try:
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        pass
            async with connect(urls[0], config=QUICK) as client:
                assert await client.call("add", [1]) == 1
    assert any(record.getMessage().startswith("a connection ended: ") for record in caplog.records)


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
async def test_cancelling_serve_closes_everything(scheme: str) -> None:
    """Cancelling `serve` runs the handlers' `finally`, ends the clients' streams, and frees the port."""
    application = Application()
    stopped = trio.Event()

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_later, scope)
            await serve(application.router, f"{scheme}://127.0.0.1:0", config=QUICK, task_status=task_status)

    async def cancel_later(scope: trio.CancelScope) -> None:
        await stopped.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(run)
        async with connect(url, config=QUICK) as client, client.stream("lines", Query("hang", 1)) as lines:
            await lines.receive()
            stopped.set()
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                await lines.receive()
    assert application.seen == ["lines closed"]
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(url.rpartition(":")[2])))


async def test_serve_connection() -> None:
    """A trio-websocket connection that exists already is served, and closed at the end."""

    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        ws = await request.accept(subprotocol="trio-streams.v1")
        await serve_connection(ws, Application().router, config=QUICK)
        assert ws.closed

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, None))
        async with connect(f"ws://127.0.0.1:{server.port}/any/path", config=QUICK) as client:
            assert await client.call("add", [1, 2]) == 3
        nursery.cancel_scope.cancel()


async def test_on_connection_shows_statistics() -> None:
    """`on_connection` gives each connection, whose statistics count its streams."""
    async with served("tcp://127.0.0.1:0") as (urls, connections):
        async with connect(urls[0], config=QUICK) as client:
            await client.call("add", [1])
            assert connections[0].statistics().streams_accepted == 1
        with trio.fail_after(30):
            while connections[0].lost is None:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(("scheme", "port"), [("ws", 80), ("http", 80), ("https", 443)])
async def test_the_default_port(scheme: str, port: int, tmp_path: Path) -> None:
    """Without a port a web scheme means its own, which may be refused to us: in one line that names it."""
    certfile, keyfile = make_certificate(tmp_path)
    start = partial(serve, certfile=certfile, keyfile=keyfile)
    with trio.CancelScope() as scope:
        try:
            async with open_bare_nursery() as nursery:
                (url,) = await nursery.start(start, Application().router, f"{scheme}://127.0.0.1")
                assert url == f"{scheme}://127.0.0.1:{port}"
                scope.cancel()
        except ListenError as exc:
            assert f":{port}: " in str(exc)  # noqa: PT017 - who may bind it is not ours to say


async def test_asgi_app() -> None:
    """The HTTP face is an ASGI application too, for any host."""
    sent: list[MutableMapping[str, object]] = []
    requests: list[MutableMapping[str, object]] = [{"type": "http.request", "body": b"[1, 2]", "more_body": False}]

    async def receive() -> MutableMapping[str, object]:
        await trio.lowlevel.checkpoint()
        if not requests:
            await trio.sleep_forever()
        return requests.pop()

    async def send(message: MutableMapping[str, object]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/add",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
    }
    await asgi_app(Application().router)(scope, receive, send)
    assert sent[0]["status"] == 200
    assert b"".join(cast("bytes", message.get("body", b"")) for message in sent) == b"3"


ASGI_SCOPE: Mapping[str, object] = {
    "method": "POST",
    "path": "/add",
    "query_string": b"",
    "http_version": "1.1",
    "scheme": "http",
    "client": ("127.0.0.1", 1),
    "subprotocols": ["trio-streams.v1"],
    "extensions": {"websocket.http.response": {}},
}


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("hosts", "origins", "host", "origin", "status"),
    [
        (None, None, "evil.example", "http://evil.example", 200),
        (None, None, "a.example", "http://evil.example", 200),
        (("a.example",), None, "a.example", None, 200),
        (("a.example",), None, "evil.example", None, 421),
        (("a.example",), None, "a.example", "http://evil.example", 403),
        (("*.example",), ("https://app.test",), "b.example:80", "https://app.test", 200),
        (None, (), "whatever", None, 200),
        (None, (), "whatever", "http://whatever", 200),
        (None, (), "whatever", "http://evil.example", 403),
        (None, ("*",), "whatever", "http://evil.example", 200),
    ],
)
async def test_whom_an_asgi_app_lets_in(
    kind: str,
    hosts: tuple[str, ...] | None,
    origins: tuple[str, ...] | None,
    host: str,
    origin: str | None,
    status: int,
) -> None:
    """Everybody by default; with a tuple, whom `serve` would, by HTTP and by WebSocket alike."""
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    scope: MutableMapping[str, object] = {**ASGI_SCOPE, "type": kind, "headers": headers}
    messages: list[MutableMapping[str, object]] = [{"type": "http.request", "body": b"[1, 2]", "more_body": False}]
    if kind == "websocket":
        messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    sent: list[MutableMapping[str, object]] = []

    async def receive() -> MutableMapping[str, object]:
        await trio.lowlevel.checkpoint()
        if not messages:
            await trio.sleep_forever()
        return messages.pop(0)

    async def send(message: MutableMapping[str, object]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    served = asgi_app(
        Application().router,
        connection_config=ConnectionConfig(close_timeout=0.1),
        allowed_hosts=hosts,
        allowed_origins=origins,
    )
    with trio.fail_after(30):
        await served(scope, receive, send)
    if kind == "websocket" and status == 200:
        assert sent[0] == {"type": "websocket.accept", "subprotocol": "trio-streams.v1"}
    else:
        assert sent[0]["status"] == status


def test_what_an_asgi_app_can_not_check() -> None:
    """One string would be taken for its letters."""
    with pytest.raises(ValueError, match="allowed_hosts is a tuple of names"):
        asgi_app(Application().router, allowed_hosts="a.example")  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_a_name_with_several_addresses(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system chooses the port, a name with several addresses is served on the one that the URL names."""
    opened: list[trio.SocketListener] = []

    async def open_two(host: str, port: int, *, user_timeout: float | None) -> list[trio.SocketListener]:
        opened.extend([(await trio.open_tcp_listeners(port, host="127.0.0.1"))[0] for _ in range(2)])
        return list(opened)

    monkeypatch.setattr("trio_streams.transports.bytes.open_tcp_listeners", open_two)
    async with served(f"{scheme}://localhost:0") as (urls, _):
        assert urls == [f"{scheme}://127.0.0.1:{opened[0].socket.getsockname()[1]}"]
        assert opened[1].socket.fileno() == -1
        async with connect(urls[0], config=QUICK) as client:
            assert await client.call("add", [1]) == 1
