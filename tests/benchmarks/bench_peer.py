"""How many calls and items a second between two peers in two processes, and how long does a call take?

Calls carry one small object and get it back; 64 in flight are 64 tasks that call one after the other. Items are small
numbers, from a plain iterable to an `async for`. The baseline is `websockets` on asyncio with a JSON message for each call,
answer and item.

    python -m tests.benchmarks.bench_peer [--quick] [--only NAME]
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final

import attrs
import trio
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from tests.benchmarks.child import running
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from trio_streams.peer import RpcPeer
from trio_streams.peer.signal import PeerDialect
from trio_streams.urls import open_peer

DATA: Final = {"method": "echo", "text": "hello"}
FLIGHTS: Final = (1, 64)


@attrs.frozen
class Calls:
    """What a round of calls measured: how many a second, and the seconds of each."""

    rate: float
    delays: list[float]


async def _timed(call: Callable[[], Awaitable[object]], count: int, delays: list[float]) -> None:
    for _ in range(count):
        started = perf_counter()
        await call()
        delays.append(perf_counter() - started)


def peer_calls(url: str, in_flight: int, count: int, *, dialect: PeerDialect = "trio-streams") -> Calls:
    """Calls between our peers."""

    async def run() -> Calls:
        delays: list[float] = []
        async with open_peer(url, dialect=dialect) as peer:
            call = partial(peer.request, DATA)
            await _timed(call, 50, [])
            started = perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(in_flight):
                    nursery.start_soon(_timed, call, count // in_flight, delays)
            return Calls(len(delays) / (perf_counter() - started), delays)

    return trio.run(run)


def peer_items(url: str, count: int, *, dialect: PeerDialect = "trio-streams") -> float:
    """Items a second between our peers."""

    async def take(peer: RpcPeer, items: int) -> float:
        stream_id = (await peer.request({"method": "items", "params": [items]})).decode(str)
        _, stream = peer.receive_stream(stream_id, int)
        started, found = perf_counter(), 0
        async for _ in stream:
            found += 1
        assert found == items
        return items / (perf_counter() - started)

    async def run() -> float:
        async with open_peer(url, dialect=dialect) as peer:
            await take(peer, 1_000)
            return await take(peer, count)

    return trio.run(run)


class _AsyncioCaller:
    """Calls with ids over one WebSocket."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._next = 0

    async def read(self) -> None:
        async for text in self._ws:
            message = json.loads(text)
            self._waiting.pop(message["requestId"]).set_result(message["data"])

    async def call(self) -> object:
        self._next += 1
        answer = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        await self._ws.send(json.dumps({"requestId": self._next, "data": DATA}))
        return await answer


def asyncio_calls(url: str, in_flight: int, count: int) -> Calls:
    """The same over bare `websockets`."""

    async def run() -> Calls:
        delays: list[float] = []
        async with connect_websocket(url, compression=None) as ws:
            caller = _AsyncioCaller(ws)
            reader = asyncio.create_task(caller.read())
            await _timed(caller.call, 50, [])
            started = perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(in_flight):
                    group.create_task(_timed(caller.call, count // in_flight, delays))
            found = Calls(len(delays) / (perf_counter() - started), delays)
            reader.cancel()
            return found

    return asyncio.run(run())


def asyncio_items(url: str, count: int) -> float:
    """The same over bare `websockets`."""

    async def run() -> float:
        async with connect_websocket(url, compression=None) as ws:
            await ws.send(json.dumps({"requestId": 0, "data": {"method": "items", "count": count}}))
            started = perf_counter()
            for _ in range(count):
                json.loads(await ws.recv())
            return count / (perf_counter() - started)

    return asyncio.run(run())


def main() -> None:
    chosen = options(__doc__)
    rounds, calls, items = (1, 640, 20_000) if chosen.quick else (chosen.rounds, 6_400, 300_000)
    print_head("Peers", f"medians of {rounds} interleaved rounds of {calls} calls and {items} items")
    with running("tests.benchmarks.peer_server") as ours, running("tests.benchmarks.peer_server_asyncio") as others:
        urls = {**others, **ours}
        names: dict[str, tuple[str, Callable[[str, int, int], Calls], Callable[[str, int], float]]] = {
            "websockets on asyncio": ("asyncio-ws", asyncio_calls, asyncio_items),
            "peers over WebSockets": ("ws", peer_calls, peer_items),
            "peers over TCP": ("tcp", peer_calls, peer_items),
            "signal over WebSockets": (
                "ws",
                partial(peer_calls, dialect="signal"),
                partial(peer_items, dialect="signal"),
            ),
        }
        contestants = {name: row for name, row in names.items() if chosen.only in name}
        found: dict[str, list[tuple[list[Calls], float]]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, (key, call, take) in contestants.items():
                measured = [call(urls[key], in_flight, calls) for in_flight in FLIGHTS]
                found[name].append((measured, take(urls[key], items)))
    _show(found)


def _show(found: Mapping[str, list[tuple[list[Calls], float]]]) -> None:
    baseline = next(iter(found.values()))
    for index, in_flight in enumerate(FLIGHTS):
        rows: list[list[str]] = []
        for name, measured in found.items():
            rates = [calls[index].rate for calls, _ in measured]
            ratio = median([rate / base[index].rate for rate, (base, _) in zip(rates, baseline, strict=True)])
            against = median([calls[index].rate / calls[0].rate for calls, _ in measured])
            half, late = (median([percentile(c[index].delays, part) for c, _ in measured]) for part in (0.5, 0.99))
            row = [name, f"{median(rates):,.0f}/s", f"{ratio:.2f} x", f"{half * 1e6:,.0f} µs", f"{late * 1e6:,.0f} µs"]
            rows.append([*row, f"{against:.1f} x" + (" (target 4)" if in_flight > 1 else "")])
        print()
        print_table([f"calls, {in_flight} in flight", "rate", "ratio", "p50", "p99", "of one in flight"], rows)
    rows = []
    for name, measured in found.items():
        rates = [rate for _, rate in measured]
        ratio = median([rate / base for rate, (_, base) in zip(rates, baseline, strict=True)])
        target = "" if "asyncio" in name else "100,000/s" if "signal" in name else "200,000/s"
        rows.append([name, f"{median(rates):,.0f}/s", f"{ratio:.2f} x", target])
    print()
    print_table(["items", "rate", "ratio", "target"], rows)


if __name__ == "__main__":
    main()
