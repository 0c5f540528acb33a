"""Which of the two WebSocket carriers a URL is served or called with."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from trio_streams.core.errors import LocalProtocolError

__all__ = ["CarrierName", "check_carrier"]

CarrierName: TypeAlias = Literal["websockets", "trio-websocket"]

_CARRIERS: Final[tuple[str, ...]] = get_args(CarrierName)


def check_carrier(name: str) -> None:
    """Refuse a name that no carrier has.

    Raises:
      LocalProtocolError: as said.
    """
    if name not in _CARRIERS:
        raise LocalProtocolError(f"carrier is one of {', '.join(_CARRIERS)}, not {name!r}", field="carrier")
