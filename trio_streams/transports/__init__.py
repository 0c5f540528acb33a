"""Carriers: bytes in order over memory, sockets and WebSockets. They know nothing of streams' meaning.

WebSocket carriers live in `trio_streams.transports.messages`, which alone imports the WebSocket libraries.
"""

from __future__ import annotations

from trio_streams.transports.bytes import ByteCarrier as ByteCarrier
from trio_streams.transports.bytes import ListenError as ListenError
from trio_streams.transports.bytes import connect_tcp as connect_tcp
from trio_streams.transports.bytes import open_tcp_listeners as open_tcp_listeners
from trio_streams.transports.carrier import Carrier as Carrier
from trio_streams.transports.memory import MemoryCarrier as MemoryCarrier
from trio_streams.transports.memory import memory_carrier_pair as memory_carrier_pair

__all__ = [
    "ByteCarrier",
    "Carrier",
    "ListenError",
    "MemoryCarrier",
    "connect_tcp",
    "memory_carrier_pair",
    "open_tcp_listeners",
]
