"""Rates, and the connections that live."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock

from trio_streams.connection import Connection
from trio_streams.dashboard.meter import Connections, Meter
from trio_streams.driver import run_client, run_server
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair


def test_a_rate_is_taken_over_a_few_seconds() -> None:
    """It follows a change within three seconds, and needs no more than two looks."""
    meter = Meter()
    assert meter.rate("a", 0, 0.0) == 0.0
    assert meter.rate("a", 10, 1.0) == 10.0
    for second in range(2, 7):
        rate = meter.rate("a", 10, float(second))
    assert rate == 0.0
    meter.keep(set())
    assert meter.rate("a", 99, 7.0) == 0.0


def test_two_looks_at_one_moment_are_no_rate() -> None:
    """Nothing is divided by no time."""
    meter = Meter(span=1.0)
    assert [meter.rate("a", count, 5.0) for count in (0, 7)] == [0.0, 0.0]


async def test_connections_are_numbered_and_forgotten(autojump_clock: MockClock) -> None:
    """Those that live are listed, the oldest first; where nobody looks, at most 64 of the past are remembered."""
    connections = Connections()
    most = 0

    def connected(connection: Connection) -> None:
        nonlocal most
        connections.add(connection)
        most = max(most, len(connections._live))

    async def visit() -> None:
        left, right = memory_carrier_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_server, right, partial(prepare, Router()), on_connection=connected))
            async with run_client(left):
                pass

    for _ in range(150):
        await visit()
    assert 0 < most <= 64
    assert list(connections) == []
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, right, partial(prepare, Router()), on_connection=connected))
        async with run_client(left):
            assert [number for number, _ in connections] == [151]
