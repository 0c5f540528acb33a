"""The store in its directory: whose it is, what fails, what is left when it is closed or cancelled."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing

from trio_streams.durable.store.base import Change, Entry, Store, Stored, StoreError, StreamRecord
from trio_streams.durable.store.sqlite import SqliteConfig, SqliteStore, open_sqlite_store
from trio_streams.durable.store.sqlite.database import Database, Row, open_database
from trio_streams.durable.store.sqlite.files import Files

SECONDS = 30.0
"""A fail-safe."""


class Gate:
    """A database whose commits wait until they may, and fail if they shall."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.is_committing = threading.Event()
        self.commits = 0
        self.error: Exception | None = None
        self.iterate = database.iterate
        self.close = database.close

    async def wait_commit(self) -> None:
        """Wait until a transaction is before the gate."""
        assert await trio.to_thread.run_sync(self.is_committing.wait, SECONDS)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if sql == "COMMIT":
            self.is_committing.set()
            assert self.may_commit.wait(SECONDS)
            self.is_committing.clear()
            self.commits += 1
            if self.error is not None:
                raise self.error
        return self._database.execute(sql, parameters)


@asynccontextmanager
async def _gated(path: Path, config: SqliteConfig | None = None) -> AsyncIterator[tuple[SqliteStore, Gate]]:
    """A store, and the gate before its writer's disk; open at the end, so that it can be closed."""
    config = config or SqliteConfig()
    gates: list[Gate] = []

    def opener(path: Path) -> Database:
        gates.append(Gate(open_database(path)))
        return gates[-1]

    files = await trio.to_thread.run_sync(Files.open, path, config, opener)
    store, gate = SqliteStore(files, config), gates[0]
    try:
        yield store, gate
    finally:
        gate.may_commit.set()
        await store.aclose()


def _record(stream_id: int, tail: int = 0) -> StreamRecord:
    return StreamRecord(
        stream_id=stream_id, path=f"/{stream_id}", content_type="t", created_at=1.5, touched_at=1.5, tail=tail
    )


def _append(stream_id: int, position: int, size: int = 1) -> Change:
    return Change(records=[_record(stream_id, position + size)], entries=[Entry(position, b"x" * size, 1.5)])


async def _write(store: Store, size: int = 1) -> int:
    stream_id = await store.new_id()
    commit = store.submit(_append(stream_id, 0, size))
    assert commit is not None
    await commit.wait()
    return stream_id


async def test_what_is_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    """Another connection sees what `wait` returned for; the file is named as the documentation says."""
    async with open_sqlite_store(tmp_path) as store:
        stream_id = await _write(store, 10)
        other = sqlite3.connect(tmp_path / "streams.sqlite3")
        assert other.execute("SELECT stream_id, length(data) FROM entries").fetchall() == [(stream_id, 10)]
        other.close()


async def test_nothing_is_seen_before_it_is_durable(tmp_path: Path) -> None:
    """A change whose commit has not come is in no answer, and its waiter waits."""
    async with _gated(tmp_path) as (store, gate):
        gate.may_commit.clear()
        stream_id = await store.new_id()
        commit = store.submit(_append(stream_id, 0))
        await trio.testing.wait_all_tasks_blocked()
        assert await store.get(stream_id) is None
        assert await store.read(stream_id, 0, 1, max_bytes=1) == []
        gate.may_commit.set()
        await commit.wait()
        assert await store.get(stream_id) == Stored(_record(stream_id, 1))


async def test_changes_that_gather_become_one_transaction(tmp_path: Path) -> None:
    """While a commit is under way others queue; then they are durable by one commit."""
    async with _gated(tmp_path) as (store, gate):
        gate.may_commit.clear()
        commits = [store.submit(_append(await store.new_id(), 0)) for _ in range(1)]
        await gate.wait_commit()
        before = gate.commits
        commits += [store.submit(_append(await store.new_id(), 0)) for _ in range(100)]
        gate.may_commit.set()
        for commit in commits:
            await commit.wait()
        assert gate.commits - before == 2


@pytest.mark.parametrize("error", [StoreError("the disk is full"), OverflowError("too large")], ids=repr)
async def test_what_fails_fails_all_behind_it(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed commit fails its waiters, those whose changes were queued behind it, and whatever is tried after that;
    what was durable can still be read, the log says what happened, and another opening works."""
    async with _gated(tmp_path) as (store, gate):
        stream_id = await _write(store, 5)
        gate.may_commit.clear()
        gate.error = error
        commits = [store.submit(_append(stream_id, 5 + n)) for n in range(3)]
        gate.may_commit.set()
        for commit in commits:
            with pytest.raises(StoreError, match="full|large"):
                await commit.wait()
        with pytest.raises(StoreError, match="has failed"):
            store.submit(_append(stream_id, 5))
        with pytest.raises(StoreError, match="has failed"):
            await store.wait_room()
        with pytest.raises(StoreError, match="has failed"):
            await store.new_id()
        assert await store.get(stream_id) == Stored(_record(stream_id, 5))
        assert len(await store.read(stream_id, 0, 5, max_bytes=10)) == 1
    (record,) = caplog.records
    assert (record.levelname, str(error) in record.getMessage()) == ("ERROR", True)
    async with open_sqlite_store(tmp_path) as again:
        assert await again.get(stream_id) == Stored(_record(stream_id, 5))
        await _write(again)


async def test_a_full_disk_fails_the_store(tmp_path: Path) -> None:
    """SQLite's own error for a full disk, in the middle of a transaction: nothing of it is there afterwards."""
    async with open_sqlite_store(tmp_path) as store:
        stream_id = await _write(store)
        assert isinstance(store, SqliteStore)
        store._writer._database.execute("PRAGMA max_page_count=40")
        large = [store.submit(_append(stream_id, 1 + n * 100_000, 100_000)) for n in range(3)]
        for commit in large:
            with pytest.raises(StoreError, match=r"streams\.sqlite3: database or disk is full"):
                await commit.wait()
    async with open_sqlite_store(tmp_path) as again:
        assert await again.get(stream_id) == Stored(_record(stream_id, 1))
        await _write(again, 1_000_000)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_deleted_directory_takes_nothing(tmp_path: Path, is_replaced: bool) -> None:
    """What would be written where nobody finds it again is not acknowledged."""
    directory = tmp_path / "store"
    async with open_sqlite_store(directory) as store:
        stream_id = await _write(store, 5)
        directory.rename(tmp_path / "elsewhere")
        if is_replaced:
            directory.mkdir()
            shutil.copy(tmp_path / "elsewhere" / "streams.sqlite3", directory)
        with pytest.raises(StoreError, match="deleted, moved or replaced"):
            await store.submit(_append(stream_id, 5)).wait()  # type: ignore[union-attr]


async def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    """Pages of noise are an error with the file's name, and no answer."""
    async with open_sqlite_store(tmp_path) as store:
        ids = [await _write(store, 5000) for _ in range(20)]
    path = tmp_path / "streams.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\x5a" * (len(content) - 4096))
    with pytest.raises(StoreError, match=r"streams\.sqlite3"):
        async with open_sqlite_store(tmp_path) as store:
            await store.get(ids[0])
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreError, match=r"streams\.sqlite3: file is not a database"):
        async with open_sqlite_store(tmp_path):
            pytest.fail("it was opened")


async def test_a_directory_that_can_not_be(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        async with open_sqlite_store(tmp_path / "file" / "below"):
            pytest.fail("it was opened")


async def test_waiting_for_room(tmp_path: Path) -> None:
    """Past `max_pending_bytes` `wait_room` waits, and goes on when the disk has taken something."""
    async with _gated(tmp_path, SqliteConfig(max_pending_bytes=10_000)) as (store, gate):
        gate.may_commit.clear()
        stream_id = await store.new_id()
        store.submit(_append(stream_id, 0, 5000))
        await store.wait_room()
        commit = store.submit(_append(stream_id, 5000, 5000))
        rooms = 0

        async def wait_room() -> None:
            nonlocal rooms
            await store.wait_room()
            rooms += 1

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait_room)
            await trio.testing.wait_all_tasks_blocked()
            assert rooms == 0
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.wait_room()
            gate.may_commit.set()
        await commit.wait()
        assert rooms == 3


async def test_whoever_waits_for_room_hears_of_a_failure(tmp_path: Path) -> None:
    """No room will ever be where the disk is gone."""
    async with _gated(tmp_path, SqliteConfig(max_pending_bytes=1000)) as (store, gate):
        gate.may_commit.clear()
        gate.error = StoreError("gone")
        store.submit(_append(await store.new_id(), 0, 1000))
        async with trio.open_nursery() as nursery:

            async def wait_room() -> None:
                with pytest.raises(StoreError, match="gone"):
                    await store.wait_room()

            nursery.start_soon(wait_room)
            await trio.testing.wait_all_tasks_blocked()
            gate.may_commit.set()


async def test_closing_makes_durable_what_was_submitted(tmp_path: Path) -> None:
    """Nobody has waited for these changes, and they are there."""
    async with open_sqlite_store(tmp_path) as store:
        ids = [await store.new_id() for _ in range(100)]
        for stream_id in ids:
            store.submit(_append(stream_id, 0))
    assert not (tmp_path / "streams.sqlite3-wal").exists()
    async with open_sqlite_store(tmp_path) as again:
        assert [(await again.get(stream_id)) for stream_id in ids] == [Stored(_record(n, 1)) for n in ids]
        assert await again.new_id() > max(ids)


async def test_a_cancelled_close_lets_go_of_the_files(tmp_path: Path) -> None:
    """It waits for the transaction that is under way, and for no other; what was not in it has failed."""
    async with _gated(tmp_path) as (store, gate):
        gate.may_commit.clear()
        first = store.submit(_append(await store.new_id(), 0))
        await gate.wait_commit()
        second = store.submit(_append(await store.new_id(), 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.aclose)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            gate.may_commit.set()
        await first.wait()
        with pytest.raises(StoreError, match="closed"):
            await second.wait()
        async with open_sqlite_store(tmp_path) as again:
            assert len(await again.list_records("", limit=10)) == 1


async def test_a_cancelled_close_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    """Behind a disk that does not answer it is left after `close_timeout`; the directory is not let go while the disk
    may still write to it."""
    async with _gated(tmp_path, SqliteConfig(close_timeout=0.01)) as (store, gate):
        gate.may_commit.clear()
        store.submit(_append(await store.new_id(), 0))
        await gate.wait_commit()
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.aclose()
        assert scope.cancelled_caught
        with pytest.raises(StoreError, match="in use"):
            async with open_sqlite_store(tmp_path, SqliteConfig(lock_timeout=0)):
                pytest.fail("it was opened")


async def test_questions_to_a_closed_store(tmp_path: Path) -> None:
    """They are refused; the words say where it was."""
    async with open_sqlite_store(tmp_path) as store:
        stream_id = await _write(store)
    for ask in (store.find("/"), store.get(stream_id), store.new_id(), store.list_records("", limit=1)):
        with pytest.raises(StoreError, match=f"{tmp_path.name} is closed"):
            await ask


async def test_what_the_cache_has_lost_comes_from_the_disk(tmp_path: Path) -> None:
    """With room for a few entries in memory every range of a longer stream is as it was written."""
    async with open_sqlite_store(tmp_path, SqliteConfig(cache_bytes=2000)) as store:
        stream_id, record = await store.new_id(), _record(0)
        for n in range(30):
            record = attrs.evolve(_record(stream_id), tail=(n + 1) * 10)
            commit = store.submit(Change(records=[record], entries=[Entry(n * 10, b"%010d" % n, 1.5)]))
            assert commit is not None
            await commit.wait()
        for start in range(30):
            entries = await store.read(stream_id, start * 10, 300, max_bytes=10_000)
            assert [int(entry.data) for entry in entries] == list(range(start, 30))
