"""Groups, their bounds, and the log's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from trio_streams.durable.store.base import Change, Entry, ProducerState, StoreError, StreamRecord
from trio_streams.durable.store.sqlite import SqliteConfig, rows
from trio_streams.durable.store.sqlite.database import Database, open_database
from trio_streams.durable.store.sqlite.schema import prepare_reader, prepare_writer
from trio_streams.durable.store.sqlite.writer import CHANGE_OVERHEAD_BYTES, Writer, cost_bytes

CONFIG = SqliteConfig(max_batch_changes=10, max_batch_bytes=50_000, checkpoint_bytes=40_960, max_wal_bytes=1_000_000)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "x")
    prepare_writer(database, tmp_path / "x", CONFIG, last_id=100)
    yield database
    database.close()


class Heard:
    """What a writer says."""

    def __init__(self) -> None:
        self.changes = 0
        self.errors: list[StoreError] = []

    def committed(self, changes: int) -> None:
        assert not self.errors
        self.changes += changes

    def failed(self, error: StoreError) -> None:
        self.errors.append(error)


def _change(stream_id: int, position: int = 0, size: int = 1) -> Change:
    record = StreamRecord(
        stream_id=stream_id,
        path=f"/{stream_id}",
        content_type="t",
        created_at=0.5,
        touched_at=0.5,
        tail=position + size,
    )
    return Change(records=[record], entries=[Entry(position, b"x" * size, 0.5)])


def test_a_group_is_bounded(database: Database) -> None:
    """In changes and in bytes; the change that passes the bytes still goes in, and nothing queued is no group."""
    writer = Writer(database, CONFIG)
    assert writer.step() == 0
    for n in range(25):
        writer.submit(_change(200 + n))
    assert [writer.step() for _ in range(4)] == [10, 10, 5, 0]
    for n in range(4):
        writer.submit(_change(300 + n, size=30_000))
    assert [writer.step() for _ in range(3)] == [2, 2, 0]
    assert cost_bytes(_change(1, size=7)) == 7 + CHANGE_OVERHEAD_BYTES


def test_a_group_is_one_row_for_each_stream(database: Database) -> None:
    """The last record and the last state of each producer are written, and every entry; what is removed in the same group
    was never there."""
    writer = Writer(database, CONFIG)
    for n in range(5):
        states = {"p": ProducerState(0, n, 0.5), f"q{n}": ProducerState(0, 0, 0.5)}
        writer.submit(attrs.evolve(_change(1, n), producers=states))
    writer.submit(attrs.evolve(_change(2), producers={"p": ProducerState(0, 0, 0.5)}))
    writer.submit(Change(removals=[2]))
    before = database.execute("SELECT total_changes()")[0][0]
    assert writer.step() == 7
    written = database.execute("SELECT total_changes()")[0][0] - before
    assert written == 1 + 5 + 6 + 1  # the record, entries and states of one, and that the other is garbage
    stored = rows.get(database, 1)
    assert stored is not None
    assert (stored.record.tail, stored.producers["p"].seq, len(stored.producers)) == (5, 4, 6)
    assert rows.get(database, 2) is None


def test_numbers_go_on_behind_the_highest(database: Database) -> None:
    """Also behind one whose stream came and went in one group, and in the next process."""
    writer = Writer(database, CONFIG)
    assert writer.last_id == 100
    writer.submit(_change(105))
    writer.step()
    assert writer.last_id == 105
    writer.submit(_change(107))
    writer.submit(Change(removals=[107]))
    writer.step()
    assert Writer(database, CONFIG).last_id == writer.last_id == 107


def test_run_ends_behind_what_was_submitted(tmp_path: Path) -> None:
    """All that came before `stop` is durable, and the last word is that the store is closed."""
    database = open_database(tmp_path / "x")
    prepare_writer(database, tmp_path / "x", CONFIG, last_id=0)
    writer, heard = Writer(database, CONFIG), Heard()
    for n in range(25):
        writer.submit(_change(1 + n))
    writer.stop()
    writer.run(heard)
    assert heard.changes == 25
    assert [str(error) for error in heard.errors] == ["the store is closed"]
    with pytest.raises(StoreError, match="closed"):
        database.execute("SELECT 1")


def test_run_ends_at_once_when_it_is_abandoned(tmp_path: Path) -> None:
    """What is queued is lost, and said to be."""
    database = open_database(tmp_path / "x")
    prepare_writer(database, tmp_path / "x", CONFIG, last_id=0)
    writer, heard = Writer(database, CONFIG), Heard()
    writer.submit(_change(1))
    writer.abandon()
    writer.run(heard)
    assert (heard.changes, len(heard.errors)) == (0, 1)


def test_run_ends_with_what_fails(tmp_path: Path) -> None:
    """A record that can't be a row is rolled back with its group, and what was before it stays."""
    database = open_database(tmp_path / "x")
    prepare_writer(database, tmp_path / "x", CONFIG, last_id=0)
    writer, heard = Writer(database, CONFIG), Heard()
    for n in range(10):
        writer.submit(_change(1 + n))
    writer.submit(_change(11))
    writer.submit(attrs.evolve(_change(12), producers={"p": ProducerState(0, 2**70, 0.5)}))
    writer.run(heard)
    assert heard.changes == 10
    assert "too large" in str(heard.errors)
    database = open_database(tmp_path / "x")
    assert database.execute("SELECT count(*) FROM streams") == [(10,)]
    database.close()


def _read_on(path: Path, is_over: threading.Event) -> None:
    """Read as one reader behind the other, for as long as it takes: each for some milliseconds, without a pause."""
    reader = open_database(path)
    prepare_reader(reader, CONFIG)
    while not is_over.is_set():
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM streams")
        is_over.wait(0.003)
        reader.execute("COMMIT")
    reader.close()


def test_the_log_is_bounded_though_readers_never_pause(tmp_path: Path, database: Database) -> None:
    """Where there is always a reader on the log it does not start anew by itself; past `max_wal_bytes` the writer sees to
    it. Without that, all that was ever written would be in the log: 16 MB here."""
    is_over = threading.Event()
    readers = [threading.Thread(target=_read_on, args=(tmp_path / "x", is_over)) for _ in range(3)]
    for reader in readers:
        reader.start()
    writer, largest = Writer(database, CONFIG), 0
    try:
        for n in range(400):
            writer.submit(_change(1, n * 20_000, 20_000))
            writer.step()
            writer.watch_log()
            largest = max(largest, (tmp_path / "x-wal").stat().st_size)
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
    assert largest < 8_000_000
