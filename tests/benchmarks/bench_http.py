"""What does a request, an event and an idle connection cost on each HTTP host?

One server process a host, one after the other in every round, and a bare epoll client: 10 connections, one plain request
at a time on each; 200 connections that read server-sent events, one at a time and in bursts of ten; 300 idle ones. On two
cores that others use, too, requests per second also depend on what the client gets of them, so the server's own CPU time
is printed beside it.

    python -m tests.benchmarks.bench_http [--quick] [--only NAME]
    python -m tests.benchmarks.bench_http --serve HOST
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import trio
import trio.lowlevel

from tests.benchmarks.child import cpu_seconds, resident_bytes, running
from tests.benchmarks.table import median, options, print_head, print_table
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import Exchange, Routes, respond
from trio_streams.service.sse import respond_sse
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean
from trio_streams.urls import serve

HOSTS: Final[dict[str, Callable[..., Awaitable[None]]]] = {"hypercorn": serve_hypercorn, "lean": serve_lean}
TARGET: Final = {"requests/s": "8 x", "events/s, single": "5 x", "events/s, bursts of 10": "20 x"}

_READERS: Final = 200
_IDLE: Final = 300
_EVENT: Final = b"x" * 20

_Sockets = dict[int, socket.socket]


async def plain(exchange: Exchange) -> None:
    """A small answer, at once."""
    await respond(exchange, 200, b"hello world", [("content-type", "text/plain")])


class Publisher:
    """Gives the same events to all its readers, a burst of them as soon as every reader has had the last one."""

    def __init__(self) -> None:
        self.channels: set[trio.MemorySendChannel[bytes]] = set()

    async def events(self, exchange: Exchange) -> None:
        """`GET /events`: what is published."""
        send, receive = trio.open_memory_channel[bytes](64)
        self.channels.add(send)
        try:
            await respond_sse(exchange, receive)
        finally:
            self.channels.discard(send)

    async def publish(self, exchange: Exchange) -> None:
        """`POST /publish?bursts=&size=`: events, as many as readers keep up with."""
        query = exchange.request.query
        bursts, size = int(query["bursts"][0]), int(query["size"][0])
        for _ in range(bursts):
            for channel in self.channels:
                for _ in range(size):
                    while True:
                        try:
                            channel.send_nowait(_EVENT)
                            break
                        except trio.WouldBlock:
                            await trio.lowlevel.checkpoint()
            for _ in range(4):
                await trio.lowlevel.checkpoint()
        await respond(exchange, 200, b"done")


async def serve_host(name: str) -> None:
    """The server's process."""
    publisher = Publisher()
    routes = Routes()
    routes.add("GET", "/", plain)
    routes.add("GET", "/events", publisher.events)
    routes.add("POST", "/publish", publisher.publish)
    async with trio.open_nursery() as nursery:
        urls = {"http": await nursery.start(partial(HOSTS[name], routes))}
        if name == "lean":
            (urls["ws"],) = await nursery.start(partial(serve, Router(), "http://127.0.0.1:0", host="lean"))
        print(json.dumps({**urls, "pid": os.getpid()}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


def open_sockets(url: str, count: int, request: bytes) -> _Sockets:
    sockets: _Sockets = {}
    for _ in range(count):
        opened = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(request)
        sockets[opened.fileno()] = opened
    return sockets


def request(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def read_until(sockets: _Sockets, last: bytes, again: Callable[[int], bytes | None]) -> None:
    """Read from all; `again(fd)` says what to send after an answer whose end is `last`, None for nothing more."""
    poll = select.epoll()
    for fd in sockets:
        poll.register(fd, select.EPOLLIN)
    left = len(sockets)
    while left:
        for fd, _ in poll.poll(10):
            data = os.read(fd, 262_144)
            if not data.endswith(last):
                continue
            following = again(fd)
            if following is None:
                left -= 1
                poll.unregister(fd)
            else:
                os.write(fd, following)
    poll.close()


def requests(url: str, pid: int, seconds: float) -> tuple[float, float]:
    """Requests a second of the wall, and of the server's CPU."""
    ask = request("/")
    sockets = open_sockets(url, 10, ask)
    until = perf_counter() + seconds
    count = 0

    def again(_: int) -> bytes | None:
        nonlocal count
        count += 1
        return ask if perf_counter() < until else None

    started, busy = perf_counter(), cpu_seconds(pid)
    read_until(sockets, b"hello world", again)
    elapsed, busy = perf_counter() - started, cpu_seconds(pid) - busy
    for opened in sockets.values():
        opened.close()
    return count / elapsed, count / max(busy, 0.01)


def events(url: str, pid: int, bursts: int, size: int) -> tuple[float, float]:
    """Events a second to all readers together, by the wall and by the server's CPU."""
    sockets = open_sockets(url, _READERS, request("/events"))
    poll = select.epoll()
    for fd, opened in sockets.items():
        while b"\r\n\r\n" not in opened.recv(65_536):
            pass
        poll.register(fd, select.EPOLLIN)
    (control,) = open_sockets(url, 1, request(f"/publish?bursts={bursts}&size={size}", "POST")).values()
    started, busy = perf_counter(), cpu_seconds(pid)
    expected, seen = _READERS * bursts * size, 0
    tails = dict.fromkeys(sockets, b"")
    while seen < expected:
        for fd, _ in poll.poll(10):
            data = tails[fd] + os.read(fd, 262_144)
            seen += data.count(b"data: ")
            tails[fd] = data[-5:]
    elapsed, busy = perf_counter() - started, cpu_seconds(pid) - busy
    for opened in (*sockets.values(), control):
        opened.close()
    return expected / elapsed, expected / max(busy, 0.01)


def idle(url: str, pid: int, path: str, last: bytes) -> float:
    """Resident bytes of the server for each connection that waits."""
    warm = open_sockets(url, 50, request(path))
    before = resident_bytes(pid)
    sockets = open_sockets(url, _IDLE, request(path))
    for opened in sockets.values():
        while last not in opened.recv(65_536):
            pass
    after = resident_bytes(pid)
    for opened in (*warm.values(), *sockets.values()):
        opened.close()
    return (after - before) / _IDLE


def main() -> None:
    if "--serve" in sys.argv:
        trio.run(serve_host, sys.argv[sys.argv.index("--serve") + 1])
        return
    chosen = options(__doc__)
    rounds, seconds, bursts = (1, 0.3, 5) if chosen.quick else (chosen.rounds, 1.0, 20)
    print_head("HTTP hosts", f"medians of {rounds} interleaved rounds; ratios are medians of each round's")
    names = [name for name in HOSTS if chosen.only in name]
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {}
    memory: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with running("tests.benchmarks.bench_http", "--serve", name) as about:
                url, pid = about["http"], int(about["pid"])
                memory[name].append(idle(url, pid, "/events", b"\r\n\r\n"))
                measures: Mapping[str, Callable[[], tuple[float, float]]] = {
                    "requests/s": partial(requests, url, pid, seconds),
                    "events/s, single": partial(events, url, pid, 4 * bursts, 1),
                    "events/s, bursts of 10": partial(events, url, pid, bursts, 10),
                }
                for what, measure in measures.items():
                    figures.setdefault(what, {}).setdefault(name, []).append(measure())
    rows: list[list[str]] = []
    for what, found in figures.items():
        base = found[names[0]]
        for name, pairs in found.items():
            ratio = [median([pair[i] / other[i] for pair, other in zip(pairs, base, strict=True)]) for i in (0, 1)]
            wall, busy = (median([pair[i] for pair in pairs]) for i in (0, 1))
            target = TARGET[what] if name == "lean" else ""
            rows.append(
                [f"{what}, {name}", f"{wall:,.0f}", f"{ratio[0]:.1f} x", f"{busy:,.0f}", f"{ratio[1]:.1f} x", target]
            )
    print_table(["", "by the wall", "ratio", "by the server's CPU", "ratio", "target"], rows)
    print()
    kib = [[name, f"{median(values) / 1024:.1f} KiB"] for name, values in memory.items()]
    print_table([f"each of {_IDLE} idle event streams", "resident"], kib)


if __name__ == "__main__":
    main()
