"""Streams in memory: durable as long as the process is."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from typing import Final

from trio_streams.durable.store.base import Change, Entry, ProducerState, Stored, StoreError, StreamRecord

__all__ = ["MemoryStore"]

_END: Final = attrgetter("end")


class _Kept:
    __slots__ = ("entries", "producers", "record")

    def __init__(self, record: StreamRecord) -> None:
        self.record = record
        self.entries: list[Entry] = []
        self.producers: dict[str, ProducerState] = {}


class MemoryStore:
    """A `Store` that loses everything with its process. What is submitted is durable, as far as that goes, at once."""

    def __init__(self) -> None:
        # Numbers go into validators, which outlive the process in caches: another run uses others.
        self._ids = count(secrets.randbits(40) << 8)
        self._streams: dict[int, _Kept] = {}
        self._ids_by_path: dict[str, int] = {}
        self._paths: list[str] = []
        self._expiring: set[int] = set()
        self._is_closed = False

    async def find(self, path: str) -> Stored | None:
        """See `Store`."""
        stream_id = self._ids_by_path.get(path)
        return None if stream_id is None else await self.get(stream_id)

    async def get(self, stream_id: int) -> Stored | None:
        """See `Store`."""
        kept = self._streams.get(stream_id)
        return None if kept is None else Stored(kept.record, dict(kept.producers))

    async def new_id(self) -> int:
        """See `Store`."""
        return next(self._ids)

    async def read(self, stream_id: int, start: int, end: int, *, max_bytes: int) -> Sequence[Entry]:
        """See `Store`."""
        kept = self._streams.get(stream_id)
        if kept is None:
            return ()
        entries = kept.entries
        begin = index = bisect_right(entries, start, key=_END)
        size = 0
        while index < len(entries) and entries[index].position < end:
            size += len(entries[index].data)
            if size > max_bytes and index > begin:
                break
            index += 1
        return entries[begin:index]

    def submit(self, change: Change) -> None:
        """See `Store`. Costs the dropped entries what a list's shift costs, and nothing where `start` stays."""
        if self._is_closed:
            raise StoreError("the store is closed")
        for record in change.records:
            kept = self._streams.get(record.stream_id)
            if kept is None:
                kept = self._add(record)
            elif record.start > kept.record.start:
                del kept.entries[: bisect_right(kept.entries, record.start, key=_END)]
            kept.record = record
        if change.entries:
            self._streams[change.records[0].stream_id].entries += change.entries
        if change.producers:
            self._streams[change.records[0].stream_id].producers.update(change.producers)
        for stream_id in change.removals:
            self._remove(stream_id)

    def _add(self, record: StreamRecord) -> _Kept:
        kept = self._streams[record.stream_id] = _Kept(record)
        self._ids_by_path[record.path] = record.stream_id
        insort(self._paths, record.path)
        if record.ttl_seconds is not None or record.expires_at is not None:
            self._expiring.add(record.stream_id)
        return kept

    def _remove(self, stream_id: int) -> None:
        kept = self._streams.pop(stream_id)
        path = kept.record.path
        del self._ids_by_path[path]
        del self._paths[bisect_left(self._paths, path)]
        self._expiring.discard(stream_id)

    async def wait_room(self) -> None:
        """See `Store`."""
        if self._is_closed:
            raise StoreError("the store is closed")

    async def list_records(self, prefix: str, *, after: str = "", limit: int) -> Sequence[StreamRecord]:
        """See `Store`."""
        index = bisect_right(self._paths, after) if after >= prefix else bisect_left(self._paths, prefix)
        found: list[StreamRecord] = []
        while index < len(self._paths) and len(found) < limit and self._paths[index].startswith(prefix):
            found.append(self._streams[self._ids_by_path[self._paths[index]]].record)
            index += 1
        return found

    async def count_records(self) -> int:
        """See `Store`."""
        return len(self._streams)

    async def list_expired(self, now: float, *, limit: int) -> Sequence[StreamRecord]:
        """See `Store`."""
        found: list[StreamRecord] = []
        for stream_id in self._expiring:
            record = self._streams[stream_id].record
            if not record.is_deleted and _is_expired(record, now):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    async def aclose(self) -> None:
        """See `Store`."""
        self._is_closed = True


def _is_expired(record: StreamRecord, now: float) -> bool:
    if record.expires_at is not None and now >= record.expires_at:
        return True
    return record.ttl_seconds is not None and now >= record.touched_at + record.ttl_seconds
