"""Rates: never faster, and never slower for it."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_streams.peer.rate_limit import Pacer, RateLimit


@given(st.floats(0.01, 1e6), st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_items_never_leave_faster_than_their_rate(rate: float, gaps: list[float]) -> None:
    """Whenever items come, any n of them take at least (n - 1) / rate seconds, but for 5 ms."""
    pacer = Pacer(RateLimit(items_per_second=rate))
    now, left = 0.0, []
    for gap in gaps:
        now += gap
        now += pacer.delay(now)
        left.append(now)
    for count in range(1, len(left)):
        spans = [left[i + count] - left[i] for i in range(len(left) - count)]
        assert min(spans) >= count / rate - 0.0051


def test_time_that_was_not_used_is_not_saved_up() -> None:
    """After a silence the next two items keep their distance."""
    pacer = Pacer(RateLimit(items_per_second=2))
    assert [pacer.delay(0.0), pacer.delay(0.0)] == [0.0, 0.5]
    assert [pacer.delay(100.0), pacer.delay(100.0)] == [0.0, 0.5]


async def test_waiting_takes_virtual_time(autojump_clock: MockClock) -> None:
    """A thousand items at a thousand a second take a second, less the 5 ms that may leave together."""
    pacer = Pacer(RateLimit(items_per_second=1_000))
    started = trio.current_time()
    for _ in range(1_001):
        await pacer.wait()
    assert trio.current_time() - started == pytest.approx(0.995)


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_wrong_rate_is_named(rate: float) -> None:
    """No rate, or none that is a number."""
    with pytest.raises(ValueError, match="items_per_second"):
        RateLimit(items_per_second=rate)
