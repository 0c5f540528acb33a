"""Batches: what is put in comes out, within the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.peer.batch import Batcher, BatchOptions


def test_a_batch_is_full_by_items_or_bytes() -> None:
    """Full at `max_items`, or at `max_bytes` with a byte more for each item; then the next one begins empty."""
    batcher = Batcher(BatchOptions(max_items=3, max_bytes=100))
    assert [batcher.add(b"1", 0.0) for _ in range(3)] == [False, False, True]
    assert batcher.take() == b"1\n1\n1"
    assert (len(batcher), batcher.deadline) == (0, None)
    assert not batcher.add(bytes(98), 5.0)
    assert batcher.deadline == pytest.approx(5.001)
    assert not batcher.fits(b"x")
    assert batcher.fits(b"")
    assert batcher.add(b"", 6.0)


def test_an_item_that_is_too_large_travels_alone() -> None:
    """Into an empty batch anything fits, and it is full by it."""
    batcher = Batcher(BatchOptions(max_bytes=10))
    assert batcher.fits(bytes(1_000))
    assert batcher.add(bytes(1_000), 0.0)
    assert batcher.take() == bytes(1_000)


@given(
    st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")), max_size=50), st.integers(1, 8), st.integers(1, 64)
)
def test_batches_hold_everything_in_order(items: list[bytes], max_items: int, max_bytes: int) -> None:
    """Whatever the items and the bounds, the lines of all batches are the items, and no batch passes a bound."""
    batcher = Batcher(BatchOptions(max_items=max_items, max_bytes=max_bytes))
    batches: list[list[bytes]] = []
    for item in items:
        if not batcher.fits(item):
            batches.append(batcher.take().split(b"\n"))
        if batcher.add(item, 0.0):
            batches.append(batcher.take().split(b"\n"))
    if len(batcher):
        batches.append(batcher.take().split(b"\n"))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) <= max_items for batch in batches)
    assert all(len(batch) == 1 or sum(len(item) + 1 for item in batch) <= max_bytes for batch in batches)


@pytest.mark.parametrize("field", ["max_items", "max_bytes", "max_delay"])
def test_a_wrong_option_is_named(field: str) -> None:
    """A bound that makes no sense fails where it was written."""
    with pytest.raises(ValueError, match=field):
        BatchOptions(**{field: -1})
