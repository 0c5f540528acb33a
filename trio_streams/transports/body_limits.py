"""What a request body may not pass: its length, a silence, and too slow a pace."""

from __future__ import annotations

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.transports.exchange_head import ExchangeConfig

__all__ = ["check_length", "check_pace", "late_body"]


def check_length(size: int, limit: int | None) -> None:
    """Refuse a body of `size` bytes or more, where the limit is below that.

    Raises:
      RpcError: MESSAGE_TOO_LARGE (413).
    """
    if limit is not None and size > limit:
        raise RpcError(
            Code.MESSAGE_TOO_LARGE,
            f"the body is {size} bytes or more, the limit is {limit}",
            {"field": "body", "size": size, "limit": limit},
        )


def check_pace(config: ExchangeConfig, size: int, duration: float) -> None:
    """Refuse a body of which `size` bytes have come in `duration` seconds, where that is too slow.

    A silence ends by `body_timeout`, so to look at each piece is enough.

    Raises:
      RpcError: IDLE_TIMEOUT (408).
    """
    pace = config.min_body_bytes_per_second
    if pace is not None and duration > config.body_timeout and size < pace * duration:
        raise late_body("min_body_bytes_per_second", pace, "bytes a second")


def late_body(field: str, limit: float, unit: str) -> RpcError:
    """The error of a body that does not come in time, which is 408."""
    text = f"the request's body did not come in time: {field} is {limit:g} {unit}"
    return RpcError(Code.IDLE_TIMEOUT, text, {"field": field, "limit": limit})
