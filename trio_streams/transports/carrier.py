"""The carrier protocol, beside its implementations; it is defined where the driver can see it."""

from __future__ import annotations

from trio_streams.carrier import RECEIVE_BYTES as RECEIVE_BYTES
from trio_streams.carrier import Carrier as Carrier

__all__ = ["RECEIVE_BYTES", "Carrier"]
