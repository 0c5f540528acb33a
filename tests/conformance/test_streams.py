"""The public checks, over every transport."""

from __future__ import annotations

import pytest
from trio.abc import Clock

from tests.conformance.transports import Transport
from trio_streams.testing.check_streams import CHECKS, Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_streams(check: Check, transport: Transport, clock: Clock | None) -> None:
    """Every transport keeps every claim of the public checker; each is the first line of its check."""
    await check(transport.make)
