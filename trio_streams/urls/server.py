"""What one `serve` call shares among its listeners: the application, the limits, the connections, and their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio

from trio_streams.browser import with_client
from trio_streams.carrier import Carrier
from trio_streams.connection import Connection
from trio_streams.dashboard import Dashboard
from trio_streams.driver import Handler, run_server
from trio_streams.procedures.channels import Channels
from trio_streams.procedures.durable.runs import DurableRuns
from trio_streams.procedures.envelopes import EnvelopeServer
from trio_streams.procedures.jsonrpc import JsonRpcRunner
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.service.background import Background
from trio_streams.service.cors import with_cors
from trio_streams.service.front import admitted, logged, probed
from trio_streams.service.record import record_stream
from trio_streams.streams.wire import WireStream
from trio_streams.transports.beside import Beside
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.urls.address import Address
from trio_streams.urls.listening import Listening, MakeMachine
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run
from trio_streams.wire.envelope import MessageLimits, SignsOfLife

if TYPE_CHECKING:
    from trio_streams.webtransport import WebTransportSession

__all__ = ["HostName", "Server"]

HostName: TypeAlias = Literal["hypercorn", "lean"]

_LOOKED_AT: Final = frozenset({"tcp", "tls", "unix"})
"""Where a connection's first bytes tell its dialect; on WebSockets the subprotocol does."""


@attrs.frozen(kw_only=True)
class Server(Listening):
    """See the module."""

    app: Router
    host: HostName
    http3: Beside | None = None
    background: Background
    durable_runs: DurableRuns | None = None
    dashboard: Dashboard | None = None
    channels: Channels | None = None
    envelopes: MessageLimits = attrs.field(factory=MessageLimits)
    _started: float = attrs.field(factory=trio.current_time)

    @property
    def max_text_bytes(self) -> int | None:
        """The longest message of a client that speaks envelopes."""
        return self.envelopes.max_text_bytes

    @property
    def message_timeout(self) -> float | None:
        """What such a client gets for a whole message."""
        return self.envelopes.message_timeout

    def front(self, handler: ExchangeHandler, address: Address, host: str) -> ExchangeHandler:
        """A handler of HTTP exchanges behind probes, checks, CORS and, where its host has none, the access log.

        Args:
          handler: of the application.
          address: where it is served.
          host: what serves it: one of `HostName`, or `http3`.
        """
        rules = self.rules
        handler = with_client(handler)
        if self.dashboard is not None:
            handler = self.dashboard.wrap(handler)
        # The lean host counts by itself, as it reads.
        limit = None if host == "lean" else rules.max_header_bytes
        cors = rules.cors
        handler = admitted(handler, self.policy(address, () if cors is None else cors.origins), limit)
        if cors is not None:
            handler = with_cors(handler, cors)
        handler = probed(handler, rules, self.report, lambda: self.drain.has_begun)
        if rules.on_access is not None and host == "hypercorn":
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

    def began(self, run: Run, connection: Connection) -> None:
        """A connection has begun."""
        super().began(run, connection)
        if self.dashboard is not None:
            self.dashboard.connected(connection)

    def speak(
        self,
        transport: str,
        carrier: Carrier,
        *,
        make_machine: MakeMachine | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> Awaitable[None]:
        """Serve the application in our own dialect."""
        return run_server(
            carrier,
            partial(self._prepare, transport, False),
            config=self.config,
            transport=transport,
            make_machine=make_machine,
            received=received,
            on_connection=on_connection,
        )

    def speak_on_session(
        self, session: WebTransportSession, *, on_connection: Callable[[Connection], None]
    ) -> Awaitable[None]:
        """Serve the application on a session of WebTransport."""
        from trio_streams.webtransport.procedures import run_session_server  # noqa: PLC0415 - it takes an extra

        prepare = partial(self._prepare, "wt", False)
        return run_session_server(session, prepare, config=self.config, on_connection=on_connection)

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
        """Serve the application in Raffel's JSON envelopes."""
        return self._envelopes.serve(
            carrier,
            partial(self._prepare, transport, True),
            is_text=is_text,
            transport=transport,
            received=received,
            signs=signs,
            on_connection=on_connection,
        )

    @property
    def _envelopes(self) -> EnvelopeServer:
        on_access = self.rules.on_access
        json_rpc = JsonRpcRunner(self.app, lambda: self.urls, background=self.background, on_access=on_access)
        return EnvelopeServer(
            router=self.app, json_rpc=json_rpc, config=self.config, limits=self.envelopes, channels=self.channels
        )

    def _prepare(self, transport: str, is_json: bool, stream: WireStream[bytes, bytes]) -> Handler:
        handler = prepare(self.app, stream, background=self.background, runs=self.durable_runs, is_json=is_json)
        on_access = self.rules.on_access
        return handler if on_access is None else partial(record_stream, handler, transport, on_access)
