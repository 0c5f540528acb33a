"""What the page is told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.resuming.site import connected, open_site
from trio_streams.dashboard.config import DashboardConfig
from trio_streams.dashboard.exchanges import ExchangeRow, Exchanges
from trio_streams.dashboard.meter import Connections
from trio_streams.dashboard.snapshot import Sampler
from trio_streams.driver import run_client, run_server
from trio_streams.procedures.client import ConnectionClient
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair

app = Router()


@app.stream("numbers")
async def numbers() -> AsyncIterator[int]:
    for number in range(1_000):
        yield number


@app.stream("hold", direction="client")
async def hold(items: AsyncIterable[int]) -> int:
    await trio.sleep_forever()
    return 0


@attrs.frozen
class Scene:
    sampler: Sampler
    exchanges: Exchanges
    client: ConnectionClient


@asynccontextmanager
async def _scene(config: DashboardConfig | None = None) -> AsyncGenerator[Scene, None]:
    config = config or DashboardConfig()
    connections = Connections()
    exchanges = Exchanges(config)
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        serve = partial(run_server, right, partial(prepare, app), transport="tcp", on_connection=connections.add)
        nursery.start_soon(serve)
        async with run_client(left) as connection:
            yield Scene(Sampler(connections, exchanges, config), exchanges, ConnectionClient(connection))


async def test_a_stream_that_waits_for_its_reader_is_held(autojump_clock: MockClock) -> None:
    """Its credit is used up; with each item that is read it moves, and the rate is that of the last seconds."""
    async with _scene() as scene, scene.client.stream("numbers", high_water_mark=8, returns=int) as items:
        await wait_all_tasks_blocked()
        (row,) = scene.sampler.take(10.0).streams
        assert (row.name, row.transport, row.connection, row.out) == ("numbers", "tcp", "1", "open")
        assert (row.is_held, row.credit_items, row.items, row.items_rate) == (True, 0, 8, 0.0)
        assert [await items.receive() for _ in range(4)] == [0, 1, 2, 3]
        await wait_all_tasks_blocked()
        snapshot = scene.sampler.take(11.0)
        (row,) = snapshot.streams
        assert (row.items, row.items_rate, row.bytes_rate) == (12, 4.0, 6.0)  # 8, 9, 10 and 11
        totals = snapshot.totals
        assert (totals.connections, totals.streams, totals.held, totals.items_rate) == (1, 1, 1, 4.0)
        assert totals.bytes_sent_rate > 0
        assert snapshot.connections[0].streams == 1


async def test_the_credit_that_was_seen_is_the_window(autojump_clock: MockClock) -> None:
    """A sender whose reader took nothing has used what it had; where there was more, the most that was seen counts."""
    async with _scene() as scene, scene.client.bidi("hold", returns=int) as upload:
        await wait_all_tasks_blocked()
        (row,) = scene.sampler.take(0.0).streams
        assert (row.credit_items, row.credit_window_items) == (256, 256)
        for number in range(5):
            await upload.send(number)
        await wait_all_tasks_blocked()
        (row,) = scene.sampler.take(1.0).streams
        assert (row.into, row.buffered_items, row.window_items, row.is_held) == ("open", 5, 256, False)


async def test_a_session_without_a_network_is_away(autojump_clock: MockClock) -> None:
    """Its row stays, and says what is kept for its client, and how often it has come back."""
    connections = Connections()
    sampler = Sampler(connections, Exchanges(DashboardConfig()), DashboardConfig())
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        connections.add(site.connections[0])
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        (row,) = sampler.take(0.0).connections
        assert (row.is_attached, row.resumes) == (True, 0)
        assert row.retained_bytes > 0
        site.is_down = True
        site.cut()
        await wait_all_tasks_blocked()
        (row,) = sampler.take(1.0).connections
        assert (row.is_attached, row.resumes) == (False, 0)
        site.is_down = False
        await stream.send(b"y")
        assert await stream.receive() == b"y"
        (row,) = sampler.take(2.0).connections
        assert (row.is_attached, row.resumes) == (True, 1)


async def test_everybody_gets_the_same_picture(autojump_clock: MockClock) -> None:
    """It is made once in an interval, by whoever asks first."""
    async with _scene(DashboardConfig(interval=0.5)) as scene:
        first = scene.sampler.payload(1.0)
        assert scene.sampler.payload(1.4) is first
        assert scene.sampler.payload(1.5) is not first
        assert scene.sampler.next_turn(1.4) == 1.5
        assert json.loads(first)["totals"]["connections"] == 1


async def test_exchanges_are_rows_too(autojump_clock: MockClock) -> None:
    """Server-sent events by the name of their procedure, others by method and path; those that are over come last first."""
    async with _scene() as scene:
        for number, is_events in ((1, True), (2, False)):
            scene.exchanges.live[number] = ExchangeRow(
                number=number,
                method="GET",
                path="/streams/numbers",
                peer="a:1",
                began=0.0,
                is_events=is_events,
                items=3,
            )
        scene.exchanges.recent.extend(
            ExchangeRow(number=number, method="GET", path="/", peer="a:1", began=0.0) for number in (8, 9)
        )
        snapshot = scene.sampler.take(0.0)
        rows = [(row.transport, row.name, row.items, row.credit_items) for row in snapshot.streams]
        assert rows == [("sse", "numbers", 3, None), ("http", "GET /streams/numbers", 3, None)]
        assert [row.number for row in snapshot.recent] == [9, 8]
        assert (snapshot.totals.streams, snapshot.totals.exchanges) == (0, 2)


async def test_a_picture_is_bounded(autojump_clock: MockClock) -> None:
    """Rows are left out; the totals are of everything."""
    config = DashboardConfig(max_streams=1)
    async with _scene(config) as scene, scene.client.stream("numbers"), scene.client.stream("numbers"):
        await wait_all_tasks_blocked()
        snapshot = scene.sampler.take(0.0)
        assert (len(snapshot.streams), snapshot.totals.streams) == (1, 2)


async def test_rates_begin_anew_after_a_while_without_a_look(autojump_clock: MockClock) -> None:
    """The average over the hour in which nobody looked says nothing about now; and what is over is forgotten."""
    async with _scene() as scene:
        async with scene.client.stream("numbers", high_water_mark=8, returns=int) as items:
            await wait_all_tasks_blocked()
            scene.sampler.take(0.0)
            assert [await items.receive() for _ in range(8)][-1] == 7
            await wait_all_tasks_blocked()
            (row,) = scene.sampler.take(3600.0).streams
            assert (row.items, row.items_rate) == (16, 0.0)
        await wait_all_tasks_blocked()
        assert scene.sampler.take(3600.5).streams == []
        assert scene.sampler._credits == {}
        assert all("/" not in key for key in scene.sampler._meter._seen)
