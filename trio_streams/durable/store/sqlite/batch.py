"""A group of changes as one transaction: what each stream is at the end of it, and all that is new.

A thousand appends to one stream are a thousand rows of `entries`, but one row of `streams` and one of `producers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from trio_streams.durable.store.base import Change, ProducerState, StreamRecord
from trio_streams.durable.store.sqlite.database import Database, Row
from trio_streams.durable.store.sqlite.rows import to_row

__all__ = ["Batch", "insert"]

_RUNS: Final = (64, 16, 4, 1)
"""Rows in one statement. Each statement lets go of the interpreter once, whatever its rows, so that a writer among busy
threads waits for its turn once in 64 rows, and not in each; and only four texts are to be kept prepared."""

_RECORDS: Final = "INSERT INTO streams(stream_id, path, expiry, record) VALUES "
_RECORD_UPDATES: Final = " ON CONFLICT(stream_id) DO UPDATE SET expiry = excluded.expiry, record = excluded.record"
_ENTRIES: Final = "INSERT INTO entries(stream_id, position, at, data) VALUES "
_PRODUCERS: Final = "INSERT OR REPLACE INTO producers(stream_id, producer_id, epoch, seq, at) VALUES "
_GARBAGE: Final = "INSERT OR REPLACE INTO garbage(stream_id, below) VALUES "


def insert(database: Database, head: str, rows: Sequence[Row], tail: str = "") -> None:
    """Insert rows by few statements; `head` ends in VALUES, and `tail` may say what to do on a conflict."""
    done = 0
    for run in _RUNS:
        while len(rows) - done >= run:
            group = rows[done : done + run]
            places = f"({', '.join('?' * len(group[0]))})"
            database.execute(f"{head}{', '.join([places] * run)}{tail}", tuple(chain.from_iterable(group)))
            done += run


class Batch:
    """Changes that become durable together.

    Attributes:
      changes: how many.
      highest_id: of all streams in it; 0 without one.
    """

    def __init__(self) -> None:
        self.changes: int = 0
        self.highest_id: int = 0
        self._records: dict[int, StreamRecord] = {}
        self._entries: list[Row] = []
        self._producers: dict[tuple[int, str], ProducerState] = {}
        self._removals: set[int] = set()

    def add(self, change: Change) -> None:
        """Put the next change behind those that are here."""
        self.changes += 1
        for record in change.records:
            self._records[record.stream_id] = record
        if change.entries or change.producers:
            stream_id = change.records[0].stream_id
            self._entries += [(stream_id, entry.position, entry.at, entry.data) for entry in change.entries]
            for producer_id, state in change.producers.items():
                self._producers[stream_id, producer_id] = state
        self._removals.update(change.removals)

    def write(self, database: Database, dropped: dict[int, int]) -> bool:
        """Write it all, inside of a transaction.

        Args:
          database: where.
          dropped: by stream, the start up to which entries are in `garbage` already; brought up to date.

        Returns: whether there is new garbage.
        """
        is_garbage = self._write_removals(database, dropped)
        records = list(self._records.values())
        if records:
            self.highest_id = max(self.highest_id, *self._records)
            insert(database, _RECORDS, [to_row(record) for record in records], _RECORD_UPDATES)
        insert(database, _ENTRIES, self._entries)
        insert(
            database, _PRODUCERS, [(*key, state.epoch, state.seq, state.at) for key, state in self._producers.items()]
        )
        behind = [
            (record.stream_id, record.start) for record in records if record.start > dropped.get(record.stream_id, 0)
        ]
        dropped.update(behind)
        insert(database, _GARBAGE, behind)
        return is_garbage or bool(behind)

    def _write_removals(self, database: Database, dropped: dict[int, int]) -> bool:
        """Take what is removed out of the tables, and what came before its removal out of this batch."""
        removals = self._removals
        if not removals:
            return False
        self.highest_id = max(removals)
        for stream_id in removals:
            self._records.pop(stream_id, None)
            dropped.pop(stream_id, None)
            database.execute("DELETE FROM streams WHERE stream_id = ?", (stream_id,))
        self._entries = [row for row in self._entries if row[0] not in removals]
        self._producers = {key: state for key, state in self._producers.items() if key[0] not in removals}
        insert(database, _GARBAGE, [(stream_id, None) for stream_id in removals])
        return True
