"""A client of WebTransport over stock aioquic that does what it is told, be it right or wrong: a visitor by hand.

It is driven by Trio, so that a test can be several visitors at once, and nothing of ours is between it and the wire.
"""

from __future__ import annotations

import math
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DatagramReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

__all__ = ["BIDIRECTIONAL", "UNIDIRECTIONAL", "QuicVisitor", "open_visitor", "varints"]

BIDIRECTIONAL: Final = 0x41
UNIDIRECTIONAL: Final = 0x54
"""What streams of sessions begin with."""
BATCH: Final = 64


def varints(*values: int) -> bytes:
    """Numbers as the wire has them."""
    return b"".join(encode_uint_var(value) for value in values)


class QuicVisitor:
    """One connection, and what came on it.

    Attributes:
      quic, http: aioquic's.
      session_id: of the session that was opened at the beginning.
      received: bytes of each stream of a session, without its header.
      ended: streams whose end came.
      resets, stops: codes by stream, as they are on the wire.
      datagrams: of the session.
      statuses: of answers, by stream.
      terminated: how the connection was closed, if it was.
    """

    def __init__(self, socket: trio.socket.SocketType, quic: QuicConnection) -> None:
        self.quic = quic
        self.http = H3Connection(quic, enable_webtransport=True)
        self.session_id = 0
        self.received: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.datagrams: list[bytes] = []
        self.statuses: dict[int, int] = {}
        self.terminated: events.ConnectionTerminated | None = None
        self.is_silent = False
        self._own: set[int] = set()
        self._socket = socket
        self._changed = trio.lowlevel.ParkingLot()
        self._kicked = trio.Event()

    # -- what it does --------------------------------------------------------------------------------------------

    def open_session(self, path: str, authority: str = "localhost") -> int:
        """Ask for a session; its id."""
        stream_id = self.quic.get_next_available_stream_id()
        self.http.send_headers(
            stream_id,
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", authority.encode()),
                (b":path", path.encode()),
                (b":protocol", b"webtransport"),
                (b"sec-webtransport-http3-draft02", b"1"),
            ],
        )
        self.kick()
        return stream_id

    def open_stream(
        self, data: bytes = b"", *, session_id: int | None = None, unidirectional: bool = False, end: bool = False
    ) -> int:
        """Open a stream of a session, which need not exist."""
        stream_id = self.quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self._own.add(stream_id)
        head = varints(UNIDIRECTIONAL if unidirectional else BIDIRECTIONAL, session_id or self.session_id)
        self.quic.send_stream_data(stream_id, head + data, end)
        self.kick()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.quic.send_stream_data(stream_id, data, end)
        self.kick()

    def send_capsule_bytes(self, data: bytes) -> None:
        """Send bytes in a DATA frame of the session's CONNECT stream."""
        self.http.send_data(self.session_id, data, end_stream=False)
        self.kick()

    def send_datagram(self, data: bytes) -> None:
        self.http.send_datagram(self.session_id, data)
        self.kick()

    def kick(self) -> None:
        self._kicked.set()

    def unsent_bytes(self, stream_id: int) -> int:
        """What the peer has given no credit for yet, or has not acknowledged."""
        return len(self.quic._streams[stream_id].sender._buffer) if stream_id in self.quic._streams else 0

    def starve_peer(self) -> None:
        """Grant no more credit from now on."""
        stock: Any = self.quic
        stock._write_connection_limits = lambda *_, **__: None
        stock._write_stream_limits = lambda *_, **__: None

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that packets bring."""
        while not condition():
            assert self.terminated is None, self.terminated
            await self._changed.park()

    async def wait_terminated(self) -> events.ConnectionTerminated:
        """Wait for the end of the connection."""
        while self.terminated is None:
            await self._changed.park()
        return self.terminated

    async def echo(self, data: bytes) -> None:
        """Be an honest visitor: bytes come back on a stream."""
        stream_id = self.open_stream(data, end=True)
        await self.wait_until(lambda: stream_id in self.ended)
        assert bytes(self.received.pop(stream_id)) == data

    # -- what drives it ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Receive, keep timers, and send, until the connection is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            await self._send()
            nursery.cancel_scope.cancel()

    async def _receive(self) -> None:
        while True:
            try:
                data, address = await self._socket.recvfrom(65_536)
            except ConnectionError:
                continue
            if self.is_silent:
                continue
            self.quic.receive_datagram(data, address, trio.current_time())
            self.kick()

    async def _send(self) -> None:
        while self.terminated is None:
            self._kicked = trio.Event()  # who kicks while we send is not forgotten
            self._take_events()
            now = trio.current_time()
            for data, address in [] if self.is_silent else self.quic.datagrams_to_send(now):
                try:
                    await self._socket.sendto(data, address)
                except OSError:
                    pass
            deadline = self.quic.get_timer()
            with trio.move_on_at(math.inf if deadline is None or self.is_silent else deadline) as timer:
                await self._kicked.wait()
            if timer.cancelled_caught:
                self.quic.handle_timer(trio.current_time())
        self._changed.unpark_all()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self._take(event)
        self._changed.unpark_all()

    def _take(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self.terminated = event
        elif isinstance(event, events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stops[event.stream_id] = event.error_code
        elif isinstance(event, events.StreamDataReceived) and event.stream_id in self._own:
            self._note(event.stream_id, event.data, is_ended=event.end_stream)
            return
        for happened in self.http.handle_event(event):
            if isinstance(happened, WebTransportStreamDataReceived):
                self._note(happened.stream_id, happened.data, is_ended=happened.stream_ended)
            elif isinstance(happened, DatagramReceived):
                self.datagrams.append(happened.data)
            elif isinstance(happened, HeadersReceived):
                self.statuses[happened.stream_id] = int(dict(happened.headers)[b":status"])

    def _note(self, stream_id: int, data: bytes, *, is_ended: bool) -> None:
        self.received[stream_id] += data
        if is_ended:
            self.ended.add(stream_id)


def _configuration(limits: dict[str, Any]) -> QuicConfiguration:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, max_datagram_frame_size=65_536, server_name="localhost", **limits
    )
    configuration.verify_mode = ssl.CERT_NONE
    return configuration


@asynccontextmanager
async def open_visitor(port: int, path: str | None = "/echo", **limits: int) -> AsyncGenerator[QuicVisitor]:
    """Visit a server on loopback; at the end the connection is closed, if it is not yet.

    Args:
      port: of the server.
      path: of the session that is opened first; None for none.
      limits: of the connection, for `QuicConfiguration`: windows.
    """
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        quic = QuicConnection(configuration=_configuration(limits))
        quic.connect(("127.0.0.1", port), trio.current_time())
        visitor = QuicVisitor(socket, quic)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.run)
            await visitor.wait_until(lambda: visitor.http.received_settings is not None)
            if path is not None:
                visitor.session_id = visitor.open_session(path)
                await visitor.wait_until(lambda: visitor.session_id in visitor.statuses)
                assert visitor.statuses[visitor.session_id] == 200
            yield visitor
            nursery.cancel_scope.cancel()
        quic.close()
        for data, address in quic.datagrams_to_send(trio.current_time()):
            await socket.sendto(data, address)
