"""Cursors: intervals of twenty seconds, and strictly more than the client's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.cursor import EPOCH, next_cursor

NOW = EPOCH + 1000 * 20 + 19.9


@pytest.mark.parametrize("asked", [None, "", "x", "-5", "1.5", "999", "9" * 19, "１"])
def test_the_cursor_is_the_interval(asked: str | None) -> None:
    """Whoever brings no cursor, nonsense or an older one gets the current interval's number."""
    assert next_cursor(asked, NOW, lambda: 0.5) == "1000"


@given(st.integers(1000, 10**17), st.floats(0, 1, exclude_max=True))
def test_cursors_never_stand_still(asked: int, random: float) -> None:
    """A cursor that is not older is answered with one that is 1 to 3600 seconds' worth of intervals greater."""
    assert asked < int(next_cursor(str(asked), NOW, lambda: random)) <= asked + 180


def test_before_the_epoch_there_is_no_interval() -> None:
    """A clock that is wrong makes no negative cursor."""
    assert next_cursor(None, 0.0, lambda: 0.0) == "0"
