"""What every store has to do, whatever it is made of: the promises of `store/base.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.durable.store.stores import OPENERS, Opening
from trio_streams.durable.store.base import Change, Entry, Fork, ProducerState, Store, Stored, StoreError, StreamRecord


@pytest.fixture(params=list(OPENERS.values()), ids=list(OPENERS))
def opening(request: pytest.FixtureRequest) -> Opening:
    opening: Opening = request.param
    return opening


def _record(stream_id: int, path: str, **fields: Any) -> StreamRecord:
    record = StreamRecord(stream_id=stream_id, path=path, content_type="text/plain", created_at=1.5, touched_at=2.5)
    return attrs.evolve(record, **fields)


async def _commit(store: Store, change: Change) -> None:
    await store.wait_room()
    commit = store.submit(change)
    if commit is not None:
        await commit.wait()


async def _make(store: Store, path: str, *sizes: int, **fields: Any) -> StreamRecord:
    """A stream with an entry of each size."""
    record = _record(await store.new_id(), path, **fields)
    entries = []
    for n, size in enumerate(sizes):
        entries.append(Entry(record.tail, bytes([65 + n]) * size, 3.5))
        record = attrs.evolve(record, tail=entries[-1].end)
    await _commit(store, Change(records=[record], entries=entries))
    return record


async def test_a_record_comes_back_as_it_was(tmp_path: Path, opening: Opening) -> None:
    """Every field of a record, and its producers, by path and by number."""
    async with opening(tmp_path) as store:
        record = StreamRecord(
            stream_id=await store.new_id(),
            path="/v1/stream/ä 𝄞/x",
            content_type='application/json; a="b"',
            created_at=1_700_000_000.123456,
            touched_at=1_700_000_001.25,
            ttl_seconds=3600,
            expires_at=1_900_000_000.5,
            start=10,
            tail=10,
            is_closed=True,
            closed_by=("producer ü", 2, 9_007_199_254_740_991),
            stream_seq="0\U0010ffff",
            fork=Fork(7, "/source", "0000000000000010", 3, 10),
            references=2,
            is_deleted=True,
        )
        producers = {"producer ü": ProducerState(2, 9_007_199_254_740_991, 5.25), "": ProducerState(0, 0, 0.0)}
        await _commit(store, Change(records=[record], producers=producers))
        assert await store.find(record.path) == Stored(record, producers)
        assert await store.get(record.stream_id) == Stored(record, producers)


async def test_what_is_not_there_is_none(tmp_path: Path, opening: Opening) -> None:
    """No stream, no entries, no list."""
    async with opening(tmp_path) as store:
        assert await store.find("/x") is None
        assert await store.get(await store.new_id()) is None
        assert not await store.read(await store.new_id(), 0, 100, max_bytes=100)
        assert not await store.list_records("", limit=10)
        assert not await store.list_expired(1e12, limit=10)


async def test_numbers_are_given_once(tmp_path: Path, opening: Opening) -> None:
    """No two streams have the same number, removed ones included."""
    async with opening(tmp_path) as store:
        numbers = [await store.new_id() for _ in range(10)]
        record = await _make(store, "/a")
        await _commit(store, Change(removals=[record.stream_id]))
        numbers += [record.stream_id, await store.new_id()]
        assert len(set(numbers)) == 12


async def test_reads_overlap_and_are_whole(tmp_path: Path, opening: Opening) -> None:
    """Entries that begin before a range or end behind it are in it, and those that touch it only are not."""
    async with opening(tmp_path) as store:
        record = await _make(store, "/a", 10, 10, 10)

        async def read(start: int, end: int) -> list[int]:
            return [e.position for e in await store.read(record.stream_id, start, end, max_bytes=1000)]

        assert await read(0, 30) == [0, 10, 20]
        assert await read(9, 11) == [0, 10]
        assert await read(10, 20) == [10]
        assert await read(15, 16) == [10]
        assert await read(19, 21) == [10, 20]
        assert await read(29, 30) == [20]


async def test_a_read_gives_as_much_as_fits_and_one_entry_at_least(tmp_path: Path, opening: Opening) -> None:
    """`max_bytes` counts whole entries; the first comes whatever its size."""
    async with opening(tmp_path) as store:
        record = await _make(store, "/a", 10, 10, 500, 10)

        async def read(start: int, max_bytes: int) -> list[int]:
            return [len(e.data) for e in await store.read(record.stream_id, start, 530, max_bytes=max_bytes)]

        assert await read(0, 9) == [10]
        assert await read(0, 19) == [10]
        assert await read(0, 20) == [10, 10]
        assert await read(20, 1) == [500]
        assert await read(20, 510) == [500, 10]


async def test_a_forks_entries_are_its_own(tmp_path: Path, opening: Opening) -> None:
    """A fork's entries begin at its position, and its source's are not among them; both records change together."""
    async with opening(tmp_path) as store:
        source = await _make(store, "/source", 10, 10)
        fork = _record(
            await store.new_id(), "/fork", start=20, tail=25, fork=Fork(source.stream_id, "/source", None, 0, 20)
        )
        source = attrs.evolve(source, references=1)
        await _commit(store, Change(records=[fork, source], entries=[Entry(20, b"12345", 4.5)]))
        assert await store.read(fork.stream_id, 0, 100, max_bytes=1000) == [Entry(20, b"12345", 4.5)]
        assert await store.find("/source") == Stored(source)
        assert len(await store.read(source.stream_id, 0, 20, max_bytes=1000)) == 2


async def test_a_removed_stream_is_gone_and_its_path_is_free(tmp_path: Path, opening: Opening) -> None:
    """Its record, producers and entries are gone, and a new stream at its path has none of them."""
    async with opening(tmp_path) as store:
        old = await _make(store, "/a", 10, 10)
        await _commit(store, Change(records=[old], producers={"p": ProducerState(0, 0, 1.5)}))
        await _commit(store, Change(removals=[old.stream_id]))
        assert await store.find("/a") is None
        assert await store.get(old.stream_id) is None
        assert not await store.read(old.stream_id, 0, 20, max_bytes=1000)
        new = await _make(store, "/a", 5)
        assert await store.find("/a") == Stored(new)
        assert [e.position for e in await store.read(new.stream_id, 0, 20, max_bytes=1000)] == [0]


async def test_what_retention_keeps_is_whole(tmp_path: Path, opening: Opening) -> None:
    """Entries at and behind a record's start stay, one that straddles it as a whole."""
    async with opening(tmp_path) as store:
        record = await _make(store, "/a", *[10] * 20)
        await _commit(store, Change(records=[attrs.evolve(record, start=155)]))
        for _ in range(20):  # other changes, so that a store may tidy up
            await _make(store, f"/{await store.new_id()}", 1)
        kept = await store.read(record.stream_id, 155, 200, max_bytes=1000)
        assert [e.position for e in kept] == [150, 160, 170, 180, 190]


async def test_changes_pipeline(tmp_path: Path, opening: Opening) -> None:
    """Changes that are submitted one behind the other are there in that order, and the last record wins."""
    async with opening(tmp_path) as store:
        record = _record(await store.new_id(), "/a")
        commits = []
        for n in range(50):
            entry = Entry(record.tail, b"%d;" % n, float(n))
            record = attrs.evolve(record, tail=entry.end, touched_at=float(n))
            change = Change(records=[record], entries=[entry], producers={"p": ProducerState(0, n, float(n))})
            commits.append(store.submit(change))
        for commit in reversed(commits):
            if commit is not None:
                await commit.wait()
                await commit.wait()
        entries = await store.read(record.stream_id, 0, record.tail, max_bytes=10_000)
        assert b"".join(e.data for e in entries) == b"".join(b"%d;" % n for n in range(50))
        assert await store.find("/a") == Stored(record, {"p": ProducerState(0, 49, 49.0)})


async def test_streams_are_listed_by_path(tmp_path: Path, opening: Opening) -> None:
    """By prefix, behind `after`, in the order of code points, and no more than asked for."""
    paths = ["/a", "/a/1", "/a/2", "/a\U0010ffff", "/a\U0010ffffz", "/b", "/a\ud7ff", "/a\ue000", "/A", "/aa", "/ä"]
    async with opening(tmp_path) as store:
        for path in paths:
            await _make(store, path, is_deleted=path == "/a/2")

        async def listed(prefix: str, after: str = "", limit: int = 100) -> list[str]:
            return [record.path for record in await store.list_records(prefix, after=after, limit=limit)]

        assert await listed("") == sorted(paths)
        assert await store.count_records() == len(paths)
        for prefix in ("/", "/a", "/a/", "/a\ud7ff", "/a\U0010ffff", "/b", "/c", "\U0010ffff"):
            expected = sorted(path for path in paths if path.startswith(prefix))
            assert await listed(prefix) == expected
            assert await listed(prefix, limit=2) == expected[:2]
            for after in (*paths, "/", "/a/15", "/z"):
                assert await listed(prefix, after) == [path for path in expected if path > after]


async def test_expired_streams_are_found(tmp_path: Path, opening: Opening) -> None:
    """By their absolute end, or by their last touch; deleted ones and those that never expire are not among them."""
    async with opening(tmp_path) as store:
        await _make(store, "/never")
        await _make(store, "/absolute", expires_at=100.0)
        await _make(store, "/idle", ttl_seconds=50, touched_at=40.0)
        await _make(store, "/both", ttl_seconds=500, expires_at=80.0)
        await _make(store, "/deleted", expires_at=10.0, is_deleted=True)
        touched = await _make(store, "/touched", ttl_seconds=5)
        await _commit(store, Change(records=[attrs.evolve(touched, touched_at=1000.0)]))

        async def expired(now: float, limit: int = 100) -> set[str]:
            return {record.path for record in await store.list_expired(now, limit=limit)}

        assert await expired(79.75) == set()
        assert await expired(80.0) == {"/both"}
        assert await expired(90.0) == {"/both", "/idle"}
        assert await expired(100.0) == {"/both", "/idle", "/absolute"}
        assert len(await expired(100.0, limit=2)) == 2


async def test_a_closed_store_takes_nothing(tmp_path: Path, opening: Opening) -> None:
    """Closing twice is closing once; afterwards changes are refused, and waiting for room, too."""
    async with opening(tmp_path) as store:
        record = await _make(store, "/a")
        await store.aclose()
        await store.aclose()
        with pytest.raises(StoreError, match="closed"):
            store.submit(Change(records=[record]))
        with pytest.raises(StoreError, match="closed"):
            await store.wait_room()


QUESTIONS: dict[str, Callable[[Store, int], Awaitable[object]]] = {
    "find": lambda store, n: store.find("/a"),
    "get": lambda store, n: store.get(n),
    "new_id": lambda store, n: store.new_id(),
    "read": lambda store, n: store.read(n, 0, 30, max_bytes=100),
    "wait_room": lambda store, n: store.wait_room(),
    "list_records": lambda store, n: store.list_records("/", limit=10),
    "count_records": lambda store, n: store.count_records(),
    "list_expired": lambda store, n: store.list_expired(100.0, limit=10),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
async def test_a_cancelled_question_leaves_nothing_behind(
    tmp_path: Path, opening: Opening, question: Callable[[Store, int], Awaitable[object]]
) -> None:
    """Cancelled before it began, or while it waits, it changes nothing, and the store answers the next one."""
    async with opening(tmp_path) as store:
        record = await _make(store, "/a", 10, 10, 10)
        with trio.CancelScope() as scope:
            scope.cancel()
            await question(store, record.stream_id)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(question, store, record.stream_id)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await question(store, record.stream_id)
        assert await store.find("/a") == Stored(record)
        assert len(await store.read(record.stream_id, 0, 30, max_bytes=100)) == 3


async def test_a_cancelled_wait_does_not_stop_the_change(tmp_path: Path, opening: Opening) -> None:
    """Whoever no longer waits for a commit has not taken it back, and others may still wait for it."""
    async with opening(tmp_path) as store:
        record = _record(await store.new_id(), "/a", tail=3)
        commit = store.submit(Change(records=[record], entries=[Entry(0, b"abc", 1.5)]))
        if commit is not None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await commit.wait()
            await commit.wait()
        assert await store.find("/a") == Stored(record)
        assert await store.read(record.stream_id, 0, 3, max_bytes=10) == [Entry(0, b"abc", 1.5)]
