"""What one `serve` call shares among its listeners: the application, the limits, the connections, and their end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs
import trio

from trio_streams.browser import with_client
from trio_streams.carrier import Carrier
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.dashboard import Dashboard
from trio_streams.driver import Handler, run_server
from trio_streams.procedures.channels import Channels
from trio_streams.procedures.envelopes import EnvelopeServer
from trio_streams.procedures.jsonrpc import JsonRpcRunner
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.service.background import Background
from trio_streams.service.front import admitted, logged, probed
from trio_streams.service.record import record_stream
from trio_streams.streams.wire import WireStream
from trio_streams.transports.envelope_carrier import ResumedCarrier, as_envelopes, receive_start
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.urls.address import Address
from trio_streams.urls.listening import Listening
from trio_streams.urls.runs import GOODBYE_TIMEOUT, Run
from trio_streams.wire.binary import BinaryWire
from trio_streams.wire.envelope import EnvelopeLimits
from trio_streams.wire.envelope_framing import is_envelope_start

__all__ = ["HostName", "Server"]

HostName: TypeAlias = Literal["hypercorn", "lean"]

_LOOKED_AT: Final = frozenset({"tcp", "tls", "unix"})
"""Where a connection's first bytes tell its dialect; on WebSockets the subprotocol does."""


@attrs.frozen(kw_only=True)
class Server(Listening):
    """See the module."""

    app: Router
    host: HostName
    background: Background
    dashboard: Dashboard | None = None
    channels: Channels | None = None
    envelopes: EnvelopeLimits = attrs.field(factory=EnvelopeLimits)
    _started: float = attrs.field(factory=trio.current_time)

    @property
    def max_text_bytes(self) -> int | None:
        """The longest message of a client that speaks envelopes."""
        return self.envelopes.max_text_bytes

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

    async def run(self, run: Run, transport: str, carrier: Carrier) -> None:
        """Serve the application in the dialect that the client speaks."""

        def began(connection: Connection) -> None:
            run.connection = connection
            if self.dashboard is not None:
                self.dashboard.connected(connection)
            if self.on_connection is not None:
                self.on_connection(connection)

        texts = as_envelopes(carrier)
        carrier, make_machine = run.hold(texts or carrier), None
        is_envelopes = texts is not None
        if transport in _LOOKED_AT:
            began_at = trio.current_time()
            start = await receive_start(carrier, patience=self.config.handshake_timeout)
            is_envelopes = bool(start) and is_envelope_start(start)
            carrier = ResumedCarrier(carrier, start)
            if not start:
                make_machine = partial(self._make_machine, began_at)
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
