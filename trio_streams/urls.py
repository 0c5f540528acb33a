"""From URLs to carriers: `serve` and `connect`, the only place that knows every transport.

tcp://host:port     our binary dialect on TCP
ws://host:port      the same in WebSocket messages, subprotocol trio-streams.v1
http://host:port    an ASGI application in hypercorn: calls, and server streams as server-sent events
https://host:port   the same over TLS, HTTP/2 included
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import SplitResult, urlsplit

import attrs
import trio
import trio_websocket

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError, StreamsError
from trio_streams.driver import run_client, run_server
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.client import Client, ConnectionClient
from trio_streams.procedures.http_client import HttpProcedureClient
from trio_streams.procedures.http_server import http_handler
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.asgi import AsgiApp, serve_hypercorn
from trio_streams.transports.asgi import asgi_app as make_asgi_app
from trio_streams.transports.bytes import ByteCarrier, connect_tcp, open_tcp_listeners
from trio_streams.transports.exchange import ExchangeConfig
from trio_streams.transports.http_client import HttpClient, HttpClientConfig
from trio_streams.transports.messages import (
    TrioWebSocketCarrier,
    accept_trio_websocket,
    accept_websocket,
    connect_trio_websocket,
    connect_websocket,
)

__all__ = ["CarrierName", "asgi_app", "connect", "serve", "serve_connection"]

CarrierName: TypeAlias = Literal["websockets", "trio-websocket"]

_logger: Final = logging.getLogger("trio_streams")
_CARRIERS: Final[tuple[str, ...]] = get_args(CarrierName)
_SERVED: Final = ("tcp", "ws", "http", "https")
_CALLED: Final = ("tcp", "ws", "wss", "http", "https")


@attrs.frozen
class _Server:
    """What one `serve` call shares among its listeners."""

    app: Router
    config: ConnectionConfig
    carrier: CarrierName
    on_connection: Callable[[Connection], None] | None
    certfile: str | None
    keyfile: str | None
    urls: list[str] = attrs.field(factory=list)

    async def run(self, carrier: Carrier) -> None:
        await run_server(carrier, partial(prepare, self.app), config=self.config, on_connection=self.on_connection)

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        await self.run(ByteCarrier(stream, close_timeout=self.config.close_timeout))

    async def serve_websocket(self, stream: trio.SocketStream) -> None:
        if self.carrier == "trio-websocket":
            async with accept_trio_websocket(stream, config=self.config) as carrier:
                await self.run(carrier)
        else:
            await self.run(await accept_websocket(stream, config=self.config))


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise LocalProtocolError(f"can't use {url!r}: {exc}", field="url", size=len(url)) from exc
    if parts.scheme not in schemes:
        raise LocalProtocolError(
            f"can't use {url!r}: its scheme is not one of {', '.join(schemes)}", field="scheme", size=len(url)
        )
    try:
        port = parts.port
    except ValueError as exc:
        raise LocalProtocolError(f"can't use {url!r}: {exc}", field="port") from exc
    if not parts.hostname or (port is None and parts.scheme == "tcp"):
        raise LocalProtocolError(f"can't use {url!r}: it names no host and port", field="port")
    return parts


def _port(parts: SplitResult) -> int:
    if parts.port is not None:
        return parts.port
    return 443 if parts.scheme in {"https", "wss"} else 80


def asgi_app(app: Router, *, config: ExchangeConfig | None = None) -> AsgiApp:
    """An application's HTTP face as an ASGI 3 application, to be mounted in another one or run by any host.

    Args:
      app: the procedures.
      config: limits and timeouts of exchanges.
    """
    return make_asgi_app(http_handler(app), config=config or ExchangeConfig())


def _check_carrier(name: str) -> None:
    if name not in _CARRIERS:
        raise LocalProtocolError(f"carrier is one of {', '.join(_CARRIERS)}, not {name!r}", field="carrier")


async def serve(
    app: Router,
    *urls: str,
    config: ConnectionConfig | None = None,
    carrier: CarrierName = "websockets",
    on_connection: Callable[[Connection], None] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until cancelled: `urls = await nursery.start(serve, app, "tcp://127.0.0.1:0")`.

    Args:
      app: the procedures.
      urls: where: `tcp://`, `ws://`, `http://` or `https://`, a host and a port; port 0 lets the system choose.
      config: limits and timeouts of connections.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      on_connection: told of each connection over TCP or WebSocket when it begins, to watch its statistics.
      certfile: a certificate chain in PEM, for `https://`.
      keyfile: its key.
      task_status: started with the bound URLs, in the order of `urls`.

    Raises:
      ListenError: a port is taken, or an address is not ours; one line that names it.
      LocalProtocolError: a URL or the carrier's name can't be used.

    Cancellation: handlers are cancelled, their streams reset, and connections closed within `close_timeout`.
    """
    if not urls:
        raise LocalProtocolError("can't serve on no URL", field="urls", size=0)
    _check_carrier(carrier)
    parsed = [_split(url, _SERVED) for url in urls]
    if any(parts.scheme == "https" for parts in parsed) and (certfile is None or keyfile is None):
        raise LocalProtocolError("can't serve https:// without certfile and keyfile", field="certfile")
    server = _Server(app, config or ConnectionConfig(), carrier, on_connection, certfile, keyfile)
    async with open_bare_nursery() as nursery:
        for parts in parsed:
            start = _serve_http if parts.scheme in {"http", "https"} else _serve_sockets
            server.urls.append(await nursery.start(start, server, parts))
        task_status.started(list(server.urls))


async def _serve_http(
    server: _Server, parts: SplitResult, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    is_tls = parts.scheme == "https"
    await serve_hypercorn(
        http_handler(server.app, lambda: server.urls),
        parts.hostname or "",
        _port(parts),
        certfile=server.certfile if is_tls else None,
        keyfile=server.keyfile if is_tls else None,
        task_status=task_status,
    )


async def _serve_sockets(
    server: _Server, parts: SplitResult, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    listeners = await open_tcp_listeners(parts.hostname or "", _port(parts))
    if _port(parts) == 0:
        # The system chose a port for each address of a name, and a URL has room for one.
        for listener in listeners[1:]:
            listener.socket.close()
        del listeners[1:]
    host, port = listeners[0].socket.getsockname()[:2]
    serve_one = server.serve_tcp if parts.scheme == "tcp" else server.serve_websocket
    async with open_bare_nursery() as nursery:
        await nursery.start(trio.serve_listeners, partial(_guarded, serve_one), listeners)
        shown = f"[{host}]" if ":" in host else host
        task_status.started(f"{parts.scheme}://{shown}:{port}")


async def _guarded(serve_one: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream) -> None:
    """One connection's fault ends one connection; it is told to the people who run the server."""
    try:
        await serve_one(stream)
    except StreamsError as exc:
        _logger.info("a connection ended: %s", exc)
    finally:
        # Shielded, or a cancellation that arrives meanwhile would take the place of what is passing through, such as
        # KeyboardInterrupt.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def serve_connection(
    ws: trio_websocket.WebSocketConnection, app: Router, *, config: ConnectionConfig | None = None
) -> None:
    """Serve an application on a trio-websocket connection that exists already, until it is over.

    Args:
      ws: open, either side; it is closed at the end. Nobody else may send or receive on it meanwhile.
      app: the procedures.
      config: limits and timeouts.

    Cancellation: as for `serve`.
    """
    config = config or ConnectionConfig()
    carrier = TrioWebSocketCarrier(ws, close_timeout=config.close_timeout)
    await run_server(carrier, partial(prepare, app), config=config)


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    config: ConnectionConfig | None = None,
    carrier: CarrierName = "websockets",
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Connect to a server for as long as the block.

    Args:
      url: `tcp://`, `ws://`, `wss://`, `http://` or `https://`.
      config: limits and timeouts.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      ssl_context: for `wss://` and `https://`; None trusts what the system trusts.

    Yields:
      The client. Over HTTP it carries calls and server streams only.

    Raises:
      ConnectionLost: nobody listens there, or it broke before the hello; one line that names the URL.
      RemoteProtocolError: who listens there speaks something else.
      LocalProtocolError: the URL or the carrier's name can't be used.

    Cancellation: streams are reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    _check_carrier(carrier)
    parts = _split(url, _CALLED)
    if parts.scheme in {"http", "https"}:
        async with HttpClient(HttpClientConfig(connect_timeout=config.connect_timeout), tls=ssl_context) as http:
            yield HttpProcedureClient(url, http)
        return
    opening = _open_carrier(url, parts, config, carrier, ssl_context)
    async with opening as opened, run_client(opened, config=config) as connection:
        yield ConnectionClient(connection)


@contextlib.asynccontextmanager
async def _open_carrier(
    url: str, parts: SplitResult, config: ConnectionConfig, carrier: CarrierName, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[Carrier]:
    if parts.scheme == "tcp":
        yield await connect_tcp(parts.hostname or "", parts.port or 0, config=config)
    elif carrier == "trio-websocket":
        async with connect_trio_websocket(url, config=config, ssl_context=ssl_context) as trio_carrier:
            yield trio_carrier
    else:
        yield await connect_websocket(url, config=config, ssl_context=ssl_context)
