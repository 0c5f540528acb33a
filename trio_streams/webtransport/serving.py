"""A server: who may open which session, and what serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Final

import attrs
import trio

from trio_streams.nursery import open_bare_nursery
from trio_streams.service.drain import Drain
from trio_streams.transports.bytes import host_port
from trio_streams.transports.exchange import ExchangeHandler
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport.accepting import Connections
from trio_streams.webtransport.admitting import Accept as Accept
from trio_streams.webtransport.admitting import Admit as Admit
from trio_streams.webtransport.admitting import Refuse as Refuse
from trio_streams.webtransport.admitting import Routes, SessionTasks
from trio_streams.webtransport.admitting import SessionHandler as SessionHandler
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.endpoint import open_endpoint
from trio_streams.webtransport.http3_host import Http3Host
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.udp import bind_udp

__all__ = ["Accept", "Admit", "Refuse", "SessionHandler", "WebTransportServer", "serve"]

_MAX_PORT: Final = 65_535


@attrs.frozen
class WebTransportServer:
    """What `serve` reports once it listens.

    Attributes:
      url: of the root, `https://host:port`.
      host: the address that is bound.
      port: the port that is bound.
    """

    url: str
    host: str
    port: int


async def serve(
    handler: SessionHandler | Mapping[str, SessionHandler],
    *,
    bind: str = "127.0.0.1:4433",
    certfile: str | PathLike[str],
    keyfile: str | PathLike[str],
    admit: Admit | None = None,
    protocols: Sequence[str] = (),
    allowed_origins: OriginPolicy | Sequence[str] = (),
    http: ExchangeHandler | None = None,
    drain: Drain | None = None,
    config: WebTransportConfig | None = None,
    task_status: trio.TaskStatus[WebTransportServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve sessions, and plain requests, until cancelled or drained.

    Each session's handler runs in a task and a cancel scope of its own, which the end of the session by the client or the
    world cancels. A handler that fails is logged once and closes its session, never another one.

    Args:
      handler: serves every path; or a table of paths without queries. A path that is not in it is answered with 404.
      bind: `host:port`; port 0 for any.
      certfile: PEM, the server's certificate first.
      keyfile: PEM, without a password.
      admit: decides about each request, and may wait for `admit_timeout`; by default all are accepted, with the first
        subprotocol on offer that is in `protocols`.
      protocols: subprotocols that are spoken, the most wanted first.
      allowed_origins: pages that may ask besides those of the server itself, `*` for all; or a policy.
      http: serves plain requests; by default they are answered with 404, and with 405 where sessions are served.
      drain: asks to end well: GOAWAY, and time for the sessions to end.
      config: limits and timeouts.
      task_status: told of the server once it listens.

    Raises:
      OSError: the address can't be bound, or a file can't be read.
      ValueError: the address or the certificate is not valid.
      LocalProtocolError: the host is no name.

    Cancellation: handlers are cancelled, sessions are closed with CANCELLED's code, and the goodbyes leave.
    """
    config = config if config is not None else WebTransportConfig()
    policy = (
        allowed_origins if isinstance(allowed_origins, OriginPolicy) else OriginPolicy(allowed_origins=allowed_origins)
    )
    routes = Routes(handler, policy=policy, admit=admit, protocols=tuple(protocols))
    server = _Server(routes, Http3Host(http) if http is not None else None, config)
    connections = Connections(config, certfile, keyfile, server.prepare)
    socket = bind_udp(*_parse_bind(bind))
    host, port = socket.address[:2]
    async with (
        open_endpoint(socket, accept=connections.accept, config=config.endpoint) as endpoint,
        open_bare_nursery() as nursery,
    ):
        await server.start(nursery)
        task_status.started(WebTransportServer(f"https://{host_port(host, port)}", host, port))
        drain = drain if drain is not None else Drain()  # one that nobody begins
        await drain.wait_begun()
        endpoint.stop_accepting()
        connections.go_away()
        await server.drain(drain)
        nursery.cancel_scope.cancel()


class _Server:
    """What is done on the connections of one `serve` call."""

    def __init__(self, routes: Routes, host: Http3Host | None, config: WebTransportConfig) -> None:
        self._routes = routes
        self._host = host
        self._config = config
        self._sessions = SessionTasks(routes, config)

    async def start(self, nursery: trio.Nursery) -> None:
        """Be ready for connections."""
        self._sessions.nursery = nursery
        if self._host is not None:
            await nursery.start(self._host.run)

    def prepare(self, link: Link) -> None:
        """A new connection: say who takes what its client asks for."""
        link.on_session = self._sessions.take
        if self._host is not None:
            self._host.attach(link)
        else:
            link.on_request = partial(self._routes.refuse_request, link)

    async def drain(self, drain: Drain) -> None:
        """Time for what is under way."""
        self._sessions.is_draining = True
        if self._host is not None:
            self._host.drain()
        with trio.move_on_after(self._config.drain_timeout) as scope:
            await self._sessions.wait_idle()
            if self._host is not None:
                await self._host.wait_idle()
        if scope.cancelled_caught:
            drain.cut()


def _parse_bind(bind: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdecimal() or not host or int(port) > _MAX_PORT:
        raise ValueError(f"an address to bind is host:port, not {bind!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
