"""How long does it take to open a stream, and what does an idle one cost?

Opening is measured one stream at a time, from `open_stream` to the first answer, and as calls a second with 1,000 at
once on one connection. Memory is what the server's process grows by, divided by the number of idle streams (on one
connection) or of idle connections (each of which has greeted, and has no stream).

    python -m tests.benchmarks.bench_opening [--quick]
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import trio

from tests.benchmarks.bench_latency import Delays, show
from tests.benchmarks.child import running
from tests.benchmarks.clients import client_config
from tests.benchmarks.table import interleaved, median, options, print_head, print_table
from tests.benchmarks.work import Item
from trio_streams.driver import run_client
from trio_streams.procedures.client import Client
from trio_streams.transports.bytes import connect_tcp
from trio_streams.urls import CarrierName, connect

STREAMS: Final = 1_000
CONNECTIONS: Final = 200

_CARRIERS: Final[tuple[tuple[str, str, CarrierName], ...]] = (
    ("TCP", "tcp", "websockets"),
    ("WebSocket", "ws", "websockets"),
    ("trio-websocket carrier", "trio-ws", "trio-websocket"),
    ("HTTP (hypercorn)", "http", "websockets"),
)


def open_delays(url: str, count: int) -> list[float]:
    """Seconds from `open_stream` to the first answer, of streams on one connection, one after another."""

    async def measure() -> list[float]:
        delays: list[float] = []
        parts = urlsplit(url)
        async with run_client(await connect_tcp(parts.hostname or "", parts.port or 0)) as connection:
            for _ in range(count):
                started = perf_counter()
                async with connection.open_stream("echo") as stream:
                    await stream.send(b"x")
                    await stream.receive()
                    delays.append(perf_counter() - started)
        return delays[count // 10 :]

    return trio.run(measure)


def bare_open_delays(url: str, count: int) -> list[float]:
    """The same with a TCP connection for each stream."""

    async def measure() -> list[float]:
        delays: list[float] = []
        parts = urlsplit(url)
        for _ in range(count):
            started = perf_counter()
            async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 0) as stream:
                await stream.send_all(bytes(17))  # a request for echoes, and what to echo
                await stream.receive_some(1)
                delays.append(perf_counter() - started)
        return delays[count // 10 :]

    return trio.run(measure)


def call_rate(url: str, carrier: CarrierName, count: int) -> float:
    """Calls a second, all at once."""

    async def measure() -> float:
        async with connect(url, carrier=carrier) as client:
            await client.call("echo", 1, returns=int)
            started = perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(partial(client.call, "echo", 1, returns=int))
            return count / (perf_counter() - started)

    return trio.run(measure)


async def _memory(hold: Callable[[trio.Event], Awaitable[None]], client: Client, count: int) -> float:
    """What the server grows by while `count` tasks hold something open; one more makes what all share."""

    async def hold_some(nursery: trio.Nursery, count: int) -> None:
        for _ in range(count):
            is_open = trio.Event()
            nursery.start_soon(hold, is_open)
            await is_open.wait()

    async with trio.open_nursery() as nursery:
        await hold_some(nursery, 1)
        before = await client.call("memory", returns=int)
        await hold_some(nursery, count)
        grown = await client.call("memory", returns=int) - before
        nursery.cancel_scope.cancel()
    return grown / count


async def memory_of_streams(url: str, carrier: CarrierName, count: int) -> float:
    """Bytes for each idle stream."""
    async with connect(url, config=client_config(256), carrier=carrier) as client:

        async def hold(is_open: trio.Event) -> None:
            async with client.stream("idle", returns=Item) as items:
                await items.receive()
                is_open.set()
                await trio.sleep_forever()

        return await _memory(hold, client, count)


async def memory_of_connections(url: str, carrier: CarrierName, count: int) -> float:
    """Bytes for each idle connection."""

    async def hold(is_open: trio.Event) -> None:
        async with connect(url, carrier=carrier):
            is_open.set()
            await trio.sleep_forever()

    async with connect(url, carrier=carrier) as client:
        return await _memory(hold, client, count)


def memory(
    measure: Callable[[str, CarrierName, int], Awaitable[float]], scheme: str, carrier: CarrierName, count: int
) -> float:
    """Bytes for each of `count`, in a server of its own: what another measurement has freed would be used again."""
    with running("tests.benchmarks.server") as urls:
        return trio.run(measure, urls[scheme], carrier, count)


def show_memory(rounds: int, streams: int, connections: int) -> None:
    """Medians by transport. HTTP has a connection for each stream, so it gets as many, and no connection of its own."""
    contestants: dict[str, Callable[[], float]] = {}
    for name, scheme, carrier in _CARRIERS:
        count = connections if scheme == "http" else streams
        contestants[f"{name}, stream"] = partial(memory, memory_of_streams, scheme, carrier, count)
        if scheme != "http":
            contestants[f"{name}, connection"] = partial(memory, memory_of_connections, scheme, carrier, connections)
    measured = interleaved(contestants, rounds)
    rows = [[name, f"{median(sizes) / 1024:,.1f} KiB"] for name, sizes in measured.items()]
    print()
    print_table([f"idle: {streams} streams or {connections} connections", "server's memory for each"], rows)


def main() -> None:
    chosen = options(__doc__)
    rounds, count = (1, 30) if chosen.quick else (chosen.rounds, 300)
    calls, streams, connections = (100, 50, 10) if chosen.quick else (1_000, STREAMS, CONNECTIONS)
    print_head("Opening streams, and idle ones", f"medians of {rounds} interleaved rounds")
    with running("tests.benchmarks.server") as urls:
        delays: dict[str, Delays] = {
            "bare Trio: a TCP connection, 1 B there and back": partial(bare_open_delays, urls["bare"], count),
            "TCP: a stream, 1 B there and back": partial(open_delays, urls["raw-tcp"], count),
        }
        show("open to first answer", delays, rounds=rounds, size=1)
        contestants = {
            # HTTP/1.1 makes a connection for each: a fifth of the calls shows as much.
            name: partial(call_rate, urls[scheme], carrier, calls if scheme != "http" else calls // 5)
            for name, scheme, carrier in _CARRIERS
        }
        rates = interleaved(contestants, rounds)
        rows: list[list[str]] = []
        for name, found in rates.items():
            ratio = median([rate / tcp for rate, tcp in zip(found, rates["TCP"], strict=True)])
            rows.append([name, f"{median(found):,.0f} calls/s", f"{ratio:.2f} x"])
        print()
        print_table([f"{calls} calls at once", "rate", "ratio"], rows)
    show_memory(1 if chosen.quick else min(rounds, 3), streams, connections)


if __name__ == "__main__":
    main()
