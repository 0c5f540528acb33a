"""WebTransport over HTTP/3: sessions of streams and datagrams between two applications, one of them maybe a page in a browser.

Spec: draft-ietf-webtrans-http3; RFC 9114, 9220, 9297, 9000, 9221.
"""

from __future__ import annotations

try:
    from trio_streams.webtransport.quic_config import QuicLimits as QuicLimits
except ModuleNotFoundError as _exc:
    raise ImportError(
        f"WebTransport needs {str(_exc.name).partition('.')[0]}: pip install trio_streams[quic]"
    ) from _exc

from trio_streams.webtransport.config import WebTransportConfig as WebTransportConfig
from trio_streams.webtransport.connecting import connect as connect
from trio_streams.webtransport.copying import copy_stream_data as copy_stream_data
from trio_streams.webtransport.copying import echo_stream as echo_stream
from trio_streams.webtransport.echoing import echo_session as echo_session
from trio_streams.webtransport.ending import Closer as Closer
from trio_streams.webtransport.ending import SessionClose as SessionClose
from trio_streams.webtransport.errors import HandshakeFailed as HandshakeFailed
from trio_streams.webtransport.errors import SessionClosed as SessionClosed
from trio_streams.webtransport.errors import SessionRefused as SessionRefused
from trio_streams.webtransport.errors import WebTransportStreamReset as WebTransportStreamReset
from trio_streams.webtransport.errors import WebTransportStreamStopped as WebTransportStreamStopped
from trio_streams.webtransport.http3_serving import serve_http3 as serve_http3
from trio_streams.webtransport.manager import StreamManager as StreamManager
from trio_streams.webtransport.over_http3 import OverHttp3 as OverHttp3
from trio_streams.webtransport.pool import StreamPool as StreamPool
from trio_streams.webtransport.protocol.limits import WebTransportLimits as WebTransportLimits
from trio_streams.webtransport.serving import Accept as Accept
from trio_streams.webtransport.serving import Refuse as Refuse
from trio_streams.webtransport.serving import SessionHandler as SessionHandler
from trio_streams.webtransport.serving import WebTransportServer as WebTransportServer
from trio_streams.webtransport.serving import serve as serve
from trio_streams.webtransport.session import SessionStatistics as SessionStatistics
from trio_streams.webtransport.session import WebTransportSession as WebTransportSession
from trio_streams.webtransport.session_request import SessionRequest as SessionRequest
from trio_streams.webtransport.stats import StreamManagerStats as StreamManagerStats
from trio_streams.webtransport.stats import StreamStats as StreamStats
from trio_streams.webtransport.stream_buffer import StreamBuffer as StreamBuffer
from trio_streams.webtransport.streams import Data as Data
from trio_streams.webtransport.streams import StreamId as StreamId
from trio_streams.webtransport.streams import StreamType as StreamType
from trio_streams.webtransport.streams import WebTransportReceiveStream as WebTransportReceiveStream
from trio_streams.webtransport.streams import WebTransportSendStream as WebTransportSendStream
from trio_streams.webtransport.streams import WebTransportStream as WebTransportStream
