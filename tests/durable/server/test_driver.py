"""The driver: what it waits for can be cancelled, and nothing that was decided is lost."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.durable.server.asking import HeldStore, ask, begin
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.server.server import DurableServer
from trio_streams.transports.answer import run_handler


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_cancelled_append_is_still_durable(is_broken: bool) -> None:
    """Who appends may leave before the commit: readers hear of it all the same, or of the store's failure."""
    store = HeldStore()
    async with DurableServer(store) as server, trio.open_nursery() as nursery:
        await server.create("a", content_type="text/plain")
        store.is_held, store.is_broken = True, is_broken
        read: list[int] = []

        async def poll() -> None:
            read.append((await ask(server, "GET", "a", query="offset=now&live=long-poll")).status)

        nursery.start_soon(poll)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel, scope)
            await server.append("a", b"x")
        assert scope.cancelled_caught
        assert read == []
        store.gate.set()
        await wait_all_tasks_blocked()
        assert read == [503 if is_broken else 200]
        store.is_held = False
        assert (await server.read("a")).data == (b"" if is_broken else b"x")


async def _cancel(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.parametrize("name", ["find", "get", "new_id", "read", "wait_room", "list_records"])
async def test_a_wait_for_the_store_can_be_cancelled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that is cancelled while the store is slow leaves nothing behind: the next one does its work."""
    store = HeldStore()
    async with DurableServer(store) as server, trio.open_nursery() as nursery:
        await server.create("a", content_type="text/plain", body=b"ab")
        await server.fork("a", "f")
        for state in list(server._machine.registry._by_path.values()):
            server._machine.registry.drop(state)

        async def work() -> None:
            await server.read("f")
            await server.list()
            await server.create("b")

        async def slow(*_: object, **__: object) -> None:
            await trio.sleep_forever()

        with monkeypatch.context() as patch, trio.CancelScope() as scope:
            patch.setattr(store, name, slow)
            nursery.start_soon(_cancel, scope)
            await work()
        assert scope.cancelled_caught
        await work()
        assert (await server.read("f")).data == b"ab"


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_a_reader_that_leaves_is_forgotten(live: str, autojump_clock: MockClock) -> None:
    """A reader that is cancelled leaves no listener and no count behind."""
    async with DurableServer() as server, trio.open_nursery() as nursery:
        await server.create("a", content_type="text/plain")
        exchange = begin("GET", "a", query=f"offset=now&live={live}")
        nursery.start_soon(run_handler, exchange, server.handle)
        await wait_all_tasks_blocked()
        state = server._machine.registry.get_nowait("a")
        assert state is not None
        assert state.listeners
        exchange.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert not state.listeners
        assert server._running.readers.count == 0


async def test_two_that_load_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for another's look at the store goes on when that one is cancelled."""
    store = HeldStore()
    async with DurableServer(store) as server, trio.open_nursery() as nursery:
        await server.create("a", content_type="text/plain", body=b"ab")
        state = server._machine.registry.get_nowait("a")
        assert state is not None
        server._machine.registry.drop(state)
        gate, find, data = trio.Event(), store.find, []

        async def slow(path: str) -> object:
            await gate.wait()
            return await find(path)

        monkeypatch.setattr(store, "find", slow)

        async def read() -> None:
            data.append((await server.read("a")).data)

        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel, scope)
            await server.read("a")
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()
        assert data == [b"ab", b"ab"]


async def test_a_sync_failure_of_the_store() -> None:
    """A store that takes nothing more is an error for who asks, with the protocol's words."""
    store = HeldStore()
    async with DurableServer(store) as server:
        await server.create("a", content_type="text/plain")
        await store.aclose()
        with pytest.raises(DurableStreamError) as caught:
            await server.append("a", b"x")
        assert (caught.value.status, caught.value.code) == (503, "UNAVAILABLE")
