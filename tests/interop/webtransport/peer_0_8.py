"""pywebtransport 0.8.1 in our words: draft 13, with flow control of sessions. For Python 3.11.

It keeps the codes of resets and stops to itself, and can refuse what it receives only by giving up both halves.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.interop.webtransport.asyncio_face import Foreign, QueuedSession, free_port, say_serving
from tests.interop.webtransport.asyncio_face import run as run
from tests.interop.webtransport.face import Cannot, Place, Session, SessionOver

WINDOW_BYTES: Final = 16 * 1_048_576
STREAMS: Final = 2_000

library: Any = importlib.import_module("pywebtransport")
config: Any = importlib.import_module("pywebtransport.config")
kinds: Any = importlib.import_module("pywebtransport.types")
logging.getLogger("pywebtransport").setLevel(logging.CRITICAL)


class PeerStream:
    """One stream."""

    def __init__(self, stream: Foreign) -> None:
        self.stream = stream

    async def read(self) -> bytes:
        data: bytes = await self.stream.read(size=65_536)
        return data

    async def write(self, data: bytes) -> None:
        await self.stream.write(data=data)

    async def end(self) -> None:
        await self.stream.close()

    async def reset(self, code: int) -> None:
        await self.stream.abort(code=code)

    async def stop(self, code: int) -> None:
        await self.stream.abort(code=code)

    async def wait_stopped(self) -> int | None:
        raise Cannot("pywebtransport 0.8.1 does not tell of STOP_SENDING")


class PeerSession(QueuedSession):
    """One session."""

    protocol = None

    def __init__(self, session: Foreign) -> None:
        super().__init__()
        self.session = session
        self._datagrams: Any = None

    async def begin(self) -> None:
        """Take what comes from now on."""
        self.session.on(event_type=kinds.EventType.SESSION_CLOSED, handler=self._end)
        self._datagrams = await self.session.create_datagram_transport()
        self.start_soon(self._take_streams)
        self.start_soon(self._take_datagrams)

    def _end(self, event: Foreign) -> None:
        self.over(event.data.get("code", 0), event.data.get("reason", ""))

    async def _take_streams(self) -> None:
        async for stream in self.session.incoming_streams():
            has_both = stream.direction == kinds.StreamDirection.BIDIRECTIONAL
            (self.bidirectional if has_both else self.unidirectional).put(PeerStream(stream))

    async def _take_datagrams(self) -> None:
        while not self.closed.done():
            try:
                self.datagrams.put(await self._datagrams.receive())
            except Exception:  # noqa: BLE001 - it has one of its own for each way to end, and timeouts
                if self._datagrams.is_closed:
                    return

    async def open_bidirectional(self) -> PeerStream:
        return PeerStream(await self.session.create_bidirectional_stream())

    async def open_unidirectional(self) -> PeerStream:
        return PeerStream(await self.session.create_unidirectional_stream())

    async def send_datagram(self, data: bytes) -> None:
        await self._datagrams.send(data=data)

    async def close(self, code: int, reason: str) -> None:
        await self.session.close(code=code, reason=reason, close_connection=False)
        # It closes CONNECT and the connection in one packet else, before the peer has read the capsule.
        await asyncio.sleep(0.1)


async def serve(place: Place) -> None:
    settings = config.ServerConfig(
        certfile=place.certificate,
        keyfile=place.key,
        verify_mode=ssl.CERT_NONE,
        initial_max_data=WINDOW_BYTES,
        initial_max_streams_bidi=STREAMS,
        initial_max_streams_uni=STREAMS,
        max_streams_per_connection=STREAMS,
        max_incoming_streams=STREAMS,
    )
    app = library.ServerApp(config=settings)

    async def handle(session: Foreign) -> None:
        peer = PeerSession(session)
        await peer.begin()
        try:
            await place.handler(session.path, peer)
        finally:
            peer.cancel_tasks()

    async def has_right_origin(*, session: Foreign) -> bool:
        origin = dict(session.headers).get("origin")
        return not (place.origins and origin and origin not in place.origins)

    app.add_middleware(middleware=has_right_origin)
    for path in place.paths:
        app.route(path=path)(handle)
    async with app:
        await app.server.listen(host="127.0.0.1", port=free_port())
        await say_serving(app.server.local_address[1], place.ended)


async def use(
    url: str,
    visit: Callable[[Session], Awaitable[None]],
    *,
    protocols: tuple[str, ...] = (),
    origin: str | None = None,
) -> None:
    settings = config.ClientConfig(
        verify_mode=ssl.CERT_NONE,
        initial_max_data=WINDOW_BYTES,
        initial_max_streams_bidi=STREAMS,
        initial_max_streams_uni=STREAMS,
        max_streams=STREAMS,
        max_incoming_streams=STREAMS,
    )
    async with library.WebTransportClient(config=settings) as client:
        try:
            headers = {} if origin is None else {"origin": origin}
            session = await client.connect(url=url, headers=headers, timeout=10)
        except Exception as exc:  # one of its own
            raise SessionOver from exc
        peer = PeerSession(session)
        await session.initialize()
        await session.ready()
        await peer.begin()
        try:
            await visit(peer)
            if not peer.closed.done():
                await peer.close(0, "")
        finally:
            peer.cancel_tasks()
