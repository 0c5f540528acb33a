"""Limits and timeouts."""

from __future__ import annotations

import math

import attrs
import pytest

from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions, StreamLimits

BYTES_AND_COUNTS = ["connection_window_bytes", "max_streams", "max_item_bytes", "max_send_buffer_bytes"]


def test_the_defaults_are_those_of_the_design() -> None:
    """256 items and 256 KiB a stream, 16 MiB a connection, 1,024 streams."""
    config = ConnectionConfig()
    assert (config.stream.window_items, config.stream.window_bytes) == (256, 1_048_576)
    assert (config.connection_window_bytes, config.max_streams) == (16_777_216, 1_024)


@pytest.mark.parametrize("field", ["window_items", "window_bytes"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_window_lets_something_through(field: str, value: float) -> None:
    """A window is at least 1; the error names the field where it was written."""
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        StreamLimits(**{field: value})  # type: ignore[arg-type]
    assert getattr(StreamLimits(**{field: 1}), field) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, 0) for field in BYTES_AND_COUNTS),
        ("max_control_bytes", 1_023),
        ("max_item_bytes", 2**32),
        ("connect_timeout", -0.1),
        ("handshake_timeout", math.nan),
        ("idle_timeout", 0.0),
        ("close_timeout", -1.0),
    ],
)
def test_wrong_limits_are_refused(field: str, value: float) -> None:
    """What could never work fails when the configuration is made, by name."""
    with pytest.raises(ValueError, match=field):
        ConnectionConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (ResumeOptions, "max_retained_bytes", 131_071),
        (ResumeOptions, "max_session_age", -1.0),
        (ResumeOptions, "max_detached_sessions", 0),
        (ReconnectOptions, "initial_delay", math.nan),
        (ReconnectOptions, "max_delay", -1.0),
        (ReconnectOptions, "factor", 0.5),
        (ReconnectOptions, "max_attempts", 0),
    ],
)
def test_wrong_limits_of_sessions_are_refused(kind: type, field: str, value: float) -> None:
    """Likewise; a retention that is smaller than what a peer may leave unacknowledged would stop its streams."""
    with pytest.raises(ValueError, match=field):
        kind(**{field: value})


def test_no_idle_timeout_is_a_choice() -> None:
    """None means never; the smallest values are allowed."""
    config = ConnectionConfig(idle_timeout=None, close_timeout=0, **dict.fromkeys(BYTES_AND_COUNTS, 1))  # type: ignore[arg-type]
    assert (config.idle_timeout, config.close_timeout, config.max_streams) == (None, 0, 1)


def test_a_configuration_is_frozen() -> None:
    """It is changed by making another one."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ConnectionConfig().max_streams = 5  # type: ignore[misc]
