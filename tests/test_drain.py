"""How `serve` ends well: on every scheme, within one deadline, whoever reads or does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
import trio.testing

from tests.serving import CONFIG, HOSTED, HTTP, OWN, PATIENCE, Face, Served, Work, ask, serving, stuck_reader
from trio_streams.errors import ConnectionLost, StreamReset
from trio_streams.transports.exchange import ExchangeConfig
from trio_streams.urls import Drain, ServerConfig, connect, serve

ALL: Final = (*OWN, *HTTP, *HOSTED)


@pytest.mark.parametrize("face", ALL, ids=str)
async def test_what_is_under_way_is_finished(face: Face, tmp_path: Path) -> None:
    """After `begin` nobody is accepted any more, a stream goes on to its end, and `serve` returns with nothing cut."""
    work = Work()
    async with serving(work.router, face, tmp_path) as served:
        async with served.connect() as client, client.stream("items", returns=int) as items:
            assert await items.receive() == 1
            await work.begun.wait()
            served.drain.begin()
            await _wait_refused(served)
            assert not served.over.is_set()
            work.go.set()
            assert [item async for item in items] == [2]
        await served.over.wait()
        assert not served.drain.was_cut
        assert work.ended == ["items"]


async def _wait_refused(served: Served) -> None:
    while True:
        try:
            async with served.connect() as client:
                await client.call("double", 1)
        except (ConnectionLost, StreamReset):  # the listener is closed; or the connection was just told
            return
        await trio.sleep(0.01)


@pytest.mark.parametrize("face", [*OWN, *HTTP, *HOSTED], ids=str)
async def test_an_idle_connection_does_not_delay_the_end(face: Face, tmp_path: Path) -> None:
    """A client that is connected and asks for nothing is sent away at once."""
    async with serving(Work().router, face, tmp_path, ServerConfig(drain_timeout=20)) as served:
        async with served.connect() as client:
            assert await client.call("double", 2, returns=int) == 4
            served.drain.begin()
            await served.over.wait()
        assert not served.drain.was_cut


@pytest.mark.parametrize("face", [Face("tls"), Face("ws"), Face("ws", carrier="trio-websocket")], ids=str)
async def test_a_handshake_that_never_comes_does_not_delay_the_end(face: Face, tmp_path: Path) -> None:
    """Who has connected without saying anything has nothing to lose."""
    async with serving(Work().router, face, tmp_path, ServerConfig(drain_timeout=20)) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port):
            async with served.connect() as client:
                await client.call("double", 1)
            served.drain.begin()
            await served.over.wait()
        assert not served.drain.was_cut


@pytest.mark.parametrize("face", ALL, ids=str)
async def test_the_deadline_cuts(face: Face, tmp_path: Path) -> None:
    """A stream that does not end is cancelled at the deadline, its `finally` runs, and the drain says that it was cut."""
    work = Work()
    async with serving(work.router, face, tmp_path, ServerConfig(drain_timeout=0.05)) as served:
        async with served.connect() as client, client.stream("items", returns=int) as items:
            assert await items.receive() == 1
            served.drain.begin()
            with pytest.raises((trio.BrokenResourceError, ConnectionLost)):
                await items.receive()
            await served.over.wait()
        assert served.drain.was_cut
        assert work.ended == ["items"]


@pytest.mark.parametrize("face", ALL, ids=str)
async def test_a_stuck_reader_delays_the_end_by_the_timeout(face: Face, tmp_path: Path) -> None:
    """A client that has stopped reading, and everything else, is cut off at the deadline: its goodbyes get 0.3 s."""
    work = Work()
    rules = ServerConfig(drain_timeout=0.2, exchange=ExchangeConfig(close_timeout=PATIENCE))
    config = attrs.evolve(CONFIG, close_timeout=PATIENCE)
    async with serving(work.router, face, tmp_path, rules, config=config) as served, stuck_reader(served):
        await work.begun.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)
        served.drain.begin()
        begun = trio.current_time()
        await served.over.wait()
        # Promised are 0.2 and 0.5; what is told apart from it here are the two timeouts above, for loaded machines.
        assert trio.current_time() - begun < PATIENCE / 3
        assert served.drain.was_cut
        assert work.ended == ["flood"]


@pytest.mark.parametrize("face", HTTP, ids=str)
async def test_it_is_not_ready_before_it_closes(face: Face, tmp_path: Path) -> None:
    """During `drain_delay` probes learn that no new work is wanted, and everything is still served."""
    async with serving(Work().router, face, tmp_path, ServerConfig(drain_delay=2)) as served:
        ready = await ask(served.port, "GET /readyz HTTP/1.1\nhost: localhost")
        assert (ready[0], json.loads(ready[2])) == (200, {"status": "ready"})
        served.drain.begin()
        draining = await ask(served.port, "GET /readyz HTTP/1.1\nhost: localhost")
        assert (draining[0], json.loads(draining[2])) == (503, {"status": "draining"})
        health = await ask(served.port, "GET /healthz HTTP/1.1\nhost: localhost")
        assert health[0] == 200
        async with served.connect() as client:
            assert await client.call("double", 4) == 8
        await served.over.wait()
        assert not served.drain.was_cut


async def test_all_listeners_drain_together(tmp_path: Path) -> None:
    """One deadline is for all URLs, and a socket's file is gone as soon as nobody listens on it."""
    work, drain = Work(), Drain()
    path = tmp_path / "socket"
    urls = (f"unix:{path}", "tcp://127.0.0.1:0", "http://127.0.0.1:0", "ws://127.0.0.1:0")
    over = trio.Event()

    async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve(work.router, *urls, drain=drain, config=CONFIG, task_status=task_status)
        over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(run)
            async with connect(bound[0], config=CONFIG) as client, client.stream("items", returns=int) as items:
                assert await items.receive() == 1
                drain.begin()
                while path.exists():  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
                for url in bound[1:]:
                    with pytest.raises(ConnectionLost):
                        async with connect(url, config=CONFIG) as late:
                            await late.call("double", 1)
                assert not over.is_set()
                work.go.set()
                assert [item async for item in items] == [2]
            await over.wait()
    assert not drain.was_cut


async def test_a_drain_asked_for_early() -> None:
    """Asked for before the start, it ends the server as soon as that has started."""
    drain = Drain()
    drain.begin()
    drain.begin()
    with trio.fail_after(PATIENCE):
        await serve(Work().router, "tcp://127.0.0.1:0", "http://127.0.0.1:0", drain=drain)
    assert drain.has_begun
    assert not drain.was_cut


@pytest.mark.parametrize("steps", range(5))
async def test_a_drain_can_be_cancelled(steps: int, tmp_path: Path) -> None:
    """Wherever a drain is, cancelling `serve` ends it: handlers are cancelled, and nothing was cut by a deadline."""
    work = Work()
    rules = ServerConfig(drain_delay=0.02, drain_timeout=PATIENCE)
    async with serving(work.router, Face("tcp"), tmp_path, rules) as served:
        async with served.connect() as client, client.stream("items", returns=int) as items:
            assert await items.receive() == 1
            served.drain.begin()
            await trio.sleep(steps * 0.01)
            served.scope.cancel()
            await served.over.wait()
        assert work.ended == ["items"]
        assert not served.drain.was_cut


async def test_waiting_for_a_drain_can_be_cancelled() -> None:
    """`wait_begun` waits for `begin`, and a cancelled one changes nothing."""
    drain = Drain()
    with trio.move_on_after(0) as scope:
        await drain.wait_begun()
    assert scope.cancelled_caught
    assert not drain.has_begun
    drain.begin()
    await drain.wait_begun()
