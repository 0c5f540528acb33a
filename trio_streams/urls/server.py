"""What one `serve` call shares among its listeners: the application, the limits, the connections, and their end."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs
import trio

from trio_streams.browser import with_client
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.dashboard import Dashboard
from trio_streams.driver import Handler, run_server
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.channels import Channels
from trio_streams.procedures.envelopes import EnvelopeServer
from trio_streams.procedures.jsonrpc import JsonRpcRunner
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.sessions import Sessions
from trio_streams.service.background import Background
from trio_streams.service.drain import Drain
from trio_streams.service.front import admitted, logged, probed
from trio_streams.service.record import record_stream
from trio_streams.service.server_config import ServerConfig
from trio_streams.streams.wire import WireStream
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.bytes import ByteCarrier, keep_alive
from trio_streams.transports.envelope_carrier import as_envelopes, receive_start
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.gate import Gate
from trio_streams.transports.identity import Identify, identify_peer
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.transports.origin import OriginPolicy
from trio_streams.transports.tls import accept_tls, open_server_tls, server_context
from trio_streams.transports.unix import unix_peer
from trio_streams.urls.address import Address
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run, Runs
from trio_streams.urls.websocket import CarrierName
from trio_streams.wire.binary import BinaryWire
from trio_streams.wire.envelope import EnvelopeLimits, SignsOfLife
from trio_streams.wire.envelope_framing import is_envelope_start

__all__ = ["Accept", "HostName", "Server"]

HostName: TypeAlias = Literal["hypercorn", "lean"]

Accept: TypeAlias = Callable[[trio.SocketStream], Awaitable[Carrier]]
Secure: TypeAlias = Callable[[trio.SocketStream], Awaitable[trio.abc.Stream]]

_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 25\r\n\r\nToo many connections now\n"
)
_SPEAK_HTTP: Final = frozenset({"http", "ws"})
_HAVE_ORIGINS: Final = frozenset({"http", "https", "ws", "wss"})
_LOOKED_AT: Final = frozenset({"tcp", "tls", "unix"})
"""Where a connection's first bytes tell its dialect; on WebSockets the subprotocol does."""


@attrs.frozen(kw_only=True)
class Server:
    """See the module."""

    app: Router
    config: ConnectionConfig
    rules: ServerConfig
    carrier: CarrierName
    on_connection: Callable[[Connection], None] | None
    certfile: str | None
    keyfile: str | None
    ssl_context: ssl.SSLContext | None
    host: HostName
    drain: Drain
    gate: Gate
    background: Background
    dashboard: Dashboard | None = None
    channels: Channels | None = None
    envelopes: EnvelopeLimits = attrs.field(factory=EnvelopeLimits)
    sessions: Sessions | None = None
    identify: Identify = identify_peer
    urls: list[str] = attrs.field(factory=list[str])
    stopping: trio.Event = attrs.field(factory=trio.Event)
    _runs: Runs = attrs.field(factory=Runs)
    _started: float = attrs.field(factory=trio.current_time)

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
        ADMISSION.set(Admission(guard, check, self.envelopes.max_text_bytes))

    def front(self, handler: ExchangeHandler, address: Address) -> ExchangeHandler:
        """A handler of HTTP exchanges behind probes, checks and, where its host has none, the access log."""
        rules = self.rules
        handler = with_client(handler)
        if self.dashboard is not None:
            handler = self.dashboard.wrap(handler)
        # The lean host counts by itself, as it reads.
        limit = None if self.host == "lean" else rules.max_header_bytes
        handler = admitted(handler, self.policy(address), limit)
        handler = probed(handler, rules, self.report, lambda: self.drain.has_begun)
        if rules.on_access is not None and self.host == "hypercorn":
            handler = logged(handler, rules.on_access)
        return handler

    def report(self) -> Mapping[str, object]:
        """What `/healthz` tells."""
        uptime = round(trio.current_time() - self._started, 3)
        return {"uptime_seconds": uptime, "connections": self.gate.connections, "streams": self._runs.streams}

    @property
    def exchange(self) -> ExchangeConfig:
        """The limits of exchanges; their goodbyes have to fit behind a drain's deadline."""
        given = self.rules.exchange
        return attrs.evolve(given, close_timeout=min(given.close_timeout, GOODBYE_TIMEOUT))

    # -- connections ------------------------------------------------------------------------------------------

    async def run_hosted(self, transport: str, carrier: Carrier) -> None:
        """Serve a connection that a host has accepted."""
        with self._runs.open() as run:
            await self._serve(run, transport, carrier)

    async def run_accepted(self, transport: str, accept: Accept, stream: trio.SocketStream) -> None:
        """Serve what a listener has accepted."""
        keep_alive(stream, self.config.idle_timeout)
        with self._runs.open(stream) as run:
            carrier, start, began_at = await accept(stream), None, trio.current_time()
            if transport in _LOOKED_AT:
                start = await receive_start(carrier, patience=self.config.handshake_timeout)
            await self._serve(run, transport, carrier, start, began_at)

    async def run_trio_websocket(self, transport: str, secure: Secure | None, stream: trio.SocketStream) -> None:
        """The same by trio-websocket, which needs tasks of its own around each connection."""
        with self._runs.open(stream) as run:
            under = stream if secure is None else await secure(stream)
            async with accept_trio_websocket(under, config=self.config) as carrier:
                await self._serve(run, transport, carrier)

    def _serve(
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
        signs = carrier if isinstance(carrier, SignsOfLife) else None
        is_envelopes = texts is not None or (bool(start) and is_envelope_start(start or b""))
        if self.sessions is not None and not is_envelopes and start != b"":
            return self._serve_resumable(self.sessions, run, transport, carrier, start or b"")
        choose = partial(self._prepare, transport, is_envelopes)
        began = partial(self._began, run)
        if is_envelopes:
            return self._envelopes.serve(
                texts or carrier,
                choose,
                is_text=texts is not None,
                transport=transport,
                received=start or b"",
                signs=signs,
                on_connection=began,
            )
        return run_server(
            carrier,
            choose,
            config=self.config,
            transport=transport,
            make_machine=partial(self._make_machine, began_at) if start == b"" else None,
            received=start or b"",
            on_connection=began,
        )

    def _began(self, run: Run, connection: Connection) -> None:
        run.connection = connection
        if self.dashboard is not None:
            self.dashboard.connected(connection)
        if self.on_connection is not None:
            self.on_connection(connection)

    async def _serve_resumable(
        self, sessions: Sessions, run: Run, transport: str, carrier: Carrier, start: bytes
    ) -> None:
        principal = self.identify(carrier)
        offer = await sessions.receive_offer(carrier, start)
        if offer.hello is not None:
            self._runs.forget(run)
            await sessions.serve(carrier, offer, principal, partial(self._run_session, transport))
            return
        await run_server(
            carrier,
            partial(self._prepare, transport, False),
            config=self.config,
            transport=transport,
            received=offer.received,
            on_connection=partial(self._began, run),
        )

    async def _run_session(self, transport: str, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)
            self._began(run, connection)

        with self._runs.open() as run:
            await run_server(
                carrier,
                partial(self._prepare, transport, False),
                config=self.config,
                transport=transport,
                make_machine=lambda: carrier.machine,
                on_connection=began,
            )

    def _make_machine(self, began_at: float) -> Mux:
        """One that has waited since then for a client that says nothing."""
        return Mux(BinaryWire(), is_client=False, config=self.config, session_id=secrets.token_hex(16), now=began_at)

    @property
    def _envelopes(self) -> EnvelopeServer:
        json_rpc = JsonRpcRunner(self.app, lambda: self.urls, background=self.background)
        return EnvelopeServer(
            router=self.app, json_rpc=json_rpc, config=self.config, limits=self.envelopes, channels=self.channels
        )

    def _prepare(self, transport: str, is_json: bool, stream: WireStream[bytes, bytes]) -> Handler:
        handler = prepare(self.app, stream, background=self.background, is_json=is_json)
        on_access = self.rules.on_access
        return handler if on_access is None else partial(record_stream, handler, transport, on_access)

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

    def tls(self, *, alpn: str | None) -> ssl.SSLContext:
        """The context for a URL in TLS; what was given, or else made of the files."""
        if self.ssl_context is not None:
            return self.ssl_context
        return server_context(self.certfile or "", self.keyfile or "", alpn=alpn)

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
        self._runs.cut_all()
