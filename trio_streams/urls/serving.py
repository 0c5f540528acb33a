"""`serve`: an application on any number of URLs, each scheme a row of `SCHEMES`."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias, get_args

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError, StreamsError
from trio_streams.driver import run_server
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.http_server import http_handler
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.asgi import AsgiApp, serve_hypercorn
from trio_streams.transports.asgi import asgi_app as make_asgi_app
from trio_streams.transports.bytes import ByteCarrier, host_port, open_url_listeners
from trio_streams.transports.exchange import ExchangeConfig
from trio_streams.transports.http import serve_lean
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.transports.pipes import open_stdio
from trio_streams.transports.tls import accept_tls, open_server_tls, server_context
from trio_streams.transports.unix import open_unix_listener, unix_peer
from trio_streams.urls.address import Address, parse_address
from trio_streams.urls.websocket import CarrierName, check_carrier

__all__ = ["SCHEMES", "HostName", "asgi_app", "serve"]

_logger: Final = logging.getLogger("trio_streams")

HostName: TypeAlias = Literal["hypercorn", "lean"]
_HOSTS: Final[tuple[str, ...]] = get_args(HostName)

_Accept = Callable[[trio.SocketStream], AbstractAsyncContextManager[Carrier]]


@attrs.frozen
class _Server:
    """What one `serve` call shares among its listeners."""

    app: Router
    config: ConnectionConfig
    carrier: CarrierName
    on_connection: Callable[[Connection], None] | None
    certfile: str | None
    keyfile: str | None
    ssl_context: ssl.SSLContext | None
    host: HostName
    urls: list[str] = attrs.field(factory=list[str])

    async def run(self, transport: str, carrier: Carrier) -> None:
        await run_server(
            carrier,
            partial(prepare, self.app),
            config=self.config,
            transport=transport,
            on_connection=self.on_connection,
        )

    async def run_accepted(self, transport: str, accept: _Accept, stream: trio.SocketStream) -> None:
        """One connection's fault ends one connection; it is told to the people who run the server."""
        try:
            async with accept(stream) as carrier:
                await self.run(transport, carrier)
        except StreamsError as exc:
            _logger.info("a connection ended: %s", exc)
        finally:
            # Shielded, or a cancellation that arrives meanwhile would take the place of what is passing through, such as
            # KeyboardInterrupt.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def accept_tcp(self, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        yield ByteCarrier(stream, close_timeout=self.config.close_timeout)

    @asynccontextmanager
    async def accept_tls(self, context: ssl.SSLContext, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        yield await accept_tls(stream, context, config=self.config)

    @asynccontextmanager
    async def accept_unix(self, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        yield ByteCarrier(stream, peer=unix_peer(stream), close_timeout=self.config.close_timeout)

    @asynccontextmanager
    async def accept_websocket(self, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        if self.carrier == "trio-websocket":
            async with accept_trio_websocket(stream, config=self.config) as carrier:
                yield carrier
        else:
            yield await accept_websocket(stream, config=self.config)

    @asynccontextmanager
    async def accept_secure_websocket(
        self, context: ssl.SSLContext, stream: trio.SocketStream
    ) -> AsyncGenerator[Carrier, None]:
        secure = await open_server_tls(stream, context, config=self.config)
        if self.carrier == "trio-websocket":
            async with accept_trio_websocket(secure, config=self.config) as carrier:
                yield carrier
        else:
            yield await accept_websocket(secure, config=self.config)

    def tls(self, *, alpn: str | None) -> ssl.SSLContext:
        """The context for a URL in TLS; what was given, or else made of the files."""
        if self.ssl_context is not None:
            return self.ssl_context
        return server_context(self.certfile or "", self.keyfile or "", alpn=alpn)


async def _serve_tcp(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    await _serve_sockets(server, address, server.accept_tcp, task_status)


async def _serve_tls(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    accept = partial(server.accept_tls, server.tls(alpn="trio-streams.v1"))
    await _serve_sockets(server, address, accept, task_status)


async def _serve_ws(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    await _serve_sockets(server, address, server.accept_websocket, task_status)


async def _serve_wss(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    accept = partial(server.accept_secure_websocket, server.tls(alpn="http/1.1"))
    await _serve_sockets(server, address, accept, task_status)


async def _serve_sockets(server: _Server, address: Address, accept: _Accept, task_status: trio.TaskStatus[str]) -> None:
    listeners = await open_url_listeners("tcp", address.host, address.port)
    bound = f"{address.scheme}://{host_port(*listeners[0].socket.getsockname()[:2])}"
    await _accept_all(server, address.scheme, listeners, accept, task_status, bound)


async def _serve_unix(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    async with open_unix_listener(address.path, mode=address.mode) as listener:
        await _accept_all(server, address.scheme, [listener], server.accept_unix, task_status, address.url)


async def _accept_all(
    server: _Server,
    transport: str,
    listeners: list[trio.SocketListener],
    accept: _Accept,
    task_status: trio.TaskStatus[str],
    bound: str,
) -> None:
    async with open_bare_nursery() as nursery:
        await nursery.start(trio.serve_listeners, partial(server.run_accepted, transport, accept), listeners)
        task_status.started(bound)


async def _serve_stdio(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    async with open_stdio(close_timeout=server.config.close_timeout) as carrier:
        task_status.started(address.url)
        await server.run(address.scheme, carrier)


async def _serve_http(server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    is_tls = address.scheme == "https"
    serve_host = serve_lean if server.host == "lean" else serve_hypercorn
    await serve_host(
        http_handler(server.app, lambda: server.urls),
        address.host,
        address.port,
        websocket=partial(server.run, "wss" if is_tls else "ws"),
        certfile=server.certfile if is_tls else None,
        keyfile=server.keyfile if is_tls else None,
        task_status=task_status,
    )


class _Serve(Protocol):
    async def __call__(self, server: _Server, address: Address, task_status: trio.TaskStatus[str]) -> None: ...


SCHEMES: Final[Mapping[str, _Serve]] = {
    "tcp": _serve_tcp,
    "tls": _serve_tls,
    "unix": _serve_unix,
    "stdio": _serve_stdio,
    "ws": _serve_ws,
    "wss": _serve_wss,
    "http": _serve_http,
    "https": _serve_http,
}
"""What serves each scheme, from the listener on; it reports the URL that it bound."""


def asgi_app(
    app: Router, *, config: ExchangeConfig | None = None, connection_config: ConnectionConfig | None = None
) -> AsgiApp:
    """An application as an ASGI 3 application, to be mounted in another one or run by any host on Trio.

    It answers HTTP requests, and WebSockets that offer the subprotocol `trio-streams.v1`, on whatever path.

    Args:
      app: the procedures.
      config: limits and timeouts of exchanges.
      connection_config: limits and timeouts of connections, which WebSockets carry.
    """
    connections = connection_config or ConnectionConfig()

    async def serve_websocket(carrier: Carrier) -> None:
        await run_server(carrier, partial(prepare, app), config=connections)

    return make_asgi_app(http_handler(app), config=config or ExchangeConfig(), websocket=serve_websocket)


async def serve(
    app: Router,
    *urls: str,
    config: ConnectionConfig | None = None,
    carrier: CarrierName = "websockets",
    on_connection: Callable[[Connection], None] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    host: HostName = "hypercorn",
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until cancelled: `urls = await nursery.start(serve, app, "tcp://127.0.0.1:0")`.

    Args:
      app: the procedures.
      urls: where: `tcp://`, `tls://`, `ws://`, `wss://`, `http://` or `https://`, a host and a port; port 0 lets the
        system choose. `unix:/path?mode=660` for a Unix socket; `stdio:` for this process's standard input and output.
      config: limits and timeouts of connections.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      on_connection: told of each connection when it begins, to watch its statistics; not of plain HTTP's.
      certfile: a certificate chain in PEM, for `tls://`, `wss://` and `https://`.
      keyfile: its key.
      ssl_context: for `tls://` and `wss://`, instead of the files; see `transports.tls.server_context`.
      host: what serves `http://` and `https://`: `hypercorn`, which speaks HTTP/2, too, or our own `lean` host, which
        answers plain requests several times as fast.
      task_status: started with the bound URLs, in the order of `urls`.

    Raises:
      ListenError: a port is taken, or an address is not ours; one line that names it.
      LocalProtocolError: a URL or the carrier's or host's name can't be used.

    Cancellation: handlers are cancelled, their streams reset, and connections closed within `close_timeout`.
    """
    if not urls:
        raise LocalProtocolError("can't serve on no URL", field="urls", size=0)
    check_carrier(carrier)
    if host not in _HOSTS:
        raise LocalProtocolError(f"host is one of {', '.join(_HOSTS)}, not {host!r}", field="host")
    addresses = [parse_address(url, SCHEMES) for url in urls]
    server = _Server(app, config or ConnectionConfig(), carrier, on_connection, certfile, keyfile, ssl_context, host)
    for address in addresses:
        _check_certificate(server, address)
    async with open_bare_nursery() as nursery:
        for address in addresses:
            server.urls.append(await nursery.start(_started, SCHEMES[address.scheme], server, address))
        task_status.started(list(server.urls))


async def _started(
    serve_address: _Serve, server: _Server, address: Address, *, task_status: trio.TaskStatus[str]
) -> None:
    await serve_address(server, address, task_status)


def _check_certificate(server: _Server, address: Address) -> None:
    has_files = server.certfile is not None and server.keyfile is not None
    if address.scheme == "https" and not has_files:
        raise LocalProtocolError("can't serve https:// without certfile and keyfile", field="certfile")
    if address.scheme in {"tls", "wss"} and not has_files and server.ssl_context is None:
        raise LocalProtocolError(
            f"can't serve {address.scheme}:// without certfile and keyfile, or ssl_context", field="certfile"
        )
