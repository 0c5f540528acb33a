"""Bodies cut into entries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.entries import MAX_ENTRY_BYTES, make_entries
from trio_streams.durable.protocol.json_messages import to_array


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/octet-stream"])
def test_nothing_makes_no_entry(content_type: str) -> None:
    """An empty body is no entry, and neither is an empty array."""
    assert make_entries(b"", content_type, 5, 1.0) == []
    assert make_entries(b"[]", "application/json", 5, 1.0) == []


def test_one_append_is_one_entry() -> None:
    """What fits is one entry, at its position."""
    (entry,) = make_entries(b"abc", "text/plain", 5, 1.5)
    assert (entry.position, entry.data, entry.at, entry.end) == (5, b"abc", 1.5, 8)
    (entry,) = make_entries(b"[1, 2]", "application/json; charset=utf-8", 5, 1.5)
    assert entry.data == b"1,2,"


@given(st.integers(0, 2), st.integers(1, 3), st.binary(max_size=9))
def test_large_bodies_are_cut_between_characters(shift: int, parts: int, rest: bytes) -> None:
    """Entries of a text are bounded, lie one behind the other, and none begins within a character."""
    body = b"a" * shift + "€".encode() * (MAX_ENTRY_BYTES * parts // 3) + rest
    entries = make_entries(body, "text/plain", 7, 0.0)
    assert b"".join(entry.data for entry in entries) == body
    assert [entry.position for entry in entries[1:]] == [entry.end for entry in entries[:-1]]
    assert all(len(entry.data) <= MAX_ENTRY_BYTES for entry in entries)
    whole = len(body) - len(rest)
    assert all(entry.data[0] & 0xC0 != 0x80 for entry in entries if entry.position - 7 < whole)


def test_bytes_that_are_no_text_are_cut_anywhere() -> None:
    """Binary entries are as large as they may be, also where a text would be cut earlier."""
    body = b"\x80" * (MAX_ENTRY_BYTES + 1)
    for content_type in ("application/octet-stream", "text/plain"):
        entries = make_entries(body, content_type, 0, 0.0)
        assert [len(entry.data) for entry in entries] == [MAX_ENTRY_BYTES, 1]


def test_large_batches_are_cut_between_messages() -> None:
    """A large array becomes several entries, each of whole messages, and a message of any size is one."""
    values = ["x" * 100_000] * 5 + ["y" * 300_000, 1]
    entries = make_entries(json.dumps(values).encode(), "application/json", 0, 0.0)
    assert [len(json.loads(to_array([entry.data]))) for entry in entries] == [2, 2, 1, 1, 1]
    assert json.loads(to_array(entry.data for entry in entries)) == values
