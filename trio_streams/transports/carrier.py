"""The carrier protocol, beside its implementations; it is defined where the driver can see it."""

from __future__ import annotations

from typing import Final

from trio_streams.carrier import RECEIVE_BYTES as RECEIVE_BYTES
from trio_streams.carrier import Carrier as Carrier

__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "RECEIVE_BYTES", "Carrier"]

DEFAULT_MAX_MESSAGE_BYTES: Final = 16_777_216 + 65_536
"""Of one WebSocket message: the largest item by default, and room for the frames around it."""
