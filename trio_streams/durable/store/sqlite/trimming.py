"""Deletes what was dropped, a slice at a time, so that no transaction is long because a stream was.

The table `garbage` says what there is to do, so that a crash forgets none of it.
"""

from __future__ import annotations

from typing import Final

from trio_streams.durable.store.sqlite.config import SqliteConfig
from trio_streams.durable.store.sqlite.database import Database
from trio_streams.durable.store.sqlite.schema import PAGE_BYTES

__all__ = ["give_back", "trim"]

GIVEN_BACK_PAGES: Final = 256
"""Pages that one transaction gives back: a mebibyte."""


def trim(database: Database, config: SqliteConfig) -> bool:
    """Delete one slice, inside of a transaction. Returns whether there was any."""
    garbage = database.execute("SELECT stream_id, below FROM garbage LIMIT 1")
    if not garbage:
        return False
    ((stream_id, below),) = garbage
    doomed = _slice(database, config, stream_id, below)
    if doomed is not None:
        database.execute("DELETE FROM entries WHERE stream_id = ? AND position <= ?", (stream_id, doomed))
    elif below is not None or not _trim_producers(database, config, stream_id):
        database.execute("DELETE FROM garbage WHERE stream_id = ?", (stream_id,))
    return True


def _slice(database: Database, config: SqliteConfig, stream_id: int, below: int | None) -> int | None:
    """The position of the last entry that the next slice deletes; None where there is nothing to delete."""
    rows = database.execute(
        "SELECT position, length(data) FROM entries WHERE stream_id = ? ORDER BY position LIMIT ?",
        (stream_id, config.max_trim_entries),
    )
    last: int | None = None
    room = config.max_trim_bytes
    for position, size in rows:
        room -= size
        is_kept = below is not None and position + size > below
        if is_kept or (room < 0 and last is not None):
            break
        last = position
    return last


def _trim_producers(database: Database, config: SqliteConfig, stream_id: int) -> bool:
    """Delete some producers of a removed stream. Returns whether there were any."""
    rows = database.execute(
        "SELECT producer_id FROM producers WHERE stream_id = ? ORDER BY producer_id LIMIT ?",
        (stream_id, config.max_trim_entries),
    )
    if rows:
        database.execute("DELETE FROM producers WHERE stream_id = ? AND producer_id <= ?", (stream_id, *rows[-1]))
    return bool(rows)


def give_back(database: Database, config: SqliteConfig) -> bool:
    """Give some unused pages back to the file system, if there are too many. Returns whether there were."""
    ((free,),) = database.execute("PRAGMA freelist_count")
    spare = config.max_free_bytes // PAGE_BYTES
    if free <= spare:
        return False
    database.execute("BEGIN IMMEDIATE")
    for _ in range(min(free - spare, GIVEN_BACK_PAGES)):
        database.execute("PRAGMA incremental_vacuum(1)")  # Python's sqlite3 leaves a larger number after its first page
    database.execute("COMMIT")
    return True
