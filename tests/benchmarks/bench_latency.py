"""How long is an item on its way from one process to another?

The server stamps each item when it makes it and sends one a millisecond; the client looks at the same clock
(CLOCK_MONOTONIC, which on Linux all processes share) when it has it. Unloaded, nothing else goes on; loaded, another
stream on the same connection sends small items as fast as it can. Call is a round trip of one small call, one at a time.

    python -m tests.benchmarks.bench_latency [--quick] [--only NAME]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final

import trio

from tests.benchmarks.child import running
from tests.benchmarks.clients import CONTESTANTS, Contestant, asyncio_delays, read_delays
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from tests.benchmarks.work import Work
from trio_streams.urls import CarrierName, connect

ASYNCIO: Final = "websockets on asyncio, one message an item"
TARGETS: Final[Mapping[tuple[str, int], str]] = {("TCP, send_many / async for", 16): "p50 150 µs"}

_INTERVAL: Final = 0.001
_SIZES: Final = (16, 1_024)
_ENDLESS: Final = 1 << 30

Delays = Callable[[], list[float]]


def show(title: str, contestants: Mapping[str, Delays], *, rounds: int, size: int) -> None:
    """One table; each figure is the median of the rounds' percentiles, and ratios are to the first row's p50."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            delays = measure()
            found[name].append((percentile(delays, 0.5), percentile(delays, 0.99)))
    rows: list[list[str]] = []
    baseline = [half for half, _ in next(iter(found.values()))]
    for name, pairs in found.items():
        half, late = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
        ratio = median([pair[0] / bare for pair, bare in zip(pairs, baseline, strict=True)])
        target = TARGETS.get((name, size), "") if "unloaded" in title else ""
        rows.append([name, f"{half * 1e6:,.0f} µs", f"{ratio:.2f} x", f"{late * 1e6:,.0f} µs", target])
    print()
    print_table([title, "p50", "ratio", "p99", "target"], rows)


def _one_way(urls: Mapping[str, str], contestant: Contestant, work: Work, load: Work | None) -> list[float]:
    return trio.run(partial(read_delays, contestant, urls[contestant.url], work, load=load))


def call_delays(url: str, count: int, carrier: CarrierName) -> list[float]:
    """Seconds of each of some calls, one at a time on one connection."""

    async def call() -> list[float]:
        delays: list[float] = []
        async with connect(url, carrier=carrier) as client:
            for _ in range(count):
                started = perf_counter()
                await client.call("echo", 1, returns=int)
                delays.append(perf_counter() - started)
        return delays[count // 10 :]

    return trio.run(call)


def echo_delays(url: str, count: int) -> list[float]:
    """The same over a bare socket: 16 bytes there and back."""

    async def echo() -> list[float]:
        delays: list[float] = []
        host, _, port = url.removeprefix("tcp://").partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(bytes(16))  # a request for 0 items asks for echoes
            for _ in range(count):
                started = perf_counter()
                await stream.send_all(bytes(16))
                await stream.receive_some(16)
                delays.append(perf_counter() - started)
        return delays[count // 10 :]

    return trio.run(echo)


def main() -> None:
    chosen = options(__doc__)
    rounds, count = (1, 30) if chosen.quick else (chosen.rounds, 300)
    print_head(
        "Latency between two processes", f"medians of {rounds} interleaved rounds of {count} items or calls each"
    )
    # Only the streams of one connection have a neighbour; runs and single items are the same here.
    alone = [c for c in CONTESTANTS if chosen.only in c.name and c.url != "raw-http" and not c.takes_runs]
    alone = [c for c in alone if c.url != "bare-coalesced"]
    shared = [c for c in alone if c.has_window and c.url != "http"]
    with running("tests.benchmarks.server") as ours, running("tests.benchmarks.server_asyncio") as others:
        urls = {**ours, **others}
        for size in _SIZES:
            work = Work(count, size, _INTERVAL)
            unloaded: dict[str, Delays] = {c.name: partial(_one_way, urls, c, work, None) for c in alone}
            if chosen.only in ASYNCIO:
                unloaded[ASYNCIO] = partial(asyncio_delays, urls, work)
            show(f"one way, {size} B, unloaded", unloaded, rounds=rounds, size=size)
        work = Work(count, 16, _INTERVAL)
        loaded: dict[str, Delays] = {c.name: partial(_one_way, urls, c, work, Work(_ENDLESS, 16)) for c in shared}
        if loaded:
            show("one way, 16 B, beside a busy stream", loaded, rounds=rounds, size=16)
        calls: dict[str, Delays] = {
            "bare Trio TCP, 16 B there and back": partial(echo_delays, urls["bare"], count),
            "TCP, call": partial(call_delays, urls["tcp"], count, "websockets"),
            "WebSocket, call": partial(call_delays, urls["ws"], count, "websockets"),
            "trio-websocket carrier, call": partial(call_delays, urls["trio-ws"], count, "trio-websocket"),
            "HTTP (hypercorn), call": partial(call_delays, urls["http"], count, "websockets"),
        }
        show("call, round trip", {n: m for n, m in calls.items() if chosen.only in n}, rounds=rounds, size=16)


if __name__ == "__main__":
    main()
