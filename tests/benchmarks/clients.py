"""The client's side of every contestant: how it connects, and how it opens a stream of items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from time import perf_counter, perf_counter_ns
from typing import Final, Protocol, cast
from urllib.parse import urlencode, urlsplit

import attrs
import trio
import trio_websocket
from websockets.asyncio.client import connect as connect_websockets

from tests.benchmarks.work import PREFIX, REQUEST, Item, Work, payload_stamp
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.driver import run_client
from trio_streams.streams.abc import ReceiveStream
from trio_streams.transports.bytes import connect_tcp, tune_stream
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.messages import connect_trio_websocket, connect_websocket
from trio_streams.urls import CarrierName, connect
from trio_streams.wire.sse import SseParser

__all__ = [
    "BARE",
    "CONTESTANTS",
    "Contestant",
    "Opener",
    "asyncio_delays",
    "asyncio_items",
    "read_delays",
    "read_items",
]

RECEIVE_BYTES: Final = 65_536


class Opener(Protocol):
    """Opens one stream of items on what is connected."""

    def __call__(self, work: Work) -> AbstractAsyncContextManager[AsyncIterable[object]]: ...


Connect = Callable[[str, int], AbstractAsyncContextManager[Opener]]


@attrs.frozen
class Contestant:
    """One way to get items from the other process.

    Attributes:
      name: for the table.
      url: which of the server's URLs it uses.
      connect: to a URL, with a window.
      stamp: when an item was sent.
      has_window: whether the window means anything to it.
      takes_runs: whether it is read by `receive_many`.
    """

    name: str
    url: str
    connect: Connect
    stamp: Callable[[object], int] = cast("Callable[[object], int]", payload_stamp)  # noqa: RUF009 - not a default made anew
    has_window: bool = True
    takes_runs: bool = False


def item_stamp(item: object) -> int:
    """When an item of a procedure was sent."""
    assert isinstance(item, Item)
    return item.n


def client_config(window: int) -> ConnectionConfig:
    return ConnectionConfig(stream=StreamLimits(window_items=window), max_streams=4_096)


@asynccontextmanager
async def _raw(url: str, window: int, *, kind: str) -> AsyncIterator[Opener]:
    """Streams of payloads over a connection."""
    config = client_config(window)
    parts = urlsplit(url)
    if kind == "trio-ws":
        async with connect_trio_websocket(url, config=config) as ws, run_client(ws, config=config) as connection:
            yield lambda work: connection.open_stream("items", metadata=work.metadata)
        return
    if kind == "ws":
        carrier = await connect_websocket(url, config=config)
        async with run_client(carrier, config=config) as connection:
            yield lambda work: connection.open_stream("items", metadata=work.metadata)
        return
    tcp = await connect_tcp(parts.hostname or "", parts.port or 0, config=config)
    async with run_client(tcp, config=config) as connection:
        yield lambda work: connection.open_stream("items", metadata=work.metadata)


@asynccontextmanager
async def _procedures(url: str, window: int, *, carrier: CarrierName = "websockets") -> AsyncIterator[Opener]:
    """Streams of typed items from a procedure."""
    async with connect(url, config=client_config(window), carrier=carrier) as client:
        yield lambda work: client.stream("items", work, returns=Item, high_water_mark=window)


@asynccontextmanager
async def _raw_sse(url: str, window: int) -> AsyncIterator[Opener]:
    """Events of an event stream, without procedures and codecs."""
    async with HttpClient() as http:

        @asynccontextmanager
        async def open_items(work: Work) -> AsyncIterator[AsyncIterable[object]]:
            async def events() -> AsyncIterator[object]:
                parser = SseParser()
                async for chunk in exchange:
                    for event in parser.receive(chunk):
                        if event.event == "message":
                            yield event.data

            async with http.open_exchange("GET", f"{url}/?{urlencode(work.metadata)}") as exchange:
                yield events()

        yield open_items


@asynccontextmanager
async def _bare_tcp(url: str, window: int) -> AsyncIterator[Opener]:
    """A socket for each stream, and nothing of ours."""
    parts = urlsplit(url)

    @asynccontextmanager
    async def open_items(work: Work) -> AsyncIterator[AsyncIterable[object]]:
        async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 0) as stream:
            tune_stream(stream)
            await stream.send_all(REQUEST.pack(work.count, work.size, work.interval))
            yield _bare_items(stream)

    yield open_items


async def _bare_items(stream: trio.SocketStream) -> AsyncIterator[object]:
    buffer = b""
    while chunk := await stream.receive_some(RECEIVE_BYTES):
        buffer += chunk
        position, end = 0, len(buffer)
        while end - position >= PREFIX.size:
            (size,) = PREFIX.unpack_from(buffer, position)
            start = position + PREFIX.size
            if start + size > end:
                break
            position = start + size
            yield buffer[start:position]
        buffer = buffer[position:]


@asynccontextmanager
async def _bare_ws(url: str, window: int) -> AsyncIterator[Opener]:
    """A trio-websocket connection for each stream, and nothing of ours."""

    @asynccontextmanager
    async def open_items(work: Work) -> AsyncIterator[AsyncIterable[object]]:
        async def messages() -> AsyncIterator[object]:
            for _ in range(work.count):
                yield await ws.get_message()

        async with trio_websocket.open_websocket_url(url) as ws:
            await ws.send_message(REQUEST.pack(work.count, work.size, work.interval))
            yield messages()

    yield open_items


BARE: Final = "bare Trio TCP, one send_all an item"

CONTESTANTS: Final = (
    Contestant(BARE, "bare", _bare_tcp, has_window=False),
    Contestant("bare Trio TCP, written in runs of 64 KiB", "bare-coalesced", _bare_tcp, has_window=False),
    Contestant("bare trio-websocket, one message an item", "bare-trio-ws", _bare_ws, has_window=False),
    Contestant("TCP, send_many / async for", "raw-tcp", partial(_raw, kind="tcp")),
    Contestant("TCP, send_many / receive_many", "raw-tcp", partial(_raw, kind="tcp"), takes_runs=True),
    Contestant("WebSocket, send_many / async for", "raw-ws", partial(_raw, kind="ws")),
    Contestant("trio-websocket carrier, send_many / async for", "raw-trio-ws", partial(_raw, kind="trio-ws")),
    Contestant("SSE, a stream in runs / SseParser", "raw-http", _raw_sse, has_window=False),
    Contestant("TCP, procedure", "tcp", _procedures, item_stamp),
    Contestant("WebSocket, procedure", "ws", _procedures, item_stamp),
    Contestant(
        "trio-websocket carrier, procedure", "trio-ws", partial(_procedures, carrier="trio-websocket"), item_stamp
    ),
    Contestant("SSE, procedure", "http", _procedures, item_stamp),
)


async def read_items(contestant: Contestant, url: str, window: int, work: Work, streams: int) -> float:
    """Read a run of items on each of some streams at once.

    Returns:
      The seconds from the first request to the last item.
    """

    async def read(opener: Opener) -> None:
        count = 0
        async with opener(work) as source:
            if contestant.takes_runs:
                assert isinstance(source, ReceiveStream)
                while count < work.count:
                    count += len(await source.receive_many(256))
            else:
                async for _ in source:
                    count += 1
        assert count == work.count, f"{contestant.name}: {count} of {work.count} items"

    async with contestant.connect(url, window) as opener:
        started = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(streams):
                nursery.start_soon(read, opener)
        return perf_counter() - started


async def read_delays(contestant: Contestant, url: str, work: Work, *, load: Work | None = None) -> list[float]:
    """Read stamped items one at a time, with nothing else going on, or beside a busy stream on the same connection.

    Returns:
      The seconds that each was on its way.
    """
    delays: list[float] = []
    stamp = contestant.stamp
    async with contestant.connect(url, 256) as opener, trio.open_nursery() as nursery:

        async def keep_busy(load: Work) -> None:
            async with opener(load) as source:
                async for _ in source:
                    pass

        if load is not None:
            nursery.start_soon(keep_busy, load)
        async with opener(work) as source:
            async for item in source:
                delays.append((perf_counter_ns() - stamp(item)) / 1e9)  # noqa: PERF401 - the clock is read for each
        nursery.cancel_scope.cancel()
    return delays[len(delays) // 10 :]  # the first ones meet cold code


async def _read_asyncio(url: str, work: Work) -> list[float]:
    delays: list[float] = []
    async with connect_websockets(url, compression=None, max_size=None) as ws:
        await ws.send(REQUEST.pack(work.count, work.size, work.interval))
        for _ in range(work.count):
            message = await ws.recv()
            if work.interval:
                assert isinstance(message, bytes)
                delays.append((perf_counter_ns() - payload_stamp(message)) / 1e9)
    return delays


def asyncio_items(urls: Mapping[str, str], work: Work, streams: int) -> float:
    """`read_items` of the asyncio baseline, with a connection for each stream."""

    async def read() -> float:
        started = perf_counter()
        await asyncio.gather(*(_read_asyncio(urls["asyncio-ws"], work) for _ in range(streams)))
        return perf_counter() - started

    return asyncio.run(read())


def asyncio_delays(urls: Mapping[str, str], work: Work) -> list[float]:
    """`read_delays` of the asyncio baseline."""
    delays = asyncio.run(_read_asyncio(urls["asyncio-ws"], work))
    return delays[len(delays) // 10 :]
