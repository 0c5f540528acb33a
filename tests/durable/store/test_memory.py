"""Streams in memory."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trio_streams.durable.store.base import Change, Entry, ProducerState, StoreError, StreamRecord
from trio_streams.durable.store.memory import MemoryStore

RECORD = StreamRecord(stream_id=1, path="a", content_type="text/plain", created_at=0.0, touched_at=10.0)
ENTRIES = [Entry(0, b"aaa", 0.0), Entry(3, b"bb", 0.0), Entry(5, b"c", 0.0)]


def make() -> MemoryStore:
    store = MemoryStore()
    producers = {"p": ProducerState(0, 0, 0.0)}
    store.submit(Change(records=[attrs.evolve(RECORD, tail=6)], entries=ENTRIES, producers=producers))
    return store


async def test_streams_are_found() -> None:
    """A stream is found by its path and by its number; numbers are new."""
    store = make()
    stored = await store.find("a")
    assert stored is not None
    assert stored == await store.get(1)
    assert stored.producers == {"p": ProducerState(0, 0, 0.0)}
    assert await store.find("b") is None
    assert await store.get(2) is None
    assert await store.new_id() != await store.new_id()


@pytest.mark.parametrize(
    ("start", "end", "max_bytes", "found"),
    [
        (0, 6, 100, 3),
        (0, 6, 3, 1),
        (0, 6, 5, 2),
        (0, 6, 1, 1),
        (2, 3, 100, 1),
        (3, 5, 100, 1),
        (4, 6, 100, 2),
        (6, 9, 9, 0),
    ],
)
async def test_reads(start: int, end: int, max_bytes: int, found: int) -> None:
    """Entries that overlap come whole, as many as fit and one at least."""
    entries = await make().read(1, start, end, max_bytes=max_bytes)
    assert len(entries) == found
    assert all(entry.end > start and entry.position < end for entry in entries)
    assert list(await make().read(7, start, end, max_bytes=max_bytes)) == []


async def test_what_is_not_kept_is_dropped() -> None:
    """Entries before a record's start go."""
    store = make()
    store.submit(Change(records=[attrs.evolve(RECORD, tail=6, start=5)]))
    assert [entry.data for entry in await store.read(1, 0, 6, max_bytes=100)] == [b"c"]


async def test_removals() -> None:
    """A removed stream is nowhere, and its path is free."""
    store = make()
    store.submit(Change(records=[attrs.evolve(RECORD, stream_id=2, path="b", ttl_seconds=1)], removals=[1]))
    assert await store.find("a") is None
    assert [record.path for record in await store.list_records("", limit=9)] == ["b"]
    store.submit(Change(removals=[2]))
    assert list(await store.list_expired(1e9, limit=9)) == []


async def test_lists() -> None:
    """Records are listed by prefix, in order, from behind a path."""
    store = MemoryStore()
    for index, path in enumerate(("b/2", "a", "b/1", "c")):
        store.submit(Change(records=[attrs.evolve(RECORD, stream_id=index, path=path)]))
    for arguments, expected in (
        (("", "", 9), ["a", "b/1", "b/2", "c"]),
        (("b/", "", 9), ["b/1", "b/2"]),
        (("b/", "b/1", 9), ["b/2"]),
        (("b/", "a", 1), ["b/1"]),
        (("b/", "c", 9), []),
    ):
        prefix, after, limit = arguments
        assert [record.path for record in await store.list_records(prefix, after=after, limit=limit)] == expected


async def test_expired() -> None:
    """What has expired is listed, unless it is deleted already."""
    store = MemoryStore()
    changes: list[dict[str, Any]] = [
        {"ttl_seconds": 5},
        {"expires_at": 12.0},
        {"ttl_seconds": 50, "expires_at": 99.0},
        {},
        {"ttl_seconds": 1, "is_deleted": True},
    ]
    for index, change in enumerate(changes):
        store.submit(Change(records=[attrs.evolve(RECORD, stream_id=index, path=str(index), **change)]))
    assert [record.stream_id for record in await store.list_expired(11.9, limit=9)] == []
    assert {record.stream_id for record in await store.list_expired(15.0, limit=9)} == {0, 1}
    assert len(await store.list_expired(15.0, limit=1)) == 1


async def test_a_closed_store_takes_nothing() -> None:
    """After its end a store says so."""
    store = make()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError):
        store.submit(Change())
    with pytest.raises(StoreError):
        await store.wait_room()
