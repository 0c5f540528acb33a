"""A client's session: one connection, one session, one block."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.session import WebTransportSession

__all__ = ["connect"]


def connect(
    url: str,
    *,
    protocols: Sequence[str] = (),
    origin: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    authorities_pem: bytes | None = None,
    certificate_hashes: Sequence[bytes] = (),
    verify: bool = True,
    config: WebTransportConfig | None = None,
) -> AbstractAsyncContextManager[WebTransportSession]:
    """Open a session that lives as long as the block.

    Left normally, tasks of the session are cancelled, what was ended is delivered (within `close_timeout`), and the session
    is closed with code 0; left cancelled or by an exception, with the code of our error table. No task is left behind.

    Args:
      url: `https://host:port/path`; the port is 443 where it is not given.
      protocols: subprotocols on offer, the most wanted first.
      origin: of the page that asks; None for a program.
      headers: other fields of the request, names in lower case.
      authorities_pem: certificates to trust, None for those that certifi brings.
      certificate_hashes: SHA-256 of certificates; the server must have one of them, and authorities are not asked.
      verify: whether the certificate is looked at; without, anybody can answer.
      config: limits and timeouts.

    Raises:
      ValueError: the URL is not one of https with a host.
      SessionRefused: the server answered with something else than 2xx.
      ConnectionLost: nobody listens, the certificate is not to be trusted, or the server took longer than `handshake_timeout`.
      LocalProtocolError: a header or a subprotocol is not valid.

    Cancellation: while it connects, the request is withdrawn and nothing is left.
    """
    raise NotImplementedError
