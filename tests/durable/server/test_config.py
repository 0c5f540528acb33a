"""Configuration: what is wrong is named."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trio_streams.durable.server.access import require_bearer
from trio_streams.durable.server.config import DurableConfig

NUMBERS = [
    field.name
    for field in attrs.fields(DurableConfig)
    if field.name.startswith("max_") or field.name in {"long_poll_timeout", "sse_lifetime", "sweep_interval"}
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_more_than_nothing(name: str, value: int) -> None:
    """A limit or time that is no amount is refused, and the error names the field."""
    with pytest.raises(ValueError, match=f"{name} must be more than 0, not {value}"):
        DurableConfig(**dict[str, Any]({name: value}))


@pytest.mark.parametrize("root", ["", "v1/", "/v1"])
def test_roots(root: str) -> None:
    """A root begins and ends with a slash."""
    with pytest.raises(ValueError, match="root begins and ends"):
        DurableConfig(root=root)


@pytest.mark.parametrize(
    ("config", "scope"),
    [({}, "public"), ({"is_public": False}, "private"), ({"authenticate": require_bearer(["t"])}, "private")],
)
def test_who_may_keep_answers(config: dict[str, Any], scope: str) -> None:
    """Caches that many share keep nothing that somebody had to be let in for."""
    assert DurableConfig(**config).cache_control == f"{scope}, max-age=60, stale-while-revalidate=300"
