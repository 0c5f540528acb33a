"""The contestants of `bench_fanout`, each in a process of its own: `python -m tests.benchmarks.fanout_servers NAME`.

All do the same: `GET /events` is an event stream, `POST /publish?bursts=&size=` gives that many bursts of events to all
readers, the next one when the last has been handed to every socket. Ours publish a burst as one run. The others are
what one writes for a plain ASGI host: a queue for each reader, and a `send` for each event.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import hypercorn
import hypercorn.trio
import trio

from tests.benchmarks.rlimit import raise_file_limit
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, Routes, respond
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean

EVENT: Final = b"x" * 20
ENCODED: Final = b"data: " + EVENT + b"\n\n"

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


def announce(port: int) -> None:
    print(json.dumps({"http": f"http://127.0.0.1:{port}", "pid": os.getpid()}), flush=True)


class OurPublisher:
    """A `Broadcast`."""

    def __init__(self) -> None:
        self.broadcast = Broadcast[bytes]()

    async def publish(self, exchange: Exchange) -> None:
        query = exchange.request.query
        burst = [EVENT] * int(query["size"][0])
        for _ in range(int(query["bursts"][0])):
            await self.broadcast.publish(*burst)
            while self.broadcast.statistics().readers_behind:
                await trio.lowlevel.checkpoint()
        await respond(exchange, 200, b"done")


async def serve_ours(serve: Callable[..., Awaitable[None]]) -> None:
    publisher = OurPublisher()
    routes = Routes()
    routes.add("GET", "/events", publisher.broadcast.respond)
    routes.add("POST", "/publish", publisher.publish)
    async with trio.open_nursery() as nursery:
        url: str = await nursery.start(serve, routes)
        announce(int(url.rpartition(":")[2]))
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


class QueuePublisher:
    """An ASGI application with a queue for each reader, on Trio or asyncio."""

    def __init__(self, new_queue: Callable[[], tuple[Callable[[bytes], None], Callable[[], Awaitable[bytes]]]]) -> None:
        self._new_queue = new_queue
        self._queues: dict[object, Callable[[bytes], None]] = {}
        self._left = 0
        self._all_sent: Callable[[], None] = lambda: None
        self.new_event: Callable[[], Any] = trio.Event

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        if scope["path"] == "/events":
            await self._stream(send)
        else:
            await self._publish(scope)
            await send({"type": "http.response.body", "body": b"done"})

    async def _stream(self, send: _Send) -> None:
        put, get = self._new_queue()
        key = object()
        self._queues[key] = put
        try:
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            while True:
                await send({"type": "http.response.body", "body": await get(), "more_body": True})
                self._left -= 1
                if not self._left:
                    self._all_sent()
        finally:
            del self._queues[key]

    async def _publish(self, scope: _Scope) -> None:
        query = parse_qs(scope["query_string"].decode())
        size = int(query["size"][0])
        for _ in range(int(query["bursts"][0])):
            done = self.new_event()
            self._all_sent = done.set
            self._left = size * len(self._queues)
            for put in self._queues.values():
                for _ in range(size):
                    put(ENCODED)
            await done.wait()


def trio_queue() -> tuple[Callable[[bytes], None], Callable[[], Awaitable[bytes]]]:
    send, receive = trio.open_memory_channel[bytes](1_000)
    return send.send_nowait, receive.receive


def asyncio_queue() -> tuple[Callable[[bytes], None], Callable[[], Awaitable[bytes]]]:
    queue = asyncio.Queue[bytes](1_000)
    return queue.put_nowait, queue.get


async def serve_hypercorn_plain() -> None:
    """Hypercorn on Trio as it comes, with one event for each `send`."""
    settings = hypercorn.Config()
    settings.accesslog = settings.errorlog = None
    with socket.create_server(("127.0.0.1", 0), backlog=2_000) as probe:
        port = int(probe.getsockname()[1])
    settings.bind = [f"127.0.0.1:{port}"]
    settings.backlog = 2_000
    app: Any = QueuePublisher(trio_queue)
    async with trio.open_nursery() as nursery:
        await nursery.start(hypercorn.trio.serve, app, settings)
        announce(port)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _uvicorn() -> AsyncIterator[int]:
    import uvicorn  # noqa: PLC0415 - only its own process needs it

    app: Any = QueuePublisher(asyncio_queue)
    app.new_event = asyncio.Event
    listening = socket.create_server(("127.0.0.1", 0), backlog=2_000)
    config = uvicorn.Config(app, http="httptools", loop="asyncio", ws="none", log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        task.cancel()
        listening.close()


async def serve_uvicorn() -> None:
    """Uvicorn with httptools on asyncio, with one event for each `send`."""
    async with _uvicorn() as port:
        announce(port)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # its goodbyes to a thousand readers would take a while


SERVERS: Final[dict[str, Callable[[], None]]] = {
    "hypercorn": lambda: trio.run(serve_hypercorn_plain),
    "hypercorn, Broadcast": lambda: trio.run(serve_ours, serve_hypercorn),
    "uvicorn": lambda: asyncio.run(serve_uvicorn()),
    "lean, Broadcast": lambda: trio.run(serve_ours, serve_lean),
}

if __name__ == "__main__":
    raise_file_limit()
    SERVERS[sys.argv[1]]()
