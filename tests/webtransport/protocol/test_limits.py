"""Limits of a connection are looked at when they are made."""

from __future__ import annotations

import re

import attrs
import pytest

from trio_streams.webtransport.protocol import limits
from trio_streams.webtransport.protocol.limits import WebTransportLimits


@pytest.mark.parametrize(
    "wrong", [{"max_sessions": 0}, {"max_requests": -1}, {"max_unnamed_streams": 0}, {"settings_timeout": 0}]
)
def test_a_limit_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    """The error names it."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WebTransportLimits(**wrong)  # type: ignore[arg-type]


def test_each_limit_is_in_the_table() -> None:
    """The table of what a peer can make us hold names every field."""
    table = limits.__doc__ or ""
    for field in attrs.fields(WebTransportLimits):
        assert re.search(rf"`{field.name}\b|Http3Config" if field.name == "http3" else rf"`{field.name}\b", table)


def test_sessions_ask_for_flow_control() -> None:
    """Peers that open no stream without a limit get one."""
    assert WebTransportLimits().session.limits.asks_for_flow_control
