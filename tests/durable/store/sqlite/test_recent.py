"""The newest entries of all streams, as many as fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.store.base import Entry
from trio_streams.durable.store.sqlite.recent import ENTRY_OVERHEAD_BYTES, RecentEntries


def _entry(position: int, size: int = 10) -> Entry:
    return Entry(position, b"x" * size, 0.5)


def test_the_oldest_of_all_goes_first() -> None:
    """Whosever it is; and what is kept costs its bytes and the overhead."""
    recent = RecentEntries(3 * (10 + ENTRY_OVERHEAD_BYTES))
    recent.add(1, [_entry(0), _entry(10)])
    recent.add(2, [_entry(0)])
    assert recent.size_bytes == 3 * (10 + ENTRY_OVERHEAD_BYTES)
    recent.add(2, [_entry(10)])
    assert recent.read(1, 0, 20, 100) is None
    assert recent.read(1, 10, 20, 100) == [_entry(10)]
    assert recent.read(2, 0, 20, 100) == [_entry(0), _entry(10)]
    recent.add(3, [_entry(0)])
    assert recent.read(1, 10, 20, 100) is None
    assert recent.size_bytes == 3 * (10 + ENTRY_OVERHEAD_BYTES)


def test_an_entry_that_does_not_fit_is_not_kept() -> None:
    """Nor anything before it: there is no gap in what is kept."""
    recent = RecentEntries(1000)
    recent.add(1, [_entry(0)])
    recent.add(1, [_entry(10, 2000)])
    assert recent.read(1, 0, 10, 100) is None
    assert recent.size_bytes == 0
    recent.add(1, [_entry(2010)])
    assert recent.read(1, 2010, 2020, 100) == [_entry(2010)]


def test_what_is_not_all_here_is_not_answered() -> None:
    """A range that begins before what is kept, or ends behind it, is the disk's."""
    recent = RecentEntries(10_000)
    recent.add(1, [_entry(100), _entry(110)])
    assert recent.read(1, 99, 110, 100) is None
    assert recent.read(1, 100, 121, 100) is None
    assert recent.read(1, 105, 120, 100) == [_entry(100), _entry(110)]
    assert recent.read(1, 105, 110, 100) == [_entry(100)]
    assert recent.read(1, 100, 120, 5) == [_entry(100)]
    assert recent.read(2, 100, 120, 100) is None


def test_a_removed_stream_is_forgotten() -> None:
    """At once, though its bytes count until their turn comes."""
    recent = RecentEntries(2 * (10 + ENTRY_OVERHEAD_BYTES))
    recent.add(1, [_entry(0)])
    recent.remove(1)
    recent.remove(2)
    assert recent.read(1, 0, 10, 100) is None
    recent.add(3, [_entry(0), _entry(10)])
    assert recent.read(3, 0, 20, 100) == [_entry(0), _entry(10)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300)), max_size=60),
    st.integers(1, 6000),
)
def test_what_is_kept_is_the_end_of_what_there_was(adds: list[tuple[int, int]], max_bytes: int) -> None:
    """Of every stream a suffix without a gap, in all never more than fits, and the newest entries of all."""
    recent, streams, order = RecentEntries(max_bytes), dict[int, list[Entry]](), list[tuple[int, Entry]]()
    for stream_id, size in adds:
        entries = streams.setdefault(stream_id, [])
        entry = _entry(entries[-1].end if entries else 0, size)
        entries.append(entry)
        order.append((stream_id, entry))
        recent.add(stream_id, [entry])
    kept, room = set[tuple[int, int]](), max_bytes
    for stream_id, entry in reversed(order):
        room -= len(entry.data) + ENTRY_OVERHEAD_BYTES
        if room < 0:
            break
        kept.add((stream_id, entry.position))
    assert recent.size_bytes <= max_bytes
    for stream_id, entries in streams.items():
        for n, entry in enumerate(entries):
            expected = entries[n:] if (stream_id, entry.position) in kept else None
            assert recent.read(stream_id, entry.position, entries[-1].end, 1_000_000) == expected
