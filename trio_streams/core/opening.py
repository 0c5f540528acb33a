"""What a stream is opened with: the record that says it, and the credit for the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_streams.config import StreamLimits
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.flow import ReceiveCredit

__all__ = ["make_open"]

_LONGEST_MS: Final = (1 << 53) - 1
"""The longest deadline that travels: what JSON numbers hold everywhere, and 285,000 years."""


def make_open(
    limits: StreamLimits,
    name: str,
    *,
    metadata: Mapping[str, str],
    priority: int,
    timeout_ms: int | None,
    window_items: int | None,
    window_bytes: int | None,
) -> tuple[records.Open, ReceiveCredit]:
    """The record that opens a stream, and the credit that it grants.

    Args:
      limits: the credit where none is named.
      name: what is asked for.
      metadata: string pairs for the handler.
      priority: higher goes first, -128 to 127.
      timeout_ms: what is left of the deadline; below 0 is 0.
      window_items, window_bytes: the credit for the answer, at least 1; None for the limits'.

    Raises:
      LocalProtocolError: the priority is out of range.
    """
    if not -128 <= priority <= 127:
        raise LocalProtocolError(f"priority is {priority}, outside -128 to 127", field="priority", size=priority)
    credit = ReceiveCredit(
        limits.window_items if window_items is None else max(1, window_items),
        limits.window_bytes if window_bytes is None else max(1, window_bytes),
    )
    if timeout_ms is not None:
        timeout_ms = min(max(0, timeout_ms), _LONGEST_MS)
    return records.Open(name, metadata, priority, timeout_ms, credit.window_items, credit.window_bytes), credit
