"""The collector of cycles while a command serves."""

from __future__ import annotations

import gc

import pytest

from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, read_thresholds, relieved_collector


def test_what_was_there_is_frozen_and_what_comes_is_looked_at_less_often() -> None:
    """For the length of a block; afterwards all is as it was."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with relieved_collector((20_000, 7, 30)):
        assert gc.get_threshold() == (20_000, 7, 30)
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_block_that_fails_leaves_no_trace() -> None:
    """The thresholds are put back however the block ends."""
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), relieved_collector(DEFAULT_THRESHOLDS):
        raise ZeroDivisionError
    assert gc.get_threshold() == before


def test_none_leaves_the_collector_alone() -> None:
    """Neither thresholds nor what is frozen change."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with relieved_collector(None):
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == frozen


@pytest.mark.parametrize(("text", "thresholds"), [("700,10,10", (700, 10, 10)), ("1, 2, 3", (1, 2, 3)), ("none", None)])
def test_what_a_setting_may_say(text: str, thresholds: tuple[int, int, int] | None) -> None:
    """Three numbers with commas between them, or none."""
    assert read_thresholds(text) == thresholds


@pytest.mark.parametrize("text", ["", "1", "1,2", "1,2,3,4", "0,1,1", "1,x,1", "-1,1,1", "1,1,9999999999", "1,1,²"])
def test_what_it_may_not_say(text: str) -> None:
    """Anything else is refused in words that follow the flag's name."""
    with pytest.raises(ValueError, match="three whole numbers from 1 on with commas between them, or none"):
        read_thresholds(text)
