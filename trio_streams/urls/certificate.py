"""What a URL in TLS has to be served with."""

from __future__ import annotations

from trio_streams.core.errors import LocalProtocolError
from trio_streams.urls.address import Address

__all__ = ["check_certificate"]


def check_certificate(address: Address, *, has_files: bool, has_context: bool) -> None:
    """Refuse to serve in TLS without a certificate.

    Args:
      address: where.
      has_files: whether there are a certificate and its key in files.
      has_context: whether there is a context instead, which only TLS on our own sockets can use.

    Raises:
      LocalProtocolError: as said.
    """
    if address.scheme in {"https", "wt"} and not has_files:
        raise LocalProtocolError(f"can't serve {address.scheme}:// without certfile and keyfile", field="certfile")
    if address.scheme in {"tls", "wss"} and not has_files and not has_context:
        raise LocalProtocolError(
            f"can't serve {address.scheme}:// without certfile and keyfile, or ssl_context", field="certfile"
        )
