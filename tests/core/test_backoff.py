"""Backoff with full jitter."""

from __future__ import annotations

import pytest

from trio_streams.core.backoff import full_jitter


@pytest.mark.parametrize(("failures", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 7.0), (100_000, 7.0)])
def test_the_bound_grows_up_to_its_limit(failures: int, bound: float) -> None:
    """Chance takes a share of a bound that doubles with each failure and stops at the limit, without an overflow."""
    shares = [0.0, 0.25, 0.999]
    left = iter(shares)
    waits = [
        full_jitter(failures, initial_delay=0.5, factor=2.0, max_delay=7.0, random=lambda: next(left)) for _ in shares
    ]
    assert waits == [share * bound for share in shares]


def test_a_huge_factor_does_not_overflow() -> None:
    """Whatever the factor, the limit holds."""
    assert full_jitter(50, initial_delay=1.0, factor=1e300, max_delay=9.0, random=lambda: 1.0) == 9.0
