"""The half-state table."""

from __future__ import annotations

import itertools

import pytest

from trio_streams.core.states import FINISHED, TRANSITIONS, HalfState, StreamState, Trigger, advance, project

OPEN, CLOSING, CLOSED, ERRORED = HalfState


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(HalfState, Trigger)), ids=str)
def test_each_move_is_in_the_table_or_changes_nothing(state: HalfState, trigger: Trigger) -> None:
    """`advance` answers every pair: the table's state, or None for a trigger that comes too late."""
    expected = {
        (OPEN, Trigger.END): CLOSING,
        (OPEN, Trigger.RESET): ERRORED,
        (OPEN, Trigger.STOP): ERRORED,
        (CLOSING, Trigger.DRAINED): CLOSED,
        (CLOSING, Trigger.RESET): ERRORED,
        (CLOSING, Trigger.STOP): ERRORED,
    }
    assert advance(state, trigger) is expected.get((state, trigger))


@pytest.mark.parametrize(
    "triggers", list(itertools.product(Trigger, repeat=4)), ids=lambda t: "-".join(x.value for x in t)
)
def test_a_half_finishes_once(triggers: tuple[Trigger, ...]) -> None:
    """Whatever happens to a half, and how often: once it is finished nothing moves it."""
    state = OPEN
    finished = 0
    for trigger in triggers:
        after = advance(state, trigger)
        if after is not None:
            assert state not in FINISHED
            finished += after in FINISHED
            state = after
    assert finished <= 1


def test_the_finished_states_are_those_without_a_way_out() -> None:
    """FINISHED and the table say the same."""
    assert {state for state, _ in TRANSITIONS} == set(HalfState) - FINISHED


@pytest.mark.parametrize(
    ("local", "remote", "whole"),
    [
        (OPEN, OPEN, StreamState.OPEN),
        (OPEN, CLOSING, StreamState.OPEN),
        (OPEN, CLOSED, StreamState.HALF_CLOSED_REMOTE),
        (OPEN, ERRORED, StreamState.HALF_CLOSED_REMOTE),
        (CLOSING, OPEN, StreamState.HALF_CLOSED_LOCAL),
        (CLOSED, OPEN, StreamState.HALF_CLOSED_LOCAL),
        (CLOSED, CLOSING, StreamState.HALF_CLOSED_LOCAL),
        (CLOSING, CLOSING, StreamState.HALF_CLOSED_LOCAL),
        (CLOSING, CLOSED, StreamState.CLOSED),
        (ERRORED, ERRORED, StreamState.CLOSED),
    ],
)
def test_two_halves_project_to_the_whole_stream(local: HalfState, remote: HalfState, whole: StreamState) -> None:
    """The whole stream is open, half closed on one side, or closed (RFC 9000 §3)."""
    assert project(local, remote) is whole
