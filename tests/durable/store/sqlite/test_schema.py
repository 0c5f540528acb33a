"""What a file says of itself, and which files are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from trio_streams.durable.store.base import StoreError
from trio_streams.durable.store.sqlite import SqliteConfig, SqliteStore, open_sqlite_store
from trio_streams.durable.store.sqlite.schema import APPLICATION_ID, VERSION, sync_directory


async def _open(path: Path) -> None:
    async with open_sqlite_store(path):
        await trio.lowlevel.checkpoint()


def _tell(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path / "streams.sqlite3", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_a_file_says_whose_it_is(tmp_path: Path) -> None:
    """It has our application's number, the version of the tables, a log, and pages that can be given back."""
    await _open(tmp_path)
    connection = sqlite3.connect(tmp_path / "streams.sqlite3")
    names = ("application_id", "user_version", "journal_mode", "auto_vacuum")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    connection.close()
    assert found == [APPLICATION_ID, VERSION, "wal", 2]


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """The words name both versions, and the file is as it was."""
    await _open(tmp_path)
    _tell(tmp_path, "PRAGMA user_version=99")
    with pytest.raises(StoreError, match=f"version 99 of the tables, and this program knows {VERSION}"):
        await _open(tmp_path)
    _tell(tmp_path, f"PRAGMA user_version={VERSION}")
    await _open(tmp_path)


async def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    """A database that is not ours is not written to."""
    _tell(tmp_path, "CREATE TABLE theirs(x)")
    before = (tmp_path / "streams.sqlite3").read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        await _open(tmp_path)
    assert (tmp_path / "streams.sqlite3").read_bytes() == before


async def test_every_commit_is_synced(tmp_path: Path) -> None:
    """The connection that writes says FULL (2), in a log that is bounded; those that read can't write."""
    config = SqliteConfig(checkpoint_bytes=409_600, max_wal_bytes=1_000_000)
    async with open_sqlite_store(tmp_path, config) as store:
        assert isinstance(store, SqliteStore)
        writer = store._writer._database
        assert writer.execute("PRAGMA synchronous") == [(2,)]
        assert writer.execute("PRAGMA wal_autocheckpoint") == [(100,)]
        assert writer.execute("PRAGMA journal_size_limit") == [(1_000_000,)]
        with pytest.raises(StoreError, match="readonly"):
            store._files.ask(lambda database: database.execute("DELETE FROM streams"))


def test_a_directory_that_can_not_be_synced_is_named(tmp_path: Path) -> None:
    """The disk's word is an error of the store's kind."""
    with pytest.raises(StoreError, match="none can't be synced"):
        sync_directory(tmp_path / "none")
