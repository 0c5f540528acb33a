"""What does a procedure cost over each carrier: a call, many calls at once, and items down and up?

One server in a process of its own, and the same router on all carriers. WebTransport and TLS are encrypted, TCP and WebSocket
are not. CPU is that of client and server together.

    python -m tests.benchmarks.bench_procedures [--quick] [--only WebTransport] [--rows call]
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from time import perf_counter, process_time
from typing import Final, TypeAlias

import attrs
import trio

from tests.benchmarks.child import apart, cpu_seconds, running
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from trio_streams.procedures.client import ConnectionClient
from trio_streams.procedures.router import Router
from trio_streams.urls import connect, serve
from trio_streams.webtransport.certificates import make_certificate

AT_ONCE: Final = 64
CARRIERS: Final[Mapping[str, str]] = {"TCP": "tcp", "TLS": "tls", "WebSocket": "ws", "WebTransport": "wt"}

router: Final = Router()


@router.call("echo")
async def echo(value: int) -> int:
    """A round trip."""
    return value


@router.stream("count")
async def count(number: int) -> AsyncIterator[int]:
    """Items down."""
    for value in range(number):
        yield value


@router.stream("take", direction="client")
async def take(items: AsyncIterable[int]) -> int:
    """Items up."""
    taken = 0
    async for _ in items:
        taken += 1
    return taken


async def serve_all() -> None:
    """Say the URLs, and serve until standard input ends."""
    with tempfile.TemporaryDirectory() as folder:
        make_certificate().write(folder)
        start = partial(serve, router, certfile=f"{folder}/cert.pem", keyfile=f"{folder}/key.pem")
        async with trio.open_nursery() as nursery:
            asked = [f"{scheme}://127.0.0.1:0" for scheme in CARRIERS.values()]
            urls: list[str] = await nursery.start(start, *asked)
            told = dict(zip(CARRIERS, urls, strict=True)) | {"pid": str(os.getpid())}
            print(json.dumps(told), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()


def _context(url: str) -> ssl.SSLContext | None:
    """A client that takes any certificate, where there is one."""
    if url.startswith(("tcp:", "ws:")):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# What is measured: each returns the seconds of single operations, or of all together.

Measure: TypeAlias = Callable[[ConnectionClient, int], Awaitable[list[float]]]


async def _calls(client: ConnectionClient, number: int) -> list[float]:
    seconds = []
    for _ in range(number):
        began = perf_counter()
        await client.call("echo", 1, returns=int)
        seconds.append(perf_counter() - began)
    return seconds


async def _calls_at_once(client: ConnectionClient, number: int) -> list[float]:
    async def call() -> None:
        for _ in range(number // AT_ONCE):
            await client.call("echo", 1, returns=int)

    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(call)
    return [(perf_counter() - began) / (number // AT_ONCE * AT_ONCE)]


async def _down(client: ConnectionClient, number: int) -> list[float]:
    received = 0
    began = perf_counter()
    async with client.stream("count", number, returns=int) as items:
        async for _ in items:
            received += 1
    assert received == number
    return [(perf_counter() - began) / number]


async def _up(client: ConnectionClient, number: int) -> list[float]:
    async def items() -> AsyncIterator[int]:
        for value in range(number):
            yield value

    began = perf_counter()
    assert await client.upload("take", items(), returns=int) == number
    return [(perf_counter() - began) / number]


@attrs.frozen
class Row:
    """One measurement.

    Attributes:
      name: to choose it by.
      title: what is shown.
      measure: does it, after a first time that warms up.
      number: of operations, and in a quick run.
    """

    name: str
    title: str
    measure: Measure
    number: int
    quick_number: int


ROWS: Final = (
    Row("call", "a call, one at a time", _calls, 500, 20),
    Row("at_once", f"a call, {AT_ONCE} at once", _calls_at_once, 20 * AT_ONCE, AT_ONCE),
    Row("down", "an item down, on one stream", _down, 20_000, 200),
    Row("up", "an item up, on one stream", _up, 20_000, 200),
)


@attrs.frozen
class Figures:
    """Seconds of an operation.

    Attributes:
      half: by the wall, the median where operations are measured one by one.
      late: the 99th percentile then.
      busy: CPU.
    """

    half: float
    late: float | None
    busy: float


def _measure(url: str, pid: int, row: Row, number: int) -> Figures:
    async def run() -> Figures:
        async with connect(url, ssl_context=_context(url)) as client:
            assert isinstance(client, ConnectionClient)
            await row.measure(client, max(AT_ONCE, number // 10))
            before = process_time() + cpu_seconds(pid)
            seconds = await row.measure(client, number)
            busy = process_time() + cpu_seconds(pid) - before
            late = percentile(seconds, 0.99) if len(seconds) > 1 else None
            return Figures(median(seconds), late, busy / number)

    return trio.run(run)


def _show(row: Row, found: Mapping[str, list[Figures]]) -> None:
    base = next(iter(found.values()))
    lines = []
    for name, figures in found.items():
        pairs = list(zip(figures, base, strict=True))
        late = [figure.late for figure in figures if figure.late is not None]
        lines.append(
            [
                name,
                f"{median([figure.half for figure in figures]) * 1e6:,.1f} µs",
                f"{median([mine.half / theirs.half for mine, theirs in pairs]):.2f} x",
                f"{median(late) * 1e6:,.1f} µs" if late else "",
                f"{median([figure.busy for figure in figures]) * 1e6:,.1f} µs",
            ]
        )
    print()
    print_table([row.title, "wall", "ratio", "p99", "CPU, both sides"], lines)


def main() -> None:
    """Measure and print."""
    if "--serve" in sys.argv:
        trio.run(serve_all)
        return
    chosen = options(__doc__, rows="only this row")
    rounds = 1 if chosen.quick else chosen.rounds
    print_head("Procedures over each carrier", f"medians of {rounds} interleaved rounds; ratios to the first row")
    names = [name for name in CARRIERS if chosen.only in name]
    with ExitStack() as stack:
        with apart():
            about = stack.enter_context(running("tests.benchmarks.bench_procedures", "--serve"))
        for row in ROWS:
            if chosen.rows not in row.name:
                continue
            number = row.quick_number if chosen.quick else row.number
            found: dict[str, list[Figures]] = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    found[name].append(_measure(about[name], int(about["pid"]), row, number))
            _show(row, found)


if __name__ == "__main__":
    main()
