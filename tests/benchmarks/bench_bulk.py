"""How fast are items of 64 KiB, beside a bare Trio socket that writes the same 64 KiB at a time?

Server and client are two processes; the bytes go one way, down from the server or up to it (where a WebSocket's are
masked). A carrier alone is measured, and a stream of a connection over it, read and written one item at a time.

    python -m tests.benchmarks.bench_bulk [--quick]

Shares of the bare socket are medians of each round's own, by the wall and by the CPU of both processes.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import partial
from time import perf_counter, process_time
from typing import Final, Protocol

import trio

from tests.benchmarks.child import cpu_seconds, running
from tests.benchmarks.table import median, options, print_head, print_table
from trio_streams.carrier import Carrier
from trio_streams.driver import run_client, run_server
from trio_streams.errors import ConnectionLost
from trio_streams.streams.wire import WireStream
from trio_streams.transports.bytes import ByteCarrier, connect_tcp
from trio_streams.transports.messages import accept_websocket, connect_websocket

ITEM: Final = bytes(range(256)) * 256
_RECEIVE_BYTES: Final = 65_536


class _Pipe(Protocol):
    """One end of whatever is measured."""

    async def send(self, data: bytes, /) -> None: ...

    async def receive(self) -> bytes: ...


class _Bare:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.send = stream.send_all
        self._stream = stream

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_RECEIVE_BYTES))


# One conversation for all: HEAD says how many items go which way, GO comes back, and for a download goes out again, so that
# nothing is joined with the first item; what went up is answered by DONE.

_UP, _DOWN = b"u", b"d"
_GO, _DONE = b"g", b"!"


async def _answer(pipe: _Pipe) -> None:
    """The server's part."""
    head = await pipe.receive()
    count = int.from_bytes(head[1:], "big")
    await pipe.send(_GO)
    if head.startswith(_DOWN):
        assert await pipe.receive() == _GO
        for _ in range(count):
            await pipe.send(ITEM)
    else:
        await _read(pipe, count)
        await pipe.send(_DONE)
    await pipe.receive()  # until the client leaves


async def _ask(pipe: _Pipe, direction: bytes, count: int) -> float:
    """The client's part; seconds."""
    await pipe.send(direction + count.to_bytes(4, "big"))
    assert await pipe.receive() == _GO
    started = perf_counter()
    if direction == _DOWN:
        await pipe.send(_GO)
        await _read(pipe, count)
    else:
        for _ in range(count):
            await pipe.send(ITEM)
        assert await pipe.receive() == _DONE
    return perf_counter() - started


async def _read(pipe: _Pipe, count: int) -> None:
    left = count * len(ITEM)
    while left > 0:
        data = await pipe.receive()
        assert data, "an early end"
        left -= len(data)
    assert left == 0, "more than was asked for"


async def _answer_on(stream: WireStream[bytes, bytes]) -> None:
    with suppress(trio.EndOfChannel):
        await _answer(stream)


# The contestants

BARE: Final = "bare trio.SocketStream"
CONTESTANTS: Final[tuple[str, ...]] = (
    BARE,
    "TCP, carrier",
    "TCP, stream",
    "WebSocket, carrier",
    "WebSocket, stream",
)


async def _serve(name: str, stream: trio.SocketStream) -> None:
    with suppress(ConnectionLost, trio.BrokenResourceError):
        if name == BARE:
            await _answer(_Bare(stream))
            return
        carrier: Carrier = ByteCarrier(stream) if name.startswith("TCP") else await accept_websocket(stream)
        if name.endswith("stream"):
            await run_server(carrier, lambda stream: _answer_on)
        else:
            await _answer(carrier)
            await carrier.aclose()


async def _measure(name: str, port: int, direction: bytes, count: int) -> float:
    """Seconds for `count` items."""
    if name == BARE:
        async with await trio.open_tcp_stream("127.0.0.1", port) as socket:
            return await _ask(_Bare(socket), direction, count)
    carrier: Carrier
    if name.startswith("TCP"):
        carrier = await connect_tcp("127.0.0.1", port)
    else:
        carrier = await connect_websocket(f"ws://127.0.0.1:{port}/")
    if name.endswith("stream"):
        async with run_client(carrier) as connection, connection.open_stream("bulk") as stream:
            return await _ask(stream, direction, count)
    try:
        return await _ask(carrier, direction, count)
    finally:
        await carrier.aclose()


async def _run_server() -> None:
    async with trio.open_nursery() as nursery:
        about = {"pid": str(os.getpid())}
        for name in CONTESTANTS:
            (listener,) = await nursery.start(partial(trio.serve_tcp, partial(_serve, name), 0, host="127.0.0.1"))
            about[name] = str(listener.socket.getsockname()[1])
        print(json.dumps(about), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


def main() -> int:
    """Measure and print."""
    if "--serve" in sys.argv:
        trio.run(_run_server)
        return 0
    chosen = options(__doc__)
    count, rounds = (200, 1) if chosen.quick else (6_000, chosen.rounds)
    mib = count * len(ITEM) / 2**20
    print_head("Bulk", f"{count:,} items of 64 KiB ({mib:,.0f} MiB), medians of {rounds} interleaved rounds")
    names = [name for name in CONTESTANTS if chosen.only in name or name == BARE]
    with running("tests.benchmarks.bench_bulk", "--serve") as about:
        pid = int(about["pid"])
        for title, direction in (("down", _DOWN), ("up", _UP)):
            rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    busy = cpu_seconds(pid) + process_time()
                    elapsed = trio.run(_measure, name, int(about[name]), direction, count)
                    busy = cpu_seconds(pid) + process_time() - busy
                    rates[name].append((mib / elapsed, mib / max(busy, 0.01)))
            rows: list[list[str]] = []
            for name, found in rates.items():
                shares = [
                    median([one[i] / base[i] for one, base in zip(found, rates[BARE], strict=True)]) for i in (0, 1)
                ]
                wall, busy = (median([one[i] for one in found]) for i in (0, 1))
                rows.append([name, f"{wall:,.0f}", f"{shares[0]:.0%}", f"{busy:,.0f}", f"{shares[1]:.0%}"])
            print_table([f"{title}, MiB/s", "by the wall", "of bare", "by both CPUs", "of bare"], rows)
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
