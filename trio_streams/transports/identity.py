"""Who a carrier's peer is, as far as the carrier itself vouches for it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from trio_streams.carrier import Carrier
from trio_streams.transports.tls_carrier import TlsCarrier

__all__ = ["identify_peer"]

_USER: Final = "uid="


def identify_peer(carrier: Carrier) -> Hashable:
    """The principal that a carrier vouches for.

    Args:
      carrier: accepted.

    Returns:
      On TLS the certificate of the client, on a Unix socket the user; None where there is neither.
    """
    if isinstance(carrier, TlsCarrier):
        return carrier.peer_certificate
    is_unix = carrier.peer.startswith("unix:") and _USER in carrier.peer
    return carrier.peer.partition(_USER)[2] if is_unix else None
