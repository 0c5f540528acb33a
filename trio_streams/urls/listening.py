"""What listens: the part of a server that is the same whatever is spoken on its connections.

Letting in, the carriers of each scheme, which dialect a client speaks, sessions, the connections that are open, and how
a drain ends them.
"""

from __future__ import annotations

import secrets
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.mux import Mux
from trio_streams.nursery import open_bare_nursery
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.sessions import Sessions
from trio_streams.service.drain import Drain
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.bytes import ByteCarrier, host_port, keep_alive, open_url_listeners
from trio_streams.transports.envelope_carrier import as_envelopes, receive_start
from trio_streams.transports.gate import Gate
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.transports.origin import OriginPolicy
from trio_streams.transports.pipes import open_stdio
from trio_streams.transports.tls import accept_tls, open_server_tls
from trio_streams.transports.unix import open_unix_listener, unix_peer
from trio_streams.urls.address import Address, parse_address
from trio_streams.urls.credentials import Credentials
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run, Runs
from trio_streams.urls.sessions import principal_of
from trio_streams.urls.websocket import CarrierName, check_carrier
from trio_streams.wire.binary import BinaryWire
from trio_streams.wire.envelope import SignsOfLife
from trio_streams.wire.message_framing import is_envelope_start

if TYPE_CHECKING:
    from trio_streams.webtransport import WebTransportSession

__all__ = ["LISTENERS", "Listening", "MakeMachine", "Serve", "make_gate", "open_nurseries", "parse_urls", "serve_all"]

Accept: TypeAlias = Callable[[trio.SocketStream], Awaitable[Carrier]]
Secure: TypeAlias = Callable[[trio.SocketStream], Awaitable[trio.abc.Stream]]
MakeMachine: TypeAlias = Callable[[], Mux]

_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 25\r\n\r\nToo many connections now\n"
)
_SPEAK_HTTP: Final = frozenset({"http", "ws"})
_HAVE_ORIGINS: Final = frozenset({"http", "https", "ws", "wss", "wt"})
_LOOKED_AT: Final = frozenset({"tcp", "tls", "unix"})
"""Where a connection's first bytes tell its dialect; on WebSockets the subprotocol does."""


@attrs.frozen(kw_only=True)
class Listening(ABC):
    """What one call of `serve` or `serve_peers` shares among its listeners."""

    config: ConnectionConfig
    rules: ServerConfig
    carrier: CarrierName
    on_connection: Callable[[Connection], None] | None
    credentials: Credentials
    drain: Drain
    gate: Gate
    sessions: Sessions | None = None
    urls: list[str] = attrs.field(factory=list[str])
    stopping: trio.Event = attrs.field(factory=trio.Event)
    _runs: Runs = attrs.field(factory=Runs)

    # -- what differs between servers -------------------------------------------------------------------------

    @abstractmethod
    def speak(
        self,
        transport: str,
        carrier: Carrier,
        *,
        make_machine: MakeMachine | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> Awaitable[None]:
        """Serve a connection of our own dialect until it is over.

        Args:
          transport: what carries it.
          carrier: it belongs to whoever serves.
          make_machine: makes its machine; None for a fresh one.
          received: what was taken from the carrier already.
          on_connection: to be told of the connection when it begins.
        """

    @abstractmethod
    def speak_messages(
        self,
        transport: str,
        carrier: Carrier,
        *,
        is_text: bool,
        signs: SignsOfLife | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> Awaitable[None]:
        """Serve a connection of framed JSON messages until it is over.

        Args:
          transport, carrier, received, on_connection: as for `speak`.
          is_text: whether it is a WebSocket, whose messages have a limit of their own.
          signs: of the client's life, where the carrier has such.
        """

    @abstractmethod
    def speak_on_session(
        self, session: WebTransportSession, *, on_connection: Callable[[Connection], None]
    ) -> Awaitable[None]:
        """Serve a connection of our own dialect on a session of WebTransport until it is over; else as `speak`."""

    @property
    @abstractmethod
    def max_text_bytes(self) -> int | None:
        """The longest message of a WebSocket whose client offers no subprotocol; None refuses such clients."""

    @property
    def message_timeout(self) -> float | None:
        """Seconds that such a client gets for a whole message; None for any time."""
        return None

    def began(self, run: Run, connection: Connection) -> None:
        """A connection has begun."""
        run.connection = connection
        if self.on_connection is not None:
            self.on_connection(connection)

    # -- letting in -------------------------------------------------------------------------------------------

    def policy(self, address: Address, more_origins: tuple[str, ...] = ()) -> OriginPolicy:
        """Whose requests a listener answers."""
        rules = self.rules
        origins = rules.allowed_origins + more_origins
        return OriginPolicy(address.host, allowed_hosts=rules.allowed_hosts, allowed_origins=origins)

    def admit_at(self, address: Address) -> None:
        """Have what the current task and its children accept be let in by this server's rules."""
        scheme = address.scheme
        guard = partial(self.gate.guard, refusal=_REFUSAL if scheme in _SPEAK_HTTP else b"")
        check = self.policy(address).refusal if scheme in _HAVE_ORIGINS else None
        ADMISSION.set(Admission(guard, check, self.max_text_bytes, self.message_timeout, self.gate))

    # -- connections ------------------------------------------------------------------------------------------

    async def run_hosted(self, transport: str, carrier: Carrier) -> None:
        """Serve a connection that a host has accepted."""
        with self._runs.open() as run:
            await self.serve(run, transport, carrier, began_at=trio.current_time())

    async def run_session(self, session: WebTransportSession) -> None:
        """Serve a connection on a session that was let in."""
        with self._runs.open() as run:
            await self.speak_on_session(session, on_connection=partial(self.began, run))

    async def run_accepted(self, transport: str, accept: Accept, stream: trio.SocketStream) -> None:
        """Serve what a listener has accepted."""
        keep_alive(stream, self.config.idle_timeout)
        with self._runs.open(stream) as run:
            carrier, start, began_at = await accept(stream), None, trio.current_time()
            if transport in _LOOKED_AT:
                start = await receive_start(carrier, patience=self.config.handshake_timeout)
            await self.serve(run, transport, carrier, start, began_at)

    async def run_trio_websocket(self, transport: str, secure: Secure | None, stream: trio.SocketStream) -> None:
        """The same by trio-websocket, which needs tasks of its own around each connection."""
        with self._runs.open(stream) as run:
            under = stream if secure is None else await secure(stream)
            async with accept_trio_websocket(under, config=self.config) as carrier:
                await self.serve(run, transport, carrier, began_at=trio.current_time())

    def serve(
        self, run: Run, transport: str, carrier: Carrier, start: bytes | None = None, began_at: float = 0.0
    ) -> Awaitable[None]:
        """Choose a connection's dialect, and serve it.

        Args:
          run: is told when it begins.
          transport: what carries it.
          carrier: it belongs to whoever serves.
          start: what was received already, where that tells the dialect; nothing from a client that says nothing.
          began_at: since when it was waited for.
        """
        texts = as_envelopes(carrier)
        began = partial(self.began, run)
        if texts is not None or (start and is_envelope_start(start)):
            return self.speak_messages(
                transport,
                texts or carrier,
                is_text=texts is not None,
                signs=carrier if isinstance(carrier, SignsOfLife) else None,
                received=start or b"",
                on_connection=began,
            )
        if self.sessions is not None and start != b"":
            return self._serve_resumable(self.sessions, run, transport, carrier, start or b"", began_at)
        make_machine = partial(self._make_machine, began_at) if start == b"" else None
        return self.speak(transport, carrier, make_machine=make_machine, received=start or b"", on_connection=began)

    async def _serve_resumable(
        self, sessions: Sessions, run: Run, transport: str, carrier: Carrier, start: bytes, began_at: float
    ) -> None:
        principal = principal_of(sessions, carrier)
        offer = await sessions.receive_offer(carrier, start)
        if offer.hello is not None:
            self._runs.forget(run)
            await sessions.serve(carrier, offer, principal, partial(self._run_session, transport))
            return
        began = partial(self.began, run)
        make_machine = partial(self._make_machine, began_at)
        await self.speak(transport, carrier, make_machine=make_machine, received=offer.received, on_connection=began)

    async def _run_session(self, transport: str, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)
            self.began(run, connection)

        with self._runs.open() as run:
            await self.speak(
                transport, carrier, make_machine=lambda: carrier.machine, received=b"", on_connection=began
            )

    def _make_machine(self, began_at: float) -> Mux:
        """One that has waited since then for a client that says nothing."""
        return Mux(BinaryWire(), is_client=False, config=self.config, session_id=secrets.token_hex(16), now=began_at)

    async def accept_tcp(self, stream: trio.SocketStream) -> Carrier:
        """TCP needs no handshake."""
        return ByteCarrier(stream, close_timeout=self.config.close_timeout)

    async def accept_tls(self, context: ssl.SSLContext, stream: trio.SocketStream) -> Carrier:
        """TLS."""
        return await accept_tls(stream, context, config=self.config)

    async def accept_unix(self, stream: trio.SocketStream) -> Carrier:
        """A Unix socket, whose peer the kernel knows."""
        return ByteCarrier(stream, peer=unix_peer(stream), close_timeout=self.config.close_timeout)

    async def accept_websocket(self, secure: Secure | None, stream: trio.SocketStream) -> Carrier:
        """A WebSocket by our own carrier, in TLS or without."""
        under = stream if secure is None else await secure(stream)
        return await accept_websocket(under, config=self.config)

    async def secure(self, context: ssl.SSLContext, stream: trio.SocketStream) -> trio.abc.Stream:
        """What is to carry a WebSocket, in TLS."""
        return await open_server_tls(stream, context, config=self.config)

    # -- the end ----------------------------------------------------------------------------------------------

    async def accept_all(
        self,
        run: Callable[[trio.SocketStream], Awaitable[None]],
        listeners: list[trio.SocketListener],
        connections: trio.Nursery,
        started: Callable[[], None],
    ) -> None:
        """Accept connections and run them until a drain, which closes the listeners; those that are open go on in their nursery."""
        async with open_bare_nursery() as accepting:
            serve = partial(trio.serve_listeners, handler_nursery=connections)
            await accepting.start(serve, run, listeners)
            started()
            await self.stopping.wait()
            accepting.cancel_scope.cancel()

    async def finish_work(self) -> None:
        """End what has nothing under way, until cancelled. Cancellation: the rest goes on."""
        await self._runs.end_idle()

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
            await self.finish_work()
        self.drain.cut()
        scope.cancel()
        await trio.sleep(GOODBYE_TIMEOUT)
        self._runs.cut_all()


async def _serve_tcp(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    await _serve_sockets(server, address, partial(server.run_accepted, "tcp", server.accept_tcp), task_status)


async def _serve_tls(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    accept = partial(server.accept_tls, server.credentials.context(alpn="trio-streams.v1"))
    await _serve_sockets(server, address, partial(server.run_accepted, "tls", accept), task_status)


async def _serve_ws(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    secure = None if address.scheme == "ws" else partial(server.secure, server.credentials.context(alpn="http/1.1"))
    if server.carrier == "trio-websocket":
        run = partial(server.run_trio_websocket, address.scheme, secure)
    else:
        run = partial(server.run_accepted, address.scheme, partial(server.accept_websocket, secure))
    await _serve_sockets(server, address, run, task_status)


async def _serve_sockets(
    server: Listening,
    address: Address,
    run: Callable[[trio.SocketStream], Awaitable[None]],
    task_status: trio.TaskStatus[str],
) -> None:
    listeners = await open_url_listeners("tcp", address.host, address.port)
    bound = f"{address.scheme}://{host_port(*listeners[0].socket.getsockname()[:2])}"
    started = partial(task_status.started, bound)
    async with open_bare_nursery() as connections:
        await server.accept_all(run, listeners, connections, started)


async def _serve_unix(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    run = partial(server.run_accepted, "unix", server.accept_unix)
    started = partial(task_status.started, address.url)
    # The socket's file is for the next server as soon as this one accepts no more.
    async with open_bare_nursery() as connections, open_unix_listener(address.path, mode=address.mode) as listener:
        await server.accept_all(run, [listener], connections, started)


async def _serve_wt(server: Listening, address: Address, task_status: trio.TaskStatus[str]) -> None:
    from trio_streams.urls.webtransport import serve_address  # noqa: PLC0415 - it takes an extra

    await serve_address(server, address, task_status)


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
    "wss": _serve_ws,
    "wt": _serve_wt,
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


@asynccontextmanager
async def open_nurseries() -> AsyncGenerator[tuple[trio.Nursery, trio.Nursery], None]:
    """One for what stands beside a server's work and ends with it, and one for the work, which is waited for."""
    async with open_bare_nursery() as nursery:
        async with open_bare_nursery() as work:
            yield nursery, work
        nursery.cancel_scope.cancel()


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
        server.credentials.check(address)
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
