"""What a server shows who comes in TLS."""

from __future__ import annotations

import ssl

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.transports.tls import server_context
from trio_streams.urls.address import Address

__all__ = ["Credentials"]


@attrs.frozen
class Credentials:
    """Two files, or a context instead of them.

    Attributes:
      certfile: a certificate chain in PEM.
      keyfile: its key.
      ssl_context: for what is TLS on our own sockets, and not HTTP or QUIC.
    """

    certfile: str | None = None
    keyfile: str | None = None
    ssl_context: ssl.SSLContext | None = None

    def context(self, *, alpn: str | None) -> ssl.SSLContext:
        """The context for a URL in TLS; what was given, or else made of the files."""
        if self.ssl_context is not None:
            return self.ssl_context
        return server_context(self.certfile or "", self.keyfile or "", alpn=alpn)

    def check(self, address: Address) -> None:
        """Refuse an address that takes what is not there.

        Raises:
          LocalProtocolError: it is one in TLS, and there are no credentials for it.
        """
        has_files = self.certfile is not None and self.keyfile is not None
        if address.scheme in {"https", "wt"} and not has_files:
            raise LocalProtocolError(f"can't serve {address.scheme}:// without certfile and keyfile", field="certfile")
        if address.scheme in {"tls", "wss"} and not has_files and self.ssl_context is None:
            raise LocalProtocolError(
                f"can't serve {address.scheme}:// without certfile and keyfile, or ssl_context", field="certfile"
            )
