"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.schedule import QUANTUM_BYTES, Scheduler


def take_turns(scheduler: Scheduler, turns: int, size: int = QUANTUM_BYTES) -> list[int]:
    order = []
    for _ in range(turns):
        stream_id, _ = scheduler.pick()
        order.append(stream_id)
        scheduler.spent(stream_id, size, has_more=True)
    return order


def test_streams_of_one_priority_take_turns() -> None:
    """Equals go round in the order in which they came."""
    scheduler = Scheduler()
    for stream_id in (1, 3, 5):
        scheduler.push(stream_id, 0)
    scheduler.push(1, 0)
    assert len(scheduler) == 3
    assert take_turns(scheduler, 7) == [1, 3, 5, 1, 3, 5, 1]


def test_a_stream_that_has_nothing_more_leaves() -> None:
    """`has_more=False` and `discard` take a stream out; one that is not in is no matter."""
    scheduler = Scheduler()
    for stream_id, priority in ((1, 0), (3, 0), (5, 7)):
        scheduler.push(stream_id, priority)
    scheduler.discard(5)
    scheduler.discard(99)
    assert 5 not in scheduler
    scheduler.spent(scheduler.pick()[0], 10, has_more=False)
    assert (1 in scheduler, 3 in scheduler) == (False, True)
    scheduler.spent(3, 10, has_more=False)
    assert len(scheduler) == 0


def test_what_a_turn_left_over_is_added_to_the_next() -> None:
    """A turn allows 16 KiB and what was left, but never saves up more than one quantum."""
    scheduler = Scheduler()
    scheduler.push(1, 0)
    assert scheduler.pick() == (1, QUANTUM_BYTES)
    scheduler.spent(1, 16_000, has_more=True)
    assert scheduler.pick() == (1, QUANTUM_BYTES + 384)
    for _ in range(5):
        scheduler.spent(1, 0, has_more=True)
    assert scheduler.pick() == (1, 2 * QUANTUM_BYTES)


def test_who_is_alone_has_no_turns() -> None:
    """A stream without a rival may send all that there is room for, and owes nothing for it to one that comes later."""
    scheduler = Scheduler()
    scheduler.push(1, 0)
    assert scheduler.pick(100_000) == (1, 100_000)
    scheduler.spent(1, 100_000, has_more=True)
    assert scheduler.pick(10) == (1, QUANTUM_BYTES), "a turn at least"
    scheduler.push(3, 0)
    assert scheduler.pick(100_000) == (1, QUANTUM_BYTES)
    scheduler.spent(1, QUANTUM_BYTES, has_more=True)
    assert scheduler.pick(100_000) == (3, QUANTUM_BYTES)


def test_one_turn_in_sixteen_goes_to_lower_priorities() -> None:
    """The highest priority has 15 turns of 16; the lower ones share the sixteenth in rotation."""
    scheduler = Scheduler()
    for stream_id, priority in ((1, 10), (3, 0), (5, -10)):
        scheduler.push(stream_id, priority)
    order = take_turns(scheduler, 320)
    assert Counter(order) == {1: 300, 3: 10, 5: 10}
    assert all(order[n : n + 16].count(1) == 15 for n in range(0, 320, 16))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-3, 3), st.booleans()), max_size=80))
def test_nobody_is_lost_or_doubled(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is pushed, served and discarded: who is in is served until it says that it has no more."""
    scheduler = Scheduler()
    inside: set[int] = set()
    for stream_id, priority, remove in steps:
        if remove:
            scheduler.discard(stream_id)
            inside.discard(stream_id)
        else:
            scheduler.push(stream_id, priority)
            inside.add(stream_id)
        assert len(scheduler) == len(inside)
    while scheduler:
        stream_id, _ = scheduler.pick()
        scheduler.spent(stream_id, 1, has_more=False)
        inside.remove(stream_id)
    assert not inside


def test_a_weight_is_turns_in_a_round() -> None:
    """A stream of weight 3 has three turns where its equals have one; a turn stays one quantum."""
    scheduler = Scheduler()
    scheduler.push(1, 0)
    scheduler.push(3, 0, 3)
    scheduler.push(5, 0)
    assert take_turns(scheduler, 11) == [1, 3, 3, 3, 5, 1, 3, 3, 3, 5, 1]
    assert scheduler.pick()[1] == QUANTUM_BYTES


def test_turns_are_not_saved_up() -> None:
    """A heavy stream that has nothing more, or is taken out, begins its next round anew, with the weight it then has."""
    scheduler = Scheduler()
    scheduler.push(1, 0, 3)
    scheduler.push(3, 0)
    assert take_turns(scheduler, 2) == [1, 1]
    scheduler.spent(1, 10, has_more=False)
    scheduler.push(1, 0, 2)
    assert take_turns(scheduler, 4) == [3, 1, 1, 3]
    scheduler.discard(1)
    scheduler.push(1, 0)
    assert take_turns(scheduler, 4) == [3, 1, 3, 1]


@given(st.lists(st.integers(1, 16), min_size=2, max_size=6), st.integers(1, QUANTUM_BYTES))
def test_bytes_go_by_weight(weights: list[int], size: int) -> None:
    """Among equals that always have something to send, bytes are shared in proportion to the weights."""
    scheduler = Scheduler()
    for stream_id, weight in enumerate(weights):
        scheduler.push(stream_id, 0, weight)
    turns = Counter(take_turns(scheduler, 3 * sum(weights), size))
    assert [turns[stream_id] for stream_id in range(len(weights))] == [3 * weight for weight in weights]
