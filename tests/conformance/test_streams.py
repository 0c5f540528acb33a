"""The public checks, over every transport."""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest
from trio.abc import Clock

from tests.conformance.carriers import webtransport_ends
from tests.conformance.transports import Transport
from trio_streams.testing.check_streams import CHECKS, Check
from trio_streams.webtransport import QuicLimits, WebTransportConfig

PREPARED: Final = {
    # Over QUIC `max_streams` is a limit of its connection, which is there before the check names one; the session's own
    # stream is the other one.
    ("webtransport", "check_cancellation_reaches_the_handler"): partial(
        webtransport_ends, WebTransportConfig(quic=QuicLimits(max_bidirectional_streams=2))
    ),
}
"""How some transports are made for a check that needs more than a configuration of its own."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_streams(check: Check, transport: Transport, clock: Clock | None) -> None:
    """Every transport keeps every claim of the public checker; each is the first line of its check."""
    await check(PREPARED.get((transport.name, check.__name__), transport.make))
