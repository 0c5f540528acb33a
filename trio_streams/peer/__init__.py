"""Peer RPC: two equals call each other and send each other streams, over one connection."""

from __future__ import annotations

from trio_streams.config import ReconnectOptions as ReconnectOptions
from trio_streams.config import ResumeOptions as ResumeOptions
from trio_streams.peer.batch import BatchOptions as BatchOptions
from trio_streams.peer.calling import Caller as Caller
from trio_streams.peer.calling import current_caller as current_caller
from trio_streams.peer.manager import StreamManager as StreamManager
from trio_streams.peer.methods import Methods as Methods
from trio_streams.peer.pair import open_peer_pair as open_peer_pair
from trio_streams.peer.peer import RpcPeer as RpcPeer
from trio_streams.peer.rate_limit import RateLimit as RateLimit
from trio_streams.peer.receive_stream import PeerReceiveStream as PeerReceiveStream
from trio_streams.peer.relay import RelayOptions as RelayOptions
from trio_streams.peer.response import Response as Response
from trio_streams.peer.statistics import ManagerStatistics as ManagerStatistics
from trio_streams.peer.stream_options import StreamOptions as StreamOptions
from trio_streams.wire.signal_relay import RelayLimits as RelayLimits

__all__ = [
    "BatchOptions",
    "Caller",
    "ManagerStatistics",
    "Methods",
    "PeerReceiveStream",
    "RateLimit",
    "ReconnectOptions",
    "RelayLimits",
    "RelayOptions",
    "Response",
    "ResumeOptions",
    "RpcPeer",
    "StreamManager",
    "StreamOptions",
    "current_caller",
    "open_peer_pair",
]
