"""One heap for many deadlines."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.timers import Timer, Timers


def test_what_is_due_comes_in_order_and_once() -> None:
    """Deadlines come in their order, with their times, and none comes twice."""
    timers = Timers[Timer]()
    first, second, third = Timer(), Timer(), Timer()
    timers.arm(second, 2.0)
    timers.arm(third, 3.0)
    timers.arm(first, 1.0)
    assert timers.next_deadline() == 1.0
    assert timers.take_due(2.0) == [(1.0, first), (2.0, second)]
    assert timers.take_due(2.0) == []
    assert timers.take_due(9.0) == [(3.0, third)]
    assert timers.next_deadline() == float("inf")


def test_a_deadline_that_moves_away_costs_no_entry() -> None:
    """A thousand moves of an idle timeout leave one entry in the heap, and it comes up when the last one says."""
    timers = Timers[Timer]()
    timer = Timer()
    for number in range(1_000):
        timers.arm(timer, 60.0 + number)
    assert len(timers) == 1
    assert timers.take_due(60.0) == []
    assert timers.take_due(1_058.9) == []
    assert timers.take_due(1_059.0) == [(1_059.0, timer)]


def test_a_deadline_that_comes_nearer_comes_then_and_not_again() -> None:
    """A nearer deadline is kept; what was said before it says nothing any more, though its entry is still there."""
    timers = Timers[Timer]()
    timer = Timer()
    timers.arm(timer, 60.0)
    for number in range(1_000):
        timers.arm(timer, number + 0.5)
        assert timers.take_due(number + 0.5) == [(number + 0.5, timer)]
        timers.arm(timer, number + 60.0)
        assert len(timers) <= 2
    timers.arm(timer, None)
    assert timers.take_due(10_000.0) == []


def test_what_is_discarded_is_not_kept() -> None:
    """The heap does not hold connections that are gone until their idle timeout would have come."""
    timers = Timers[Timer]()
    kept = Timer()
    timers.arm(kept, 60.0)
    for _ in range(1_000):
        gone = Timer()
        timers.arm(gone, 60.0)
        timers.arm(gone, 1.0)
        timers.discard(gone)
        assert len(timers) <= 4
    assert timers.take_due(60.0) == [(60.0, kept)]
    assert len(timers) == 0


@given(seed=st.integers(0, 10_000))
def test_it_agrees_with_a_list(seed: int) -> None:
    """Whatever is armed, moved, disarmed and discarded: what comes up is what a plain list of deadlines says."""
    rng = random.Random(seed)
    timers = Timers[Timer]()
    model: dict[Timer, float | None] = {Timer(): None for _ in range(5)}
    now = 0.0
    for _ in range(200):
        timer = rng.choice(list(model))
        match rng.randrange(10):
            case 0:
                timers.discard(timer)
                del model[timer]
                model[Timer()] = None
            case 1:
                timers.arm(timer, None)
                model[timer] = None
            case 2 | 3 | 4:
                now += rng.random()
                due = sorted((time, id(timer)) for timer, time in model.items() if time is not None and time <= now)
                assert sorted((time, id(timer)) for time, timer in timers.take_due(now)) == due
                model = {timer: None if time is None or time <= now else time for timer, time in model.items()}
            case _:
                model[timer] = now + rng.random() * 3
                timers.arm(timer, model[timer])
        armed = [time for time in model.values() if time is not None]
        assert timers.next_deadline() <= min(armed, default=float("inf"))
    assert len(timers) < 200


def test_a_stale_entry_that_is_popped_is_counted_out() -> None:
    """Entries of a timer that is gone are passed over when they come up among others."""
    timers = Timers[Timer]()
    others = [Timer() for _ in range(10)]
    for other in others:
        timers.arm(other, 5.0)
    gone = Timer()
    timers.arm(gone, 1.0)
    timers.discard(gone)
    assert timers.take_due(2.0) == []
    assert [timer for _, timer in timers.take_due(5.0)] == others
    assert len(timers) == 0
