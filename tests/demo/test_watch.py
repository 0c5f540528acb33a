"""What the view knows of the live streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.connection import Connection
from trio_streams.demo.watch import OWN, Watch
from trio_streams.driver import run_client, run_server
from trio_streams.procedures.client import ConnectionClient
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.streams.local import LocalStream, open_stream
from trio_streams.transports.memory import memory_carrier_pair

app = Router()


@app.stream("numbers")
async def numbers() -> AsyncIterator[int]:
    for number in range(1_000):
        yield number


async def test_own_streams_are_seen_from_their_client_and_others_from_the_server(autojump_clock: MockClock) -> None:
    """A stream of the demo's is one row, with its queue; a stranger's is one row, held while its reader is slow."""
    watch = Watch()
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(run_server, right, partial(prepare, app), transport="tcp", on_connection=watch.connected)
        )
        async with run_client(left) as connection:
            client = ConnectionClient(connection)
            async with (
                client.stream("numbers", metadata=OWN, high_water_mark=16) as own,
                client.stream("numbers", metadata={"demo": "other"}, high_water_mark=8),
            ):
                with watch.own("tcp", "numbers", own):
                    await wait_all_tasks_blocked()
                    mine, other = watch.rows(0.0)
                    assert (mine.who, mine.window, mine.queue, mine.into, mine.items) == ("demo", 16, 16, "open", 0)
                    assert (other.queue, other.window, other.items, other.is_held) == (None, 0, 8, True)
                    assert (other.transport, other.who != "demo") == ("tcp", True)
                    assert [await own.receive() for _ in range(12)] == list(range(12))
                    await wait_all_tasks_blocked()
                    later = watch.rows(2.0)[0]
                    assert (later.items, later.rate) == (12, 6.0)
                assert [row.who for row in watch.rows(3.0)] == [other.who]
    assert watch.rows(4.0) == []


async def test_an_sse_stream_counts_each_item_once() -> None:
    """Behind it is a stream within the process, which sees each item twice."""
    watch = Watch()
    opened: AbstractAsyncContextManager[LocalStream[str]] = open_stream()
    async with opened as stream:
        await stream.send("x")
        assert await stream.receive() == "x"
        with watch.own("sse", "logs.tail", stream):
            (row,) = watch.rows(0.0)
            assert (row.items, row.out, row.into, row.size) == (1, "-", "open", None)


async def test_connections_that_are_over_are_forgotten(autojump_clock: MockClock) -> None:
    """A demo that runs for weeks keeps no connection of the past."""
    watch = Watch()
    seen: list[Connection] = []

    def connected(connection: Connection) -> None:
        watch.connected(connection)
        seen.append(connection)
        assert [it for _, it in watch._connections] == [connection]

    for _ in range(3):
        left, right = memory_carrier_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_server, right, partial(prepare, app), on_connection=connected))
            async with run_client(left):
                pass
    assert len(seen) == 3
    assert list(watch._connections) == []
