"""Limits of a connection."""

from __future__ import annotations

import pytest

from trio_streams.wire.http1_records import Http1Limits


def test_limits_are_positive() -> None:
    """A limit that would refuse everything fails where it was written; None is no limit, where there may be none."""
    assert Http1Limits(max_body_bytes=None).max_body_bytes is None
    with pytest.raises(ValueError, match="header_timeout must be more than 0"):
        Http1Limits(header_timeout=0)
    with pytest.raises(ValueError, match="max_headers"):
        Http1Limits(max_headers=-1)
