"""How many server-sent events a second does a client read, and what does the connection under it cost?

One server process writes the same bytes to every client: full chunks, as a server that joins what waits writes them; and a
chunk for each event, as one does that flushes each. The client is one process: httpx2 by lines (what one writes without
a parser), httpx2's own `EventSource`, ours with and without ids, our parser alone over httpcore2 and over a bare socket,
which shows what the HTTP library costs.

On cores that others use, too, the ratios are those of the client's CPU time.

    python -m tests.benchmarks.bench_sse_client [--quick] [--only NAME]
    python -m tests.benchmarks.bench_sse_client --serve
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter, process_time
from typing import Final

import httpx2
import trio

from tests.benchmarks.child import running
from tests.benchmarks.table import median, options, print_head, print_table
from trio_streams.transports.event_source import open_event_source
from trio_streams.transports.http_client import HttpClient
from trio_streams.wire.sse import SseParser, encode_event

TARGET: Final = 5
_DATA: Final = b'{"timestamp":"2024-01-01T00:00:00Z","level":"error","message":"something happened"}'
_WRITE_EVENTS: Final = 500

SHAPES: Final = {
    "joined": "500 events to a chunk",
    "joined-ids": "500 events with ids to a chunk",
    "single": "one event to a chunk",
    "single-ids": "one event with an id to a chunk",
}

Read = Callable[[str], Awaitable[int]]


async def _answer(stream: trio.SocketStream) -> None:
    """`GET /<shape>/<events>`: that many events in chunks of that shape."""
    async with stream:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = await stream.receive_some()
            if not chunk:
                return
            received += chunk
        _, shape, count = received.split(b" ")[1].decode().split("/")
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        # The server's cost must not be in the figures, so it sends the same bytes again and again.
        run = _chunks(shape)
        for _ in range(int(count) // _WRITE_EVENTS):
            await stream.send_all(run)
        await stream.send_all(b"0\r\n\r\n")


def _chunks(shape: str) -> bytes:
    ids = [str(1_000_000 + i) if "ids" in shape else None for i in range(_WRITE_EVENTS)]
    events = [encode_event(_DATA, id=event_id) for event_id in ids]
    if "joined" in shape:
        events = [b"".join(events)]
    return b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events])


async def serve() -> None:
    """The server's process."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, _answer, 0, host="127.0.0.1"))
        print(json.dumps({"http": f"http://127.0.0.1:{listener.socket.getsockname()[1]}"}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def httpx_lines(url: str) -> int:
    """What one writes by hand: lines, and an event at each empty one. It keeps the data only."""
    count = 0
    async with httpx2.AsyncClient(timeout=None) as client, client.stream("GET", url) as response:
        data: list[str] = []
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                count += bool("\n".join(data))
                data.clear()
    return count


async def httpx_events(url: str) -> int:
    count = 0
    async with httpx2.AsyncClient(timeout=None) as client, client.stream("GET", url) as response:
        async for event in httpx2.EventSource(response):
            count += bool(event.data)
    return count


async def ours(url: str) -> int:
    count = 0
    expected = int(url.rpartition("/")[2])
    async with open_event_source(url) as events:
        async for event in events:
            count += bool(event.data)
            if count == expected:
                break  # it would connect again
    return count


async def ours_in_runs(url: str) -> int:
    count = 0
    expected = int(url.rpartition("/")[2])
    async with open_event_source(url) as events:
        while count < expected:
            count += sum(bool(event.data) for event in await events.receive_many(256))
    return count


async def parser_on_httpcore(url: str) -> int:
    parser = SseParser()
    count = 0
    async with HttpClient() as http, http.open_exchange("GET", url) as exchange:
        async for chunk in exchange:
            count += len(parser.receive(chunk))
    return count


CONTESTANTS: Final[dict[str, Read]] = {
    "httpx2, by lines": httpx_lines,
    "httpx2.EventSource": httpx_events,
    "open_event_source": ours,
    "open_event_source, in runs": ours_in_runs,
    "SseParser over httpcore2": parser_on_httpcore,
}


def measure(read: Read, url: str) -> tuple[float, float]:
    """Events a second of the wall, and of the client's CPU."""
    expected = int(url.rpartition("/")[2])
    started, busy = perf_counter(), process_time()
    count = trio.run(read, url)
    seconds, busy = perf_counter() - started, process_time() - busy
    assert count == expected, f"{count} of {expected} events"
    return expected / seconds, expected / busy


def main() -> None:
    chosen = options(__doc__)
    rounds = 1 if chosen.quick else chosen.rounds
    number = 2_000 if chosen.quick else 100_000
    print_head("Events a second of an SSE client", f"{number} events of {len(_DATA)} bytes each, median of {rounds}")
    with running("tests.benchmarks.bench_sse_client", "--serve") as urls:
        for shape in SHAPES:
            names = [name for name in CONTESTANTS if chosen.only in name]
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    figures[name].append(measure(CONTESTANTS[name], f"{urls['http']}/{shape}/{number}"))
            _print(shape, figures)


def _print(shape: str, figures: dict[str, list[tuple[float, float]]]) -> None:
    speeds = {name: [median(column) for column in zip(*values, strict=True)] for name, values in figures.items()}
    rows = []
    for name, (wall, cpu) in speeds.items():
        ratios = [f"{cpu / peer[1]:.1f} x" for key, peer in speeds.items() if key.startswith("httpx2")]
        rows.append((name, f"{wall:,.0f}", f"{cpu:,.0f}", *ratios))
    print(f"\n{SHAPES[shape]}")
    peers = [f"of {name}" for name in speeds if name.startswith("httpx2")]
    print_table(("", "events/s", "events/s of CPU", *peers), rows)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        trio.run(serve)
    else:
        main()
