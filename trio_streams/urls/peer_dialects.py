"""Which dialects peers on URLs may ask for."""

from __future__ import annotations

from typing import Final, get_args

from trio_streams.core.errors import LocalProtocolError
from trio_streams.peer.signal import PeerDialect
from trio_streams.urls.address import Address
from trio_streams.urls.websocket import CarrierName

__all__ = ["check_peer_dialect"]

_DIALECTS: Final[tuple[str, ...]] = get_args(PeerDialect)
_HAVE_MESSAGES: Final = ("tcp", "tls", "unix", "ws", "wss")


def check_peer_dialect(dialect: str, address: Address, carrier: CarrierName, *, is_relayed: bool) -> None:
    """Refuse what can't be spoken.

    Raises:
      LocalProtocolError: there is no such dialect, the URL or the carrier has no room for it, or it is not a relay's.
    """
    if dialect not in _DIALECTS:
        raise LocalProtocolError(f"dialect is one of {', '.join(_DIALECTS)}, not {dialect!r}", field="dialect")
    if dialect != "signal":
        if is_relayed:
            raise LocalProtocolError("a relay speaks signal: relayed=True needs dialect='signal'", field="relayed")
        return
    if address.scheme not in _HAVE_MESSAGES:
        raise LocalProtocolError(
            f"can't speak signal on {address.url!r}: its schemes are {', '.join(_HAVE_MESSAGES)}", field="dialect"
        )
    if carrier != "websockets" and address.scheme in {"ws", "wss"}:
        raise LocalProtocolError(f"can't speak signal by {carrier}: it keeps no messages apart", field="carrier")
