"""From URLs to carriers: `serve` and `connect`, the only place that knows every transport.

tcp://host:port      our binary dialect on TCP
tls://host:port      the same in TLS
unix:/path           the same on a Unix socket; unix:@name on Linux's abstract names
process:command      the same on the standard input and output of a child
stdio:               the child's side of it
ws://host:port       the same in WebSocket messages, subprotocol trio-streams.v1; wss:// in TLS
wt://host:port       the same on the streams of a WebTransport session, over HTTP/3: always in TLS, takes the extra `quic`
http://host:port     an ASGI application in hypercorn: calls, and server streams as server-sent events
https://host:port    the same over TLS, HTTP/2 included

Schemes are rows of two tables: `serving.SCHEMES` and `connecting.SCHEMES`. What opens and what accepts carriers is the
same for peers: `carriers.CARRIERS` and `listening.LISTENERS`; `open_peer` and `serve_peers` take all schemes but HTTP's.
`serve_relay` takes those of WebSockets.
"""

from __future__ import annotations

from trio_streams.service.drain import Drain as Drain
from trio_streams.service.server_config import ServerConfig as ServerConfig
from trio_streams.urls.connecting import connect as connect
from trio_streams.urls.existing import connect_stream as connect_stream
from trio_streams.urls.existing import serve_connection as serve_connection
from trio_streams.urls.existing import serve_stream as serve_stream
from trio_streams.urls.peers import open_peer as open_peer
from trio_streams.urls.peers import open_peer_stream as open_peer_stream
from trio_streams.urls.peers import serve_peers as serve_peers
from trio_streams.urls.relays import serve_relay as serve_relay
from trio_streams.urls.server import HostName as HostName
from trio_streams.urls.serving import asgi_app as asgi_app
from trio_streams.urls.serving import serve as serve
from trio_streams.urls.websocket import CarrierName as CarrierName

__all__ = [
    "CarrierName",
    "Drain",
    "HostName",
    "ServerConfig",
    "asgi_app",
    "connect",
    "connect_stream",
    "open_peer",
    "open_peer_stream",
    "serve",
    "serve_connection",
    "serve_peers",
    "serve_relay",
    "serve_stream",
]
