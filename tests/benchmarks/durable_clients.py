"""The Python contestants of `bench_durable_client`: `python -m tests.benchmarks.durable_clients CLIENT JOB URL COUNT`.

Prints one line of JSON: the seconds that the job took, those that this process computed, and its peak of memory in MiB.
`read` and `tail` are of a stream with COUNT messages, caught up with and as server-sent events; `append` writes COUNT of
them, a hundred tasks one after the other each; `produce` writes them with an idempotent producer.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter, process_time
from typing import Any, Final

import trio

MESSAGE: Final = {"n": 100_000, "level": "info", "message": "something has happened that is worth a line"}
WRITERS: Final = 100


async def read(library: Any, url: str, count: int, live: bool | str) -> None:  # noqa: ANN401 - either library
    seen = 0
    async with library.astream(url, offset="-1", live=live) as response:
        async for _ in response.iter_json():
            seen += 1
            if seen == count:
                break
    assert seen == count, f"{seen} of {count} messages"


async def append(library: Any, gather: Callable[..., Awaitable[None]], url: str, count: int) -> None:  # noqa: ANN401
    handle = library.AsyncDurableStream(url, content_type="application/json")

    async def write() -> None:
        for _ in range(count // WRITERS):
            await handle.append(MESSAGE)

    async with handle:
        await gather(*(write for _ in range(WRITERS)))


def read_blocking(library: Any, url: str, count: int, live: bool | str) -> None:  # noqa: ANN401
    seen = 0
    with library.stream(url, offset="-1", live=live) as response:
        for _ in response.iter_json():
            seen += 1
            if seen == count:
                break
    assert seen == count, f"{seen} of {count} messages"


async def _gather_trio(*functions: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)


async def _gather_asyncio(*functions: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(function() for function in functions))


def run(library: Any, client: str, job: str, url: str, count: int) -> None:  # noqa: ANN401
    name, _, kind = client.partition("-")
    live = "sse" if job == "tail" else False
    if kind == "blocking":
        read_blocking(library, url, count, live)
    elif job in ("read", "tail"):
        _run(name, partial(read, library, url, count, live))
    elif job == "append":
        gather = _gather_trio if name == "ours" else _gather_asyncio
        _run(name, partial(append, library, gather, url, count))
    else:
        _run(name, partial(produce, library, url, count))


async def produce(library: Any, url: str, count: int) -> None:  # noqa: ANN401
    handle = library.AsyncDurableStream(url, content_type="application/json")
    async with handle, library.IdempotentProducer(handle, "producer") as producer:
        for _ in range(count):
            await producer.append(MESSAGE)


def _run(name: str, function: Callable[[], Awaitable[None]]) -> None:
    if name == "ours":
        trio.run(function)
    else:
        asyncio.run(function())  # type: ignore[arg-type]


if __name__ == "__main__":
    chosen_client, chosen_job, chosen_url, chosen_count = sys.argv[1:]
    chosen = importlib.import_module("trio_streams.durable" if chosen_client.startswith("ours") else "durable_streams")
    began, busy = perf_counter(), process_time()
    run(chosen, chosen_client, chosen_job, chosen_url, int(chosen_count))
    figures = {
        "seconds": perf_counter() - began,
        "busy": process_time() - busy,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
    }
    print(json.dumps(figures))
