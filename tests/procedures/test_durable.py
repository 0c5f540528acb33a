"""Durable streams in one process: runs and their readers, and who may read what from where."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import trio
import trio.testing

from tests.procedures.durable_memory import jobs, served
from tests.procedures.durable_site import Ask, Site
from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.service.interceptor import Invocation, Proceed
from trio_streams.service.replay_log import RunConfig


async def test_a_run_is_stored_and_read() -> None:
    """What the handler yields is in the log, once each, and then the end; the reader gets the items."""
    async with served() as server:
        assert await server.read("shared", Ask("a")) == jobs("a", 0, 5)
        log = server.log.logs["jobs/a"]
        assert log.is_closed
        assert log.items == [b'"a 0"', b'"a 1"', b'"a 2"', b'"a 3"', b'"a 4"', b'{"end":{"code":"OK"}}']
        assert server.site.ended == ["a"]
        assert len(server.runs) == 0


async def test_who_comes_later_joins_from_the_beginning(autojump_clock: trio.abc.Clock) -> None:
    """Callers with the same path share a run, while it lasts and after it; the handler is started once."""
    site = Site()
    site.steps = trio.Semaphore(0)
    async with served(site=site) as server:
        got: list[list[str]] = []

        async def read() -> None:
            got.append(await server.read("shared", Ask("a")))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                if site.steps.value < 1 and len(site.started) < 5:
                    site.steps.release()
            for _ in range(5):
                site.steps.release()
        assert got == [jobs("a", 0, 5)] * 20
        assert await server.read("shared", Ask("a")) == jobs("a", 0, 5)
        assert site.started == ["a"]


async def test_other_paths_are_other_runs() -> None:
    """The input's field is in the path, escaped; `{run}` makes each call one of its own."""
    async with served() as server:
        for job in ("a", "b/c", "..x", "ü"):
            assert await server.read("shared", Ask(job)) == jobs(job, 0, 5)
        assert set(server.log.logs) == {"jobs/a", "jobs/b%2Fc", "jobs/..x", "jobs/%C3%BC"}
        for _ in range(2):
            assert await server.read("own", Ask("a")) == jobs("a", 0, 5)
        assert len(server.log.logs) == 6
        assert server.site.started.count("a") == 3


async def test_a_run_outlives_its_callers() -> None:
    """Who leaves does not end the run, and goes on behind what it has: nothing lost, nothing doubled."""
    site = Site()
    site.steps = trio.Semaphore(2)
    async with served(site=site) as server:
        async with server.client() as client, client.durable_stream("own", Ask("a"), returns=str) as items:
            got = [await items.receive(), await items.receive()]
            last_id = items.last_id
        assert site.ended == []
        for _ in range(3):
            site.steps.release()
        assert got + await server.read("own", Ask("a"), after=last_id) == jobs("a", 0, 5)
        assert site.started == ["a"]


@pytest.mark.parametrize("max_read_bytes", [1, 12, 65_536])
async def test_every_place_can_be_gone_on_from(max_read_bytes: int) -> None:
    """Behind each item, however the log is cut into reads, during the run and after it."""
    async with served(RunConfig(max_read_bytes=max_read_bytes)) as server:
        ids: list[str] = []
        async with server.client() as client, client.durable_stream("shared", Ask("a", 9), returns=str) as items:
            ids.append(items.last_id)
            ids += [items.last_id async for _ in items]
        for number, last_id in enumerate(ids):
            assert await server.read("shared", Ask("a", 9), after=last_id) == jobs("a", number, 9)


async def test_an_error_is_the_end_for_every_reader() -> None:
    """Code, message and details are stored, and raised behind the items, now and later; items before it are not lost."""
    async with served() as server:
        for _ in range(3):
            async with server.client() as client, client.durable_stream("shared", Ask("a", 3, "NOT_FOUND")) as items:
                assert [await items.receive() for _ in range(3)] == jobs("a", 0, 3)
                with pytest.raises(RpcError) as raised:
                    await items.receive()
                assert (raised.value.code, raised.value.message, raised.value.details) == (
                    "NOT_FOUND",
                    "as asked",
                    {"job": "a"},
                )
        end = b'{"end":{"code":"NOT_FOUND","message":"as asked","details":{"job":"a"}}}'
        assert server.log.logs["jobs/a"].items[-1] == end
        assert server.site.started == ["a"]


async def test_nobody_sees_what_is_not_stored() -> None:
    """An item is delivered once its commit is done, and no sooner."""
    async with served() as server:
        log, _ = await server.log.create("resumable/a", keep_seconds=None)
        log.hold = trio.Event()
        async with server.client() as client, client.durable_stream("resumable", Ask("a", 2), returns=str) as items:
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                items.receive_nowait()
            log.hold.set()
            assert [item async for item in items] == jobs("a", 0, 2)


async def test_a_slow_log_holds_the_handler_back() -> None:
    """While the log stores nothing, no more waits than the limit, and one item may always wait."""
    site = Site()
    async with served(RunConfig(max_pending_bytes=300), site=site) as server:
        log, _ = await server.log.create("resumable/a", keep_seconds=None)
        log.hold = trio.Event()
        site.steps = trio.Semaphore(50)
        async with server.client() as client, client.durable_stream("resumable", Ask("a", 50), returns=str) as items:
            await trio.testing.wait_all_tasks_blocked()
            # Up to five of 69 bytes are being stored, five wait, and one waits to wait.
            assert 50 - site.steps.value <= 5 + 5 + 1
            log.hold.set()
            assert [item async for item in items] == jobs("a", 0, 50)


async def test_a_slow_reader_holds_one_read() -> None:
    """A reader that takes nothing keeps neither the run nor other readers back, and reads no further meanwhile."""
    async with (
        served(RunConfig(max_read_bytes=100)) as server,
        server.client() as client,
        client.durable_stream("shared", Ask("a", 2_000), returns=str, high_water_mark=1) as slow,
    ):
        assert await slow.receive() == "a 0"
        assert len(await server.read("shared", Ask("a", 2_000))) == 2_000
        assert server.site.ended == ["a"]
        reads = server.log.logs["jobs/a"].reads
        await trio.testing.wait_all_tasks_blocked()
        assert server.log.logs["jobs/a"].reads == reads
        assert [item async for item in slow] == jobs("a", 1, 2_000)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ("", "INVALID_ARGUMENT"),
        ("garbage", "INVALID_ARGUMENT"),
        ("log-1@0", "INVALID_ARGUMENT"),
        ("log-1@00.0", "INVALID_ARGUMENT"),
        ("log-1@-1.0", "INVALID_ARGUMENT"),
        ("log-1@0.99999999999999999", "INVALID_ARGUMENT"),
        ("jobs/b@0.0", "INVALID_ARGUMENT"),
        ("../b@0.0", "INVALID_ARGUMENT"),
        ("log-1@3.0", "INVALID_ARGUMENT"),  # in the middle of an item
        ("log-2@0.0", "NOT_FOUND"),  # another log's
        ("log-1@0.6", "OUT_OF_RANGE"),
        ("log-1@9999.0", "OUT_OF_RANGE"),
        ("log-1@0.9999999999999999", "OUT_OF_RANGE"),
    ],
)
async def test_ids_that_are_none(after: str, code: str) -> None:
    """Whatever a stranger says, it is refused before an item is given, and no other log can be read."""
    async with served() as server:
        assert len(await server.read("shared", Ask("a"))) == 5
        assert len(await server.read("shared", Ask("b"))) == 5
        with pytest.raises(RpcError) as raised:
            await server.read("shared", Ask("a"), after=after)
        assert raised.value.code == code
        assert len(server.runs) == 0


async def test_an_id_of_another_run() -> None:
    """The id of one's own run is worth nothing for a job that is not in its path; an unknown run is not started."""
    async with served() as server:
        async with server.client() as client, client.durable_stream("own", Ask("a")) as items:
            await items.receive()
            last_id = items.last_id
        for ask, after in ((Ask("b"), last_id), (Ask("a"), "x" * 22 + "@0.0")):
            with pytest.raises(RpcError, match="NOT_FOUND"):
                await server.read("own", ask, after=after)
        with pytest.raises(RpcError, match="INVALID_ARGUMENT: the id of a run"):
            await server.read("own", Ask("a"), after="short@0.0")
        assert server.site.started == ["a"]


async def test_a_place_that_is_not_kept_any_more() -> None:
    """Where retention has dropped the beginning, a place before it is out of range, and a later one is not."""
    async with served(RunConfig(max_read_bytes=1)) as server:
        async with server.client() as client, client.durable_stream("shared", Ask("a")) as items:
            async for _ in items:
                pass
        log = server.log.logs["jobs/a"]
        log.start = log.bounds[-2]
        with pytest.raises(RpcError, match="OUT_OF_RANGE"):
            await server.read("shared", Ask("a"), after=f"{log.log_id}@0.1")
        assert await server.read("shared", Ask("a"), after=f"{log.log_id}@{log.start}.0") == []


async def test_interceptors_stand_around_every_reader() -> None:
    """Who may not read is refused, also with an id; what a caller sees of the items is its interceptors' business."""
    site = Site()

    async def guard(invocation: Invocation, proceed: Proceed) -> object:
        if invocation.context.metadata.get("token") != "t":
            raise RpcError(Code.PERMISSION_DENIED, "no")
        invocation.context = attrs.evolve(invocation.context, principal="ada")
        invocation.map_sent(lambda item: str(item).upper())
        return await proceed()

    site.router.use(guard)
    async with served(site=site) as server:
        async with server.client() as client:
            async with client.durable_stream("shared", Ask("a"), metadata={"token": "t"}) as items:
                assert await items.receive() == "A 0"
                last_id = items.last_id
            with pytest.raises(RpcError, match="PERMISSION_DENIED"):
                async with client.durable_stream("shared", Ask("a"), after=last_id):
                    pass
        assert server.log.logs["jobs/a"].items[0] == b'"a 0"'
        assert site.contexts[0].principal == "ada"


async def test_items_in_another_form() -> None:
    """They are stored as JSON, and given as the caller asks."""
    async with served() as server:
        for content_type in ("application/msgpack", "application/json"):
            async with (
                server.client(content_type) as client,
                client.durable_stream("shared", Ask("a"), returns=str) as items,
            ):
                first = await items.receive()
                last_id = items.last_id
            async with (
                server.client(content_type) as client,
                client.durable_stream("shared", Ask("a"), returns=str, after=last_id) as items,
            ):
                assert [first, *[item async for item in items]] == jobs("a", 0, 5)


async def test_an_ordinary_stream_is_told_apart() -> None:
    """`durable_stream` refuses a stream that nobody keeps; `stream` reads a durable one like any other."""
    async with served() as server, server.client() as client:
        with pytest.raises(RpcError, match="FAILED_PRECONDITION: 'plain' is no durable stream"):
            async with client.durable_stream("plain", Ask("a")):
                pass
        with pytest.raises(RpcError, match="NOT_FOUND"):
            async with client.durable_stream("missing", Ask("a")):
                pass
        async with client.stream("shared", Ask("a"), returns=str) as items:
            assert [item async for item in items] == jobs("a", 0, 5)


async def test_a_run_is_the_servers_from_the_start(autojump_clock: trio.abc.Clock) -> None:
    """A caller that is cancelled while the log is opened leaves a run behind, not the ruin of one."""
    site = Site()
    async with served(site=site) as server, server.client() as client:
        for step in range(12):
            with trio.CancelScope() as scope:
                steps = iter(range(step))

                class Cancel(trio.abc.Instrument):
                    def after_task_step(
                        self, task: object, steps: Iterator[int] = steps, scope: trio.CancelScope = scope
                    ) -> None:
                        if next(steps, None) is None:
                            scope.cancel()

                instrument = Cancel()
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with client.durable_stream("shared", Ask(f"a{step}")):
                        pass
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            assert await server.read("shared", Ask(f"a{step}")) == jobs(f"a{step}", 0, 5)
