"""What one `serve` call shares among its listeners: the application, the limits, the connections, and their end."""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs
import trio

from trio_streams.browser import with_client
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import StreamsError
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
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.envelope_carrier import ResumedCarrier, as_envelopes, receive_start
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.gate import Gate
from trio_streams.transports.identity import identify_peer
from trio_streams.transports.messages import accept_trio_websocket, accept_websocket
from trio_streams.transports.origin import OriginPolicy
from trio_streams.transports.tls import accept_tls, open_server_tls, server_context
from trio_streams.transports.unix import unix_peer
from trio_streams.urls.address import Address
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run, Runs
from trio_streams.urls.websocket import CarrierName
from trio_streams.wire.binary import BinaryWire
from trio_streams.wire.envelope import EnvelopeLimits
from trio_streams.wire.envelope_framing import is_envelope_start

__all__ = ["Accept", "HostName", "Server"]

_logger: Final = logging.getLogger("trio_streams")

HostName: TypeAlias = Literal["hypercorn", "lean"]

Accept = Callable[[trio.SocketStream], AbstractAsyncContextManager[Carrier]]

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
            await self._run(run, transport, carrier)

    async def run_accepted(self, transport: str, accept: Accept, stream: trio.SocketStream) -> None:
        """One connection's fault ends one connection; it is told to the people who run the server."""
        try:
            with self._runs.open() as run:
                async with accept(stream) as carrier:
                    await self._run(run, transport, carrier)
        except StreamsError as exc:
            _logger.info("a connection ended: %s", exc)
        finally:
            # Shielded, or a cancellation that arrives meanwhile would take the place of what is passing through, such as
            # KeyboardInterrupt.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _run(self, run: Run, transport: str, carrier: Carrier) -> None:
        texts = as_envelopes(carrier)
        principal = self._identify(carrier)
        carrier, make_machine = run.hold(texts or carrier), None
        is_envelopes = texts is not None
        began = partial(self._began, run)
        start, began_at = None, trio.current_time()
        if transport in _LOOKED_AT:
            start = await receive_start(carrier, patience=self.config.handshake_timeout)
            is_envelopes = bool(start) and is_envelope_start(start)
            carrier = ResumedCarrier(carrier, start)
            if not start:
                make_machine = partial(self._make_machine, began_at)
        if self.sessions is not None and not is_envelopes and start != b"":
            await self._serve_offered(self.sessions, run, transport, carrier, principal, began_at)
            return
        choose = partial(self._prepare, transport, is_envelopes)
        if is_envelopes:
            await self._envelopes.serve(
                carrier, choose, is_text=texts is not None, transport=transport, on_connection=began
            )
        else:
            await run_server(
                carrier,
                choose,
                config=self.config,
                transport=transport,
                make_machine=make_machine,
                on_connection=began,
            )

    async def _serve_offered(
        self,
        sessions: Sessions,
        run: Run,
        transport: str,
        carrier: Carrier,
        principal: Hashable,
        began_at: float,
    ) -> None:
        """Serve a client of our own dialect, which may want to go on with a session or have one."""
        offered = await sessions.receive_offer(carrier)
        if offered.hello is not None:
            self._runs.forget(run)
            await sessions.serve(carrier, offered, principal, partial(self._run_session, transport))
            return
        await run_server(
            ResumedCarrier(carrier, offered.received),
            partial(self._prepare, transport, False),
            config=self.config,
            transport=transport,
            make_machine=partial(self._make_machine, began_at),
            on_connection=partial(self._began, run),
        )

    def _identify(self, carrier: Carrier) -> Hashable:
        if self.sessions is None:
            return None
        try:
            principal = (self.sessions.identify or identify_peer)(carrier)
            hash(principal)
        except Exception:
            _logger.exception("identify failed for %s: nobody can come back to its session", carrier.peer)
            return object()
        return principal

    def _began(self, run: Run, connection: Connection) -> None:
        run.connection = connection
        if self.dashboard is not None:
            self.dashboard.connected(connection)
        if self.on_connection is not None:
            self.on_connection(connection)

    async def _run_session(self, transport: str, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)
            self._began(run, connection)

        with self._runs.open() as run:
            await run_server(
                run.hold(carrier),
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
