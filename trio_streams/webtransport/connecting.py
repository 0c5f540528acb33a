"""A client's session: one connection, one session, one block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from hashlib import sha256
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio

from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.certificates import is_valid_now
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.dial import dial
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.errors import HandshakeFailed
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.requests import ConnectRequest
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import client_configuration
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock

__all__ = ["connect"]

_DEFAULT_PORT: Final = 443


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
      certificate_hashes: SHA-256 of certificates; the server must have one of them, within its two dates. Authorities are not
        asked, and whom it names does not count.
      verify: whether the certificate is looked at; without, anybody can answer.
      config: limits and timeouts.

    Raises:
      ValueError: the URL is not one of https with a host, or its port is not 1 to 65535.
      SessionRefused: the server answered with something else than 2xx.
      HandshakeFailed: the certificate is not to be trusted.
      ConnectionLost: nobody listens, or the server took longer than `handshake_timeout`.
      LocalProtocolError: a header, a subprotocol or the host's name is not valid.

    Cancellation: while it connects, the request is withdrawn and nothing is left.
    """
    asked = _parse(url)
    request = ConnectRequest(
        authority=asked.authority, path=asked.path, origin=origin, protocols=tuple(protocols), headers=tuple(headers)
    )
    trust = _Trust(authorities_pem, tuple(certificate_hashes), verify)
    return _Connecting(asked, request, trust, config if config is not None else WebTransportConfig())


@attrs.frozen
class _Asked:
    host: str
    port: int
    authority: str
    path: str


@attrs.frozen
class _Trust:
    authorities_pem: bytes | None
    certificate_hashes: tuple[bytes, ...]
    verify: bool

    def check(self, certificate: bytes | None) -> None:
        """Look at a certificate whose handshake is complete."""
        if self.certificate_hashes and sha256(certificate or b"").digest() not in self.certificate_hashes:
            raise HandshakeFailed("the server's certificate has none of the hashes that are trusted")
        if certificate is not None and self.certificate_hashes and not is_valid_now(certificate):
            raise HandshakeFailed("the server's certificate has a hash that is trusted, and is not valid now")


class _UntrustedError(Exception):
    """TLS failed: another address of the same host would be no better."""

    def __init__(self, failure: HandshakeFailed) -> None:
        super().__init__(str(failure))
        self.failure = failure


class _Connecting(AbstractAsyncContextManager[WebTransportSession]):
    """What `connect` gives. Not a generator's manager: from Python 3.12 on those keep what passes through them, and all that it
    holds, until the collector of cycles comes.
    """

    def __init__(self, asked: _Asked, request: ConnectRequest, trust: _Trust, config: WebTransportConfig) -> None:
        self._asked = asked
        self._request = request
        self._trust = trust
        self._config = config
        self._connection = AsyncExitStack()
        self._block: SessionBlock | None = None

    async def __aenter__(self) -> WebTransportSession:
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(self._dial())
            self._block = SessionBlock(await self._ask(link))
            self._connection = stack.pop_all()
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        try:
            return await self._block.__aexit__(kind, exc, traceback)
        finally:
            exc = traceback = None
            # Its managers are generators, so they hear nothing of what leaves the block.
            await self._connection.aclose()

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[Link]:
        asked, config = self._asked, self._config
        endpoint = attrs.evolve(config.endpoint, handshake_timeout=config.handshake_timeout)
        try:
            async with dial(asked.host, asked.port, self._make, self._wait_ready, config=endpoint) as link:
                yield link
        except _UntrustedError as exc:
            raise exc.failure from None

    def _make(self, addr: Address) -> Link:
        config, trust = self._config, self._trust
        configuration = client_configuration(
            config.quic,
            server_name=self._asked.host,
            authorities_pem=trust.authorities_pem,
            verify=trust.verify and not trust.certificate_hashes,
        )
        quic = Quic(configuration, config.quic)
        quic.connect(addr, trio.current_time())
        machine = ConnectionMachine(quic, is_client=True, limits=config.limits)
        return _ClientLink(quic, machine, peer=self._asked.authority, config=config)

    async def _wait_ready(self, link: Link) -> None:
        try:
            await link.wait_ready()
            assert isinstance(link, _ClientLink)
            self._trust.check(link.quic.peer_certificate)
        except HandshakeFailed as exc:
            raise _UntrustedError(exc) from None

    async def _ask(self, link: Link) -> WebTransportSession:
        timeout = self._config.handshake_timeout
        with trio.move_on_after(timeout):
            return await link.connect_session(self._request)
        raise ConnectionLost(f"{link.peer} took longer than {timeout} s to answer the request for a session")


class _ClientLink(Link):
    """A link that knows whose certificate it has seen."""

    __slots__ = ("quic",)

    def __init__(self, quic: Quic, machine: ConnectionMachine, *, peer: str, config: WebTransportConfig) -> None:
        super().__init__(machine, peer=peer, config=config, is_client=True)
        self.quic = quic


def _parse(url: str) -> _Asked:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError(f"a session's URL is https://host:port/path, not {url!r}")
    port = parts.port
    if port == 0:
        raise ValueError(f"the port of a session's URL is 1 to 65535, not 0: {url!r}")
    path = parts.path or "/"
    return _Asked(
        host=parts.hostname,
        port=_DEFAULT_PORT if port is None else port,
        authority=parts.netloc,
        path=f"{path}?{parts.query}" if parts.query else path,
    )
