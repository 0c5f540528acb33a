"""The server's process of the benchmarks: `python -m tests.benchmarks.server` prints its URLs and serves until stdin ends.

Every contestant has a listener of its own on loopback, all in one Trio run; a listener that nobody uses costs nothing.
With `--profile FILE` cProfile watches the run and writes what it saw.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio
import trio_websocket

from tests.benchmarks.work import PREFIX, REQUEST, Item, Work
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_server
from trio_streams.procedures.http_server import http_handler
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import Exchange
from trio_streams.service.sse import respond_sse
from trio_streams.streams import open_stream
from trio_streams.streams.wire import WireStream
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.bytes import ByteCarrier, tune_stream
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.urls import serve

_COALESCED_BYTES: Final = 65_536
_CONFIG: Final = ConnectionConfig(max_streams=4_096)

router: Final = Router()


@router.stream("items")
async def send_items(work: Work) -> AsyncIterator[Item]:
    """The contestants' stream of items."""
    if work.interval:
        async for item in work.stamped_items():
            yield item
        return
    item = work.item()
    for _ in range(work.count):
        yield item


@router.call("echo")
async def echo(value: int) -> int:
    """A round trip."""
    return value


@router.call("memory")
async def read_memory() -> int:
    """The resident bytes of this process."""
    pages = (await trio.Path("/proc/self/statm").read_text()).split()[1]
    return int(pages) * 4_096


@router.stream("idle")
async def idle() -> AsyncIterator[Item]:
    """A stream that gives one item, so that one knows it is there, and then nothing."""
    yield Item(0)
    await trio.sleep_forever()


async def serve_raw(stream: WireStream[bytes, bytes]) -> None:
    """The items as payloads, without procedures and codecs; a stream named `echo` gives back what it gets."""
    if stream.name == "echo":
        await stream.send(await stream.receive())
        return
    work = Work.from_metadata(stream.metadata)
    await stream.send_many(work.stamped() if work.interval else work.payloads())


async def _run_raw(carrier: ByteCarrier) -> None:
    await run_server(carrier, lambda stream: serve_raw, config=_CONFIG)


async def serve_raw_tcp(stream: trio.SocketStream) -> None:
    await _run_raw(ByteCarrier(stream))


async def serve_raw_ws(stream: trio.SocketStream) -> None:
    await run_server(await accept_websocket(stream), lambda stream: serve_raw, config=_CONFIG)


async def serve_raw_trio_ws(stream: trio.SocketStream) -> None:
    async with accept_trio_websocket(stream) as carrier:
        await run_server(carrier, lambda stream: serve_raw, config=_CONFIG)


async def serve_bare(stream: trio.SocketStream, *, coalesced: bool) -> None:
    """Plain Trio: items behind their lengths, one `send_all` each, or 64 KiB of them at a time. A count of 0 echoes."""
    tune_stream(stream)
    count, size, interval = REQUEST.unpack(await stream.receive_some(REQUEST.size))
    if not count:
        async for data in stream:
            await stream.send_all(data)
        return
    work = Work(count, size, interval)
    prefix = PREFIX.pack(size)
    if interval:
        async for payload in work.stamped():
            await stream.send_all(prefix + payload)
    elif not coalesced:
        for payload in work.payloads():
            await stream.send_all(prefix + payload)
    else:
        waiting: list[bytes] = []
        fill = _COALESCED_BYTES // (size + PREFIX.size)
        for payload in work.payloads():
            waiting.append(prefix + payload)
            if len(waiting) >= fill:
                await stream.send_all(b"".join(waiting))
                waiting = []
        await stream.send_all(b"".join(waiting))


async def serve_bare_ws(request: trio_websocket.WebSocketRequest) -> None:
    """Plain trio-websocket: one message an item."""
    ws = await request.accept()
    try:
        request_bytes = await ws.get_message()
        assert isinstance(request_bytes, bytes)
        work = Work(*REQUEST.unpack(request_bytes))
        if work.interval:
            async for payload in work.stamped():
                await ws.send_message(payload)
        else:
            for payload in work.payloads():
                await ws.send_message(payload)
        await ws.get_message()
    except trio_websocket.ConnectionClosed:
        pass


async def serve_raw_sse(exchange: Exchange) -> None:
    """Payloads in runs, through an in-process stream: what a publisher does that has several items at hand."""
    query = {key: values[0] for key, values in exchange.request.query.items()}
    work = Work.from_metadata(query)
    payload = b"x" * work.size
    async with open_stream[bytes](high_water_mark=256) as stream, trio.open_nursery() as nursery:

        async def publish() -> None:
            await stream.send_many([payload] * work.count)
            stream.end()

        nursery.start_soon(publish)
        await respond_sse(exchange, stream)


async def _listen(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]], scheme: str = "tcp"
) -> str:
    listeners: list[trio.SocketListener] = await nursery.start(
        partial(trio.serve_tcp, partial(_quietly, handler), 0, host="127.0.0.1")
    )
    return f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


async def _quietly(handler: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream) -> None:
    try:
        await handler(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # a client that has seen enough
    finally:
        await trio.aclose_forcefully(stream)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        start = nursery.start
        everywhere = ("tcp://127.0.0.1:0", "ws://127.0.0.1:0")
        tcp, ws = await start(partial(serve, router, *everywhere, config=_CONFIG))
        (trio_ws,) = await start(partial(serve, router, everywhere[1], config=_CONFIG, carrier="trio-websocket"))
        bare_ws = await start(partial(trio_websocket.serve_websocket, serve_bare_ws, "127.0.0.1", 0, ssl_context=None))
        urls = {
            "tcp": tcp,
            "ws": ws,
            "trio-ws": trio_ws,
            "http": await start(partial(serve_hypercorn, http_handler(router), "127.0.0.1", 0)),
            "raw-tcp": await _listen(nursery, serve_raw_tcp),
            "raw-ws": await _listen(nursery, serve_raw_ws, "ws"),
            "raw-trio-ws": await _listen(nursery, serve_raw_trio_ws, "ws"),
            "raw-http": await start(partial(serve_hypercorn, serve_raw_sse, "127.0.0.1", 0)),
            "bare": await _listen(nursery, partial(serve_bare, coalesced=False)),
            "bare-coalesced": await _listen(nursery, partial(serve_bare, coalesced=True)),
            "bare-trio-ws": f"ws://127.0.0.1:{bare_ws.port}",
        }
        print(json.dumps(urls), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    if options.profile is None:
        trio.run(main)
    else:
        with cProfile.Profile() as profile:
            trio.run(main)
        profile.dump_stats(options.profile)
