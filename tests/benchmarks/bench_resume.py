"""What does it cost to be able to resume, and how long does it take?

Three questions: what a session's retention takes from the throughput of small items, over TCP and WebSockets, with and
without it in turns; how long two machines take to bring 10,000 unacknowledged items across after a loss; and how long it
takes until 500 clients that all lost their connections at once have had a call answered again.

    python -m tests.benchmarks.bench_resume [--quick]
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from time import perf_counter, process_time
from typing import Final

import trio

from tests.benchmarks.child import cpu_seconds, running
from tests.benchmarks.table import median, options, print_head, print_table
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions, StreamLimits
from trio_streams.connection import Connection
from trio_streams.core.flow import cost
from trio_streams.core.session import Session
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.errors import StreamsError
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.client import run_resuming_client
from trio_streams.resuming.sessions import Sessions
from trio_streams.streams.wire import WireStream
from trio_streams.testing.peers import FragileCarrier
from trio_streams.transports.bytes import ByteCarrier, connect_tcp
from trio_streams.transports.messages import accept_websocket, connect_websocket
from trio_streams.wire.binary import BinaryWire

ITEM: Final = b"x" * 16
UNACKNOWLEDGED_ITEMS: Final = 10_000
CARRIERS: Final = ("TCP", "WebSocket")


# The server


async def _serve_stream(stream: WireStream[bytes, bytes]) -> None:
    """Read what comes up, and say how many items it was; that is a call's answer, too."""
    count = 0
    async for _ in stream:
        count += 1
    await stream.send(str(count).encode())


def _prepare(stream: WireStream[bytes, bytes]) -> Handler:
    return _serve_stream


async def _run_session(carrier: ResumingCarrier) -> None:
    await run_server(
        carrier,
        _prepare,
        make_machine=lambda: carrier.machine,
        on_connection=lambda connection: carrier.drive(connection.kick),
    )


async def _serve(carriers: str, sessions: Sessions | None, stream: trio.SocketStream) -> None:
    with suppress(StreamsError):
        carrier: Carrier = ByteCarrier(stream) if carriers == "TCP" else await accept_websocket(stream)
        if sessions is None:
            await run_server(carrier, _prepare)
        else:
            await sessions.serve(carrier, await sessions.receive_offer(carrier), None, _run_session)


async def _run_server() -> None:
    async with trio.open_nursery() as nursery:
        sessions = Sessions(ResumeOptions(), ConnectionConfig(), nursery)
        about = {"pid": str(os.getpid())}
        for carriers in CARRIERS:
            for name, kept in (("off", None), ("on", sessions)):
                serve = partial(_serve, carriers, kept)
                (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1", backlog=2_000))
                about[f"{carriers} {name}"] = str(listener.socket.getsockname()[1])
        print(json.dumps(about), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


# The clients

_Measure = Callable[[str, str, int, int, int], Awaitable[tuple[float, float]]]


@asynccontextmanager
async def _open(carriers: str, port: int, opened: list[FragileCarrier]) -> AsyncIterator[Carrier]:
    carrier: Carrier
    if carriers == "TCP":
        carrier = await connect_tcp("127.0.0.1", port)
    else:
        carrier = await connect_websocket(f"ws://127.0.0.1:{port}/")
    opened.append(FragileCarrier(carrier))
    yield opened[-1]


@asynccontextmanager
async def _connect(carriers: str, name: str, port: int) -> AsyncGenerator[Connection, None]:
    connecting: AbstractAsyncContextManager[Connection]
    if name == "on":

        @asynccontextmanager
        async def open_carrier() -> AsyncIterator[Carrier]:
            if carriers == "TCP":
                yield await connect_tcp("127.0.0.1", port)
            else:
                yield await connect_websocket(f"ws://127.0.0.1:{port}/")

        connecting = run_resuming_client(open_carrier)
    elif carriers == "TCP":
        connecting = run_client(await connect_tcp("127.0.0.1", port))
    else:
        connecting = run_client(await connect_websocket(f"ws://127.0.0.1:{port}/"))
    async with connecting as connection:
        yield connection


async def _ask(connection: Connection, count: int) -> None:
    async with connection.open_stream("count") as stream:
        for _ in range(count):
            await stream.send(ITEM)
        stream.end()
        assert await stream.receive() == str(count).encode()


async def _timed(pid: int, work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Seconds by the wall, and of both processes' CPUs."""
    started, busy = perf_counter(), cpu_seconds(pid) + process_time()
    await work()
    return perf_counter() - started, cpu_seconds(pid) + process_time() - busy


async def _upload(carriers: str, name: str, port: int, pid: int, count: int) -> tuple[float, float]:
    """How long `count` items on one stream take."""
    async with _connect(carriers, name, port) as connection:
        await _ask(connection, count // 10)
        return await _timed(pid, lambda: _ask(connection, count))


async def _calls(carriers: str, name: str, port: int, pid: int, count: int) -> tuple[float, float]:
    """How long `count` calls take, one after the other."""
    async with _connect(carriers, name, port) as connection:
        await _ask(connection, 1)

        async def ask() -> None:
            for _ in range(count):
                await _ask(connection, 1)

        return await _timed(pid, ask)


async def _come_back(port: int, count: int) -> float:
    """Seconds from the loss of all connections until each client has had an answer."""
    opened: list[FragileCarrier] = []
    at_once = ReconnectOptions(initial_delay=0.001)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED) -> None:
            async with run_resuming_client(partial(_open, "TCP", port, opened), reconnect=at_once) as connection:
                task_status.started(connection)
                await trio.sleep_forever()

        connections = [await nursery.start(run) for _ in range(count)]
        started = perf_counter()
        for carrier in tuple(opened):
            carrier.lose()
        async with trio.open_nursery() as asking:
            for connection in connections:
                asking.start_soon(_ask, connection, 1)
        elapsed = perf_counter() - started
        assert all(connection.statistics().resumes == 1 for connection in connections)
        nursery.cancel_scope.cancel()
    return elapsed


def _replay(*, is_packed: bool) -> float:
    """Seconds of CPU until what was lost with a carrier has come over another one; both machines are in this process."""
    limits = StreamLimits(window_items=UNACKNOWLEDGED_ITEMS, window_bytes=1 << 24)
    config = ConnectionConfig(stream=limits)
    client, server = (
        Session(
            BinaryWire(),
            is_client=is_client,
            config=config,
            session_id=secrets.token_hex(16),
            max_retained_bytes=1 << 24,
            now=0.0,
        )
        for is_client in (True, False)
    )
    _pass_on(client, server)
    stream = client.open("replay")
    for _ in range(UNACKNOWLEDGED_ITEMS):
        client.send(stream, [ITEM])
        if not is_packed:
            client.to_send(0.0, 1)
    while client.has_output:
        client.to_send(0.0, 69_632)
    started = process_time()
    for side in (client, server):
        side.detach()
        side.attach(0.0)
    _pass_on(client, server)
    elapsed = process_time() - started
    assert server.unread_bytes == cost([ITEM] * UNACKNOWLEDGED_ITEMS)
    return elapsed


def _pass_on(client: Session, server: Session) -> None:
    while client.has_output or server.has_output:
        server.receive(client.to_send(0.0, 69_632), 0.0)
        client.receive(server.to_send(0.0, 69_632), 0.0)


def _compare(
    about: Mapping[str, str], carriers: str, title: str, measure: _Measure, count: int, rounds: int
) -> list[str]:
    """A row: with and without in turns, and the medians of each round's own ratio."""
    took: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
    for _ in range(rounds):
        for name, found in took.items():
            port, pid = int(about[f"{carriers} {name}"]), int(about["pid"])
            found.append(trio.run(measure, carriers, name, port, pid, count))
    rates = [count / median([wall for wall, _ in found]) for found in took.values()]
    ratios = [[on[i] / max(off[i], 0.01) for off, on in zip(*took.values(), strict=True)] for i in (0, 1)]
    return [f"{carriers}, {title}", *(f"{rate:,.0f}" for rate in rates), *(f"{median(r) - 1:.1%}" for r in ratios)]


def main() -> int:
    """Measure and print."""
    if "--serve" in sys.argv:
        trio.run(_run_server)
        return 0
    chosen = options(__doc__)
    items, calls, clients, rounds = (2_000, 50, 20, 1) if chosen.quick else (100_000, 1_500, 500, chosen.rounds)
    print_head("Resuming", f"medians of {rounds} rounds, with and without retention in turns")
    with running("tests.benchmarks.bench_resume", "--serve") as about:
        print_table(
            ["", "without", "with resume", "cost by the wall", "by both CPUs"],
            [
                _compare(about, carriers, title, measure, count, rounds)
                for carriers in CARRIERS
                for title, measure, count in (("16 B items/s", _upload, items), ("calls/s", _calls, calls))
            ],
        )
        print()
        back = [trio.run(_come_back, int(about["TCP on"]), clients) for _ in range(rounds)]
    replays = {
        "packed in runs": [_replay(is_packed=True) for _ in range(rounds)],
        "one write each": [_replay(is_packed=False) for _ in range(rounds)],
    }
    print_table(
        ["", "ms"],
        [
            *([f"10,000 items replayed, {name}", f"{median(took) * 1e3:,.1f}"] for name, took in replays.items()),
            [f"{clients} clients back at once, each answered", f"{median(back) * 1e3:,.0f}"],
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
