"""The states of an HTTP/1.1 connection."""

from __future__ import annotations

from trio_streams.wire.http1_states import IS_BODILESS, OPEN, OVER, OutputState


def test_every_state_of_the_answer_is_of_one_kind() -> None:
    """A body can be added to or not; an answer without a head is neither open nor over."""
    assert set(OPEN) | set(OVER) | {OutputState.HEADLESS} == set(OutputState)
    assert not set(OPEN) & set(OVER)
    assert {204, 304} == IS_BODILESS  # RFC 9110 §6.4.1
