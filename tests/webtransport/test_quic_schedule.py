"""Whose turn it is: urgent streams, then groups by bytes, in a group the highest priority."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.quic_schedule import QUANTUM_BYTES, GroupScheduler


def _turns(scheduler: GroupScheduler, turns: int, size: int = QUANTUM_BYTES) -> list[int]:
    order = []
    for _ in range(turns):
        stream_id, allowance = scheduler.pick()
        order.append(stream_id)
        scheduler.spent(stream_id, min(size, allowance), has_more=True)
    return order


def test_equals_of_a_group_take_turns() -> None:
    """In the order in which they came; one that is in keeps its place."""
    scheduler = GroupScheduler()
    for stream_id in (0, 4, 8, 0):
        scheduler.push(stream_id, 0, 1)
    assert len(scheduler) == 3
    assert _turns(scheduler, 7) == [0, 4, 8, 0, 4, 8, 0]


def test_levels_that_come_and_go_below_a_busy_one_leave_nothing() -> None:
    """Streams that wait behind a higher priority, each with one of its own, and give up, cost no memory."""
    scheduler = GroupScheduler()
    scheduler.push(0, 1, 1)
    for priority in range(1_000):
        scheduler.push(4, -priority, 1)
        scheduler.discard(4)
    assert len(scheduler._groups[1]._order) < 50
    scheduler.push(4, -5, 1)
    scheduler.push(8, -7, 1)
    assert scheduler.pick()[0] == 0
    scheduler.discard(0)
    assert scheduler.pick()[0] == 4


def test_a_higher_priority_goes_first_without_exception() -> None:
    """Within a group nobody else has a turn while it has something."""
    scheduler = GroupScheduler()
    for stream_id, priority in ((0, -1), (4, 7), (8, 3)):
        scheduler.push(stream_id, priority, 1)
    assert _turns(scheduler, 40) == [4] * 40
    scheduler.spent(scheduler.pick()[0], 1, has_more=False)
    assert _turns(scheduler, 3) == [8] * 3
    scheduler.discard(8)
    assert scheduler.pick() == (0, QUANTUM_BYTES)


def test_groups_take_turns_whatever_their_priorities() -> None:
    """A session cannot shut out another one by its numbers, nor by how many streams it has."""
    scheduler = GroupScheduler()
    for stream_id in range(0, 400, 4):
        scheduler.push(stream_id, 1_000_000, 1)
    scheduler.push(1, -5, 2)
    scheduler.push(5, 0, 3)
    turns = Counter(_turns(scheduler, 300))
    assert (turns[1], turns[5]) == (100, 100)


def test_a_turn_goes_on_until_its_bytes_are_used() -> None:
    """However small the pieces are in which the network lets them out."""
    scheduler = GroupScheduler()
    scheduler.push(0, 0, 1)
    scheduler.push(4, 0, 2)
    order = _turns(scheduler, 32, QUANTUM_BYTES // 16)
    assert order == [0] * 16 + [4] * 16


def test_urgent_streams_go_before_all() -> None:
    """They take turns with each other alone."""
    scheduler = GroupScheduler()
    scheduler.push(0, 9, 1)
    for stream_id in (2, 6):
        scheduler.push(stream_id, 0, 0, is_urgent=True)
    assert _turns(scheduler, 4, 10) == [2, 6, 2, 6]
    scheduler.discard(2)
    scheduler.spent(6, 1, has_more=False)
    assert scheduler.pick() == (0, QUANTUM_BYTES)


def test_who_is_alone_has_no_turns() -> None:
    """It may send all there is room for, and owes nothing for it."""
    scheduler = GroupScheduler()
    scheduler.push(0, 0, 1)
    assert scheduler.pick(1_000_000) == (0, 1_000_000)
    scheduler.spent(0, 1_000_000, has_more=True)
    scheduler.push(4, 0, 1)
    assert _turns(scheduler, 3) == [0, 4, 0]
    scheduler.discard(99)
    assert (0 in scheduler, 99 in scheduler) == (True, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "discard", "turn", "last turn"]),
            st.integers(0, 8),
            st.integers(-2, 2),
            st.integers(0, 2),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_any_schedule_picks_the_right_stream(steps: list[tuple[str, int, int, int, bool]]) -> None:
    """Whatever comes and goes: who is picked is in, urgent if any is, and of the highest priority of its group."""
    scheduler = GroupScheduler()
    model: dict[int, tuple[int, int, bool]] = {}
    for what, stream_id, priority, group, is_urgent in steps:
        if what == "push":
            scheduler.push(stream_id, priority, group, is_urgent=is_urgent)
            model.setdefault(stream_id, (priority, group, is_urgent))
        elif what == "discard":
            scheduler.discard(stream_id)
            model.pop(stream_id, None)
        elif model:
            picked, allowance = scheduler.pick()
            mine, my_group, am_urgent = model[picked]
            assert am_urgent == any(urgent for _, _, urgent in model.values())
            assert am_urgent or mine == max(p for p, g, urgent in model.values() if g == my_group and not urgent)
            scheduler.spent(picked, allowance, has_more=what == "turn")
            if what == "last turn":
                del model[picked]
        assert len(scheduler) == len(model)
