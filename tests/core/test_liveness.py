"""Deadlines: the hello, pings into a silence, and giving up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core.liveness import Liveness


def test_the_hello_must_come_in_time() -> None:
    """Until the hello is here, only `handshake_timeout` counts, however much else arrives."""
    liveness = Liveness(5.0, 60.0, 100.0)
    assert liveness.deadline == 105.0
    liveness.heard(104.0)
    assert liveness.check(104.9, greeted=False) is None
    assert liveness.ping_due(104.9) is None
    error = liveness.check(105.0, greeted=False)
    assert error is not None
    assert (error.code, error.field) == (Code.HANDSHAKE_TIMEOUT, "handshake_timeout")


def test_without_an_idle_timeout_there_is_no_deadline() -> None:
    """`idle_timeout=None` never gives the peer up and never pings."""
    liveness = Liveness(5.0, None, 0.0)
    liveness.greeted()
    assert liveness.deadline is None
    assert liveness.check(1e9, greeted=True) is None
    assert liveness.ping_due(1e9) is None


def test_a_silence_is_answered_by_one_ping_and_then_given_up() -> None:
    """A ping goes out at half of `idle_timeout`, one only; at all of it the peer is given up."""
    liveness = Liveness(5.0, 10.0, 0.0)
    liveness.heard(1.0)
    liveness.greeted()
    assert liveness.deadline == 6.0
    assert liveness.check(6.0, greeted=True) is None
    assert liveness.ping_due(6.0) == 1
    assert liveness.deadline == 11.0
    liveness.deadline = 8.0
    assert liveness.ping_due(8.0) is None
    assert liveness.check(10.9, greeted=True) is None
    error = liveness.check(11.0, greeted=True)
    assert error is not None
    assert (error.code, error.field) == (Code.IDLE_TIMEOUT, "idle_timeout")


def test_input_moves_the_deadline_only_when_it_has_passed() -> None:
    """A busy connection pays nothing: the deadline is looked at again when it is reached."""
    liveness = Liveness(5.0, 10.0, 0.0)
    liveness.greeted()
    liveness.heard(4.0)
    assert liveness.deadline == 5.0
    assert liveness.check(5.0, greeted=True) is None
    assert liveness.ping_due(5.0) is None
    assert liveness.deadline == 9.0
    assert liveness.ping_due(9.0) == 1
    liveness.heard(9.5)
    assert liveness.ping_due(14.0) is None
    assert liveness.ping_due(14.5) == 2


@given(start=st.floats(0, 1e6), idle=st.floats(0.001, 1e3))
def test_a_deadline_that_is_reached_always_moves(start: float, idle: float) -> None:
    """On any clock, after at most three deadlines of silence the peer is given up: no rounding makes the clock stand."""
    liveness = Liveness(5.0, idle, start)
    liveness.heard(start)
    liveness.greeted()
    for _ in range(3):
        now = liveness.deadline
        assert now is not None
        if liveness.check(now, greeted=True) is not None:
            return
        liveness.ping_due(now)
    pytest.fail("the deadline does not move")


def test_a_ping_measures_the_round_trip() -> None:
    """A pong gives the time since its ping, once; a number that is not under way gives nothing."""
    liveness = Liveness(5.0, None, 0.0)
    first, second = liveness.start_ping(1.0), liveness.start_ping(2.0)
    assert liveness.finish_ping(second, 2.25) == 0.25
    assert liveness.finish_ping(second, 3.0) is None
    assert liveness.round_trip == 0.25
    assert liveness.finish_ping(first, 3.0) == 2.0


def test_pings_that_never_come_back_are_forgotten() -> None:
    """Only the last 64 pings are remembered."""
    liveness = Liveness(5.0, None, 0.0)
    numbers = [liveness.start_ping(0.0) for _ in range(65)]
    assert liveness.finish_ping(numbers[0], 1.0) is None
    assert liveness.finish_ping(numbers[1], 1.0) == 1.0


def test_between_two_carriers_time_stands_still() -> None:
    """Nobody can be heard then; on the next carrier the hello has its time again, and old pings are forgotten."""
    liveness = Liveness(5.0, 10.0, 0.0)
    liveness.greeted()
    number = liveness.start_ping(1.0)
    liveness.pause()
    assert liveness.deadline is None
    assert liveness.check(1e9, greeted=False) is None
    liveness.restart(100.0)
    assert liveness.deadline == 105.0
    assert liveness.finish_ping(number, 101.0) is None
    liveness.heard(102.0)
    liveness.greeted()
    assert liveness.deadline == 107.0
