"""WebSockets as carriers: the only face of the modules that import `websockets` and `trio_websocket`.

`WebSocketCarrier` is the default: `websockets`' Sans-I/O machine under a small Trio adapter, with coalesced output.
`TrioWebSocketCarrier` carries the same bytes over a trio-websocket connection, for those who already have one.
"""

from __future__ import annotations

from trio_streams.transports.messages_handshake import accept_websocket as accept_websocket
from trio_streams.transports.messages_handshake import connect_websocket as connect_websocket
from trio_streams.transports.messages_trio import TrioWebSocketCarrier as TrioWebSocketCarrier
from trio_streams.transports.messages_trio import accept_trio_websocket as accept_trio_websocket
from trio_streams.transports.messages_trio import connect_trio_websocket as connect_trio_websocket
from trio_streams.transports.messages_websocket import DEFAULT_MAX_MESSAGE_BYTES as DEFAULT_MAX_MESSAGE_BYTES
from trio_streams.transports.messages_websocket import SUBPROTOCOL as SUBPROTOCOL
from trio_streams.transports.messages_websocket import WebSocketCarrier as WebSocketCarrier

__all__ = [
    "DEFAULT_MAX_MESSAGE_BYTES",
    "SUBPROTOCOL",
    "TrioWebSocketCarrier",
    "WebSocketCarrier",
    "accept_trio_websocket",
    "accept_websocket",
    "connect_trio_websocket",
    "connect_websocket",
]
