"""The lean host: exchange handlers over HTTP/1.1, on our own sans-IO machine and a small Trio adapter.

It serves what `serve_hypercorn` serves, on HTTP/1.1 only, many times as fast, and takes WebSockets on the same port.
`http_connection` is one connection; here is what they share: accepting, one task that writes for those whose handlers
wait, one that looks at deadlines, and the shutdown.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Final, TypeAlias

import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.errors import StreamsError, unwrap_group
from trio_streams.transports.bytes import host_port, open_url_listeners, peer_name
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.exchange_head import with_alternative
from trio_streams.transports.http_access import AccessRecord as AccessRecord
from trio_streams.transports.http_access import log_access as log_access
from trio_streams.transports.http_connection import HttpConnection
from trio_streams.transports.http_host import NowaitAnswer as NowaitAnswer
from trio_streams.transports.http_host import NowaitHandler as NowaitHandler
from trio_streams.transports.http_host import Served
from trio_streams.transports.http_host import WholeAnswer as WholeAnswer
from trio_streams.transports.http_rounds import DateField, Rounds
from trio_streams.transports.http_tls import open_link
from trio_streams.transports.messages import accept_websocket
from trio_streams.wire.http1 import Http1Limits as Http1Limits
from trio_streams.wire.http1_fields import Fields

__all__ = [
    "AccessRecord",
    "Http1Limits",
    "NowaitHandler",
    "WebSocketHandler",
    "WholeAnswer",
    "log_access",
    "serve_lean",
]

WebSocketHandler: TypeAlias = Callable[[Carrier], Awaitable[None]]
"""Serves one open WebSocket, which carries our binary dialect, until it is over."""

_LOG: Final = logging.getLogger("trio_streams.http")

_DEFAULT: Final = ExchangeConfig()
_BUSY_SECONDS: Final = 0.0002
"""Some five answers: who answers more seldom than that writes alone."""

_MAX_TICK: Final = 1.0
_MIN_TICK: Final = 0.01


async def serve_lean(
    handler: ExchangeHandler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    config: ExchangeConfig = _DEFAULT,
    graceful_timeout: float = 3.0,
    shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    limits: Http1Limits | None = None,
    answer_nowait: NowaitHandler | None = None,
    websocket: WebSocketHandler | None = None,
    websocket_config: ConnectionConfig | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a handler over HTTP/1.1 until cancelled: `url = await nursery.start(serve_lean, handler)`.

    Args:
      handler: for each request.
      host: an address, or a name, which stands for all its addresses (with port 0, for the first).
      port: 0 lets the system choose.
      config: limits and timeouts of exchanges.
      graceful_timeout: seconds that exchanges under way get after `shutdown_trigger`.
      shutdown_trigger: an async function; when it returns, no connections are accepted and this one returns after
        the last exchange.
      certfile: a certificate chain in PEM; with `keyfile`, https is served.
      keyfile: its key.
      limits: what a client may take; None for the defaults, with `config.body_timeout`, and
        `config.linger_timeout` to drain unread bodies.
      answer_nowait: asked before `handler` about requests that have arrived as a whole; what it answers costs no exchange, and no
        schedule point that it does not take itself.
      websocket: for each WebSocket in our subprotocol, on any path; None to treat such requests like others.
      websocket_config: limits and timeouts of WebSockets.
      on_access: told of each exchange when it is over; must not block. `log_access` logs it.
      task_status: started with the bound URL.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names it.
    Cancellation: exchanges are cancelled and their connections reset; handlers' `finally` blocks have run.
    """
    if limits is None:
        limits = Http1Limits(body_timeout=config.body_timeout, drain_timeout=config.linger_timeout)
    tls = None if certfile is None or keyfile is None else _tls_context(certfile, keyfile)
    server = _Server(handler, config, limits, "http" if tls is None else "https", on_access)
    if websocket is not None:
        server.serve_websocket = websocket
        server.websocket_config = websocket_config or server.websocket_config
    server.answer_nowait = answer_nowait
    server.tls = tls
    listeners = await open_url_listeners(server.scheme, host, port, user_timeout=config.stall_timeout)
    url = f"{server.scheme}://{host_port(*listeners[0].socket.getsockname()[:2])}"
    try:
        await server.run(listeners, shutdown_trigger, graceful_timeout, partial(task_status.started, url))
    except BaseExceptionGroup as group:
        error = unwrap_group(group)
        if error is group:
            raise
        raise error from None


class _Server:
    """What connections share; see `http_connection.Host`."""

    nursery: trio.Nursery

    def __init__(
        self,
        handler: ExchangeHandler,
        config: ExchangeConfig,
        limits: Http1Limits,
        scheme: str,
        on_access: Callable[[AccessRecord], None] | None,
    ) -> None:
        self.handler = handler
        self.answer_nowait: NowaitHandler | None = None
        self.config = config
        self.limits = limits
        self.scheme = scheme
        self.on_access = on_access
        self.alternative = None if config.alt_svc is None else Fields(with_alternative((), config.alt_svc))
        self.tls: ssl.SSLContext | None = None
        self.serve_websocket: WebSocketHandler | None = None
        self.websocket_config = ConnectionConfig()
        self.is_closing = False
        self._connections: set[Served] = set()
        self._rounds = Rounds()
        self._answered: Served | None = None
        self._busy_until = 0.0
        self._date = DateField()

    async def run(
        self,
        listeners: list[trio.SocketListener],
        shutdown_trigger: Callable[[], Awaitable[None]] | None,
        graceful_timeout: float,
        started: Callable[[], None],
    ) -> None:
        async with trio.open_nursery() as services:
            services.start_soon(self._rounds.run)
            services.start_soon(self._keep_deadlines)
            async with trio.open_nursery() as self.nursery:
                async with trio.open_nursery() as accepting:
                    serve = partial(trio.serve_listeners, handler_nursery=self.nursery)
                    await accepting.start(serve, self._connection, listeners)
                    started()
                    if shutdown_trigger is None:
                        await trio.sleep_forever()
                    else:
                        await shutdown_trigger()
                    accepting.cancel_scope.cancel()
                self.is_closing = True
                for connection in list(self._connections):
                    connection.drain()
                self.nursery.cancel_scope.deadline = trio.current_time() + graceful_timeout
            services.cancel_scope.cancel()

    async def _connection(self, stream: trio.SocketStream) -> None:
        taken = await self._serve_http(stream)
        if taken is None or self.serve_websocket is None:
            return
        try:
            carrier = await accept_websocket(
                taken[0], config=self.websocket_config, received=taken[1], peer=peer_name(stream)
            )
            del taken  # the request is of no more use
            try:
                await self.serve_websocket(carrier)
            finally:
                await carrier.aclose()
        except StreamsError as exc:
            _LOG.info("a WebSocket ended: %s", exc)
        except Exception:  # noqa: BLE001 - the server is the boundary: one fault ends one connection
            _LOG.exception("a WebSocket failed, and was closed")

    def _serve_http(self, stream: trio.SocketStream) -> Awaitable[tuple[trio.abc.Stream, bytes] | None]:
        # Not in the above, which would hold the connection for as long as the other protocol goes on.
        connection = HttpConnection(self, open_link(stream, self.tls), peer_name(stream))
        self._connections.add(connection)
        return connection.run()

    # For connections.

    @property
    def takes_websockets(self) -> bool:
        """Whether requests for a WebSocket are for another protocol."""
        return self.serve_websocket is not None

    def forget(self, connection: Served) -> None:
        """The connection is over."""
        self._connections.discard(connection)
        if self._answered is connection:
            self._answered = None

    def is_busy(self, connection: Served) -> bool:
        """Whether others have answered just now, so that what this connection writes is better written with theirs.

        A write wakes its client, and costs five times what it costs while that is awake. Who is alone writes at once.
        """
        now = perf_counter()
        is_busy = now < self._busy_until and self._answered is not connection
        self._answered = connection
        self._busy_until = now + _BUSY_SECONDS
        return is_busy

    def mark(self, connection: Served) -> None:
        """Have the connection's output written in the next round."""
        self._rounds.mark(connection)

    def date(self) -> Fields:
        """The time of day, as a header."""
        return self._date.now()

    async def _keep_deadlines(self) -> None:
        config, limits = self.config, self.limits
        shortest = min(
            config.stall_timeout or _MAX_TICK,
            config.linger_timeout,
            config.half_close_timeout,
            limits.header_timeout,
            limits.body_timeout,
            limits.keep_alive_timeout,
            limits.drain_timeout,
        )
        tick = min(_MAX_TICK, max(_MIN_TICK, shortest / 8))
        while True:
            await trio.sleep(tick)
            self._check_all(trio.current_time())

    def _check_all(self, now: float) -> None:
        for connection in list(self._connections):
            connection.check(now)


def _tls_context(certfile: str, keyfile: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)
    context.set_alpn_protocols(["http/1.1"])
    return context
