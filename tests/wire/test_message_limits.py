"""Limits that make no sense are refused where they are written."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trio_streams.wire.message_limits import MessageLimits


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(MessageLimits)])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_more_than_nothing(field: str, value: int) -> None:
    """Each is checked, and named in the error."""
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        MessageLimits(**wrong)


def test_a_message_may_take_any_time() -> None:
    """None is for carriers that keep time themselves."""
    assert MessageLimits(message_timeout=None).message_timeout is None
