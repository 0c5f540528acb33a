"""When a request is sent again, how long that waits, and when it is enough."""

from __future__ import annotations

from typing import Any

import pytest

from trio_streams.durable.protocol.retry import Attempts, Repeat, RetryOptions, is_passing


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, None])
def test_what_passes_is_tried_again(status: int | None) -> None:
    """A request that may be repeated is, after what is about the moment, and where no answer came."""
    assert is_passing(status, Repeat.ALWAYS)


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 405, 409, 410, 412, 413, 501, 505, 600])
def test_what_stays_is_not(status: int) -> None:
    """A refusal that would be repeated, too, is raised at once."""
    assert not is_passing(status, Repeat.ALWAYS)
    assert not is_passing(status, Repeat.UNDONE)


@pytest.mark.parametrize(
    ("status", "was_sent", "passes"),
    [
        (429, True, True),
        (503, True, True),
        (500, True, False),
        (408, True, False),
        (None, True, False),
        (None, False, True),
    ],
)
def test_what_must_not_be_done_twice(status: int | None, was_sent: bool, passes: bool) -> None:
    """What must not be done twice is repeated only after what says that it was not done."""
    assert is_passing(status, Repeat.UNDONE, was_sent=was_sent) is passes


def test_waits_double_up_to_a_limit() -> None:
    """The n-th wait is chance's share of a bound that doubles, up to the largest."""
    options = RetryOptions(max_retries=5, initial_delay=1.0, max_delay=5.0)
    attempts = Attempts(options, lambda: 0.5)
    assert [attempts.fail() for _ in range(6)] == [0.5, 1.0, 2.0, 2.5, 2.5, None]


def test_a_server_gets_the_time_it_asks_for() -> None:
    """Retry-After prolongs a wait, up to a bound, and never shortens it."""
    attempts = Attempts(RetryOptions(initial_delay=4.0, max_retry_after=9.0), lambda: 0.5)
    assert attempts.fail(1.0) == 2.0
    assert attempts.fail(7.0) == 7.0
    assert attempts.fail(1e9) == 9.0
    assert attempts.fail(-5.0) == 5.0


def test_progress_forgets_failures() -> None:
    """What got on in between may fail as often again."""
    attempts = Attempts(RetryOptions(max_retries=1), lambda: 0.0)
    assert attempts.fail() == 0.0
    assert attempts.fail() is None
    attempts.succeed()
    assert attempts.fail() == 0.0


def test_any_number_of_retries() -> None:
    """None sets no limit, and waits stay finite."""
    attempts = Attempts(RetryOptions(max_retries=None), lambda: 1.0)
    assert {attempts.fail() for _ in range(10_000)} <= {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0}


def test_recoveries_are_bounded() -> None:
    """An `on_error` that always wants another attempt does not get it for ever; each one begins with fresh retries."""
    attempts = Attempts(RetryOptions(max_retries=1, max_recoveries=2), lambda: 0.0)
    for _ in range(2):
        assert attempts.fail() is not None
        assert attempts.fail() is None
        assert attempts.recover()
    assert not attempts.recover()
    attempts.succeed()
    assert attempts.recover()


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"initial_delay": 0},
        {"initial_delay": -1.0},
        {"max_delay": 0.01},
        {"initial_delay": 2.0, "max_delay": 1.0},
        {"multiplier": 0.5},
        {"multiplier": float("nan")},
        {"max_retry_after": 0},
        {"max_recoveries": -1},
    ],
)
def test_wrong_options_fail_where_they_are_written(options: dict[str, Any]) -> None:
    """An option out of its range is an error that names it."""
    with pytest.raises(ValueError, match=list(options)[-1]):
        RetryOptions(**options)
