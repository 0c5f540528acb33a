"""What does an idle connection cost the server's process, beside a bare Trio task that waits for a socket?

The server runs in a process of its own; this one opens connections that greet and then say nothing. Memory is what the
server's resident set grows by, divided by their number; what the kernel holds for a socket is not in it. The first
connections, which import and warm up, are not counted.

    python -m tests.benchmarks.bench_idle [--quick] [--lines]

With `--lines` the server says which lines have allocated what, by tracemalloc; that costs memory and time of its own.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tracemalloc
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable
from functools import partial
from time import sleep
from typing import Final
from urllib.parse import urlsplit

import trio

from tests.benchmarks.child import resident_bytes, running
from tests.benchmarks.table import median, print_head, print_table
from trio_streams.config import ConnectionConfig
from trio_streams.core.mux import Mux
from trio_streams.driver import run_server
from trio_streams.procedures.router import Router
from trio_streams.streams.wire import WireStream
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.messages import accept_websocket
from trio_streams.urls import serve
from trio_streams.wire.binary import BinaryWire

_NUMBER: Final = 1_000
_WARM_UP: Final = 100
_SETTLE_SECONDS: Final = 0.3

BARE: Final = "a bare Trio task"
NAMES: Final = (
    BARE,
    "a WebSocket carrier alone",
    "run_server on TCP",
    "run_server on a WebSocket",
    "serve tcp://",
    "serve ws://",
    "serve http://, lean host",
)
_WEBSOCKETS: Final = {NAMES[1], NAMES[3], NAMES[5], NAMES[6]}
_UPGRADE: Final = (
    b"GET /streams HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: trio-streams.v1\r\n\r\n"
)


# The server


async def _hold_bare(stream: trio.SocketStream) -> None:
    await stream.receive_some(65_536)


async def _hold_carrier(stream: trio.SocketStream) -> None:
    carrier = await accept_websocket(stream)
    await carrier.send(_hello())  # the client waits for something
    while await carrier.receive():
        pass


async def _serve_tcp(stream: trio.SocketStream) -> None:
    await run_server(ByteCarrier(stream), lambda stream: _ignore)


async def _serve_websocket(stream: trio.SocketStream) -> None:
    await run_server(await accept_websocket(stream), lambda stream: _ignore)


async def _ignore(stream: WireStream[bytes, bytes]) -> None:
    """Streams are not opened here."""


async def _listen(nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
    listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


async def _run_server(*, is_traced: bool) -> None:
    async with trio.open_nursery() as nursery:
        if is_traced:
            tracemalloc.start()
        router = Router()
        (tcp, ws) = await nursery.start(partial(serve, router, "tcp://127.0.0.1:0", "ws://127.0.0.1:0"))
        (lean,) = await nursery.start(partial(serve, router, "http://127.0.0.1:0", host="lean"))
        urls = [
            await _listen(nursery, _hold_bare),
            await _listen(nursery, _hold_carrier),
            await _listen(nursery, _serve_tcp),
            await _listen(nursery, _serve_websocket),
            tcp,
            ws,
            lean,
        ]
        print(json.dumps({"pid": str(os.getpid()), **dict(zip(NAMES, urls, strict=True))}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        if is_traced:
            _print_lines()
        nursery.cancel_scope.cancel()


def _print_lines() -> None:
    """What has been allocated since the start and is still there; with many connections, most of it is theirs."""
    snapshot = tracemalloc.take_snapshot()
    for kind, most in (("filename", 25), ("lineno", 70)):
        print(file=sys.stderr)
        for entry in snapshot.statistics(kind)[:most]:
            where = f"{entry.traceback}".rpartition("site-packages/")[2]
            print(f"{entry.size / _NUMBER:8.0f} B {entry.count / _NUMBER:6.1f}  {where}", file=sys.stderr)


# The client


def _hello() -> bytes:
    machine = Mux(BinaryWire(), is_client=True, config=ConnectionConfig(), session_id="0" * 32, now=0.0)
    return machine.to_send(0.0, 65_536)


def _frame(payload: bytes) -> bytes:
    """One binary message, masked with zeros."""
    return bytes((0x82, 0x80 | 126)) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def _connect(name: str, url: str) -> socket.socket:
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
    if name == BARE:
        return client
    if name in _WEBSOCKETS:
        client.sendall(_UPGRADE)
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65_536)
        client.sendall(_frame(_hello()))
        if received.endswith(b"\r\n\r\n"):
            client.recv(65_536)
    else:
        client.sendall(_hello())
        client.recv(65_536)
    return client


def _measure(name: str, number: int, *options: str) -> float:
    """Bytes for each connection."""
    clients: list[socket.socket] = []
    with running("tests.benchmarks.bench_idle", "--serve", *options) as about:
        pid = int(about["pid"])
        clients += [_connect(name, about[name]) for _ in range(_WARM_UP)]
        sleep(_SETTLE_SECONDS)
        before = resident_bytes(pid)
        clients += [_connect(name, about[name]) for _ in range(number)]
        sleep(_SETTLE_SECONDS)
        after = resident_bytes(pid)
    for client in clients:  # only now, so that the server could say at its end what they cost
        client.close()
    return (after - before) / number


def main() -> int:
    """Measure and print."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round with few connections: shows that it runs")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--only", default="", help="only contestants whose name contains this")
    parser.add_argument("--lines", action="store_true", help="show which lines have allocated what")
    parser.add_argument("--serve", action="store_true", help="be the server")
    chosen = parser.parse_args()
    if chosen.serve:
        trio.run(partial(_run_server, is_traced=chosen.lines))
        return 0
    number, rounds = (100, 1) if chosen.quick else (_NUMBER, chosen.rounds)
    names = [name for name in NAMES if chosen.only in name]
    if chosen.lines:
        for name in names:
            print(f"\n{name}", file=sys.stderr)
            _measure(name, _NUMBER - _WARM_UP, "--lines")
        return 0
    print_head("An idle connection", f"{number} connections, median of {rounds} rounds, each with a new server")
    measured = {name: [_measure(name, number) / 1_024 for _ in range(rounds)] for name in names}
    base = median(measured[names[0]])
    rows = [(name, f"{median(sizes):.1f} KiB", f"{median(sizes) - base:+.1f} KiB") for name, sizes in measured.items()]
    print_table(("a connection", "resident", f"beside {names[0]}"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
