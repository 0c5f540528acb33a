"""Retry-After: seconds, a date beside the server's own, and nonsense."""

from __future__ import annotations

import pytest

from trio_streams.wire.retry_after import seconds_to_wait

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "9" * 400}, 999_999_999.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": NOON}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:00 GMT", "date": NOON}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:59:00 GMT", "date": NOON}, -60.0),
        ({"retry-after": "Sat, 21 Nov 99999999999 12:00:00 GMT", "date": NOON}, 0.0),
    ],
)
def test_what_is_asked_for(fields: dict[str, str], seconds: float) -> None:
    """Digits are seconds, a date counts from the answer's own, and what is neither asks for nothing."""
    assert seconds_to_wait(fields) == seconds
