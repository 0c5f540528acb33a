"""What was dropped goes in slices, and its pages are used again or given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from trio_streams.durable.store.base import Change, Entry, ProducerState, StreamRecord
from trio_streams.durable.store.sqlite import SqliteConfig
from trio_streams.durable.store.sqlite.database import Database, open_database
from trio_streams.durable.store.sqlite.schema import prepare_writer
from trio_streams.durable.store.sqlite.writer import Writer

CONFIG = SqliteConfig(max_trim_entries=10, max_trim_bytes=1000, max_free_bytes=100 * 4096)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "x"
    database = open_database(path)
    prepare_writer(database, path, CONFIG, last_id=0)
    yield database
    database.close()


def _stream(stream_id: int, entries: int, size: int) -> tuple[StreamRecord, Change]:
    record = StreamRecord(
        stream_id=stream_id, path=f"/{stream_id}", content_type="t", created_at=0.5, touched_at=0.5, tail=entries * size
    )
    parts = [Entry(n * size, bytes([n % 256]) * size, 0.5) for n in range(entries)]
    return record, Change(records=[record], entries=parts)


def _count(database: Database, table: str) -> int:
    ((count,),) = database.execute(f"SELECT count(*) FROM {table}")
    return int(count)


def _collect(writer: Writer, database: Database) -> list[int]:
    """Let the writer tidy up; how many entries there were after each slice."""
    counts = []
    while _count(database, "garbage"):
        writer.step()
        counts.append(_count(database, "entries"))
    return counts


def test_a_slice_is_bounded_in_entries_and_bytes(database: Database) -> None:
    """Ten entries a transaction, or a thousand bytes, whichever comes first; one entry at least, however large."""
    writer = Writer(database, CONFIG)
    for stream_id, entries, size in ((1, 25, 1), (2, 10, 400), (3, 2, 5000)):
        record, change = _stream(stream_id, entries, size)
        writer.submit(change)
        writer.step()
        before = _count(database, "entries")
        writer.submit(Change(removals=[record.stream_id]))
        writer.step()
        taken = [before - count for count in _collect(writer, database)]
        steps = {1: [10, 20, 25], 2: [2, 4, 6, 8, 10], 3: [1, 2]}[stream_id]
        assert taken[: len(steps)] == steps
        assert _count(database, "entries") == 0


def test_retention_deletes_what_lies_before_the_start(database: Database) -> None:
    """An entry that straddles the start stays; a start that moves on while slices are under way is followed."""
    writer = Writer(database, CONFIG)
    record, change = _stream(1, 100, 10)
    writer.submit(change)
    for start in (305, 306, 705):
        writer.submit(Change(records=[attrs.evolve(record, start=start)]))
        writer.step()
    _collect(writer, database)
    assert database.execute("SELECT min(position), count(*) FROM entries") == [(700, 30)]


def test_slices_go_on_after_a_crash(database: Database) -> None:
    """What there is to delete is in the database, so that the next process knows it."""
    writer = Writer(database, CONFIG)
    record, change = _stream(1, 30, 10)
    writer.submit(attrs.evolve(change, producers={f"p{n}": ProducerState(0, 0, 0.5) for n in range(25)}))
    writer.submit(Change(removals=[record.stream_id]))
    writer.submit(_stream(2, 5, 10)[1])
    writer.step()
    another = Writer(database, CONFIG)
    _collect(another, database)
    assert database.execute("SELECT DISTINCT stream_id FROM entries") == [(2,)]
    assert _count(database, "producers") == 0


def test_slices_also_go_with_changes(database: Database) -> None:
    """A store that is never idle tidies up as well, a slice with each transaction."""
    writer = Writer(database, CONFIG)
    record, change = _stream(1, 20, 10)
    writer.submit(change)
    writer.step()
    writer.submit(Change(removals=[record.stream_id]))
    writer.step()
    for n in range(2, 5):
        writer.submit(_stream(n, 1, 1)[1])
        assert writer.step() == 1
    assert _count(database, "entries") == 3


def test_a_file_shrinks_when_too_much_of_it_is_unused(database: Database) -> None:
    """Pages beyond `max_free_bytes` go back to the file system in an idle writer, and no more than those."""
    writer = Writer(database, CONFIG)
    record, change = _stream(1, 300, 10_000)
    writer.submit(change)
    writer.submit(Change(removals=[record.stream_id]))
    writer.step()
    writer.submit(_stream(2, 300, 10_000)[1])
    writer.step()
    writer.submit(Change(removals=[2]))
    writer.step()
    _collect(writer, database)
    ((before,),) = database.execute("PRAGMA page_count")
    for _ in range(20):
        writer.step()
    ((free,),) = database.execute("PRAGMA freelist_count")
    ((after,),) = database.execute("PRAGMA page_count")
    assert after < before
    assert free == 100
