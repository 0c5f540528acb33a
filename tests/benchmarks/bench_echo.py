"""How many messages does a WebSocket echo, when many are under way?

The servers run in processes of their own. One client for all of them: a bare socket that sends prebuilt masked frames, and
counts the bytes that come back; so it costs each contestant the same, and is faster than any. Compression is off.

    python -m tests.benchmarks.bench_echo [--quick]

Ratios are medians of each round's own ratios, by the wall and by the server's CPU.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import trio
import trio_websocket
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.benchmarks.child import cpu_seconds, running
from tests.benchmarks.table import median, options, print_head, print_table
from trio_streams.errors import ConnectionLost
from trio_streams.transports.messages import accept_websocket

SIZE: Final = 100
IN_FLIGHT: Final = 1_000

_REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


# The servers


async def serve_ours(*, is_single: bool = False) -> None:
    """Messages in, messages out, through the message view of our carrier; all that are here at once, or one by one."""

    async def echo(stream: trio.SocketStream) -> None:
        try:
            carrier = await accept_websocket(stream, subprotocols=(), require_subprotocol=False)
            while messages := await carrier.receive_messages():
                if is_single:
                    for message in messages:
                        await carrier.send_messages([message])
                else:
                    await carrier.send_messages(messages)
            await carrier.aclose()
        except ConnectionLost:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        _say(listener.socket.getsockname()[1])
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def serve_trio_websocket() -> None:
    """The same with trio-websocket."""

    async def echo(request: trio_websocket.WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            while True:
                await ws.send_message(await ws.get_message())
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, echo, "127.0.0.1", 0, ssl_context=None)
        server: trio_websocket.WebSocketServer = await nursery.start(serve)
        _say(server.port)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def serve_asyncio() -> None:
    """The same with `websockets` on asyncio."""

    async def echo(ws: ServerConnection) -> None:
        try:
            async for message in ws:
                await ws.send(message)
        except ConnectionClosed:
            pass

    async with serve_websockets(echo, "127.0.0.1", 0, compression=None) as server:
        (listener,) = server.sockets
        _say(listener.getsockname()[1])
        await asyncio.to_thread(sys.stdin.read)


def _say(port: int) -> None:
    print(json.dumps({"url": f"ws://127.0.0.1:{port}", "pid": str(os.getpid())}), flush=True)


OURS: Final = "our carrier"
_SINGLE: Final = "our carrier, one send a message"
SERVERS: Final[Mapping[str, Callable[[], None]]] = {
    OURS: lambda: trio.run(serve_ours),
    _SINGLE: lambda: trio.run(partial(serve_ours, is_single=True)),
    "trio-websocket": lambda: trio.run(serve_trio_websocket),
    "websockets, asyncio": lambda: asyncio.run(serve_asyncio()),
}
TARGETS: Final = {"trio-websocket": "10 x", "websockets, asyncio": "3 x"}


# The client


_PAYLOAD: Final = bytes(range(SIZE))
_BACK: Final = Frame(Opcode.BINARY, _PAYLOAD).serialize(mask=False)


def echo(url: str, number: int, *, is_checked: bool = False) -> float:
    """Seconds for `number` messages, `IN_FLIGHT` of them at a time."""
    echoed = bytearray()
    parts = urlsplit(url)
    batch = b"".join(Frame(Opcode.BINARY, _PAYLOAD).serialize(mask=True) for _ in range(IN_FLIGHT))
    each, back = len(batch) // IN_FLIGHT, len(_BACK)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as client:
        client.sendall(_REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(65_536)
        client.setblocking(False)
        poll = select.poll()
        poll.register(client, select.POLLIN | select.POLLOUT)
        started = perf_counter()
        wanted, sent, received = number * each, 0, 0
        while received < number * back:
            # Never more than `IN_FLIGHT` under way: what may be sent follows what came back.
            allowed = min(wanted, (received // back + IN_FLIGHT) * each)
            mask = select.POLLIN | (select.POLLOUT if sent < allowed else 0)
            poll.modify(client, mask)
            for _, event in poll.poll():
                if event & select.POLLIN:
                    data = client.recv(1 << 20)
                    assert data, "the server has left"
                    received += len(data)
                    if is_checked:
                        echoed += data
                if event & select.POLLOUT and sent < allowed:
                    start = sent % len(batch)
                    sent += client.send(batch[start : start + allowed - sent])
        elapsed = perf_counter() - started
    assert not is_checked or echoed == _BACK * number, "that is no echo"
    return elapsed


def _measure(about: Mapping[str, str], number: int) -> tuple[float, float]:
    """Messages a second, by the wall and by the server's CPU."""
    pid = int(about["pid"])
    before = cpu_seconds(pid)
    elapsed = echo(about["url"], number)
    return number / elapsed, number / max(cpu_seconds(pid) - before, 0.01)


def main() -> int:
    """Measure and print."""
    if "--serve" in sys.argv:
        SERVERS[sys.argv[sys.argv.index("--serve") + 1]]()
        return 0
    chosen = options(__doc__)
    number, rounds = (2_000, 1) if chosen.quick else (500_000, chosen.rounds)
    print_head(
        "A pipelined WebSocket echo",
        f"{number:,} messages of {SIZE} B, {IN_FLIGHT:,} under way; medians of {rounds} interleaved rounds",
    )
    names = [name for name in SERVERS if chosen.only in name]
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running("tests.benchmarks.bench_echo", "--serve", name)) for name in names}
        for about in servers.values():
            echo(about["url"], 2_000, is_checked=True)  # warms up, too
        for _ in range(rounds):
            for name, about in servers.items():
                # What is slow need not be measured for as long.
                rates[name].append(_measure(about, number if name == OURS else number // 20))
    base = rates[names[0]]
    rows: list[list[str]] = []
    for name, found in rates.items():
        ratios = [median([ours[i] / other[i] for ours, other in zip(base, found, strict=True)]) for i in (0, 1)]
        wall, busy = (median([rate[i] for rate in found]) for i in (0, 1))
        rows.append(
            [name, f"{wall:,.0f}", f"{ratios[0]:.1f} x", f"{busy:,.0f}", f"{ratios[1]:.1f} x", TARGETS.get(name, "")]
        )
    print_table(["messages/s", "by the wall", "ours is", "by the server's CPU", "ours is", "target"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
