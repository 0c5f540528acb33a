"""Streams with structured concurrency, on Trio: owned, bounded, cancellable, over any transport."""

from __future__ import annotations

from trio_streams.codes import Code as Code
from trio_streams.config import ConnectionConfig as ConnectionConfig
from trio_streams.config import StreamLimits as StreamLimits
from trio_streams.connection import Connection as Connection
from trio_streams.connection import ConnectionStatistics as ConnectionStatistics
from trio_streams.core.records import Status as Status
from trio_streams.errors import CodecError as CodecError
from trio_streams.errors import ConnectionLost as ConnectionLost
from trio_streams.errors import FlowControlError as FlowControlError
from trio_streams.errors import LocalProtocolError as LocalProtocolError
from trio_streams.errors import ProtocolError as ProtocolError
from trio_streams.errors import RemoteProtocolError as RemoteProtocolError
from trio_streams.errors import RpcError as RpcError
from trio_streams.errors import StreamError as StreamError
from trio_streams.errors import StreamReset as StreamReset
from trio_streams.errors import StreamsError as StreamsError
from trio_streams.errors import StreamStopped as StreamStopped
from trio_streams.peer import RpcPeer as RpcPeer
from trio_streams.procedures import Client as Client
from trio_streams.procedures import Router as Router
from trio_streams.service.broadcast import Broadcast as Broadcast
from trio_streams.service.context import Context as Context
from trio_streams.service.drain import Drain as Drain
from trio_streams.service.interceptor import Interceptor as Interceptor
from trio_streams.service.interceptor import Invocation as Invocation
from trio_streams.service.server_config import ServerConfig as ServerConfig
from trio_streams.service.sse import SseConfig as SseConfig
from trio_streams.streams import ByteStream as ByteStream
from trio_streams.streams import LocalStream as LocalStream
from trio_streams.streams import ReceiveStream as ReceiveStream
from trio_streams.streams import SendStream as SendStream
from trio_streams.streams import Stream as Stream
from trio_streams.streams import StreamChunk as StreamChunk
from trio_streams.streams import StreamStatistics as StreamStatistics
from trio_streams.streams import open_stream as open_stream
from trio_streams.streams.wire import WireStream as WireStream
from trio_streams.transports.event_source import open_event_source as open_event_source
from trio_streams.urls import asgi_app as asgi_app
from trio_streams.urls import connect as connect
from trio_streams.urls import connect_stream as connect_stream
from trio_streams.urls import open_peer as open_peer
from trio_streams.urls import open_peer_stream as open_peer_stream
from trio_streams.urls import serve as serve
from trio_streams.urls import serve_connection as serve_connection
from trio_streams.urls import serve_peers as serve_peers
from trio_streams.urls import serve_stream as serve_stream
from trio_streams.wire.event_source import EventSourceConfig as EventSourceConfig

__all__ = [
    "Broadcast",
    "ByteStream",
    "Client",
    "Code",
    "CodecError",
    "Connection",
    "ConnectionConfig",
    "ConnectionLost",
    "ConnectionStatistics",
    "Context",
    "Drain",
    "EventSourceConfig",
    "FlowControlError",
    "Interceptor",
    "Invocation",
    "LocalProtocolError",
    "LocalStream",
    "ProtocolError",
    "ReceiveStream",
    "RemoteProtocolError",
    "Router",
    "RpcError",
    "RpcPeer",
    "SendStream",
    "ServerConfig",
    "SseConfig",
    "Status",
    "Stream",
    "StreamChunk",
    "StreamError",
    "StreamLimits",
    "StreamReset",
    "StreamStatistics",
    "StreamStopped",
    "StreamsError",
    "WireStream",
    "asgi_app",
    "connect",
    "connect_stream",
    "open_event_source",
    "open_peer",
    "open_peer_stream",
    "open_stream",
    "serve",
    "serve_connection",
    "serve_peers",
    "serve_stream",
]
