"""The records."""

from __future__ import annotations

import attrs
import pytest

from trio_streams.core import records


def test_a_status_knows_whether_it_is_ok() -> None:
    """Only the code OK is a clean end, whatever the message."""
    assert records.Status().is_ok
    assert records.Status("OK", "done").is_ok
    assert not records.Status("NOT_FOUND").is_ok
    assert not records.Status("ok").is_ok


def test_records_are_frozen_values() -> None:
    """Records compare by content and can't be changed; the shared empty metadata can't either."""
    assert records.Open("x") == records.Open("x", {}, 0, None, 0, 0)
    assert records.End() == records.End(records.OK)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        records.Ping(1).number = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        records.NO_METADATA["a"] = "b"  # type: ignore[index]
