"""A store on a disk whose power goes, again and again; what is on it afterwards is what was acknowledged, or a little more.

A run is all of one seed: what clients do, in which groups it is written, when the power goes and what that leaves. Clients
are idempotent producers that do not know what became of the last batch, and send it again.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs

from tests.durable.store.sqlite.disk import Disk, PowerCut, Refusal
from tests.durable.store.sqlite.vfs import DiskDatabase, DiskVFS
from trio_streams.durable.store.base import Change, Entry, Fork, ProducerState, Stored, StoreError, StreamRecord
from trio_streams.durable.store.sqlite import SqliteConfig, rows
from trio_streams.durable.store.sqlite.database import Database
from trio_streams.durable.store.sqlite.schema import prepare_writer
from trio_streams.durable.store.sqlite.writer import Writer

__all__ = ["Run"]

PATH: Final = Path("streams.sqlite3")

CONFIG: Final = SqliteConfig(
    checkpoint_bytes=8 * 4096, max_wal_bytes=16 * 4096, max_free_bytes=4 * 4096, max_trim_entries=4, max_trim_bytes=4000
)
"""So small that a few changes are enough for a checkpoint, a log that starts anew, and a database that shrinks."""

POWER_CUTS: Final = 3
STEPS: Final = 250
"""What is written and synced between two power cuts, at most."""

MAX_STEPS: Final = STEPS * POWER_CUTS * 2
"""A fail-safe: the power goes before."""

PRODUCERS: Final = ("ada", "bob")


Key = tuple[int, str]
"""A stream's number and a producer's id."""


@attrs.frozen
class Content:
    """A stream as it has to be: what is known of it, and its bytes from its start on."""

    stored: Stored
    data: bytes


State = Mapping[int, Content]
"""All streams, after one change or another."""


class Run:
    """One run.

    Args:
      seed: decides everything.
      is_honest: whether the disk syncs when it is told to.
      synchronous: what the database is told about syncing after it was opened.
      is_directory_synced: whether the files' names are, as `Files.open` does.
      is_power: whether the power goes; or else the disk refuses one thing, and the process ends in order.

    Attributes:
      acknowledged: how many changes were.
      retries: how many batches were sent again.
      duplicates: how many of them were there already.
    """

    def __init__(
        self,
        seed: int,
        *,
        is_honest: bool = True,
        synchronous: str = "FULL",
        is_directory_synced: bool = True,
        is_power: bool = True,
    ) -> None:
        self._rng = random.Random(seed)
        self._disk = Disk(self._rng, is_honest=is_honest)
        self._vfs = DiskVFS(f"disk-{seed}-{id(self)}", self._disk)
        self._synchronous = synchronous
        self._is_power = is_power
        self._is_directory_synced = is_directory_synced
        self._states: list[State] = [{}]  # the acknowledged one, and one behind each change that is under way
        self._under_way: deque[Key | None] = deque()  # whose batch each of these changes is
        self._sent: Counter[Key] = Counter()
        self._confirmed: Counter[Key] = Counter()
        self._highest_id = self._next_id = 0
        self.acknowledged = 0
        self.retries = 0
        self.duplicates = 0

    def run(self) -> None:
        """Live through some power cuts; an AssertionError says what was lost."""
        try:
            for _ in range(POWER_CUTS):
                self._disk.fail_after(self._rng.randrange(STEPS), is_power=self._is_power)
                with suppress(StoreError, PowerCut, Refusal):
                    self._live()
                self._restart()
            database = self._open()
            self._check(database)
            self._collect(Writer(database, CONFIG), database)
            database.close()
        finally:
            self._disk.cut()
            self._vfs.bury()
            self._vfs.unregister()

    @property
    def steps(self) -> int:
        """What was written, truncated, synced and deleted."""
        return self._disk.steps

    def _commit(self, changes: int) -> None:
        """Acknowledge so many: nobody may forget these."""
        self.acknowledged += changes
        del self._states[:changes]
        for _ in range(changes):
            key = self._under_way.popleft()
            if key is not None:
                self._confirmed[key] += 1

    def _restart(self) -> None:
        if self._is_power:
            self._disk.cut()
            self._vfs.bury()
            self._disk.restart()
        else:
            self._disk.spare()
            self._vfs.bury()  # an orderly end: what failed is not there, as its waiters were told
            del self._states[1:]
        self._under_way.clear()
        self.retries += (self._sent - self._confirmed).total()
        self._sent = self._confirmed.copy()  # what has no answer is sent again

    def _open(self) -> Database:
        database = DiskDatabase(str(PATH), self._vfs)
        prepare_writer(database, PATH, CONFIG, last_id=0)
        if self._is_directory_synced:
            self._disk.sync_names()
        database.execute(f"PRAGMA synchronous={self._synchronous}")
        return database

    def _live(self) -> None:
        """What one process does, until the power goes."""
        database = self._open()
        self._check(database)
        writer = Writer(database, CONFIG)
        assert writer.last_id >= self._highest_id, "a number would be given again"
        self._next_id = writer.last_id
        while self._disk.steps < MAX_STEPS:
            for _ in range(self._rng.randrange(6)):
                self._act(writer)
            while self._under_way:
                self._commit(writer.step())
                writer.watch_log()
            writer.step()  # some garbage
            self._highest_id = writer.last_id
            if self._rng.random() < 0.02:
                database.close()  # and the disk may be left with what that did not sync
                return

    def _act(self, writer: Writer) -> None:
        """One request of a client."""
        state = self._states[-1]
        streams = sorted(state)
        choice = self._rng.random()
        if not streams or (choice < 0.06 and len(streams) < 5):
            self._create(writer, state, self._rng.choice([None, *streams]))
        elif choice < 0.09:
            stream_id = self._rng.choice(streams)
            self._submit(writer, Change(removals=[stream_id]), {n: c for n, c in state.items() if n != stream_id})
        elif choice < 0.2:
            self._drop(writer, state, self._rng.choice(streams))
        else:
            self._append(writer, state, self._rng.choice(streams), self._rng.choice(PRODUCERS))

    def _create(self, writer: Writer, state: State, source_id: int | None) -> None:
        self._next_id += 1
        stream_id = self._next_id
        path = f"/{self._rng.randrange(8)}"
        if any(content.stored.record.path == path for content in state.values()):
            return
        record = StreamRecord(stream_id=stream_id, path=path, content_type="text/plain", created_at=1.5, touched_at=1.5)
        records = [record]
        if source_id is not None:
            source = state[source_id].stored.record
            fork = Fork(source_id, source.path, None, 0, source.tail)
            record = attrs.evolve(record, start=source.tail, tail=source.tail, fork=fork)
            records = [record, attrs.evolve(source, references=source.references + 1)]
        contents = dict(state)
        contents[stream_id] = Content(Stored(record), b"")
        for other in records[1:]:
            stored = attrs.evolve(contents[other.stream_id].stored, record=other)
            contents[other.stream_id] = attrs.evolve(contents[other.stream_id], stored=stored)
        self._submit(writer, Change(records=records), contents)

    def _drop(self, writer: Writer, state: State, stream_id: int) -> None:
        """Retention."""
        stored, data = state[stream_id].stored, state[stream_id].data
        start = self._rng.randint(stored.record.start, stored.record.tail)
        record = attrs.evolve(stored.record, start=start)
        content = Content(attrs.evolve(stored, record=record), data[start - stored.record.start :])
        self._submit(writer, Change(records=[record]), {**state, stream_id: content})

    def _append(self, writer: Writer, state: State, stream_id: int, producer_id: str) -> None:
        key, (stored, data) = (stream_id, producer_id), attrs.astuple(state[stream_id], recurse=False)
        seq = self._sent[key]
        self._sent[key] += 1
        known = stored.producers.get(producer_id)
        if known is not None and known.seq >= seq:
            assert known.seq == seq or seq < self._confirmed[key] + 10
            self.duplicates += 1
            self._confirmed[key] += 1
            return
        assert seq == (0 if known is None else known.seq + 1), "a batch that was confirmed is gone"
        position, entries = stored.record.tail, []
        for part in range(self._rng.choice([1, 1, 1, 3])):
            size = self._rng.choice([0, 0, 50, 500, 9000])
            entries.append(Entry(position, f"{producer_id}:{seq}:{part}:{'x' * size};".encode(), 2.5))
            position = entries[-1].end
        record = attrs.evolve(stored.record, tail=position, touched_at=seq + 0.25)
        producers = {producer_id: ProducerState(1, seq, 3.5)}
        change = Change(records=[record], entries=entries, producers=producers)
        data += b"".join(entry.data for entry in entries)
        content = Content(Stored(record, {**stored.producers, **producers}), data)
        self._submit(writer, change, {**state, stream_id: content}, key)

    def _submit(self, writer: Writer, change: Change, state: State, key: Key | None = None) -> None:
        writer.submit(change)
        self._states.append(state)
        self._under_way.append(key)

    def _check(self, database: Database) -> None:
        """What is there is what was acknowledged, or that and a few changes more, whole and in order."""
        assert database.execute("PRAGMA integrity_check") == [("ok",)]
        found = self._dump(database)
        assert found in self._states, "what is there never was"
        self._states = [found]
        for stream_id, content in found.items():
            self._check_once(stream_id, content)

    def _check_once(self, stream_id: int, content: Content) -> None:
        """Each batch is there once, in its order, as far as the producer's state says."""
        whole = content.data if content.stored.record.start == 0 else content.data.partition(b";")[2]
        for producer_id in PRODUCERS:
            parts = [token.split(b":") for token in whole.split(b";") if token.startswith(producer_id.encode())]
            seqs = sorted({int(part[1]) for part in parts})
            assert len({(part[1], part[2]) for part in parts}) == len(parts), "something is doubled"
            state = content.stored.producers.get(producer_id)
            assert not seqs or (state is not None and seqs == list(range(seqs[0], state.seq + 1)))
            assert self._confirmed[stream_id, producer_id] <= (0 if state is None else state.seq + 1)

    @staticmethod
    def _dump(database: Database) -> State:
        state = {}
        for record in rows.list_records(database, "", "", 1000):
            stored = rows.get(database, record.stream_id)
            assert stored is not None
            entries = rows.read_entries(database, record.stream_id, record.start, record.tail, 1_000_000)
            assert all(a.end == b.position for a, b in pairwise(entries)), "a gap"
            assert bool(entries) == (record.start < record.tail)
            assert not entries or (entries[0].position <= record.start and entries[-1].end == record.tail)
            skipped = record.start - entries[0].position if entries else 0
            state[record.stream_id] = Content(stored, b"".join(entry.data for entry in entries)[skipped:])
        return state

    @staticmethod
    def _collect(writer: Writer, database: Database) -> None:
        """What was dropped is deleted in the end, however often that was interrupted."""
        for _ in range(10_000):
            writer.step()
            if not database.execute("SELECT 1 FROM garbage"):
                break
        for table in ("entries", "producers"):
            orphans = f"SELECT count(*) FROM {table} WHERE stream_id NOT IN (SELECT stream_id FROM streams)"
            assert database.execute(orphans) == [(0,)]
