"""Priorities of requests, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.protocol.priority import Priority, encode_priority, parse_priority


@pytest.mark.parametrize(
    ("lines", "priority"),
    [
        ([], Priority()),
        ([b""], Priority()),
        ([b"u=0"], Priority(0)),
        ([b"u=5, i"], Priority(5, is_incremental=True)),
        ([b"u=7", b"i=?1"], Priority(7, is_incremental=True)),
        ([b"u=1, i=?0"], Priority(1)),
        ([b"u=1, i, foo=bar"], Priority(1, is_incremental=True)),
        ([b"u=8, i"], Priority(is_incremental=True)),
        ([b"u=-1"], Priority()),
        ([b"u=1.0"], Priority()),
        ([b"u=token, i=1"], Priority()),
        ([b"u=1,"], Priority()),
        ([b"\xff=1"], Priority()),
    ],
)
def test_the_field_is_read(lines: list[bytes], priority: Priority) -> None:
    """Unknown members are ignored, and so is what is out of range, of a wrong type or malformed (RFC 9218 §4, §5)."""
    assert parse_priority(lines) == priority


@given(st.integers(0, 7), st.booleans())
def test_priorities_survive_the_round_trip(urgency: int, is_incremental: bool) -> None:
    """What is encoded is read back, and the usual priority needs no bytes."""
    priority = Priority(urgency, is_incremental)
    value = encode_priority(priority)
    assert parse_priority([value.encode()]) == priority
    assert bool(value) is (priority != Priority())


def test_urgencies_are_checked() -> None:
    """There are eight."""
    with pytest.raises(ValueError, match="urgency"):
        Priority(8)
