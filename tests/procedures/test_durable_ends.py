"""How durable runs end: by themselves, by their server, by their log, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.procedures.durable_memory import jobs, served
from tests.procedures.durable_site import Ask, Site
from tests.procedures.fake_replay_log import FakeReplayLog
from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures import Router
from trio_streams.service.context import Context
from trio_streams.service.replay_log import RunConfig
from trio_streams.testing.peers import until


async def test_a_run_without_readers_lingers(autojump_clock: trio.abc.Clock) -> None:
    """It goes on for the configured time, again and again, and is cancelled then; the end says so."""
    site = Site()
    site.steps = trio.Semaphore(0)
    async with served(RunConfig(linger_timeout=10), site=site) as server:
        for _ in range(2):
            async with server.client() as client, client.durable_stream("shared", Ask("a")):
                await trio.sleep(30)
            await trio.sleep(9)
            assert site.ended == []
        await trio.sleep(2)
        assert site.ended == ["a"]
        (context,) = site.contexts
        assert context.cancelled
        with pytest.raises(RpcError, match="CANCELLED: nobody read the run for too long"):
            await server.read("shared", Ask("a"))


async def test_a_run_may_cancel_itself() -> None:
    """Its scope is its own; the end is CANCELLED."""
    router = Router()

    @router.stream("quit", durable="quits")
    async def quit_early(ctx: Context) -> AsyncIterator[int]:
        yield 1
        ctx.cancel_scope.cancel()
        await trio.sleep_forever()

    site = Site()
    site.router = router
    async with served(site=site) as server, server.client() as client, client.durable_stream("quit") as items:
        assert await items.receive() == 1
        with pytest.raises(RpcError, match="CANCELLED: it was cancelled"):
            await items.receive()


async def test_runs_are_bounded() -> None:
    """One more than the limit is refused at once; what is over can be read all the same."""
    async with served(RunConfig(max_runs=1)) as server:
        assert len(await server.read("shared", Ask("over"))) == 5
        async with server.client() as client, client.durable_stream("shared", Ask("a", 1, "hang")) as items:
            assert await items.receive() == "a 0"
            with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
                await server.read("shared", Ask("b"))
            assert len(await server.read("shared", Ask("over"))) == 5


async def test_a_server_that_is_cancelled_ends_its_runs() -> None:
    """The handler's `finally` runs, and the stored end says what happened."""
    log, site = FakeReplayLog(), Site()
    async with (
        served(log=log, site=site) as server,
        server.client() as client,
        client.durable_stream("shared", Ask("a", 2, "hang")) as items,
    ):
        assert [await items.receive(), await items.receive()] == jobs("a", 0, 2)
    assert site.ended == ["a"]
    async with (
        served(log=log, site=site) as server,
        server.client() as client,
        client.durable_stream("shared", Ask("a")) as items,
    ):
        assert [await items.receive(), await items.receive()] == jobs("a", 0, 2)
        with pytest.raises(RpcError, match="UNAVAILABLE: the server was stopped"):
            await items.receive()


async def test_a_goodbye_has_a_deadline(autojump_clock: trio.abc.Clock) -> None:
    """A log that hangs does not keep a server from ending."""
    log = FakeReplayLog()
    with trio.fail_after(1):
        async with (
            served(RunConfig(goodbye_timeout=0.5), log=log) as server,
            server.client() as client,
            client.durable_stream("shared", Ask("a", 1, "hang")) as items,
        ):
            await items.receive()
            log.logs["jobs/a"].hold = trio.Event()
    assert not log.logs["jobs/a"].is_closed


async def test_a_run_that_was_lost_is_ended() -> None:
    """A log without its end and without its handler: the items that are there, and then UNAVAILABLE, for good."""
    async with served() as server:
        log, _ = await server.log.create("jobs/a", keep_seconds=None)
        writer = await log.take_over()
        await writer.append([b'"a 0"'])
        for _ in range(2):
            async with server.client() as client, client.durable_stream("shared", Ask("a")) as items:
                assert await items.receive() == "a 0"
                with pytest.raises(RpcError, match="UNAVAILABLE: the run was lost"):
                    await items.receive()
        assert server.site.started == []
        with pytest.raises(RpcError, match="ABORTED"):
            await writer.append([b'"a 1"'])


async def test_a_resumable_handler_goes_on() -> None:
    """After a restart it gets what is stored, and what it yields comes behind that, exactly once."""
    log, site = FakeReplayLog(), Site()
    site.steps = trio.Semaphore(3)
    async with (
        served(log=log, site=site) as server,
        server.client() as client,
        client.durable_stream("resumable", Ask("a"), returns=str) as items,
    ):
        got = [await items.receive() for _ in range(3)]
        last_id = items.last_id
    assert not log.logs["resumable/a"].is_closed
    site.steps = None
    async with served(log=log, site=site) as server:
        assert got + await server.read("resumable", Ask("a"), after=last_id) == jobs("a", 0, 5)
    assert [(point.items, point.last) for point in site.points] == [(0, None), (3, "a 2")]
    assert log.logs["resumable/a"].items[:-1] == [f'"a {number}"'.encode() for number in range(5)]


async def test_a_zombie_is_fenced_off() -> None:
    """Where another writer has taken over, the run's handler is cancelled, and none of its items get in."""
    site = Site()
    site.steps = trio.Semaphore(1)
    async with served(site=site) as server:
        async with server.client() as client, client.durable_stream("resumable", Ask("a"), returns=str) as items:
            assert await items.receive() == "a 0"
            log = server.log.logs["resumable/a"]
            other = await log.take_over()
            await other.append([b'"other"'])
            assert await items.receive() == "other"
            site.steps.release()
            await until(lambda: len(site.points) == 2)
            for _ in range(3):
                site.steps.release()
            # The zombie has ended; the run goes on with a handler that knows of the other's item.
            assert [item async for item in items] == jobs("a", 2, 5)
        assert log.items[:3] == [b'"a 0"', b'"other"', b'"a 2"']
        assert [point.items for point in site.points] == [0, 2]


async def test_a_log_that_fails_ends_the_run_for_now() -> None:
    """Its handler is cancelled, and readers are told to come again; what was stored is there then."""
    site = Site()
    site.steps = trio.Semaphore(1)
    async with served(site=site) as server:
        async with server.client() as client, client.durable_stream("shared", Ask("a", 3), returns=str) as items:
            assert await items.receive() == "a 0"
            log = server.log.logs["jobs/a"]
            log.failure = RpcError(Code.UNAVAILABLE, "the disk is full")
            site.steps.release()
            with pytest.raises(RpcError, match="UNAVAILABLE: the disk is full"):
                await items.receive()
        log.failure = None
        async with server.client() as client, client.durable_stream("shared", Ask("a", 3), returns=str) as items:
            assert await items.receive() == "a 0"
            with pytest.raises(RpcError, match="UNAVAILABLE: the run was lost"):
                await items.receive()
        assert site.ended == ["a"]


async def test_a_run_that_fails_again_and_again() -> None:
    """A resumable handler is not started without end for a log that takes nothing: its readers are told after one more."""
    site = Site()
    site.steps = trio.Semaphore(1)
    async with (
        served(site=site) as server,
        server.client() as client,
        client.durable_stream("resumable", Ask("a"), returns=str) as items,
    ):
        assert await items.receive() == "a 0"
        server.log.logs["resumable/a"].failure = RpcError(Code.UNAVAILABLE, "the disk is full")
        for _ in range(9):
            site.steps.release()
        with pytest.raises(RpcError, match="UNAVAILABLE: the run goes on and fails again"):
            await items.receive()
        assert [point.items for point in site.points] == [0, 1]


async def test_a_run_that_never_begins() -> None:
    """Who gives up before there is room for a task leaves nothing behind."""
    async with served(max_running=1) as server:
        async with server.client() as client, client.durable_stream("shared", Ask("a", 1, "hang")) as items:
            await items.receive()
            async with open_bare_nursery() as nursery:
                nursery.start_soon(server.read, "shared", Ask("b"))
                await until(lambda: len(server.runs) == 2)
                nursery.cancel_scope.cancel()
            await until(lambda: len(server.runs) == 1)
        assert server.site.started == ["a"]


async def test_a_log_that_can_not_be_opened() -> None:
    """Every caller that waited for it is told; the next one tries again."""
    async with served() as server:
        server.log.failure = RpcError(Code.UNAVAILABLE, "no disk")
        for _ in range(2):
            with pytest.raises(RpcError, match="UNAVAILABLE: no disk"):
                await server.read("shared", Ask("a"))
        server.log.failure = None
        assert len(await server.read("shared", Ask("a"))) == 5


async def test_a_log_that_is_deleted_under_its_readers() -> None:
    """They are told; the next caller starts a run anew."""
    async with (
        served() as server,
        server.client() as client,
        client.durable_stream("shared", Ask("a", 1, "hang")) as items,
    ):
        await items.receive()
        server.log.logs["jobs/a"].delete()
        with pytest.raises(RpcError, match="NOT_FOUND"):
            await items.receive()


async def test_a_log_that_somebody_else_closed() -> None:
    """Its last message is no end of ours: the readers are told, rather than believing it whole."""
    async with served() as server:
        log, _ = await server.log.create("jobs/a", keep_seconds=None)
        await (await log.take_over()).append([b'"x"', b'{"end":{"code":"OK"},"more":1}'], close=True)
        with pytest.raises(RpcError, match="ABORTED: the run's log was closed without its end"):
            await server.read("shared", Ask("a"))
