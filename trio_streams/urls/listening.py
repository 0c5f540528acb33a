"""What listens: the part of a server that is the same whatever is spoken on its connections.

Letting in, the carriers of each scheme, the connections that are open, and how a drain ends them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError, StreamsError
from trio_streams.nursery import open_bare_nursery
from trio_streams.service.drain import Drain
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.bytes import ByteCarrier, host_port, open_url_listeners
from trio_streams.transports.gate import Gate
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.transports.origin import OriginPolicy
from trio_streams.transports.pipes import open_stdio
from trio_streams.transports.tls import accept_tls, open_server_tls, server_context
from trio_streams.transports.unix import open_unix_listener, unix_peer
from trio_streams.urls.address import Address, parse_address
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run, Runs
from trio_streams.urls.websocket import CarrierName, check_carrier

__all__ = ["LISTENERS", "Accept", "Listening", "Serve", "make_gate", "parse_urls", "serve_all"]

_logger: Final = logging.getLogger("trio_streams")

Accept = Callable[[trio.SocketStream], AbstractAsyncContextManager[Carrier]]

_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 25\r\n\r\nToo many connections now\n"
)
_SPEAK_HTTP: Final = frozenset({"http", "ws"})
_HAVE_ORIGINS: Final = frozenset({"http", "https", "ws", "wss"})


@attrs.frozen(kw_only=True)
class Listening:
    """What one call of `serve` or `serve_peers` shares among its listeners."""

    config: ConnectionConfig
    rules: ServerConfig
    carrier: CarrierName
    on_connection: Callable[[Connection], None] | None
    certfile: str | None
    keyfile: str | None
    ssl_context: ssl.SSLContext | None
    drain: Drain
    gate: Gate
    urls: list[str] = attrs.field(factory=list[str])
    stopping: trio.Event = attrs.field(factory=trio.Event)
    _runs: Runs = attrs.field(factory=Runs)

    async def run(self, run: Run, transport: str, carrier: Carrier) -> None:
        """Serve one connection until it is over; what differs between servers."""
        raise NotImplementedError

    @property
    def max_text_bytes(self) -> int | None:
        """The longest message of a WebSocket whose client offers no subprotocol; None refuses such clients."""
        return None

    # -- letting in -------------------------------------------------------------------------------------------

    def policy(self, address: Address) -> OriginPolicy:
        """Whose requests a listener answers."""
        rules = self.rules
        return OriginPolicy(address.host, allowed_hosts=rules.allowed_hosts, allowed_origins=rules.allowed_origins)

    def admit_at(self, address: Address) -> None:
        """Have what the current task and its children accept be let in by this server's rules."""
        scheme = address.scheme
        guard = partial(self.gate.guard, refusal=_REFUSAL if scheme in _SPEAK_HTTP else b"")
        check = self.policy(address).refusal if scheme in _HAVE_ORIGINS else None
        ADMISSION.set(Admission(guard, check, self.max_text_bytes))

    # -- connections ------------------------------------------------------------------------------------------

    async def run_hosted(self, transport: str, carrier: Carrier) -> None:
        """Serve a connection that a host has accepted."""
        with self._runs.open() as run:
            await self.run(run, transport, carrier)

    async def run_accepted(self, transport: str, accept: Accept, stream: trio.SocketStream) -> None:
        """One connection's fault ends one connection; it is told to the people who run the server."""
        try:
            with self._runs.open() as run:
                async with accept(stream) as carrier:
                    await self.run(run, transport, carrier)
        except StreamsError as exc:
            _logger.info("a connection ended: %s", exc)
        finally:
            # Shielded, or a cancellation that arrives meanwhile would take the place of what is passing through, such as
            # KeyboardInterrupt.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def accept_tcp(self, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        """TCP needs no handshake."""
        yield ByteCarrier(stream, close_timeout=self.config.close_timeout)

    @asynccontextmanager
    async def accept_tls(self, context: ssl.SSLContext, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        """TLS."""
        yield await accept_tls(stream, context, config=self.config)

    @asynccontextmanager
    async def accept_unix(self, stream: trio.SocketStream) -> AsyncGenerator[Carrier, None]:
        """A Unix socket, whose peer the kernel knows."""
        yield ByteCarrier(stream, peer=unix_peer(stream), close_timeout=self.config.close_timeout)

    @asynccontextmanager
    async def accept_websocket(self, stream: trio.abc.Stream) -> AsyncGenerator[Carrier, None]:
        """A WebSocket, by either carrier."""
        if self.carrier == "trio-websocket":
            async with accept_trio_websocket(stream, config=self.config) as carrier:
                yield carrier
        else:
            yield await accept_websocket(stream, config=self.config)

    @asynccontextmanager
    async def accept_secure_websocket(
        self, context: ssl.SSLContext, stream: trio.SocketStream
    ) -> AsyncGenerator[Carrier, None]:
        """The same in TLS."""
        secure = await open_server_tls(stream, context, config=self.config)
        async with self.accept_websocket(secure) as carrier:
            yield carrier

    def tls(self, *, alpn: str | None) -> ssl.SSLContext:
        """The context for a URL in TLS; what was given, or else made of the files."""
        if self.ssl_context is not None:
            return self.ssl_context
        return server_context(self.certfile or "", self.keyfile or "", alpn=alpn)

    # -- the end ----------------------------------------------------------------------------------------------

    async def accept_all(
        self,
        transport: str,
        accept: Accept,
        listeners: list[trio.SocketListener],
        connections: trio.Nursery,
        started: Callable[[], None],
    ) -> None:
        """Accept connections until a drain, which closes the listeners; those that are open go on in their nursery."""
        async with open_bare_nursery() as accepting:
            serve = partial(trio.serve_listeners, handler_nursery=connections)
            await accepting.start(serve, partial(self.run_accepted, transport, accept), listeners)
            started()
            await self.stopping.wait()
            accepting.cancel_scope.cancel()

    async def keep_drain(self, scope: trio.CancelScope) -> None:
        """Wait for a drain to be asked for, and see it through.

        Args:
          scope: around all listeners and connections; cancelled at the deadline.

        Cancellation: nothing is left, which is how a drain ends well.
        """
        await self.drain.wait_begun()
        await trio.sleep(self.rules.drain_delay)
        self.stopping.set()
        with trio.move_on_after(self.rules.drain_timeout):
            await self._runs.end_idle()
        self.drain.cut()
        scope.cancel()
        await trio.sleep(GOODBYE_TIMEOUT)
        await self._runs.cut_all()


async def _serve_tcp(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    await _serve_sockets(server, address, server.accept_tcp, task_status)


async def _serve_tls(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    accept = partial(server.accept_tls, server.tls(alpn="trio-streams.v1"))
    await _serve_sockets(server, address, accept, task_status)


async def _serve_ws(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    await _serve_sockets(server, address, server.accept_websocket, task_status)


async def _serve_wss(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    accept = partial(server.accept_secure_websocket, server.tls(alpn="http/1.1"))
    await _serve_sockets(server, address, accept, task_status)


async def _serve_sockets(
    server: Listening, address: Address, accept: Accept, task_status: trio.TaskStatus[str]
) -> None:
    listeners = await open_url_listeners("tcp", address.host, address.port)
    bound = f"{address.scheme}://{host_port(*listeners[0].socket.getsockname()[:2])}"
    started = partial(task_status.started, bound)
    async with open_bare_nursery() as connections:
        await server.accept_all(address.scheme, accept, listeners, connections, started)


async def _serve_unix(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    started = partial(task_status.started, address.url)
    # The socket's file is for the next server as soon as this one accepts no more.
    async with open_bare_nursery() as connections, open_unix_listener(address.path, mode=address.mode) as listener:
        await server.accept_all(address.scheme, server.accept_unix, [listener], connections, started)


async def _serve_stdio(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    async with open_stdio(close_timeout=server.config.close_timeout) as carrier:
        task_status.started(address.url)
        await server.run_hosted(address.scheme, carrier)


ServerT = TypeVar("ServerT", bound=Listening)
ServerT_contra = TypeVar("ServerT_contra", bound=Listening, contravariant=True)


class Serve(Protocol[ServerT_contra]):
    """What serves one scheme, from the listener on; it reports the URL that it bound."""

    async def __call__(self, server: ServerT_contra, address: Address, task_status: trio.TaskStatus[str]) -> None:
        """Serve one address until cancelled or drained. Cancellation: its connections are closed."""
        ...


LISTENERS: Final[Mapping[str, Serve[Listening]]] = {
    "tcp": _serve_tcp,
    "tls": _serve_tls,
    "unix": _serve_unix,
    "stdio": _serve_stdio,
    "ws": _serve_ws,
    "wss": _serve_wss,
}
"""What listens for connections, whatever is spoken on them."""


def parse_urls(urls: Sequence[str], schemes: Collection[str], carrier: str) -> list[Address]:
    """The addresses to serve.

    Raises:
      LocalProtocolError: there is none, one can't be used, or there is no such carrier.
    """
    if not urls:
        raise LocalProtocolError("can't serve on no URL", field="urls", size=0)
    check_carrier(carrier)
    return [parse_address(url, schemes) for url in urls]


def make_gate(nursery: trio.Nursery, rules: ServerConfig) -> Gate:
    """What lets connections in."""
    return Gate(nursery, max_connections=rules.max_connections, max_connections_per_host=rules.max_connections_per_host)


async def serve_all(
    server: ServerT,
    addresses: Sequence[Address],
    schemes: Mapping[str, Serve[ServerT]],
    nursery: trio.Nursery,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """Listen on all addresses until cancelled or drained.

    Args:
      server: what they share.
      addresses: in the order in which their URLs are reported.
      schemes: what serves each.
      nursery: for the task that waits for a drain.
      scope: what a drain cancels at its deadline.
      task_status: started with the URLs.

    Cancellation: the connections are closed.
    """
    for address in addresses:
        _check_certificate(server, address)
    async with open_bare_nursery() as listening:
        nursery.start_soon(server.keep_drain, scope)
        for address in addresses:
            server.urls.append(await listening.start(_started, schemes[address.scheme], server, address))
        task_status.started(list(server.urls))


async def _started(
    serve_address: Serve[ServerT], server: ServerT, address: Address, *, task_status: trio.TaskStatus[str]
) -> None:
    server.admit_at(address)
    await serve_address(server, address, task_status)


def _check_certificate(server: Listening, address: Address) -> None:
    has_files = server.certfile is not None and server.keyfile is not None
    if address.scheme == "https" and not has_files:
        raise LocalProtocolError("can't serve https:// without certfile and keyfile", field="certfile")
    if address.scheme in {"tls", "wss"} and not has_files and server.ssl_context is None:
        raise LocalProtocolError(
            f"can't serve {address.scheme}:// without certfile and keyfile, or ssl_context", field="certfile"
        )
