"""pywebtransport 0.21.1 in our words: draft 15, over quinn in Rust. For Python 3.12 and later."""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from tests.interop.webtransport.asyncio_face import Foreign, QueuedSession, free_port, say_serving
from tests.interop.webtransport.asyncio_face import run as run
from tests.interop.webtransport.face import Place, Session, SessionOver, WasReset, WasStopped

WINDOW_BYTES: Final = 16 * 1_048_576
STREAMS: Final = 2_000

client_side: Any = importlib.import_module("pywebtransport.client")
server_side: Any = importlib.import_module("pywebtransport.server")
config: Any = importlib.import_module("pywebtransport.config")
kinds: Any = importlib.import_module("pywebtransport.types")
errors: Any = importlib.import_module("pywebtransport.exceptions")
logging.getLogger("pywebtransport").setLevel(logging.CRITICAL)


class PeerStream:
    """One stream."""

    def __init__(self, stream: Foreign) -> None:
        self.stream = stream
        loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[int | None] = loop.create_future()
        self._reset: list[int | None] = []
        stream.events.on(event_type=kinds.EventType.STREAM_STOP_SENDING_RECEIVED, handler=self._on_stop)
        stream.events.on(event_type=kinds.EventType.STREAM_RESET_RECEIVED, handler=self._on_reset)

    def _on_stop(self, event: Foreign) -> None:
        if not self._stopped.done():
            self._stopped.set_result(event.data.get("error_code"))

    def _on_reset(self, event: Foreign) -> None:
        self._reset.append(event.data.get("error_code"))

    async def read(self) -> bytes:
        try:
            data: bytes = await self.stream.read(max_size=65_536)
        except errors.StreamError as exc:
            raise WasReset(self._reset[0] if self._reset else exc.error_code) from exc
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self.stream.write(data=data)
        except errors.StreamError as exc:
            raise WasStopped(self._stopped.result() if self._stopped.done() else exc.error_code) from exc

    async def end(self) -> None:
        await self.stream.write(data=b"", end_stream=True)

    async def reset(self, code: int) -> None:
        await self.stream.reset(error_code=code)

    async def stop(self, code: int) -> None:
        await self.stream.stop_receiving(error_code=code)

    async def wait_stopped(self) -> int | None:
        return await asyncio.shield(self._stopped)


class PeerSession(QueuedSession):
    """One session."""

    def __init__(self, session: Foreign) -> None:
        super().__init__()
        self.session = session
        self.protocol: str | None = session.wt_protocol
        session.events.on(event_type=kinds.EventType.SESSION_CLOSED, handler=self._end)
        self.start_soon(self._take_bidirectional)
        self.start_soon(self._take_unidirectional)
        self.start_soon(self._take_datagrams)

    def _end(self, event: Foreign) -> None:
        self.over(event.data.get("error_code") or 0, event.data.get("reason") or "")

    async def _take_bidirectional(self) -> None:
        async for stream in self.session.incoming_bidirectional_streams():
            self.bidirectional.put(PeerStream(stream))

    async def _take_unidirectional(self) -> None:
        async for stream in self.session.incoming_unidirectional_streams():
            self.unidirectional.put(PeerStream(stream))

    async def _take_datagrams(self) -> None:
        try:
            while True:
                self.datagrams.put(await self.session.read_datagram())
        except errors.WebTransportError:
            pass

    async def open_bidirectional(self) -> PeerStream:
        return PeerStream(await self.session.create_bidirectional_stream())

    async def open_unidirectional(self) -> PeerStream:
        return PeerStream(await self.session.create_unidirectional_stream())

    async def send_datagram(self, data: bytes) -> None:
        await self.session.send_datagram(data=data)

    async def close(self, code: int, reason: str) -> None:
        await self.session.close(error_code=code, reason=reason)


def _limits() -> dict[str, Any]:
    return {
        "initial_max_data": WINDOW_BYTES,
        "initial_max_streams_bidi": STREAMS,
        "initial_max_streams_uni": STREAMS,
        "max_streams_bidi": STREAMS,
        "max_streams_uni": STREAMS,
    }


def _texts(headers: Foreign) -> dict[str, str]:
    """Headers, which may be pairs and bytes."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class Serving:
    """The connections and sessions of a server, each in a task."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run_server(self, server: Foreign) -> None:
        async for connection in server.incoming_connections():
            self.start(self._run_connection(connection))

    async def _run_connection(self, connection: Foreign) -> None:
        async for session in connection.incoming_sessions():
            self.start(self._run_session(session))

    async def _run_session(self, session: Foreign) -> None:
        place = self._place
        origin = _texts(session.headers).get("origin")
        status = 404 if session.path not in place.paths else 403
        if status == 404 or (place.origins and origin and origin not in place.origins):
            await session.reject(status_code=status)
            return
        protocol = place.choose(session.wt_available_protocols or ())
        await session.accept(wt_protocol=protocol)
        peer = PeerSession(session)
        peer.protocol = protocol
        try:
            await place.handler(session.path, peer)
        finally:
            peer.cancel_tasks()
        await session.close()


async def serve(place: Place) -> None:
    files = {"certfile": place.certificate, "keyfile": place.key}
    where = {"bind_host": "127.0.0.1", "bind_port": free_port()}
    settings = config.ServerConfig(verify_mode=ssl.CERT_NONE, **where, **files, **_limits())
    serving = Serving(place)
    async with server_side.WebTransportServer(config=settings) as server:
        await server.listen()
        serving.start(serving.run_server(server))
        await say_serving(server.local_addresses[0][1], place.ended)


async def use(
    url: str,
    visit: Callable[[Session], Awaitable[None]],
    *,
    protocols: tuple[str, ...] = (),
    origin: str | None = None,
) -> None:
    settings = config.ClientConfig(verify_mode=ssl.CERT_NONE, **_limits())
    async with client_side.WebTransportClient(config=settings) as client:
        assert urlsplit(url).scheme == "https"
        try:
            headers = {} if origin is None else {"origin": origin}
            offered = list(protocols) or None
            session = await client.connect(url=url, headers=headers, timeout=10, wt_available_protocols=offered)
        except errors.WebTransportError as exc:
            raise SessionOver from exc
        peer = PeerSession(session)
        try:
            await visit(peer)
            await session.close()
        finally:
            peer.cancel_tasks()
