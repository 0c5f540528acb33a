"""What a stream is opened with."""

from __future__ import annotations

import pytest

from trio_streams.config import StreamLimits
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.flow import ReceiveCredit
from trio_streams.core.opening import make_open

LIMITS = StreamLimits(window_items=5, window_bytes=500)


def _open(
    *, priority: int = 0, timeout_ms: int | None = None, items: int | None = None, size: int | None = None
) -> tuple[records.Open, ReceiveCredit]:
    return make_open(
        LIMITS,
        "x",
        metadata={"k": "v"},
        priority=priority,
        timeout_ms=timeout_ms,
        window_items=items,
        window_bytes=size,
    )


def test_the_limits_are_granted_where_no_window_is_named() -> None:
    """Record and credit say the same."""
    record, credit = _open()
    assert record == records.Open("x", {"k": "v"}, 0, None, 5, 500)
    assert (credit.item_limit, credit.byte_limit) == (5, 500)


@pytest.mark.parametrize(("asked", "granted"), [(7, 7), (1, 1), (0, 1), (-3, 1)])
def test_a_window_is_at_least_one(asked: int, granted: int) -> None:
    """A window that lets nothing through is one that lets one item through: else nothing would ever come."""
    record, credit = _open(items=asked, size=asked)
    assert (record.window_items, record.window_bytes) == (granted, granted)
    assert (credit.window_items, credit.window_bytes) == (granted, granted)


@pytest.mark.parametrize(("asked", "said"), [(None, None), (5, 5), (-1, 0), (1 << 60, (1 << 53) - 1)])
def test_a_deadline_is_what_travels(asked: int | None, said: int | None) -> None:
    """One that has passed is 0, and none is longer than JSON's numbers hold everywhere."""
    assert _open(timeout_ms=asked)[0].timeout_ms == said


@pytest.mark.parametrize("priority", [-128, 0, 127])
def test_a_priority_is_within_a_byte(priority: int) -> None:
    """Both ends of the range are in it."""
    assert _open(priority=priority)[0].priority == priority


@pytest.mark.parametrize("priority", [-129, 128])
def test_a_priority_beyond_a_byte_is_refused(priority: int) -> None:
    """It names the value and the range."""
    with pytest.raises(LocalProtocolError, match=f"priority is {priority}, outside -128 to 127") as caught:
        _open(priority=priority)
    assert (caught.value.field, caught.value.size) == ("priority", priority)
