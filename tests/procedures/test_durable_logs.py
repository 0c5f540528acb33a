"""The logs that runs are kept in: the tests' own, and the streams of a real server in memory and in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.procedures.fake_replay_log import FakeReplayLog
from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.sqlite import open_sqlite_store
from trio_streams.errors import RpcError
from trio_streams.service.replay_log import LogItems, ReplayLog, RunLog

Opening = Callable[[Path], AbstractAsyncContextManager[ReplayLog]]


@asynccontextmanager
async def open_fake(path: Path) -> AsyncIterator[ReplayLog]:
    yield FakeReplayLog()


@asynccontextmanager
async def open_memory(path: Path) -> AsyncIterator[ReplayLog]:
    async with DurableServer() as server:
        yield server.replay_log("runs/")


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[ReplayLog]:
    async with open_sqlite_store(path) as store, DurableServer(store) as server:
        yield server.replay_log()


on_all = pytest.mark.parametrize("opening", [open_fake, open_memory, open_sqlite])

ITEMS = [b"1", b'"two"', b"[3,[4]]", b"[]", b'{"five":1.10}', "ü".join('""').encode(), b"12345678901234567890"]


async def read_all(log: RunLog, position: int = 0, max_bytes: int = 65_536) -> tuple[list[bytes], LogItems]:
    items: list[bytes] = []
    while True:
        got = await log.read(position, max_bytes=max_bytes)
        items += got.items
        if not got.items or got.is_closed:
            return items, got
        position = got.next_position


@on_all
@pytest.mark.parametrize("max_bytes", [1, 20, 65_536])
async def test_what_is_appended_is_read(opening: Opening, tmp_path: Path, max_bytes: int) -> None:
    """Byte by byte, whatever JSON an item is, from every position that a read ended at; and that it is closed."""
    async with opening(tmp_path) as logs:
        log, is_new = await logs.create("a/b%2Fc", keep_seconds=60)
        assert is_new
        nothing = await log.read(0, max_bytes=1)
        assert (list(nothing.items), nothing.next_position, nothing.is_closed) == ([], 0, False)
        writer = await log.take_over()
        await writer.append(ITEMS[:3])
        await writer.append(ITEMS[3:6])
        await writer.append(ITEMS[6:], close=True)
        items, last = await read_all(log, max_bytes=max_bytes)
        assert items == ITEMS
        assert last.is_closed
        state = await log.state()
        assert (state.start, state.tail, state.is_closed) == (0, last.next_position, True)
        got = await log.read(0, max_bytes=1)
        assert (list(got.items), got.is_closed) == (ITEMS[:3], False)
        assert (await read_all(log, got.next_position))[0] == ITEMS[3:]
        assert (await log.read(state.tail, max_bytes=1)).is_closed


@on_all
async def test_a_log_is_found_again(opening: Opening, tmp_path: Path) -> None:
    """By its path, with its id; another path's is another one."""
    async with opening(tmp_path) as logs:
        assert await logs.find("a") is None
        log, _ = await logs.create("a", keep_seconds=None)
        again, is_new = await logs.create("a", keep_seconds=5)
        found = await logs.find("a")
        other, _ = await logs.create("b", keep_seconds=None)
        assert found is not None
        assert not is_new
        assert log.log_id == again.log_id == found.log_id != other.log_id
        assert log.log_id.replace("-", "").replace("_", "").isalnum()


@on_all
async def test_positions_that_are_none(opening: Opening, tmp_path: Path) -> None:
    """Behind the tail is out of range; within an item or a batch is no position."""
    async with opening(tmp_path) as logs:
        log, _ = await logs.create("a", keep_seconds=None)
        await (await log.take_over()).append([b'"0123456789"', b"1"])
        for position, code in ((1, "INVALID_ARGUMENT"), (13, "INVALID_ARGUMENT"), (16, "OUT_OF_RANGE")):
            with pytest.raises(RpcError) as raised:
                await log.read(position, max_bytes=100)
            assert raised.value.code == code
        with pytest.raises(RpcError) as raised:
            await log.read(9_999_999_999_999_999, max_bytes=100)
        assert raised.value.code == "OUT_OF_RANGE"


@on_all
async def test_a_writer_that_was_replaced_appends_nothing(opening: Opening, tmp_path: Path) -> None:
    """From the new one's first append on at the latest; and what it has not seen stops the new one, too."""
    async with opening(tmp_path) as logs:
        log, _ = await logs.create("a", keep_seconds=None)
        first = await log.take_over()
        await first.append([b"1"])
        second = await log.take_over()
        await second.append([b"2"])
        for close in (False, True):
            with pytest.raises(RpcError, match="ABORTED"):
                await first.append([b"3"], close=close)
        await second.append([b"4"], close=True)
        with pytest.raises(RpcError, match="ABORTED"):
            await second.append([b"5"])
        with pytest.raises(RpcError, match="ABORTED"):
            await (await log.take_over()).append([b"6"], close=True)
        assert (await read_all(log))[0] == [b"1", b"2", b"4"]


@on_all
async def test_two_that_take_over_at_once(opening: Opening, tmp_path: Path) -> None:
    """One of them writes, the other is told; no append is taken for the other's, nor lost in silence."""
    async with opening(tmp_path) as logs:
        log, _ = await logs.create("a", keep_seconds=None)
        writers = [await log.take_over(), await log.take_over()]
        taken: list[bytes] = []
        for number, writer in enumerate(writers * 2):
            item = str(number).encode()
            try:
                await writer.append([item])
                taken.append(item)
            except RpcError as exc:
                assert exc.code == "ABORTED"  # noqa: PT017 - one of two may raise
        assert (await read_all(log))[0] == taken
        assert len(taken) == 2


@on_all
async def test_who_waits_is_woken(opening: Opening, tmp_path: Path) -> None:
    """By items and by the end; a wait for what is there already is none, and a cancelled one leaves nothing behind."""
    async with opening(tmp_path) as logs:
        log, _ = await logs.create("a", keep_seconds=None)
        writer = await log.take_over()
        seen: list[list[bytes]] = []

        async def follow() -> None:
            position = 0
            while True:
                await log.wait_behind(position)
                got = await log.read(position, max_bytes=100)
                seen.append(list(got.items))
                position = got.next_position
                if got.is_closed:
                    return

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await trio.testing.wait_all_tasks_blocked()
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await log.wait_behind(0)
                for item in (b"1", b"2"):
                    await writer.append([item])
                    while len(seen) < int(item):
                        await trio.lowlevel.checkpoint()
                await writer.append([b"3"], close=True)
        assert seen == [[b"1"], [b"2"], [b"3"]]


@pytest.mark.parametrize("is_persistent", [False, True])
async def test_a_log_that_is_gone(tmp_path: Path, is_persistent: bool) -> None:
    """Readers that wait are told; a log that is made at its path later is another one."""
    async with open_sqlite_store(tmp_path) as store, DurableServer(store if is_persistent else None) as server:
        logs = server.replay_log("runs/")
        log, _ = await logs.create("a", keep_seconds=None)
        writer = await log.take_over()
        await writer.append([b"1"])
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def wait() -> None:
                    with pytest.raises(RpcError, match="NOT_FOUND"):
                        await log.wait_behind(2)

                await trio.testing.wait_all_tasks_blocked()
                await server.delete("runs/a")
        again, is_new = await logs.create("a", keep_seconds=None)
        assert is_new
        assert again.log_id != log.log_id
        for use in (log.state(), log.read(0, max_bytes=1), log.wait_behind(0), log.take_over(), writer.append([b"2"])):
            with pytest.raises(RpcError, match="NOT_FOUND"):
                await use


async def test_what_is_no_log() -> None:
    """A stream of bytes that somebody has put there is refused, and so is a server that does not run."""
    async with DurableServer() as server:
        await server.create("a", content_type="text/plain")
        logs = server.replay_log()
        with pytest.raises(RpcError, match="FAILED_PRECONDITION: the stream at 'a' is no log"):
            await logs.find("a")
    with pytest.raises(RpcError, match="UNAVAILABLE"):
        await logs.find("a")


async def test_any_reader_of_the_stream_sees_a_run() -> None:
    """It is a stream of JSON like any other, and a batch's end is one of its offsets."""
    async with DurableServer() as server:
        log, _ = await server.replay_log("runs/").create("a", keep_seconds=None)
        writer = await log.take_over()
        await writer.append([b"1", b"[2]"])
        chunk = await server.read("runs/a")
        assert chunk.data == b"[1,[2]]"
        assert int(chunk.next_offset) == (await log.read(0, max_bytes=100)).next_position
        await server.append("runs/a", b"3")
        with pytest.raises(RpcError, match="ABORTED"):
            await writer.append([b"4"])


async def test_retention_counts_for_logs() -> None:
    """What is not kept any more is out of range."""
    clock = [1_000.0]
    config = DurableConfig(max_age=10, sweep_interval=0.01)
    async with DurableServer(config=config, clock=lambda: clock[0]) as server:
        log, _ = await server.replay_log().create("a", keep_seconds=None)
        writer = await log.take_over()
        await writer.append([b"1"])
        clock[0] += 11
        await writer.append([b"2"])
        with trio.fail_after(60):
            while (await log.state()).start == 0:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        with pytest.raises(RpcError, match="OUT_OF_RANGE"):
            await log.read(0, max_bytes=100)
        assert (await read_all(log, 2))[0] == [b"2"]
