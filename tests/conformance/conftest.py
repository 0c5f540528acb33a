"""Fixtures of the suite: a transport, and the clock that fits it."""

from __future__ import annotations

import pytest
from trio.abc import Clock
from trio.testing import MockClock

from tests.conformance.carriers import MORE_TRANSPORTS
from tests.conformance.transports import TRANSPORTS, Transport


@pytest.fixture(params=[*TRANSPORTS, *MORE_TRANSPORTS], ids=str)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each transport in turn."""
    assert isinstance(request.param, Transport)
    return request.param


@pytest.fixture
def clock(transport: Transport) -> Clock | None:
    """Virtual time where nothing happens outside the process; None for the wall's."""
    return MockClock(autojump_threshold=0) if transport.is_virtual else None
