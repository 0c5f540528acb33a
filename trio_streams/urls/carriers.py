"""From URLs to carriers, for whoever calls: what each scheme connects with, whatever is spoken there."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, TypeAlias

import attrs

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.peer.signal import PeerDialect
from trio_streams.procedures.http_client import RECONNECT
from trio_streams.transports.bytes import connect_tcp
from trio_streams.transports.messages import connect_trio_websocket, connect_websocket
from trio_streams.transports.process import open_process
from trio_streams.transports.tls import connect_tls
from trio_streams.transports.unix import connect_unix
from trio_streams.urls.address import Address
from trio_streams.urls.websocket import CarrierName
from trio_streams.wire.binary import PROTOCOL
from trio_streams.wire.event_source import EventSourceConfig
from trio_streams.wire.message_limits import MessageLimits

__all__ = ["CARRIERS", "Call", "Dialect"]

Dialect: TypeAlias = Literal["trio-streams", "envelopes"]


@attrs.frozen
class Call:
    """One call of `connect` or `open_peer`: where to, and how."""

    address: Address
    config: ConnectionConfig
    carrier: CarrierName
    ssl_context: ssl.SSLContext | None
    on_stderr: Callable[[bytes], None] | None
    dialect: Dialect | PeerDialect = "trio-streams"
    envelopes: MessageLimits = attrs.field(factory=MessageLimits)
    event_source: EventSourceConfig = RECONNECT
    resume: ResumeOptions | None = None
    reconnect: ReconnectOptions | None = None

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """What a WebSocket offers; none asks for JSON messages."""
        return (PROTOCOL,) if self.dialect == "trio-streams" else ()


@contextlib.asynccontextmanager
async def _open_tcp(call: Call) -> AsyncGenerator[Carrier, None]:
    yield await connect_tcp(call.address.host, call.address.port, config=call.config)


@contextlib.asynccontextmanager
async def _open_tls(call: Call) -> AsyncGenerator[Carrier, None]:
    yield await connect_tls(call.address.host, call.address.port, config=call.config, ssl_context=call.ssl_context)


@contextlib.asynccontextmanager
async def _open_unix(call: Call) -> AsyncGenerator[Carrier, None]:
    yield await connect_unix(call.address.path, config=call.config)


def _open_process(call: Call) -> AbstractAsyncContextManager[Carrier]:
    return open_process(call.address.command, config=call.config, on_stderr=call.on_stderr)


@contextlib.asynccontextmanager
async def _open_websocket(call: Call) -> AsyncGenerator[Carrier, None]:
    url, config, context, offered = call.address.url, call.config, call.ssl_context, call.subprotocols
    if call.carrier == "trio-websocket":
        async with connect_trio_websocket(url, config=config, ssl_context=context, subprotocols=offered) as carrier:
            yield carrier
    else:
        yield await connect_websocket(url, config=config, ssl_context=context, subprotocols=offered)


CARRIERS: Final[Mapping[str, Callable[[Call], AbstractAsyncContextManager[Carrier]]]] = {
    "tcp": _open_tcp,
    "tls": _open_tls,
    "unix": _open_unix,
    "process": _open_process,
    "ws": _open_websocket,
    "wss": _open_websocket,
}
"""What opens a carrier for each scheme."""
