"""Connected carriers over TLS, Unix sockets, pipes, child processes, channels and ASGI, for the shared checks."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import trio
import trio.testing
import trustme

from tests.transports.carrier_checks import Link, Maker, open_socket_pair, reset, two
from tests.transports.links import IMPATIENT
from trio_streams.carrier import Carrier
from trio_streams.nursery import open_bare_nursery
from trio_streams.service.exchange import Exchange, ExchangeConfig
from trio_streams.transports import ByteCarrier, ChannelCarrier, PipeCarrier, TlsCarrier
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.bytes import open_tcp_listeners
from trio_streams.transports.messages import connect_websocket
from trio_streams.transports.process import ProcessCarrier, open_process
from trio_streams.transports.tls import accept_tls, connect_tls
from trio_streams.transports.unix import connect_unix, open_unix_listener

__all__ = [
    "MORE_LINKS",
    "asgi_pair",
    "client_trust",
    "open_tls_pair",
    "pipe_pair",
    "process_pair",
    "server_files",
    "server_tls",
    "unix_pair",
]


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_tls(name: str = "127.0.0.1") -> ssl.SSLContext:
    """A server's context, with a certificate for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority().issue_cert(name).configure_cert(context)
    context.set_alpn_protocols(["trio-streams.v1"])
    context.num_tickets = 0
    return context


@cache
def server_files(name: str = "127.0.0.1") -> tuple[str, str]:
    """The same certificate's like as files: the chain, and its key."""
    issued = _authority().issue_cert(name)
    folder = Path(mkdtemp(prefix="trio_streams-tests-"))
    chain, key = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return str(chain), str(key)


@cache
def client_trust() -> ssl.SSLContext:
    """A client's context that trusts those certificates."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    context.set_alpn_protocols(["trio-streams.v1"])
    return context


@asynccontextmanager
async def open_tls_pair() -> AsyncGenerator[tuple[TlsCarrier, TlsCarrier, trio.SocketStream], None]:
    """Client, server, and the server's socket."""
    made: dict[str, TlsCarrier] = {}
    streams: list[trio.SocketStream] = []

    async def accept(listener: trio.SocketListener) -> None:
        streams.append(await listener.accept())
        made["server"] = await accept_tls(streams[0], server_tls(), config=IMPATIENT)

    try:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        async with listener, open_bare_nursery() as nursery:
            nursery.start_soon(accept, listener)
            port = listener.socket.getsockname()[1]
            made["client"] = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client_trust())
        yield made["client"], made["server"], streams[0]
    finally:
        await _close(*made.values())


async def _close(*carriers: Carrier) -> None:
    for carrier in carriers:
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await carrier.aclose()


async def _not_lost() -> None:
    raise NotImplementedError


@asynccontextmanager
async def tls_up() -> AsyncGenerator[Link, None]:
    async with open_tls_pair() as (client, server, _):
        yield Link(client, server, _not_lost)


@asynccontextmanager
async def tls_down() -> AsyncGenerator[Link, None]:
    async with open_tls_pair() as (client, server, stream):
        yield Link(server, client, partial(reset, stream))


@asynccontextmanager
async def trios_tls() -> AsyncGenerator[Link, None]:
    """What a user brings: Trio's own TLS stream."""
    async with open_socket_pair() as (left, right):
        tls_left = trio.SSLStream(left, client_trust(), server_hostname="127.0.0.1")
        tls_right = trio.SSLStream(right, server_tls(), server_side=True)
        await two(tls_left.do_handshake, tls_right.do_handshake)
        yield Link(
            ByteCarrier(tls_left, close_timeout=0.05), ByteCarrier(tls_right, close_timeout=0.05), partial(reset, left)
        )


@asynccontextmanager
async def unix_pair() -> AsyncGenerator[tuple[ByteCarrier, ByteCarrier, trio.SocketStream], None]:
    """Client, server, and the server's socket."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        async with open_unix_listener(path) as listener:
            made = [await connect_unix(path, config=IMPATIENT)]
            try:
                stream = await listener.accept()
                made.append(ByteCarrier(stream, close_timeout=0.05))
                yield made[0], made[1], stream
            finally:
                await _close(*made)


@asynccontextmanager
async def unix() -> AsyncGenerator[Link, None]:
    async with unix_pair() as (client, server, stream):

        async def lose() -> None:
            await client.send(b"unread, so that closing resets")
            await trio.aclose_forcefully(stream)

        yield Link(server, client, lose)


def pipe_pair() -> tuple[PipeCarrier, PipeCarrier]:
    """Two carriers over two pipes."""
    (there_out, there_in), (back_out, back_in) = os.pipe(), os.pipe()
    return PipeCarrier(back_out, there_in, close_timeout=0.05), PipeCarrier(there_out, back_in, close_timeout=0.05)


@asynccontextmanager
async def pipes() -> AsyncGenerator[Link, None]:
    left, right = pipe_pair()

    async def lose() -> None:
        await _close(left)  # forcefully, as when a process dies: both pipes at once

    try:
        yield Link(left, right, lose)
    finally:
        await _close(left, right)


RELAY = """
import os, socket, sys, threading

end = socket.create_connection(("127.0.0.1", int(sys.argv[1])))

def inwards():
    while data := end.recv(65536):
        while data:
            data = data[os.write(1, data):]
    os.close(1)

def outwards():
    while data := os.read(0, 65536):
        end.sendall(data)
    end.shutdown(socket.SHUT_WR)

def run(fn):
    try:
        fn()
    except OSError:
        os._exit(3)

threads = [threading.Thread(target=run, args=(fn,)) for fn in (inwards, outwards)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
"""A child that passes on what it is sent, to and from a socket of this process."""


@asynccontextmanager
async def process_pair() -> AsyncGenerator[tuple[ProcessCarrier, ByteCarrier, trio.SocketStream], None]:
    """The child's carrier, the other end of what it relays, and that one's socket."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        command = [sys.executable, "-S", "-c", RELAY, str(listener.socket.getsockname()[1])]
        async with open_process(command, config=IMPATIENT, preface=b"") as near:
            stream = await listener.accept()
            far = ByteCarrier(stream, close_timeout=0.05)
            try:
                yield near, far, stream
            finally:
                await _close(near, far)


@asynccontextmanager
async def process_up() -> AsyncGenerator[Link, None]:
    async with process_pair() as (near, far, _):
        yield Link(near, far, _not_lost)


@asynccontextmanager
async def process_down() -> AsyncGenerator[Link, None]:
    async with process_pair() as (near, far, stream):
        yield Link(far, near, partial(reset, stream))


class _Cable(trio.abc.ReceiveChannel[bytes]):
    """A receive channel that can break."""

    def __init__(self, channel: trio.MemoryReceiveChannel[bytes]) -> None:
        self._channel = channel
        self.is_cut = False

    async def receive(self) -> bytes:
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            if self.is_cut:
                raise trio.BrokenResourceError("cut") from None
            raise

    async def aclose(self) -> None:
        await self._channel.aclose()


@asynccontextmanager
async def channels() -> AsyncGenerator[Link, None]:
    there_in, there_out = trio.open_memory_channel[bytes](4)
    back_in, back_out = trio.open_memory_channel[bytes](4)
    cable = _Cable(there_out)
    left = ChannelCarrier(there_in, back_out, close_timeout=0.05)
    right = ChannelCarrier(back_in, cable, close_timeout=0.05)

    async def lose() -> None:
        cable.is_cut = True
        await _close(left)

    yield Link(left, right, lose)


@asynccontextmanager
async def asgi_pair() -> AsyncGenerator[tuple[Carrier, Carrier], None]:
    """Our WebSocket client, and the ASGI carrier in hypercorn."""
    ready, done = trio.Event(), trio.Event()
    made: list[Carrier] = []

    async def on_websocket(carrier: Carrier) -> None:
        made.append(carrier)
        ready.set()
        with trio.CancelScope(shield=True):  # its users may not be done when all is cancelled
            await done.wait()

    async def on_request(exchange: Exchange) -> None:
        raise NotImplementedError

    serve = partial(serve_hypercorn, on_request, config=ExchangeConfig(close_timeout=0.05), websocket=on_websocket)
    async with open_bare_nursery() as nursery:
        url = await nursery.start(serve)
        try:
            client = await connect_websocket(url.replace("http", "ws"), config=IMPATIENT)
            made.append(client)
            await ready.wait()
            yield client, next(one for one in made if one is not client)
        finally:
            await _close(*made)
            done.set()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def asgi_up() -> AsyncGenerator[Link, None]:
    async with asgi_pair() as (client, server):

        async def lose() -> None:
            await _close(client)  # forcefully, without a goodbye

        yield Link(client, server, lose)


@asynccontextmanager
async def asgi_down() -> AsyncGenerator[Link, None]:
    async with asgi_pair() as (client, server):

        async def lose() -> None:
            await _close(server)

        yield Link(server, client, lose)


MORE_LINKS: list[Maker] = [
    tls_up,
    tls_down,
    trios_tls,
    unix,
    pipes,
    process_up,
    process_down,
    channels,
    asgi_up,
    asgi_down,
]
