"""What a content type says of a stream."""

from __future__ import annotations

import pytest

from trio_streams.durable.protocol.media_types import is_json, is_text, media_type


def test_content_types() -> None:
    """Parameters and case don't matter."""
    assert media_type(" Application/JSON ;x=y") == "application/json"
    assert media_type(None) == ""
    assert is_json("application/json")
    assert not is_json("application/json-seq")
    assert is_text("text/event-stream")
    assert not is_text("application/text")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/json-seq", False),
        ("text/plain", False),
        (None, False),
    ],
)
def test_json_mode_goes_by_the_media_type(content_type: str | None, expected: bool) -> None:
    """Case and parameters don't matter."""
    assert is_json(content_type) is expected
