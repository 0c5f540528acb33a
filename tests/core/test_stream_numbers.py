"""How many streams the peer may open, over a connection's whole life."""

from __future__ import annotations

import pytest

from tests.core.support import Muxes
from trio_streams.config import ConnectionConfig


@pytest.mark.parametrize("most", [1, 4, 100])
def test_stream_numbers_are_granted_by_the_quarter(most: int) -> None:
    """Finished streams give their numbers back together, a quarter of the limit at a time, and before they run out."""
    muxes = Muxes(ConnectionConfig(max_streams=most))
    limits = set()
    for _ in range(4 * most):
        stream = muxes.client.open("x")
        muxes.client.end(stream)
        muxes.run()
        muxes.server.release(stream)
        muxes.run()
        limits.add(muxes.client._in.open_limit)
        assert muxes.client.can_open
    assert max(limits) >= 4 * most
    assert len(limits) <= 18


def test_one_long_stream_does_not_use_up_the_numbers() -> None:
    """With all numbers but one held by streams that stay, short ones still follow each other."""
    muxes = Muxes(ConnectionConfig(max_streams=8))
    for _ in range(7):
        muxes.client.open("stays")
    for _ in range(20):
        muxes.client.end(stream := muxes.client.open("goes"))
        muxes.run()
        muxes.server.release(stream)
        muxes.run()
