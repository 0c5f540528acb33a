"""Runs of items as lines."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codecs import (
    ndjson,
)
from trio_streams.errors import CodecError


@attrs.frozen
class Item:
    name: str
    price: float
    tag: str | None = None


def test_ndjson_runs() -> None:
    """A run of items is one line each; blank lines and a missing last newline are forgiven."""
    codec = ndjson(Item)
    items = [Item("a", 1.0), Item("b\n", 2.0)]
    data = codec.encode(items)
    assert data.count(b"\n") == 2 and codec.decode(data) == items
    assert codec.decode(b"\r\n" + data.rstrip() + b"\n\n") == items
    assert codec.encode([]) == b"" and codec.decode(b"") == []
    assert codec.content_type == "application/x-ndjson"


def test_ndjson_names_the_item() -> None:
    """An error in a run starts with the item's index, for decoding and encoding."""
    with pytest.raises(CodecError) as caught:
        ndjson(Item).decode(b'{"name":"n","price":1}\n{"name":"n","price":"x"}\n')
    assert caught.value.path == "$[1].price" and str(caught.value).startswith("$[1].price: expected a finite")
    with pytest.raises(CodecError) as caught:
        ndjson(float).encode([1.0, float("nan")])
    assert caught.value.path == "$[1]"


@given(cuts=st.lists(st.integers(0, 60)))
def test_ndjson_reader_takes_any_chunks(cuts: list[int]) -> None:
    """Chunks may end anywhere, and the items come out the same."""
    items = [{"a": "x\n"}, [1, 2], "zwölf", None]
    data = ndjson().encode(items)[:-1]
    reader = ndjson().reader()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    got = [item for start, end in itertools.pairwise(bounds) for item in reader.receive(data[start:end])]
    assert [*got, *reader.end()] == items and reader.end() == []


def test_ndjson_reader_bounds_a_line() -> None:
    """A line without an end is refused at the limit, in one chunk or many."""
    reader = ndjson().reader(max_line_bytes=10)
    reader.receive(b"1" * 10)
    with pytest.raises(CodecError, match="longer than 10 bytes"):
        reader.receive(b"1")
    with pytest.raises(CodecError, match="longer than 10 bytes"):
        ndjson().reader(max_line_bytes=10).receive(b"1\n" + b"1" * 11)
