"""The demo over HTTP/3: a server of WebTransport on loopback, its certificate, and the procedure that tells pages of both.

It is imported where the extra is installed, see `run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import attrs
import trio

from trio_streams.demo.visit import MAX_STREAMS, serve_visit
from trio_streams.procedures.router import Router
from trio_streams.transports.bytes import ListenError
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport import (
    Accept,
    QuicLimits,
    Refuse,
    SessionHandler,
    SessionRequest,
    WebTransportConfig,
    WebTransportServer,
    echo_session,
    serve,
)
from trio_streams.webtransport.certificates import Certificate, make_certificate

__all__ = ["Door", "Endpoint", "add_endpoint", "serve_webtransport"]

MAX_SESSIONS: Final = 32
"""At once: a demo has few visitors, and each may open a hundred streams."""

_CONFIG: Final = WebTransportConfig(
    quic=QuicLimits(max_bidirectional_streams=MAX_STREAMS, max_unidirectional_streams=8), max_sessions=MAX_SESSIONS
)


@attrs.frozen(kw_only=True)
class Endpoint:
    """What `webtransport.endpoint` answers.

    Attributes:
      url: what a page opens a session with.
      certificate_sha256: in base64, for `serverCertificateHashes`.
      expires_at: until when the certificate is good; browsers take none for longer than two weeks.
    """

    url: str
    certificate_sha256: str
    expires_at: datetime


class Door:
    """Who may open a session: programs, and pages that the demo itself has served."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._policy = OriginPolicy(host)

    def open_for(self, page_urls: list[str]) -> None:
        """Let pages in from now on: they are served once the session's server is, so nobody knows their port before."""
        self._policy = OriginPolicy(self._host, allowed_origins=page_urls)

    def admit(self, request: SessionRequest) -> Accept | Refuse:
        """Judge a request."""
        refusal = self._policy.refusal(request.authority, request.origin)
        return Accept() if refusal is None else Refuse(status=refusal.status)


async def serve_webtransport(
    bind: str,
    folder: str | os.PathLike[str],
    door: Door,
    note: Callable[[str], None],
    *,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `/demo` for the page and `/echo` for everybody until cancelled, with a certificate that is made for it.

    Args:
      bind: `host:port`.
      folder: where the certificate and its key are written; they are of no use afterwards.
      door: who may come in.
      note: told, for the log, who comes and goes.
      task_status: told where the page finds it.

    Raises:
      ListenError: the port is taken.

    Cancellation: sessions are closed, and their peers told.
    """
    certificate = make_certificate()
    certfile, keyfile = certificate.write(folder)
    async with trio.open_nursery() as nursery:
        routes: dict[str, SessionHandler] = {"/demo": partial(serve_visit, nursery, note), "/echo": echo_session}
        start = partial(
            serve,
            routes,
            bind=bind,
            certfile=certfile,
            keyfile=keyfile,
            allowed_origins="*",  # the door decides
            admit=door.admit,
            config=_CONFIG,
        )
        try:
            server: WebTransportServer = await nursery.start(start)
        except OSError as exc:
            raise ListenError(f"cannot listen on {bind} over UDP: {exc.strerror or exc}") from exc
        task_status.started(_endpoint(server, certificate))


def _endpoint(server: WebTransportServer, certificate: Certificate) -> Endpoint:
    return Endpoint(
        url=f"{server.url}/demo",
        certificate_sha256=certificate.sha256_base64,
        expires_at=certificate.expires_at,
    )


def add_endpoint(router: Router, endpoint: Endpoint) -> None:
    """Enter `webtransport.endpoint` into a router.

    Args:
      router: gets the procedure.
      endpoint: what it answers.
    """

    @router.call("webtransport.endpoint")
    async def tell() -> Endpoint:
        """Where this demo speaks WebTransport, and the hash of its certificate for `serverCertificateHashes`."""
        await trio.lowlevel.checkpoint()
        return endpoint
