"""Durable streams whose connections are cut and whose servers are started anew: every item comes once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.faults.proxy import Cut, Ending, Weather, open_proxy
from tests.procedures.durable_site import Ask, Site, serving
from trio_streams import connect
from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.sqlite import open_sqlite_store
from trio_streams.errors import ConnectionLost, RemoteProtocolError, RpcError
from trio_streams.procedures.client import Client
from trio_streams.service.replay_log import ReplayLog, RunConfig
from trio_streams.service.server_config import ServerConfig
from trio_streams.testing.peers import until
from trio_streams.wire.event_source import EventSourceConfig

HOSTS = ["hypercorn", "lean"]

CRASH = ServerConfig(runs=RunConfig(goodbye_timeout=1e-9))
"""A server that is cancelled is as good as killed: it stores no end."""


@attrs.frozen
class CutOnce(Weather):
    """The first connection is cut, or the first few; those behind them are not."""

    connections: int = 1

    def of(self, number: int) -> Weather:
        return self if number <= self.connections else Weather()


class Line:
    """A fixed address before a server that comes and goes.

    Attributes:
      target: the server's URL; None while there is none.
      address: where clients come.
    """

    def __init__(self) -> None:
        self.target: str | None = None
        self.address: str = ""

    async def connect(self) -> trio.SocketStream:
        if self.target is not None:
            host, _, port = self.target.partition("//")[2].rpartition(":")
            with contextlib.suppress(OSError):
                return await trio.open_tcp_stream(host, int(port))
        nobody, other = trio.socket.socketpair()
        other.close()
        return trio.SocketStream(nobody)

    @asynccontextmanager
    async def open(self, weather: Weather) -> AsyncGenerator[None, None]:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_proxy(listener, self.connect, weather):
            yield


@asynccontextmanager
async def returning(scheme: str, address: str) -> AsyncIterator[Client]:
    """A client that comes back at once."""
    options: dict[str, Any] = {"event_source": EventSourceConfig(retry_delay=0.001, jitter=0)}
    if scheme != "http":
        options = {"reconnect": ReconnectOptions(initial_delay=0.001, max_delay=0.01, seed=1)}
    async with connect(f"{scheme}://{address}", **options) as client:
        yield client


@pytest.mark.parametrize("ending", [Ending.FIN, Ending.RESET])
@pytest.mark.parametrize(("scheme", "host"), [("tcp", "lean"), ("ws", "lean"), *(("http", host) for host in HOSTS)])
async def test_a_connection_is_cut_everywhere(scheme: str, host: str, ending: Ending) -> None:
    """Twice, after whatever number of bytes, in the head, within an item or between two: each item comes once."""
    site, line = Site(), Line()
    expected = [f"job {number}" for number in range(6)]
    with trio.fail_after(120):
        async with serving(site, f"{scheme}://127.0.0.1:0", host=host) as (url,):
            line.target = url
            runs = 0
            for after_bytes in range(0, 900, 29):
                cut = Cut(ending, is_upwards=False, after_bytes=after_bytes)
                async with line.open(CutOnce(cut=cut, connections=2)), AsyncExitStack() as stack:
                    try:
                        client = await stack.enter_async_context(returning(scheme, line.address))
                    except (ConnectionLost, RemoteProtocolError):
                        continue  # there is no client yet
                    async with client.durable_stream("own", Ask("job", 6), returns=str) as items:
                        assert [item async for item in items] == expected, after_bytes
                        runs += 1
    assert len(site.started) == len(site.ended) == runs > 10


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_a_connection_is_cut_at_every_item(scheme: str) -> None:
    """One connection after the other is lost as soon as it has brought an item."""
    site, line = Site(), Line()
    site.steps = trio.Semaphore(0)
    with trio.fail_after(120):
        async with serving(site, f"{scheme}://127.0.0.1:0") as (url,), line.open(Weather()):
            line.target = url
            last_id, got = None, []
            for _ in range(8):
                site.steps.release()
                async with (
                    returning(scheme, line.address) as client,
                    client.durable_stream("own", Ask("job", 8), returns=str, after=last_id) as items,
                ):
                    got.append(await items.receive())
                    last_id = items.last_id
    assert got == [f"job {number}" for number in range(8)]
    assert site.started == ["job"]


async def test_a_client_that_must_not_come_back() -> None:
    """Without `reconnect` a lost connection ends the stream, behind what has arrived; the id goes on elsewhere."""
    site = Site()
    site.steps = trio.Semaphore(2)
    with trio.fail_after(60):
        async with serving(site, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0") as urls:
            async with connect(urls[0]) as client, client.durable_stream("own", Ask("job"), returns=str) as items:
                assert await items.receive() == "job 0"
                await until(lambda: items.statistics().buffered_items > 0)
                client.connection.end(True)  # type: ignore[attr-defined]
                assert await items.receive() == "job 1"
                with pytest.raises(ConnectionLost):
                    await items.receive()
            for _ in range(3):
                site.steps.release()
            async with (
                connect(urls[1]) as client,
                client.durable_stream("own", Ask("job"), returns=str, after=items.last_id) as items,
            ):
                assert [item async for item in items] == ["job 2", "job 3", "job 4"]


async def test_a_server_that_does_not_come_back() -> None:
    """The client gives up after the session's age, with what was wrong last."""
    site, line = Site(), Line()
    site.steps = trio.Semaphore(1)
    reconnect = ReconnectOptions(initial_delay=0.001, max_delay=0.01)
    has_one = trio.Event()

    async def read() -> None:
        resume = ResumeOptions(max_session_age=0.3)
        async with (
            connect(f"tcp://{line.address}", resume=resume, reconnect=reconnect) as client,
            client.durable_stream("own", Ask("job"), returns=str) as items,
        ):
            assert await items.receive() == "job 0"
            has_one.set()
            with pytest.raises(ConnectionLost):
                await items.receive()

    with trio.fail_after(60):
        async with line.open(Weather()), trio.open_nursery() as nursery:
            async with serving(site, "tcp://127.0.0.1:0") as (line.target,):
                nursery.start_soon(read)
                await has_one.wait()
            line.target = None


@asynccontextmanager
async def stored(path: Path) -> AsyncGenerator[ReplayLog, None]:
    async with open_sqlite_store(path) as store, DurableServer(store) as server:
        yield server.replay_log("runs/")


@pytest.mark.parametrize("scheme", ["tcp", "http"])
@pytest.mark.parametrize("name", ["shared", "resumable"])
async def test_a_server_is_started_anew(scheme: str, name: str, tmp_path: Path) -> None:
    """A client that was reading goes on by itself: to the end, or to where the run was lost."""
    site, line = Site(), Line()
    site.steps = trio.Semaphore(3)
    got: list[str] = []
    is_over = trio.Event()

    async def read() -> None:
        await until(lambda: line.target is not None)
        async with (
            returning(scheme, line.address) as client,
            client.durable_stream(name, Ask("job"), returns=str) as items,
        ):
            try:
                async for item in items:
                    got.append(item)  # noqa: PERF401 - others look
            except RpcError as exc:
                got.append(str(exc))
        is_over.set()

    async def run(config: ServerConfig | None, has_done: Callable[[], bool]) -> None:
        async with stored(tmp_path) as log:
            url = f"{scheme}://127.0.0.1:0"
            async with serving(site, url, replay_log=log, config=config, host="lean") as (line.target,):
                await until(has_done)
        line.target = None

    with trio.fail_after(120):
        async with line.open(Weather()), trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await run(CRASH, lambda: len(got) == 3)
            site.steps = None
            await run(None, is_over.is_set)
    expected = [f"job {number}" for number in range(5)]
    if name == "shared":
        expected[3:] = ["UNAVAILABLE: the run was lost: its server ended before it did"]
    assert got == expected
    assert [point.items for point in site.points] == ([0, 3] if name == "resumable" else [])


async def test_what_was_read_before_a_restart_is_read_after_it(tmp_path: Path) -> None:
    """A finished run is there, item by item, from every id that was given before."""
    site = Site()
    expected = [f"job {number}" for number in range(5)]
    ids: list[str] = []
    with trio.fail_after(60):
        async with (
            stored(tmp_path) as log,
            serving(site, "tcp://127.0.0.1:0", replay_log=log) as (url,),
            connect(url) as client,
            client.durable_stream("shared", Ask("job"), returns=str) as items,
        ):
            ids.append(items.last_id)
            ids += [items.last_id async for _ in items]
        async with (
            stored(tmp_path) as log,
            serving(site, "http://127.0.0.1:0", replay_log=log) as (url,),
            connect(url) as client,
        ):
            for number, last_id in enumerate(ids):
                async with client.durable_stream("shared", Ask("job"), returns=str, after=last_id) as items:
                    assert [item async for item in items] == expected[number:]
    assert site.started == ["job"]
