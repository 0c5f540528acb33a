"""How fast are items of 100 B over TLS, beside Trio's own TLS stream and one `send_all` an item?

Both sides run in one process, over sockets on loopback. The baseline writes each item by itself, as a program without a
driver does; a stream's driver joins what is ready into one write. Bulk is 64 KiB a write, carrier against stream.

    python -m tests.benchmarks.bench_tls [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

import trio

from tests.benchmarks.table import interleaved, median, options, print_head, print_table
from tests.transports.carrier_checks import open_socket_pair, two
from tests.transports.more_links import client_trust, open_tls_pair, server_tls
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.streams.wire import WireStream

ITEM = b"x" * 100
CHUNK = b"x" * 65_536

_Run = Callable[[], Awaitable[float]]


async def _trios(data: bytes, count: int) -> float:
    async with open_socket_pair() as (left, right):
        near = trio.SSLStream(left, client_trust(), server_hostname="127.0.0.1")
        far = trio.SSLStream(right, server_tls(), server_side=True)
        await two(near.do_handshake, far.do_handshake)

        async def send() -> None:
            for _ in range(count):
                await near.send_all(data)

        started = perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            left_over = count * len(data)
            while left_over:
                left_over -= len(await far.receive_some(65_536))
        return count / (perf_counter() - started)


async def _carrier(data: bytes, count: int) -> float:
    async with open_tls_pair() as (near, far, _):

        async def send() -> None:
            for _ in range(count):
                await near.send(data)

        started = perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            left_over = count * len(data)
            while left_over:
                left_over -= len(await far.receive())
        return count / (perf_counter() - started)


async def _stream(data: bytes, count: int) -> float:
    elapsed = 0.0
    done = trio.Event()

    async def consume(stream: WireStream[bytes, bytes]) -> None:
        async for _ in stream:
            pass
        done.set()

    def prepare(stream: WireStream[bytes, bytes]) -> Handler:
        return consume

    async with open_tls_pair() as (near, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(run_server, far, prepare)
        async with run_client(near) as connection:
            started = perf_counter()
            async with connection.open_stream("bench") as stream:
                for _ in range(count):
                    await stream.send(data)
                stream.end()
                await done.wait()
            elapsed = perf_counter() - started
        nursery.cancel_scope.cancel()
    return count / elapsed


def _measure(run: Callable[[bytes, int], Awaitable[float]], data: bytes, count: int) -> Callable[[], float]:
    return lambda: trio.run(partial(run, data, count))


def main() -> int:
    """Measure and print."""
    arguments = options(__doc__)
    count, chunks, rounds = (500, 50, 1) if arguments.quick else (30_000, 3_000, arguments.rounds)
    print_head(
        "TLS",
        f"{count} items of {len(ITEM)} B, {chunks} writes of {len(CHUNK)} B, median of {rounds} rounds; here both sides are one process",
    )
    for title, data, number, contestants in (
        ("100 B items", ITEM, count, {"trio.SSLStream": _trios, "our carrier": _carrier, "our stream": _stream}),
        ("64 KiB", CHUNK, chunks, {"trio.SSLStream": _trios, "our carrier": _carrier}),
    ):
        measured = interleaved({name: _measure(run, data, number) for name, run in contestants.items()}, rounds)
        base = measured["trio.SSLStream"]
        rows = [
            (name, f"{median(rates):,.0f}", f"{median(rates) * len(data) / 1e6:,.1f}", f"{_ratio(rates, base):.1f} x")
            for name, rates in measured.items()
        ]
        print_table((title, "writes/s", "MB/s", "of trio's"), rows)
    return 0


def _ratio(rates: list[float], base: list[float]) -> float:
    return median([rate / one for rate, one in zip(rates, base, strict=True)])


if __name__ == "__main__":
    sys.exit(main())
