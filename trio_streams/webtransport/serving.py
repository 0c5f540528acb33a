"""A server: who may open which session, and what serves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import PathLike
from typing import TypeAlias

import attrs
import trio

from trio_streams.service.drain import Drain
from trio_streams.service.exchange import ExchangeHandler
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_request import SessionRequest

__all__ = ["Accept", "Admit", "Refuse", "SessionHandler", "WebTransportServer", "serve"]

SessionHandler: TypeAlias = Callable[[WebTransportSession], Awaitable[object]]
"""Serves a session: when it returns, the session is closed with code 0; when it raises, with the code of our error table."""


@attrs.frozen(kw_only=True)
class Accept:
    """Let a session be open.

    Attributes:
      protocol: the subprotocol, one of those on offer; None for none.
      headers: fields of the answer, names in lower case.
    """

    protocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Refuse:
    """Do not.

    Attributes:
      status: of the answer, 4xx or 5xx.
      headers: fields of the answer, names in lower case.
    """

    status: int = 403
    headers: tuple[tuple[str, str], ...] = ()


Admit: TypeAlias = Callable[[SessionRequest], Accept | Refuse | Awaitable[Accept | Refuse]]
"""Decides about a request for a session, which has a route and an origin that may ask."""


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

    Cancellation: handlers are cancelled, sessions are closed with CANCELLED's code, and the goodbyes leave.
    """
    raise NotImplementedError
