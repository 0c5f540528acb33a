"""How fast are items inside one process, beside Trio's own memory channel and asyncio.Queue?

One task produces, another consumes. The baseline is the bare memory channel with one `await send` and one
`await receive` an item; ratios are taken within each round, where every contestant runs once, and the median is shown.

    python tests/benchmarks/bench_inprocess.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

import trio

from trio_streams.streams.local import open_stream

MARKS = (0, 1, 16, 1024)


async def bare_channel(mark: int, count: int) -> float:
    send, receive = trio.open_memory_channel[int](mark)

    async def produce() -> None:
        for number in range(count):
            await send.send(number)

    started = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        for _ in range(count):
            await receive.receive()
    return perf_counter() - started


async def nowait_channel(mark: int, count: int) -> float:
    """What a memory channel gives at best: a few schedule points only, no cancel check per item, no pace."""
    send, receive = trio.open_memory_channel[int](mark)

    async def produce() -> None:
        for number in range(count):
            try:
                send.send_nowait(number)
            except trio.WouldBlock:
                await send.send(number)

    started = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        for _ in range(count):
            try:
                receive.receive_nowait()
            except trio.WouldBlock:
                await receive.receive()
    return perf_counter() - started


async def ours_in_runs(mark: int, count: int) -> float:
    started = perf_counter()
    async with open_stream[int](high_water_mark=mark) as stream, trio.open_nursery() as nursery:

        async def produce() -> None:
            await stream.send_many(range(count))
            stream.end()

        nursery.start_soon(produce)
        async for _ in stream:
            pass
    return perf_counter() - started


async def ours_by_items(mark: int, count: int) -> float:
    started = perf_counter()
    async with open_stream[int](high_water_mark=mark) as stream, trio.open_nursery() as nursery:

        async def produce() -> None:
            for number in range(count):
                await stream.send(number)
            stream.end()

        nursery.start_soon(produce)
        async for _ in stream:
            pass
    return perf_counter() - started


async def ours_received_in_runs(mark: int, count: int) -> float:
    started = perf_counter()
    async with open_stream[int](high_water_mark=mark) as stream, trio.open_nursery() as nursery:

        async def produce() -> None:
            await stream.send_many(range(count))
            stream.end()

        nursery.start_soon(produce)
        received = 0
        while received < count:
            received += len(await stream.receive_many())
    return perf_counter() - started


async def asyncio_queue(mark: int, count: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(mark)

    async def produce() -> None:
        for number in range(count):
            await queue.put(number)

    started = perf_counter()
    task = asyncio.create_task(produce())
    for _ in range(count):
        await queue.get()
    await task
    return perf_counter() - started


CONTESTANTS: tuple[tuple[str, Callable[[int, int], Awaitable[float]]], ...] = (
    ("trio channel, await send/receive", bare_channel),
    ("trio channel, nowait until it blocks", nowait_channel),
    ("asyncio.Queue, await put/get", asyncio_queue),
    ("ours, send + async for", ours_by_items),
    ("ours, send_many + async for", ours_in_runs),
    ("ours, send_many + receive_many", ours_received_in_runs),
)


def run(contestant: Callable[[int, int], Awaitable[float]], mark: int, count: int) -> float:
    if contestant is asyncio_queue:
        return asyncio.run(asyncio_queue(mark, count))
    return trio.run(contestant, mark, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer items and rounds")
    options = parser.parse_args()
    count, rounds = (20_000, 5) if options.quick else (100_000, 7)
    print(f"Python {platform.python_version()}, trio {trio.__version__}, {platform.machine()}, {sys.platform}")
    print(f"{count} integers, one producer, one consumer, median of {rounds} interleaved rounds")
    print(f"{'':38}" + "".join(f"{f'mark {mark}':>20}" for mark in MARKS))
    rows: dict[str, str] = {name: "" for name, _ in CONTESTANTS}
    for mark in MARKS:
        rates: dict[str, list[float]] = {name: [] for name, _ in CONTESTANTS}
        ratios: dict[str, list[float]] = {name: [] for name, _ in CONTESTANTS}
        for _ in range(rounds):
            for name, contestant in CONTESTANTS:
                # asyncio reads a maximum of 0 as "no limit", which is no rendezvous: left out.
                if contestant is asyncio_queue and mark == 0:
                    continue
                rates[name].append(count / run(contestant, mark, count))
                ratios[name].append(rates[name][-1] / rates[CONTESTANTS[0][0]][-1])
        for name, measured in rates.items():
            cell = "-"
            if measured:
                cell = f"{statistics.median(measured) / 1e3:,.0f} k/s {statistics.median(ratios[name]):5.1f} x"
            rows[name] += f"{cell:>20}"
    for name, row in rows.items():
        print(f"{name:38}{row}")


if __name__ == "__main__":
    main()
