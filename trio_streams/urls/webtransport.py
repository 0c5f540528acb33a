"""`wt://host:port`: sessions of WebTransport over HTTP/3, each of them a connection of our own dialect.

It is always in TLS, as QUIC is. The session is asked for at the path of the URL, which is `/`, and offers the subprotocol
`trio-streams.v1`. This file is imported when such a URL is used, because it takes an extra.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio

from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.service.drain import Drain
from trio_streams.transports.bytes import ListenError, describe_fault, host_port
from trio_streams.urls.address import Address
from trio_streams.urls.carriers import Call
from trio_streams.urls.listening import Listening
from trio_streams.webtransport import (
    Accept,
    QuicLimits,
    Refuse,
    SessionRefused,
    SessionRequest,
    WebTransportConfig,
    WebTransportServer,
    WebTransportSession,
)
from trio_streams.webtransport import connect as connect_session
from trio_streams.webtransport import serve as serve_sessions
from trio_streams.webtransport.errors import HandshakeFailed
from trio_streams.webtransport.procedures import run_session_connection
from trio_streams.wire.binary import PROTOCOL

__all__ = ["run_call", "serve_address", "session_config"]

_MIN_WINDOW_BYTES: Final = 65_536
"""QUIC's windows are never smaller: a window of items may be, and is kept by credit of its own."""

_KEEP_ALIVE_INTERVAL: Final = 14.0
_RETRY_AFTER: Final = (("retry-after", "1"),)


def session_config(config: ConnectionConfig, *, max_connections: int | None = None) -> WebTransportConfig:
    """What a connection's limits and timeouts are to the session under it.

    Args:
      config: as given.
      max_connections: of a server; None for no limit of its own.
    """
    window = max(_MIN_WINDOW_BYTES, config.stream.window_bytes)
    idle = config.idle_timeout
    quic = QuicLimits(
        window_bytes=window,
        connection_window_bytes=max(2 * window, config.connection_window_bytes),
        # The session's own stream is one of a client's.
        max_bidirectional_streams=config.max_streams + 1,
    )
    if idle is not None:
        quic = attrs.evolve(quic, idle_timeout=max(1.0, idle))
    made = WebTransportConfig(
        quic=quic,
        keep_alive_interval=min(_KEEP_ALIVE_INTERVAL, quic.idle_timeout / 4),
        handshake_timeout=max(0.001, config.connect_timeout),
        close_timeout=max(0.001, config.close_timeout),
        drain_timeout=3_600.0,  # the server's own deadline comes first
    )
    if max_connections is None:
        return made
    return attrs.evolve(made, endpoint=attrs.evolve(made.endpoint, max_connections=max_connections))


# -- serving ------------------------------------------------------------------------------------------------------


async def serve_address(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    """Serve one address until cancelled or drained.

    Args:
      server: what listeners share; it has the files of a certificate.
      address: where; it is looked at for its host and its port.
      task_status: told the URL that was bound.

    Raises:
      ListenError: the port is taken, or the address is not ours.
      LocalProtocolError: the certificate can't be used.

    Cancellation: its connections are closed.
    """
    assert server.credentials.certfile is not None
    assert server.credentials.keyfile is not None
    drain = Drain()
    serve = partial(
        serve_sessions,
        {"/": partial(_run, server)},
        bind=host_port(address.host, address.port),
        certfile=server.credentials.certfile,
        keyfile=server.credentials.keyfile,
        admit=partial(_admit, server),
        allowed_origins=server.policy(address),
        drain=drain,
        config=session_config(server.config, max_connections=server.rules.max_connections),
    )
    async with open_bare_nursery() as nursery:
        try:
            listening: WebTransportServer = await nursery.start(serve)
        except OSError as exc:
            raise ListenError(
                f"cannot listen on wt://{host_port(address.host, address.port)}: {describe_fault(exc)}"
            ) from exc
        except ValueError as exc:
            raise LocalProtocolError(f"can't serve wt:// with this certificate: {exc}", field="certfile") from exc
        task_status.started(f"wt://{host_port(listening.host, listening.port)}")
        await server.stopping.wait()
        drain.begin()


async def _run(server: Listening, session: WebTransportSession) -> None:
    with server.gate.hold(_host(session.peer)):
        await server.run_session(session)


def _admit(server: Listening, request: SessionRequest) -> Accept | Refuse:
    """Let a session in whose client can speak our dialect; what one that names no subprotocol speaks, its hello tells."""
    if server.gate.is_full(_host(request.peer)):
        return Refuse(status=503, headers=_RETRY_AFTER)
    if not request.protocols:
        return Accept()
    return Accept(protocol=PROTOCOL) if PROTOCOL in request.protocols else Refuse(status=400)


def _host(peer: str) -> str:
    return peer.rpartition(":")[0].strip("[]")


# -- calling ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def run_call(call: Call) -> AsyncGenerator[Connection, None]:
    """Run a connection as the client side for as long as the block.

    Raises:
      ConnectionLost: nobody listens there, or it broke before the hello.
      RemoteProtocolError: the certificate or the session was refused, or who listens there speaks something else.
      LocalProtocolError: the context asks for what QUIC's TLS can't do.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    address, config = call.address, call.config
    authorities, verify = _trust(call.ssl_context)
    url = f"https://{host_port(address.host, address.port)}{urlsplit(address.url).path or '/'}"
    session = connect_session(
        url, protocols=(PROTOCOL,), authorities_pem=authorities, verify=verify, config=session_config(config)
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(session)
        except SessionRefused as exc:
            text = f"{address.url} refused the session: status {exc.status}"
            raise RemoteProtocolError(text, field="handshake") from exc
        except HandshakeFailed as exc:
            raise RemoteProtocolError(f"{address.url}: {exc}", field="handshake") from exc
        except ConnectionLost as exc:
            raise ConnectionLost(f"cannot connect to {address.url}: {exc}") from exc
        yield await stack.enter_async_context(run_session_connection(opened, config=config, transport="wt"))


def _trust(context: ssl.SSLContext | None) -> tuple[bytes | None, bool]:
    """What a context for TLS on sockets says that QUIC's TLS can do: whom to trust, and whether to look.

    Returns:
      The authorities in PEM, None for those that certifi brings; and whether the certificate is looked at.
    """
    if context is None:
        return None, True
    if context.verify_mode is ssl.CERT_NONE:
        return None, False
    if not context.check_hostname:
        raise LocalProtocolError("can't leave the name in a certificate unchecked over wt://", field="ssl_context")
    counts = context.cert_store_stats()
    if counts["x509"] > counts["x509_ca"]:
        raise LocalProtocolError(
            "can't trust a certificate that is no authority over wt://: its context does not show it to QUIC's TLS",
            field="ssl_context",
        )
    # RFC 5280 §4.1.2.2 wants serial numbers above 0, and whoever reads certificates for QUIC insists on it.
    stored = zip(context.get_ca_certs(), context.get_ca_certs(binary_form=True), strict=True)
    authorities = [der for found, der in stored if int(str(found["serialNumber"]), 16) > 0]
    if not authorities:  # without any, those of certifi would be trusted, whom nobody has named
        raise LocalProtocolError(
            "can't trust anybody over wt://: the context shows no authority to QUIC's TLS", field="ssl_context"
        )
    return "".join(map(ssl.DER_cert_to_PEM_cert, authorities)).encode(), True
