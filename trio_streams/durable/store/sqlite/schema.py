"""The tables, and how a connection is made ready for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from trio_streams.durable.store.base import StoreError
from trio_streams.durable.store.sqlite.config import SqliteConfig
from trio_streams.durable.store.sqlite.database import Database

__all__ = ["APPLICATION_ID", "BUSY_MS", "PAGE_BYTES", "VERSION", "prepare_reader", "prepare_writer", "sync_directory"]

VERSION: Final = 1
"""Of the tables, in `user_version`."""

APPLICATION_ID: Final = 0x5453_4453
"""Says that the file is ours, in `application_id`."""

PAGE_BYTES: Final = 4096
"""SQLite's own default. With 8,192 small commits were a quarter slower; entries of 64 KiB gained a fifth."""

BUSY_MS: Final = 5000
"""How long a connection waits for another one of ours: a reader for the log's restart, or the other way around."""

TABLES: Final = (
    # `record` is JSON, but a blob: a text would be decoded twice.
    "CREATE TABLE streams(stream_id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, expiry REAL, record BLOB NOT NULL)",
    "CREATE INDEX streams_by_expiry ON streams(expiry) WHERE expiry IS NOT NULL",
    # Entries lie in the order in which they came, and an index finds them by stream: 10 streams or 1,000, the pages that a
    # transaction fills are the last ones. Keyed by stream they were three times slower at 1,000.
    """CREATE TABLE entries(
        entry_id INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL, position INTEGER NOT NULL, at REAL NOT NULL,
        data BLOB NOT NULL, UNIQUE(stream_id, position))""",
    """CREATE TABLE producers(
        stream_id INTEGER NOT NULL, producer_id TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
        at REAL NOT NULL, PRIMARY KEY(stream_id, producer_id)) WITHOUT ROWID""",
    # What is dropped already and not deleted yet: a stream's entries that end at or before `below`, and where that is NULL
    # all that the stream had.
    "CREATE TABLE garbage(stream_id INTEGER PRIMARY KEY, below INTEGER)",
    "CREATE TABLE counter(last_id INTEGER NOT NULL)",
)


def prepare_writer(database: Database, path: Path, config: SqliteConfig, *, last_id: int) -> None:
    """Make a connection one that writes durably, and the tables if there are none; `last_id` is before a new one's first.

    Raises:
      StoreError: the file is a newer version's, or not ours, or can't be used.
    """
    _limit(database, config)
    ((version,),) = database.execute("PRAGMA user_version")
    ((application,),) = database.execute("PRAGMA application_id")
    is_new = not database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    if not is_new and application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's database: its application_id is {application}")
    if version > VERSION:
        raise StoreError(
            f"{path} has version {version} of the tables, and this program knows {VERSION}: it needs a newer one"
        )
    if is_new:
        database.execute(f"PRAGMA page_size={PAGE_BYTES}")
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
    ((mode,),) = database.execute("PRAGMA journal_mode=WAL")
    if mode != "wal":
        raise StoreError(f"{path} can't have a write-ahead log: its file system has no shared memory")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"PRAGMA wal_autocheckpoint={max(config.checkpoint_bytes // PAGE_BYTES, 1)}")
    database.execute(f"PRAGMA journal_size_limit={config.max_wal_bytes}")
    if is_new:
        _create(database, last_id)


def prepare_reader(database: Database, config: SqliteConfig) -> None:
    """Make a connection one that only reads. Raises a `StoreError` as `prepare_writer`."""
    _limit(database, config)
    database.execute("PRAGMA query_only=ON")


def _limit(database: Database, config: SqliteConfig) -> None:
    database.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    database.execute(f"PRAGMA cache_size={-max(config.page_cache_bytes // 1024, 1)}")


def _create(database: Database, last_id: int) -> None:
    database.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        database.execute(statement)
    database.execute("INSERT INTO counter VALUES(?)", (last_id,))
    database.execute(f"PRAGMA application_id={APPLICATION_ID}")
    database.execute(f"PRAGMA user_version={VERSION}")
    database.execute("COMMIT")


def sync_directory(directory: Path) -> None:
    """Make the names of a directory's files durable: a file that was synced but has no name is lost in a crash.

    Raises:
      StoreError: the disk said no.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise StoreError(f"{directory} can't be synced: {exc.strerror}") from exc
