"""The lean host over TLS: goodbyes that have to be written, and answers that come from a source."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from tests.conformance.http.hosts import until
from tests.transports.carrier_checks import open_socket_pair, reset
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.carrier import Carrier
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, ExchangeConfig, ExchangeHandler, respond
from trio_streams.transports.http import Http1Limits, serve_lean
from trio_streams.transports.http_tls import TlsLink
from trio_streams.transports.messages import connect_websocket

Secure = trio.SSLStream[trio.SocketStream]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)
    return str(certfile), str(keyfile)


@asynccontextmanager
async def connected(
    files: tuple[str, str],
    handler: ExchangeHandler,
    trigger: trio.Event,
    *,
    config: ExchangeConfig | None = None,
    limits: Http1Limits | None = None,
) -> AsyncIterator[Secure]:
    serve_it = partial(serve_lean, handler, config=config or ExchangeConfig(), limits=limits)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(
            partial(serve_it, certfile=files[0], keyfile=files[1], shutdown_trigger=trigger.wait, graceful_timeout=5)
        )
        context = ssl.create_default_context(cafile=files[0])
        inner = await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0)
        async with trio.SSLStream(inner, context, server_hostname="127.0.0.1", https_compatible=True) as stream:
            with trio.fail_after(20):
                yield stream
        nursery.cancel_scope.cancel()


async def read_until(stream: Secure, end: bytes) -> bytes:
    data = b""
    while end not in data:
        part = await stream.receive_some()
        assert part
        data += part
    return data


async def test_a_slow_head_is_told_so(files: tuple[str, str]) -> None:
    """The 408 arrives over TLS, too."""
    async with connected(files, hello, trio.Event(), limits=Http1Limits(header_timeout=1)) as stream:
        await stream.send_all(b"GET / HT")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("asks_first", [False, True])
async def test_a_drained_connection_ends_at_once(files: tuple[str, str], *, asks_first: bool) -> None:
    """An idle one does not hold a shutdown for `linger_timeout`, and its end is a clean one."""
    trigger = trio.Event()
    async with connected(files, hello, trigger, config=ExchangeConfig(linger_timeout=30)) as stream:
        await stream.do_handshake()
        if asks_first:
            await stream.send_all(GET)
            await read_until(stream, b"hello")
        else:
            await trio.testing.wait_all_tasks_blocked(0.05)
        trigger.set()
        assert await stream.receive_some() == b""


async def test_a_broadcast(files: tuple[str, str]) -> None:
    """Events leave as they are published, the answer ends whole, and the connection goes on."""
    broadcast = Broadcast[bytes]()
    async with connected(files, broadcast.respond, trio.Event()) as stream:
        await stream.send_all(GET)
        await read_until(stream, b"\r\n\r\n")
        for n in range(20):
            await broadcast.publish(b"%d" % n)
            await read_until(stream, b"data: %d\n\n" % n)
        await broadcast.publish(b"z" * 200_000)
        await read_until(stream, b"z\n\n")
        broadcast.end()
        await read_until(stream, b"0\r\n\r\n")
        await until(lambda: broadcast.statistics().readers == 0)


async def test_a_reader_of_events_is_one_task(files: tuple[str, str]) -> None:
    """The one of its connection, as without TLS; and what is published is written without one."""
    broadcast = Broadcast[bytes]()
    async with connected(files, broadcast.respond, trio.Event()) as stream:
        await stream.do_handshake()
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = trio.lowlevel.current_statistics().tasks_living
        await stream.send_all(GET)
        await read_until(stream, b"\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert trio.lowlevel.current_statistics().tasks_living <= before + 1  # one more where the handler had to wait
        await broadcast.publish(b"1")
        assert broadcast.statistics().readers_behind == 0
        await read_until(stream, b"data: 1\n\n")
        await stream.aclose()
        await until(lambda: broadcast.statistics().readers == 0)


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_a_client_that_leaves(files: tuple[str, str], *, says_goodbye: bool) -> None:
    """With TLS's goodbye or without it, a handler that waits is cancelled."""
    ended = trio.Event()

    async def wait(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with connected(files, wait, trio.Event(), config=ExchangeConfig(half_close_timeout=0.1)) as stream:
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await (stream if says_goodbye else stream.transport_stream).aclose()
        await ended.wait()


async def test_a_large_answer_to_a_slow_reader(files: tuple[str, str]) -> None:
    """Records that the kernel took in part go on where they stopped."""
    body = bytes(range(256)) * 16_384

    async def answer(exchange: Exchange) -> None:
        await respond(exchange, 200, body)

    async with connected(files, answer, trio.Event()) as stream:
        await stream.send_all(GET)
        head, _, received = (await read_until(stream, b"\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        parts = [received]
        while sum(map(len, parts)) < len(body):
            if len(parts) % 8 == 0:
                await trio.testing.wait_all_tasks_blocked(0.001)
            parts.append(bytes(await stream.receive_some()))
        assert b"".join(parts) == body
        await stream.send_all(GET)  # the connection goes on
        await read_until(stream, b"\r\n\r\n")


async def test_a_handshake_that_is_not_done(files: tuple[str, str]) -> None:
    """Who does not shake hands within `header_timeout` is sent away, and so is who speaks no TLS."""
    limits, config = Http1Limits(header_timeout=0.2), ExchangeConfig(linger_timeout=0.2)
    async with connected(files, hello, trio.Event(), limits=limits, config=config) as stream:
        plain = stream.transport_stream
        assert await plain.receive_some() == b""
        await plain.aclose()
    async with connected(files, hello, trio.Event()) as stream:
        plain = stream.transport_stream
        await plain.send_all(GET)
        data = b""
        with suppress(trio.BrokenResourceError):
            while part := await plain.receive_some():
                data += part
        assert not data.startswith(b"HTTP")
        await plain.aclose()


async def test_a_websocket(files: tuple[str, str]) -> None:
    """It takes over the connection, TLS included: large messages, both ways, and the goodbye."""

    async def echo(carrier: Carrier) -> None:
        while data := await carrier.receive():
            await carrier.send(data)

    async with trio.open_nursery() as nursery:
        serve = partial(serve_lean, hello, certfile=files[0], keyfile=files[1], websocket=echo)
        url = str(await nursery.start(serve)).replace("https", "wss")
        context = ssl.create_default_context(cafile=files[0])
        with trio.fail_after(20):
            carrier = await connect_websocket(url, ssl_context=context)
            data = bytes(range(256)) * 4_096
            nursery.start_soon(carrier.send, data)
            received = b""
            while len(received) < len(data):
                received += await carrier.receive()
            assert received == data
            await carrier.aclose()
        nursery.cancel_scope.cancel()


async def test_the_standard_librarys_client(files: tuple[str, str]) -> None:
    """Several requests on one connection, bodies both ways."""

    async def echo(exchange: Exchange) -> None:
        await respond(exchange, 200, await exchange.receive_body(max_bytes=1_000_000))

    def ask(port: int) -> list[bytes]:
        context = ssl.create_default_context(cafile=files[0])
        client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
        answers: list[bytes] = []
        for size in (0, 1, 70_000, 500_000):
            client.request("POST", "/", b"x" * size)
            answers.append(client.getresponse().read())
        client.close()
        return answers

    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_lean, echo, certfile=files[0], keyfile=files[1]))
        answers = await trio.to_thread.run_sync(ask, urlsplit(url).port)
        assert [len(one) for one in answers] == [0, 1, 70_000, 500_000]
        nursery.cancel_scope.cancel()


async def test_the_stream_of_another_protocol(files: tuple[str, str]) -> None:
    """It is a stream as Trio's own are: checkpoints, faults by their names, and a goodbye that can be read."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    client_side = ssl.create_default_context(cafile=files[0])
    async with open_socket_pair() as (near, far), trio.open_nursery() as nursery:
        link = TlsLink(near, context)
        client = trio.SSLStream(far, client_side, server_hostname="127.0.0.1", https_compatible=True)
        assert link.encode(b"too early") == b""
        nursery.start_soon(client.send_all, b"abc")
        assert await link.receive() == b"abc"
        stream = link.take_over()
        with trio.testing.assert_checkpoints():
            await stream.wait_send_all_might_not_block()
        with trio.testing.assert_checkpoints():
            await stream.send_all(b"def")
        assert await client.receive_some() == b"def"
        with trio.move_on_after(0.01) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        await stream.aclose()
        await stream.aclose()
        assert await client.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_a_broken_stream_of_another_protocol(files: tuple[str, str]) -> None:
    """What the kernel says is Trio's `BrokenResourceError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    client_side = ssl.create_default_context(cafile=files[0])
    async with open_socket_pair() as (near, far), trio.open_nursery() as nursery:
        link = TlsLink(near, context)
        client = trio.SSLStream(far, client_side, server_hostname="127.0.0.1", https_compatible=True)
        nursery.start_soon(client.send_all, b"abc")
        assert await link.receive() == b"abc"
        stream = link.take_over()
        await reset(far)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
