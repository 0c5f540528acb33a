"""A wrong configuration of a server fails where it was written."""

from __future__ import annotations

from typing import Any, cast

import pytest

from trio_streams.service.server_config import ServerConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_connections", 0),
        ("max_connections_per_host", -1),
        ("max_header_bytes", 1_023),
        ("drain_delay", -0.1),
        ("drain_timeout", float("nan")),
        ("check_timeout", -1),
        ("allowed_hosts", "example.org"),
        ("allowed_hosts", ["example.org"]),
        ("allowed_origins", ("",)),
        ("allowed_origins", (1,)),
        ("health_path", "healthz"),
        ("ready_path", ""),
    ],
)
def test_what_is_refused(field: str, value: object) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=f"^{field} "):
        ServerConfig(**cast("dict[str, Any]", {field: value}))


def test_what_can_be_turned_off() -> None:
    """None is for no limit, no probe and no log."""
    config = ServerConfig(max_connections=None, health_path=None, ready_path=None, on_access=None)
    assert config.max_connections is None
    assert config == ServerConfig(max_connections=None, health_path=None, ready_path=None)
