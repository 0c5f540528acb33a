"""JSON envelopes on TCP and on WebSockets: how many a second, and what one costs the server?

The client is a blocking socket that counts messages and decodes none, the same one on both: it takes no part in the
figures but for sharing the machine. CPU is the server process's, user and system mode, divided by the messages of a run.

    python -m tests.benchmarks.bench_envelopes [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import attrs
import trio

from tests.benchmarks.child import cpu_seconds, running
from trio_streams import Router, serve

FIELDS: Final = {"n": 1, "level": "info", "message": "something has happened"}


@attrs.frozen
class Line:
    """A typed item."""

    n: int
    level: str
    message: str


def make_router() -> Router:
    router = Router()

    @router.stream("raw")
    async def raw(count: int) -> AsyncIterator[dict[str, Any]]:
        for _ in range(count):
            yield FIELDS

    @router.stream("typed")
    async def typed(count: int) -> AsyncIterator[Line]:
        line = Line(1, "info", "something has happened")
        for _ in range(count):
            yield line

    @router.call("ping")
    async def ping(number: int) -> int:
        return number

    @router.stream("count", direction="client")
    async def count(items: AsyncIterable[Line]) -> int:
        number = 0
        async for _ in items:
            number += 1
        return number

    @router.stream("echo", direction="bidi")
    async def echo(items: AsyncIterable[Line]) -> AsyncIterator[Line]:
        async for item in items:
            yield item

    return router


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, make_router(), "tcp://127.0.0.1:0", "ws://127.0.0.1:0"))
        sys.stdout.write(json.dumps({"tcp": urls[0], "ws": urls[1], "pid": str(os.getpid())}) + "\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


class Client:
    """A blocking client that frames messages and cuts what it hears."""

    def __init__(self, url: str) -> None:
        self.is_websocket = url.startswith("ws")
        host, _, port = url.partition("://")[2].rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.is_websocket:
            self.socket.sendall(
                b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += self.socket.recv(1)

    def frame(self, envelope: dict[str, Any]) -> bytes:
        message = json.dumps(envelope, separators=(",", ":")).encode()
        if not self.is_websocket:
            return len(message).to_bytes(4, "big") + message
        size = len(message)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        return b"\x81" + length + bytes(4) + message  # a mask of zeros is a mask

    def say(self, *envelopes: dict[str, Any]) -> None:
        self.socket.sendall(b"".join(map(self.frame, envelopes)))

    def hear_until(self, end: bytes) -> None:
        """Read until a message with these bytes has come."""
        tail = b""
        while end not in tail:
            chunk = self.socket.recv(1 << 18)
            assert chunk, "the server has left"
            tail = tail[-200:] + chunk


def _down(client: Client, procedure: str, count: int) -> None:
    client.say({"type": "stream:start", "id": "s", "procedure": procedure, "payload": count})
    client.hear_until(b'"s:stream:end"')


def _upload(client: Client, count: int) -> None:
    item = client.frame({"type": "stream:data", "id": "u", "payload": FIELDS})
    client.say({"type": "stream:start", "id": "u", "procedure": "count"})
    client.socket.sendall(item * count)
    client.say({"type": "stream:end", "id": "u"})
    client.hear_until(b'"u:response"')


def _both_ways(client: Client, count: int) -> None:
    item = client.frame({"type": "stream:data", "id": "b", "payload": FIELDS})
    client.say({"type": "stream:start", "id": "b", "procedure": "echo"})
    end = client.frame({"type": "stream:end", "id": "b"})
    sender = threading.Thread(target=client.socket.sendall, args=(item * count + end,))
    sender.start()
    client.hear_until(b'"b:stream:end"')
    sender.join()


RUNS: Final[tuple[tuple[str, Callable[[Client, int], None]], ...]] = (
    ("server stream, raw", lambda client, count: _down(client, "raw", count)),
    ("server stream, typed", lambda client, count: _down(client, "typed", count)),
    ("client stream, typed", _upload),
    ("bidirectional, typed", _both_ways),
)


def _measure(urls: dict[str, str], face: str, count: int, rounds: int) -> None:
    client, pid = Client(urls[face]), int(urls["pid"])
    for name, run in RUNS:
        rates, costs = [], []
        for _ in range(rounds):
            began, before = time.perf_counter(), cpu_seconds(pid)
            run(client, count)
            rates.append(count / (time.perf_counter() - began))
            costs.append((cpu_seconds(pid) - before) / count * 1e6)
        line = f"{face:4} {name:22} {statistics.median(rates):10,.0f} items/s {statistics.median(costs):6.1f} µs"
        sys.stdout.write(line + "\n")
    times = []
    for n in range(max(200, count // 50)):
        began = time.perf_counter()
        client.say({"id": "c", "type": "request", "procedure": "ping", "payload": n})
        client.hear_until(b'"c:response"')
        times.append(time.perf_counter() - began)
    sys.stdout.write(f"{face:4} {'call, p50':22} {statistics.median(times) * 1e6:10,.0f} µs\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round with few items: shows that it runs")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        trio.run(_serve)
        return
    count, rounds = (2_000, 1) if chosen.quick else (200_000, 3)
    with running("tests.benchmarks.bench_envelopes", "--serve") as urls:
        for face in ("tcp", "ws"):
            _measure(dict(urls), face, count, rounds)


if __name__ == "__main__":
    main()
