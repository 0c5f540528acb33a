"""Priorities of requests, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.protocol.priority import Priority, encode_priority, parse_priority
from trio_streams.webtransport.quic_schedule import GroupScheduler


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


_priorities = st.builds(Priority, st.integers(0, 7), st.booleans())


@given(_priorities, _priorities, st.integers(0, 2**60 - 1), st.integers(0, 2**60 - 1))
def test_the_rank_is_urgency_then_order(one: Priority, two: Priority, first: int, second: int) -> None:
    """The more urgent goes first; of one urgency the whole before the parts, the earlier request before the later; parts share."""
    ids = 4 * first, 4 * second
    ranks = one.rank(ids[0]), two.rank(ids[1])
    if one.urgency != two.urgency:
        assert (ranks[0] > ranks[1]) is (one.urgency < two.urgency)
    elif one.is_incremental and two.is_incremental:
        assert ranks[0] == ranks[1]
    elif one.is_incremental is two.is_incremental:
        assert (ranks[0] > ranks[1]) is (ids[0] < ids[1])
    else:
        assert (ranks[0] > ranks[1]) is two.is_incremental


def test_answers_leave_as_their_ranks_say() -> None:
    """By the connection's own scheduler: 40 KiB of each, three wholes one after the other, then two that take turns."""
    scheduler = GroupScheduler()
    left = dict.fromkeys((16, 12, 8, 4, 0), 40_960)
    for stream_id in left:
        priority = Priority(is_incremental=stream_id in {0, 8})
        scheduler.push(stream_id, priority.rank(stream_id), 0)
    turns: list[int] = []
    while len(scheduler):
        stream_id, size = scheduler.pick()
        size = min(size, left[stream_id])
        left[stream_id] -= size
        scheduler.spent(stream_id, size, has_more=left[stream_id] > 0)
        turns.append(stream_id)
    whole = [stream_id for stream_id in turns if stream_id in {4, 12, 16}]
    assert turns[: len(whole)] == whole == sorted(whole)
    assert [turns[len(whole) :].index(stream_id) for stream_id in (8, 0)] == [0, 1]
