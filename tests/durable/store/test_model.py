"""Whatever is done to a store, it answers as a dictionary would."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.durable.store.stores import OPENERS, PERSISTENT
from trio_streams.durable.store.base import Change, Commit, Entry, ProducerState, Store, StreamRecord

PATHS: Final = ("/a", "/a/b", "/b", "/ü")

Steps = list[tuple[str, int, int, int]]

STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["create", "append", "append", "append", "drop", "close", "remove", "read", "list", "wait", "reopen"]),
        st.integers(0, 3),
        st.integers(0, 60),
        st.integers(0, 60),
    ),
    max_size=40,
)  # fmt: skip


@attrs.define
class Kept:
    """A stream as it has to be."""

    record: StreamRecord
    entries: list[Entry] = attrs.Factory(list)
    producers: dict[str, ProducerState] = attrs.Factory(dict)


class Model:
    """A store beside dictionaries that are told the same."""

    def __init__(self, kind: str, folder: Path, stack: AsyncExitStack) -> None:
        self._kind = kind
        self._folder = folder
        self._stack = stack
        self._streams: dict[str, Kept] = {}
        self._commits: list[Commit] = []
        self._ids: set[int] = set()
        self._now = 0.0
        self.store: Store

    async def reopen(self, *_: object) -> None:
        """Another process, where there is something to be found again."""
        if self._kind in PERSISTENT:
            await self._stack.aclose()  # with the changes that are under way
            self._commits.clear()
            await self.open()

    async def open(self) -> None:
        self.store = await self._stack.enter_async_context(OPENERS[self._kind](self._folder))

    async def create(self, path: str, a: int, b: int) -> None:
        if path not in self._streams:
            stream_id = await self.store.new_id()
            assert stream_id not in self._ids
            self._ids.add(stream_id)
            record = StreamRecord(
                stream_id=stream_id, path=path, content_type="t", created_at=0.5, touched_at=self._now
            )
            record = attrs.evolve(record, ttl_seconds=a if a > 30 else None, expires_at=float(b) if b > 30 else None)
            self._streams[path] = Kept(record)
            self._submit(Change(records=[record]))

    async def append(self, path: str, a: int, b: int) -> None:
        kept = self._streams.get(path)
        if kept is not None and not kept.record.is_closed:
            data = [bytes([65 + a]) * (a + 1), bytes([65 + b]) * (b * 10 + 1)][: 1 + b % 2]
            entries, position = [], kept.record.tail
            for part in data:
                entries.append(Entry(position, part, self._now))
                position += len(part)
            record = attrs.evolve(kept.record, tail=position, touched_at=self._now)
            producers = {f"p{a % 3}": ProducerState(a, b, self._now)} if a % 2 else {}
            self._change(kept, record, entries, producers)

    async def drop(self, path: str, a: int, b: int) -> None:
        kept = self._streams.get(path)
        if kept is not None:
            start = kept.record.start + (kept.record.tail - kept.record.start) * a // 60
            self._change(kept, attrs.evolve(kept.record, start=start))

    async def close(self, path: str, a: int, b: int) -> None:
        kept = self._streams.get(path)
        if kept is not None:
            self._change(kept, attrs.evolve(kept.record, is_closed=True, closed_by=("p", a, b)))

    async def remove(self, path: str, *_: object) -> None:
        kept = self._streams.pop(path, None)
        if kept is not None:
            self._submit(Change(removals=[kept.record.stream_id]))

    async def wait(self, *_: object) -> None:
        for commit in self._commits:
            await commit.wait()
        self._commits.clear()

    async def read(self, path: str, a: int, b: int) -> None:
        """A range, with more or less room than it takes."""
        await self.wait()
        kept = self._streams.get(path)
        if kept is not None and kept.record.start < kept.record.tail:
            record, size = kept.record, kept.record.tail - kept.record.start
            start = record.start + (size - 1) * a // 60
            end = start + 1 + (record.tail - start - 1) * b // 60
            expected = [entry for entry in kept.entries if entry.end > start and entry.position < end]
            room = (a + b) * 10
            while len(expected) > 1 and sum(len(entry.data) for entry in expected) > room:
                expected.pop()
            assert list(await self.store.read(record.stream_id, start, end, max_bytes=room)) == expected

    async def list(self, path: str, a: int, b: int) -> None:
        """Everything but the entries."""
        await self.wait()
        records = [kept.record for _, kept in sorted(self._streams.items())]
        assert list(await self.store.list_records("", limit=10)) == records
        expired = {r.path for r in records if _ends(r) <= a}
        assert {record.path for record in await self.store.list_expired(float(a), limit=10)} == expired
        for name in PATHS:
            kept, found = self._streams.get(name), await self.store.find(name)
            assert (found is None) == (kept is None)
            if kept is not None and found is not None:
                assert (found.record, dict(found.producers)) == (kept.record, kept.producers)
                assert found == await self.store.get(kept.record.stream_id)

    def _change(
        self,
        kept: Kept,
        record: StreamRecord,
        entries: Sequence[Entry] = (),
        producers: Mapping[str, ProducerState] = MappingProxyType({}),
    ) -> None:
        kept.record = record
        kept.entries += entries
        kept.producers |= producers
        self._now += 1.25
        self._submit(Change(records=[record], entries=entries, producers=producers))

    def _submit(self, change: Change) -> None:
        commit = self.store.submit(change)
        if commit is not None:
            self._commits.append(commit)


def _ends(record: StreamRecord) -> float:
    idle = float("inf") if record.ttl_seconds is None else record.touched_at + record.ttl_seconds
    return min(idle, float("inf") if record.expires_at is None else record.expires_at)


@pytest.mark.parametrize("kind", OPENERS)
@settings(max_examples=30)  # each opens a store three times, and syncs for it
@given(steps=STEPS)
async def test_a_store_is_like_dictionaries(kind: str, steps: Steps) -> None:
    """Creations, appends, retention, closings and removals, waited for or not, between reads and reopenings: records,
    producers, lists and every readable range are those of a model that has never heard of transactions."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            model = Model(kind, Path(folder), stack)
            await model.open()
            for name, path, a, b in [
                *steps,
                ("reopen", 0, 0, 0),
                ("list", 0, 60, 0),
                *[("read", n, 0, 60) for n in range(4)],
            ]:
                await getattr(model, name)(PATHS[path], a, b)
