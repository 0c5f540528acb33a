"""aioquic's own asyncio client and server, in our words: `H3Connection(enable_webtransport=True)`, draft 02.

What the library leaves to its users is here: capsules, codes of resets, and the replies on streams of two directions that
we have opened, which `H3Connection` must not see, since it takes the first byte of a reply for a frame's type.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from aioquic._buffer import Buffer
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve as serve_quic
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, H3Event, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration

from tests.interop.webtransport.asyncio_face import Foreign, Queue, QueuedSession, say_serving
from tests.interop.webtransport.asyncio_face import run as run
from tests.interop.webtransport.face import Place, Session, SessionOver, WasReset, WasStopped, payload_bytes

CLOSE_CAPSULE: Final = 0x2843
FIRST_CODE: Final = 0x52E4_A40F_A8DB
SESSION_GONE: Final = 0x170D_7B68
WINDOW_BYTES: Final = 16 * 1_048_576
STREAMS: Final = 20_000
"""Of each kind at once; the library's 128 are a constant that nobody can configure."""
UNSENT_BYTES: Final = 1_048_576
"""Writers wait above this. The library has no bound and no event, so they look again with each packet that arrives."""


def to_wire(code: int) -> int:
    """The error code of HTTP/3 for an application's."""
    return FIRST_CODE + code + code // 0x1E


def from_wire(code: int) -> int | None:
    """And back; None for a code that is no application's."""
    shifted = code - FIRST_CODE
    if not 0 <= shifted <= to_wire(0xFFFF_FFFF) - FIRST_CODE or (code - 0x21) % 0x1F == 0:
        return None
    return shifted - shifted // 0x1F


class PeerStream:
    """One stream."""

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.stream_id = stream_id
        self.received: Queue[bytes | WasReset] = Queue()
        self.stopped: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._connection = connection

    async def read(self) -> bytes:
        try:
            item = await self.received.get()
        except SessionOver:
            return b""
        if isinstance(item, WasReset):
            raise item
        return item

    async def write(self, data: bytes) -> None:
        if self.stopped.done():
            raise WasStopped(self.stopped.result())
        self._connection.send(self.stream_id, data)
        await self._connection.wait_sendable(self.stream_id)

    async def end(self) -> None:
        if self.stopped.done():
            raise WasStopped(self.stopped.result())
        self._connection.send(self.stream_id, b"", end=True)

    async def reset(self, code: int) -> None:
        self._connection.transmit()  # with the data that waits the stream's header would be dropped
        self._connection.quic.reset_stream(self.stream_id, to_wire(code))
        self._connection.send_soon()

    async def stop(self, code: int) -> None:
        self._connection.quic.stop_stream(self.stream_id, to_wire(code))
        self._connection.send_soon()

    async def wait_stopped(self) -> int | None:
        return await asyncio.shield(self.stopped)


class PeerSession(QueuedSession):
    """One session on a connection."""

    def __init__(self, connection: Connection, session_id: int) -> None:
        super().__init__()
        self.protocol: str | None = None
        self.answered: asyncio.Future[dict[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._session_id = session_id
        self._capsules = b""
        self._is_closer = False

    async def open_bidirectional(self) -> PeerStream:
        return self._open(is_unidirectional=False)

    async def open_unidirectional(self) -> PeerStream:
        return self._open(is_unidirectional=True)

    def _open(self, *, is_unidirectional: bool) -> PeerStream:
        connection = self._connection
        stream_id = connection.http.create_webtransport_stream(self._session_id, is_unidirectional)
        stream = connection.streams[stream_id] = PeerStream(connection, stream_id)
        connection.send_soon()
        return stream

    async def send_datagram(self, data: bytes) -> None:
        self._connection.http.send_datagram(self._session_id, data)
        self._connection.send_soon()

    async def close(self, code: int, reason: str) -> None:
        payload = code.to_bytes(4) + reason.encode()
        capsule = encode_uint_var(CLOSE_CAPSULE) + encode_uint_var(len(payload)) + payload
        self._is_closer = True
        self._connection.http.send_data(self._session_id, capsule, end_stream=True)
        self._connection.transmit()
        self.over(code, reason)

    def receive_capsules(self, data: bytes, *, is_ended: bool) -> None:
        """Look for a CLOSE in what the CONNECT stream carries, and pass over the rest."""
        self._capsules += data
        buffer = Buffer(data=self._capsules)
        while not buffer.eof():
            start = buffer.tell()
            try:
                kind, size = buffer.pull_uint_var(), buffer.pull_uint_var()
                value = buffer.pull_bytes(size)
            except ValueError:
                self._capsules = self._capsules[start:]
                break
            if kind == CLOSE_CAPSULE:
                self.over(int.from_bytes(value[:4]), value[4:].decode())
        else:
            self._capsules = b""
        if is_ended:
            if not self._is_closer:
                self._connection.http.send_data(self._session_id, b"", end_stream=True)
            self.over(0, "")


class Connection(QuicConnectionProtocol):
    """Both sides of a connection."""

    place: Place | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quic = self._quic
        self.streams: dict[int, PeerStream] = {}
        self.sessions: dict[int, PeerSession] = {}
        self.ready = asyncio.Event()
        self._progress: list[asyncio.Future[None]] = []
        self._http: H3Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        for limit in (self.quic._local_max_streams_bidi, self.quic._local_max_streams_uni):
            limit.value = limit.sent = STREAMS

    @property
    def http(self) -> H3Connection:
        assert self._http is not None
        return self._http

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.quic.send_stream_data(stream_id, data, end)
        self.send_soon()

    def send_soon(self) -> None:
        """Send in this turn of the loop what is written in it, as the library's own streams do."""
        self._transmit_soon()

    async def wait_sendable(self, stream_id: int) -> None:
        """Wait until less than `UNSENT_BYTES` of a stream wait."""
        stream = self.quic._streams.get(stream_id)
        while stream is not None and not stream.is_finished and len(stream.sender._buffer) > UNSENT_BYTES:
            waiter = asyncio.get_running_loop().create_future()
            self._progress.append(waiter)
            await waiter

    def datagram_received(self, data: bytes | str, addr: Foreign) -> None:
        super().datagram_received(data, addr)
        waiting, self._progress = self._progress, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Divide what happened among streams, the sessions and HTTP/3."""
        if isinstance(event, events.ProtocolNegotiated):
            self._http = H3Connection(self.quic, enable_webtransport=True)
        stream = self.streams.get(getattr(event, "stream_id", -1))
        if isinstance(event, events.StreamDataReceived) and stream is not None and self._is_ours(event.stream_id):
            self._feed(stream, event.data, is_ended=event.end_stream)
            return
        if isinstance(event, events.StreamReset):
            self._reset(event)
        elif isinstance(event, events.StopSendingReceived) and stream is not None and not stream.stopped.done():
            stream.stopped.set_result(from_wire(event.error_code))
        elif isinstance(event, events.ConnectionTerminated):
            self._end()
        if self._http is not None:
            for happened in self._http.handle_event(event):
                self._handle(happened)
            if self._http.received_settings is not None:
                self.ready.set()

    def _is_ours(self, stream_id: int) -> bool:
        return bool(stream_id & 1) != self.quic.configuration.is_client

    @staticmethod
    def _feed(stream: PeerStream, data: bytes, *, is_ended: bool) -> None:
        if data:
            stream.received.put(data)
        if is_ended:
            stream.received.end()

    def _reset(self, event: events.StreamReset) -> None:
        if (stream := self.streams.get(event.stream_id)) is not None:
            stream.received.put(WasReset(from_wire(event.error_code)))
        elif (session := self.sessions.get(event.stream_id)) is not None:
            session.over(0, "")

    def _end(self) -> None:
        for stream in self.streams.values():
            stream.received.end()
        for session in self.sessions.values():
            session.over(0, "")
            if not session.answered.done():
                session.answered.set_result({})
            session.cancel_tasks()
        self.ready.set()

    def _handle(self, event: H3Event) -> None:
        if isinstance(event, WebTransportStreamDataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is None:
                if (session := self.sessions.get(event.session_id)) is None:
                    return
                stream = self.streams[event.stream_id] = PeerStream(self, event.stream_id)
                (session.unidirectional if event.stream_id & 2 else session.bidirectional).put(stream)
            self._feed(stream, event.data, is_ended=event.stream_ended)
        elif isinstance(event, DatagramReceived):
            if (session := self.sessions.get(event.stream_id)) is not None:
                session.datagrams.put(event.data)
        elif isinstance(event, DataReceived):
            if (session := self.sessions.get(event.stream_id)) is not None:
                session.receive_capsules(event.data, is_ended=event.stream_ended)
        elif isinstance(event, HeadersReceived):
            self._receive_head(event.stream_id, dict(event.headers))

    def _receive_head(self, stream_id: int, headers: dict[bytes, bytes]) -> None:
        if self.quic.configuration.is_client:
            session = self.sessions[stream_id]
            if not session.answered.done():
                session.answered.set_result(headers)
            return
        place = self.place
        assert place is not None
        path, origin = headers.get(b":path", b"").decode(), headers.get(b"origin", b"").decode()
        status = 404 if path not in place.paths else 403
        if status == 404 or (place.origins and origin and origin not in place.origins):
            self.http.send_headers(stream_id, [(b":status", str(status).encode())], end_stream=True)
            return
        session = self.sessions[stream_id] = PeerSession(self, stream_id)
        offered = headers.get(b"wt-available-protocols", b"").decode().replace('"', "").split(",")
        session.protocol = place.choose([name.strip() for name in offered])
        answer = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
        if session.protocol is not None:
            answer.append((b"wt-protocol", f'"{session.protocol}"'.encode()))
        self.http.send_headers(stream_id, answer)
        task = asyncio.create_task(self._run(place, path, session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _run(place: Place, path: str, session: PeerSession) -> None:
        try:
            await place.handler(path, session)
        finally:
            session.cancel_tasks()
        if not session.closed.done():
            await session.close(0, "")


def _configuration(*, is_client: bool, idle_timeout: float = 60.0) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        idle_timeout=idle_timeout,
        alpn_protocols=H3_ALPN,
        max_datagram_frame_size=65_536,
        max_data=WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES // 2,
        max_datagram_size=payload_bytes(1_200),
    )


async def serve(place: Place) -> None:
    configuration = _configuration(is_client=False, idle_timeout=place.idle_timeout)
    configuration.load_cert_chain(place.certificate, place.key)
    kind = type("Serving", (Connection,), {"place": place})
    server: Any = await serve_quic("127.0.0.1", 0, configuration=configuration, create_protocol=kind)
    await say_serving(server._transport.get_extra_info("sockname")[1], place.ended)
    server.close()


async def use(
    url: str,
    visit: Callable[[Session], Awaitable[None]],
    *,
    protocols: tuple[str, ...] = (),
    origin: str | None = None,
) -> None:
    parts = urlsplit(url)
    configuration = _configuration(is_client=True)
    configuration.verify_mode = ssl.CERT_NONE
    async with connect(
        parts.hostname or "", parts.port or 443, configuration=configuration, create_protocol=Connection
    ) as connection:
        assert isinstance(connection, Connection)
        await connection.ready.wait()
        stream_id = connection.quic.get_next_available_stream_id()
        session = connection.sessions[stream_id] = PeerSession(connection, stream_id)
        connection.http.send_headers(stream_id, _request(parts.netloc, parts.path, protocols, origin))
        connection.transmit()
        answer = await session.answered
        if (status := int(answer.get(b":status", b"0"))) // 100 != 2:
            raise SessionOver(status)
        session.protocol = answer.get(b"wt-protocol", b"").strip(b'"').decode() or None
        try:
            await visit(session)
            if not session.closed.done():
                await session.close(0, "")
        finally:
            session.cancel_tasks()


def _request(authority: str, path: str, protocols: tuple[str, ...], origin: str | None) -> list[tuple[bytes, bytes]]:
    headers = [
        (b":method", b"CONNECT"),
        (b":scheme", b"https"),
        (b":authority", authority.encode()),
        (b":path", path.encode()),
        (b":protocol", b"webtransport"),
        (b"sec-webtransport-http3-draft02", b"1"),
    ]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if protocols:
        headers.append((b"wt-available-protocols", ", ".join(f'"{name}"' for name in protocols).encode()))
    return headers
