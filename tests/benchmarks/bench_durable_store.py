"""How many appends a second does the durable store acknowledge, beside the disk it stands on and SQLite alone?

A writer appends 100 bytes, waits until that is on the disk, and appends again: to a stream of its own, or all to one. With
batches a change holds 100 entries. `fdatasync` is a file that 100 bytes are appended to, and synced after each run of as
many as there are writers; `executemany` is one insert of as many rows a transaction, in a table without an index.

    python -m tests.benchmarks.bench_durable_store [--quick] [--only NAME] [--directory DIR]
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import trio

from tests.benchmarks.table import interleaved, median, options, print_head, print_table
from trio_streams.durable.store.base import Change, Commit, Entry, Store, StreamRecord
from trio_streams.durable.store.sqlite import open_sqlite_store

WRITERS: Final = (1, 10, 16, 256)
DATA: Final = b"x" * 100
BATCH: Final = 100


def _record(stream_id: int, tail: int) -> StreamRecord:
    return StreamRecord(
        stream_id=stream_id,
        path=f"/{stream_id}",
        content_type="application/json",
        created_at=1.5,
        touched_at=1.5,
        tail=tail,
    )


class _Stream:
    """A stream that appends go to, as a server keeps it in memory."""

    def __init__(self, store: Store, stream_id: int) -> None:
        self._store = store
        self._stream_id = stream_id
        self._tail = 0
        self.rows = 0

    async def append(self, batch: int) -> None:
        await self._store.wait_room()
        entries = []
        for _ in range(batch):
            entries.append(Entry(self._tail, DATA, 1.5))
            self._tail += len(DATA)
        commit: Commit | None = self._store.submit(
            Change(records=(_record(self._stream_id, self._tail),), entries=entries)
        )
        assert commit is not None
        await commit.wait()
        self.rows += batch


async def _measure_store(folder: Path, writers: int, batch: int, seconds: float, *, is_shared: bool) -> float:
    """Rows a second."""

    async def write(stream: _Stream) -> None:
        while perf_counter() < end:
            await stream.append(batch)

    with tempfile.TemporaryDirectory(dir=folder) as directory:
        async with open_sqlite_store(directory) as store:
            streams = [_Stream(store, await store.new_id()) for _ in range(1 if is_shared else writers)]
            begin = perf_counter()
            end = begin + seconds
            async with trio.open_nursery() as nursery:
                for n in range(writers):
                    nursery.start_soon(write, streams[n % len(streams)])
            return sum(stream.rows for stream in streams) / (perf_counter() - begin)


def _store(folder: Path, writers: int, batch: int, seconds: float, *, is_shared: bool) -> float:
    return trio.run(partial(_measure_store, folder, writers, batch, seconds, is_shared=is_shared))


def _fdatasync(folder: Path, writers: int, batch: int, seconds: float) -> float:
    """Rows a second where a file is all there is."""
    data, rows = DATA * batch * writers, 0
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            file.write(data)
            os.fdatasync(file.fileno())
            rows += batch * writers
        return rows / (perf_counter() - begin)


def _executemany(folder: Path, writers: int, batch: int, seconds: float) -> float:
    """Rows a second where SQLite is all there is."""
    rows, done = [(1.5, DATA)] * (batch * writers), 0
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        connection = sqlite3.connect(Path(directory) / "bare", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE entries(entry_id INTEGER PRIMARY KEY, at REAL, data BLOB)")
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO entries(at, data) VALUES (?, ?)", rows)
            connection.execute("COMMIT")
            done += len(rows)
        rate = done / (perf_counter() - begin)
        connection.close()
    return rate


CONTESTANTS: Final[dict[str, Callable[[Path, int, int, float], float]]] = {
    "the store, a stream each": partial(_store, is_shared=False),
    "the store, one stream": partial(_store, is_shared=True),
    "bare SQLite, executemany": _executemany,
    "bare file, fdatasync": _fdatasync,
}


def main() -> None:
    """Print the table."""
    chosen = options(__doc__, directory="where to write; the system's temporary directory")
    rounds, seconds = (1, 0.1) if chosen.quick else (chosen.rounds, 1.0)
    folder = Path(chosen.directory or tempfile.gettempdir())
    print_head(
        "Durable appends of 100 bytes",
        f"rows a second, medians of {rounds} interleaved rounds of {seconds} s; one process, no network",
    )
    loads = [(writers, 1) for writers in WRITERS] + [(1, BATCH), (16, BATCH)]
    measures = {
        (name, writers, batch): partial(measure, folder, writers, batch, seconds)
        for writers, batch in loads
        for name, measure in CONTESTANTS.items()
        if chosen.only in name
    }
    found = interleaved({repr(key): measure for key, measure in measures.items()}, rounds)
    heads = [f"{writers} × {batch}" if batch > 1 else f"{writers}" for writers, batch in loads]
    names = [name for name in CONTESTANTS if chosen.only in name]
    rows = [[name, *(f"{median(found[repr((name, *load))]):,.0f}" for load in loads)] for name in names]
    print_table(["writers (× rows in an append)", *heads], rows)


if __name__ == "__main__":
    main()
