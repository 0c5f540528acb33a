"""Carriers: bytes in order over memory, sockets, TLS, pipes, processes, channels and WebSockets.

They know nothing of streams' meaning.

WebSocket carriers live in `trio_streams.transports.messages`, which alone imports the WebSocket libraries.
"""

from __future__ import annotations

from trio_streams.transports.bytes import ByteCarrier as ByteCarrier
from trio_streams.transports.bytes import ListenError as ListenError
from trio_streams.transports.bytes import connect_tcp as connect_tcp
from trio_streams.transports.bytes import open_tcp_listeners as open_tcp_listeners
from trio_streams.transports.carrier import Carrier as Carrier
from trio_streams.transports.channels import ChannelCarrier as ChannelCarrier
from trio_streams.transports.memory import MemoryCarrier as MemoryCarrier
from trio_streams.transports.memory import memory_carrier_pair as memory_carrier_pair
from trio_streams.transports.pipes import PipeCarrier as PipeCarrier
from trio_streams.transports.pipes import open_stdio as open_stdio
from trio_streams.transports.process import ProcessCarrier as ProcessCarrier
from trio_streams.transports.process import open_process as open_process
from trio_streams.transports.tls import TlsCarrier as TlsCarrier
from trio_streams.transports.tls import accept_tls as accept_tls
from trio_streams.transports.tls import client_context as client_context
from trio_streams.transports.tls import connect_tls as connect_tls
from trio_streams.transports.tls import server_context as server_context
from trio_streams.transports.unix import connect_unix as connect_unix
from trio_streams.transports.unix import open_unix_listener as open_unix_listener

__all__ = [
    "ByteCarrier",
    "Carrier",
    "ChannelCarrier",
    "ListenError",
    "MemoryCarrier",
    "PipeCarrier",
    "ProcessCarrier",
    "TlsCarrier",
    "accept_tls",
    "client_context",
    "connect_tcp",
    "connect_tls",
    "connect_unix",
    "memory_carrier_pair",
    "open_process",
    "open_stdio",
    "open_tcp_listeners",
    "open_unix_listener",
    "server_context",
]
