"""How long until a handler that waits for something notices that its caller has left?

The client leaves a stream whose handler sleeps; the handler looks at the clock in its `finally`, and the client at the same
clock (CLOCK_MONOTONIC, which on Linux all processes share) when it leaves. `cancel` leaves the stream's block, `cut` closes
the connection.

    python -m tests.benchmarks.bench_cancel [--quick] [--only NAME]
    python -m tests.benchmarks.bench_cancel --serve
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Final

import trio

from tests.benchmarks.child import running
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from trio_streams import Router, connect, serve

URLS: Final = {
    "TCP": ("tcp", ("tcp://127.0.0.1:0",), "hypercorn"),
    "WebSocket": ("ws", ("ws://127.0.0.1:0",), "hypercorn"),
    "SSE, lean host": ("lean", ("http://127.0.0.1:0",), "lean"),
    "SSE, hypercorn": ("hypercorn", ("http://127.0.0.1:0",), "hypercorn"),
}

app = Router()
_left: dict[str, float] = {}


@app.stream("wait")
async def wait(name: str) -> AsyncIterator[int]:
    """One item, and then nothing for ever."""
    try:
        yield 1
        await trio.sleep_forever()
    finally:
        _left[name] = perf_counter()


@app.call("left")
async def left(name: str) -> float:
    """When a stream's handler noticed."""
    while name not in _left:  # noqa: ASYNC110 - an event would be set by the very thing that is measured
        await trio.sleep(0.0005)
    return _left.pop(name)


async def serve_all() -> None:
    """The server's process."""
    async with trio.open_nursery() as nursery:
        urls: dict[str, str] = {}
        for key, wanted, host in URLS.values():
            (urls[key],) = await nursery.start(partial(serve, app, *wanted, host=host))  # type: ignore[arg-type]
        print(json.dumps(urls), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def measure(url: str, asked: str, count: int, *, is_cut: bool) -> list[float]:
    """Seconds from leaving to noticing, for each of some streams.

    Args:
      url: where the streams are.
      asked: where the server is asked for its times.
      count: how many streams, one after the other.
      is_cut: whether each has a connection of its own, which is closed.
    """
    delays: list[float] = []
    async with AsyncExitStack() as stack:
        times = await stack.enter_async_context(connect(asked))
        shared = None if is_cut else await stack.enter_async_context(connect(url))
        for number in range(count):
            name = f"{url} {is_cut} {number}"
            async with AsyncExitStack() as own:
                client = shared if shared is not None else await own.enter_async_context(connect(url))
                async with client.stream("wait", name) as items:
                    await items.receive()
                    await trio.sleep(0.001)
                    gone = perf_counter()
            delays.append(await times.call("left", name, returns=float) - gone)
    return delays[count // 10 :]


def main() -> None:
    if "--serve" in sys.argv:
        trio.run(serve_all)
        return
    chosen = options(__doc__)
    rounds, count = (1, 20) if chosen.quick else (chosen.rounds, 300)
    print_head("From leaving a stream to its handler's finally", f"medians of {rounds} interleaved rounds of {count}")
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    with running("tests.benchmarks.bench_cancel", "--serve") as urls:
        for _ in range(rounds):
            for name, (key, _, _) in URLS.items():
                for is_cut in (False, True):
                    if chosen.only in name:
                        delays = trio.run(partial(measure, urls[key], urls["tcp"], count, is_cut=is_cut))
                        pair = (percentile(delays, 0.5), percentile(delays, 0.99))
                        found.setdefault((name, is_cut), []).append(pair)
    rows = [
        [
            name,
            "the connection is closed" if is_cut else "the stream is left",
            *(f"{median([pair[i] for pair in pairs]) * 1e6:,.0f} µs" for i in (0, 1)),
        ]
        for (name, is_cut), pairs in found.items()
    ]
    print_table(["", "", "p50", "p99"], rows)


if __name__ == "__main__":
    main()
