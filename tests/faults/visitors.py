"""Clients of a soak on our own dialect: healthy ones, stalled ones, and ones that vanish."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from trio_streams import Connection
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_client
from trio_streams.errors import StreamsError
from trio_streams.testing.peers import ByteItems, FragileCarrier
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.messages import SUBPROTOCOL, WebSocketCarrier

__all__ = ["DEATHS", "Tally", "Visitors", "linger_not", "open_narrow", "wait_left"]

DEATHS: Final = ("goodbye", "cancel", "close", "reset", "torn", "silent")
"""How a client may vanish: politely, cancelled, by FIN, by RST, in the middle of a frame, without a word."""

_TEXT: Final = b'"' + b"e" * 98 + b'"'
_ITEM: Final = b'"' + b"s" * 498 + b'"'
_TORN: Final = {"tcp": b"\x04\x00\x10", "ws": b"\x82\xfe\x10"}


async def open_narrow(port: int) -> trio.SocketStream:
    """A connection whose kernel takes little in for a reader that does not read, so that it is soon full."""
    narrow = trio.socket.socket()
    try:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)  # before it connects, or it changes nothing
        await narrow.connect(("127.0.0.1", port))
    except BaseException:
        narrow.close()
        raise
    return trio.SocketStream(narrow)


def linger_not(stream: trio.SocketStream) -> None:
    """Closing shall reset the connection."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def wait_left(stream: trio.SocketStream) -> None:
    """Wait until the server has ended its side, without reading what is before that end."""
    look = select.poll()
    look.register(stream.socket.fileno(), select.POLLRDHUP)
    while not look.poll(0):  # noqa: ASYNC110 - Trio waits for bytes, of which there are too many
        await trio.sleep(1)


@attrs.define
class Tally:
    """What clients have seen.

    Attributes:
      seconds: of every round trip of a healthy client.
      deaths: how many vanished, by how.
      dropped: how many stalled or silent clients the server gave up.
      faults: what befell healthy clients, of which there should be nothing.
      held: sockets of silent clients, which nobody reads any more.
    """

    seconds: list[float] = attrs.field(factory=list)
    deaths: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(DEATHS, 0))
    dropped: int = 0
    faults: list[str] = attrs.field(factory=list)
    held: list[trio.SocketStream] = attrs.field(factory=list)


class _Deaf:
    """A carrier that may be told to read no more, and to leave its socket open for ever."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.is_deaf = False
        self.is_held = False

    @property
    def peer(self) -> str:
        return self._carrier.peer

    async def receive(self) -> bytes:
        if self.is_deaf:
            await trio.sleep_forever()
        return await self._carrier.receive()

    async def send(self, data: bytes) -> None:
        await self._carrier.send(data)

    async def wait_writable(self) -> None:
        await self._carrier.wait_writable()

    async def aclose(self) -> None:
        if not self.is_held:
            await self._carrier.aclose()


@attrs.frozen
class _Visit:
    """One open connection, and ways to end it badly."""

    connection: Connection
    carrier: FragileCarrier
    deaf: _Deaf
    stream: trio.SocketStream
    tally: Tally
    torn: bytes

    def die(self, how: str) -> None:
        if how == "silent":
            self.deaf.is_held = True
            self.tally.held.append(self.stream)
        if how == "torn":
            with suppress(OSError):
                os.write(self.stream.socket.fileno(), self.torn)
        if how in {"reset", "torn"}:
            linger_not(self.stream)
        self.carrier.lose()


async def _shake_hands(stream: trio.SocketStream, url: str, config: ConnectionConfig) -> Carrier:
    machine = ClientProtocol(parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)])
    machine.send_request(machine.connect())
    await stream.send_all(b"".join(machine.data_to_send()))
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive_some(4_096)
    head, end, rest = received.partition(b"\r\n\r\n")  # what follows is the carrier's
    machine.receive_data(head + end)
    assert machine.state is OPEN, machine.handshake_exc
    return WebSocketCarrier(stream, machine, peer=url, config=config, path="/", unfed=rest)


class Visitors:
    """Makes clients of one server.

    Args:
      url: `tcp://` or `ws://`.
      streams: on each connection.
      config: of each connection.
      pace: the mean of seconds between two round trips of a healthy client.
    """

    def __init__(self, url: str, streams: int, config: ConnectionConfig, *, pace: float) -> None:
        self._url = url
        self._streams = streams
        self._config = config
        self._pace = pace
        self.tally = Tally()

    @asynccontextmanager
    async def _visit(self) -> AsyncIterator[_Visit]:
        parts = urlsplit(self._url)
        stream = await open_narrow(parts.port or 0)
        try:
            carrier: Carrier = ByteCarrier(stream, close_timeout=1.0)
            if parts.scheme == "ws":
                carrier = await _shake_hands(stream, self._url, self._config)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        deaf = _Deaf(carrier)
        fragile = FragileCarrier(deaf)
        async with run_client(fragile, config=self._config) as connection:
            yield _Visit(connection, fragile, deaf, stream, self.tally, _TORN[parts.scheme])

    async def healthy(self, rng: random.Random, started: Callable[[], None]) -> None:
        """Items go there and come back, for ever."""
        try:
            async with self._visit() as visit, AsyncExitStack() as stack:
                streams = [
                    await stack.enter_async_context(visit.connection.open_stream("echo")) for _ in range(self._streams)
                ]
                started()
                while True:
                    for stream in streams:
                        await trio.sleep(self._pace * rng.uniform(0.5, 1.5))
                        self.tally.seconds.append(await self._round_trip(stream))
        except (StreamsError, OSError) as exc:
            self.tally.faults.append(repr(exc))
            started()

    async def _round_trip(self, stream: ByteItems) -> float:
        before = perf_counter()
        await stream.send(_TEXT)
        answer = await stream.receive()
        if answer != _TEXT:
            self.tally.faults.append(f"{len(answer)} bytes came back for {len(_TEXT)}")
        return perf_counter() - before

    async def stalled(self, rng: random.Random, started: Callable[[], None]) -> None:
        """Fill every window, and then do nothing; one in two reads not even its socket, until the server drops it."""
        is_deaf = rng.random() < 0.5
        while True:
            with suppress(StreamsError, OSError):
                async with self._visit() as visit, AsyncExitStack() as stack:
                    streams = await self._open(visit, stack, ("flood", "sink"))
                    visit.deaf.is_deaf = is_deaf
                    for stream in streams[1::2]:
                        _fill(stream)
                    started()
                    if is_deaf:
                        await wait_left(visit.stream)
                        visit.die("close")
                    else:
                        await _wait_lost(visit.connection)
            self.tally.dropped += 1

    async def vanishing(self, rng: random.Random, started: Callable[[], None], life: float) -> None:
        """Come, be busy for a while, vanish somehow, and come again."""
        while True:
            how = rng.choice(DEATHS)
            with trio.CancelScope() as scope, suppress(StreamsError, OSError):
                async with self._visit() as visit, AsyncExitStack() as stack:
                    streams = await self._open(visit, stack, ("echo", "flood", "sink"))
                    started()
                    with trio.move_on_after(rng.uniform(0, 2 * life)):
                        await self._be_busy(streams, rng)
                    if how == "cancel":
                        scope.cancel()
                    elif how != "goodbye":
                        visit.die(how)
            self.tally.deaths[how] += 1

    async def _open(self, visit: _Visit, stack: AsyncExitStack, names: tuple[str, ...]) -> list[ByteItems]:
        streams = []
        for n in range(self._streams):
            stream = await stack.enter_async_context(visit.connection.open_stream(names[n % len(names)]))
            if stream.name == "flood":
                stream.end()
            streams.append(stream)
        return streams

    async def _be_busy(self, streams: list[ByteItems], rng: random.Random) -> None:
        while True:
            for stream in streams:
                await trio.sleep(rng.uniform(0, 2))
                if stream.name == "echo":
                    await self._round_trip(stream)
                elif stream.name == "flood":
                    await stream.receive()
                else:
                    _fill(stream)


async def _wait_lost(connection: Connection) -> None:
    with suppress(StreamsError):
        await connection.accept_stream()  # the server opens none: it raises once the connection is over


def _fill(stream: ByteItems) -> None:
    with suppress(trio.WouldBlock):
        while True:
            stream.send_nowait(_ITEM)
