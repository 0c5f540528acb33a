"""How often one client may append."""

from __future__ import annotations

import pytest

from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.server.rates import AppendRate


def count(rate: AppendRate, peer: str, now: float, tries: int = 20) -> int:
    """How many of some tries at once are let through."""
    for index in range(tries):
        try:
            rate.allows(peer, now)
        except Refused:
            return index
    return tries


def test_a_bucket_is_filled_again() -> None:
    """A client gets a second's worth at once, and what has come together since."""
    rate = AppendRate(4)
    assert count(rate, "a:1", 0.0) == 4
    assert count(rate, "a:2", 0.5) == 2
    assert count(rate, "a:3", 100.0) == 4
    assert count(rate, "[::1]:1", 100.0) == 4


def test_less_than_one_a_second() -> None:
    """A slow rate lets one through, and says when the next one may come."""
    rate = AppendRate(0.1)
    assert count(rate, "a:1", 0.0) == 1
    with pytest.raises(Refused) as caught:
        rate.allows("a:1", 0.0)
    assert dict(caught.value.headers) == {"retry-after": "10"}
    assert count(rate, "a:1", 10.0) == 1


def test_clients_are_bounded() -> None:
    """Clients that have not been heard of for long are forgotten; the latest are not."""
    rate = AppendRate(1)
    for index in range(10_001):
        rate.allows(f"{index}:1", 0.0)
    assert count(rate, "0:1", 0.0) == 1
    assert count(rate, "10000:1", 0.0) == 0
