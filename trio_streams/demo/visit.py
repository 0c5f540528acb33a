"""What the demo does in a page's session of WebTransport: echoes, a stream of ticks, and as many bytes as the page will read.

The first byte of a stream that the page opens says what it is for. The server opens one stream by itself: on it, it tells
what it has done, so that a page which reads a flood no more still sees its writer stand still.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from trio_streams.codecs import Codec, json_codec
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, LocalProtocolError, StreamReset, StreamStopped
from trio_streams.webtransport import (
    Closer,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
    echo_stream,
)

__all__ = ["ECHO", "FLOOD", "MAX_STREAMS", "Tick", "serve_visit"]

ECHO: Final = b"E"
"""What comes back is what was sent."""
FLOOD: Final = b"F"
"""Zeros come, until the page stops them."""
MAX_STREAMS: Final = 256
"""That a page may have open at once."""

_TICK: Final = 0.5
_CHUNK: Final = bytes(65_536)
_PAUSE: Final = 1 / 128
"""Seconds between two chunks of a flood: at most 8 MiB/s, for it is to be looked at, and not to heat the room."""
_OVER: Final = (StreamReset, StreamStopped, ConnectionLost, trio.ClosedResourceError)


@attrs.frozen(kw_only=True)
class Tick:
    """What the server tells of a session, as a line of JSON.

    Attributes:
      number: of the tick, from 1.
      streams_opened: by the server.
      streams_accepted: that the page opened.
      datagrams_received: that arrived, and were sent back.
      flood_bytes: written to the floods: what the page did not read is in its window, on the way, or in a buffer here.
      is_flooding: whether there is a flood now.
    """

    number: int
    streams_opened: int
    streams_accepted: int
    datagrams_received: int
    flood_bytes: int
    is_flooding: bool


_json: Final[Codec[Tick]] = json_codec(Tick)


async def serve_visit(nursery: trio.Nursery, note: Callable[[str], None], session: WebTransportSession) -> None:
    """Serve a page's session until the page closes it.

    Args:
      nursery: of the server: in it, somebody waits to tell how the session ended.
      note: told, for the log, who comes and goes.
      session: whose streams and datagrams nobody else takes.

    Cancellation: streams under way are reset.
    """
    note(f"webtransport: {session.peer} came")
    nursery.start_soon(_note_end, session, note)
    visit = _Visit(session)
    with suppress(*_OVER):
        session.start_soon(visit.tick)
        session.start_soon(visit.echo_datagrams)
        async for stream in session.incoming_streams():
            session.start_soon(visit.serve_stream, stream)


async def _note_end(session: WebTransportSession, note: Callable[[str], None]) -> None:
    """A session's end cancels its handler, which then can't wait to hear why."""
    close = await session.wait_closed()
    if close.closer is Closer.LOST:
        note(f"webtransport: {session.peer} is lost")
    else:
        note(f"webtransport: {session.peer} left with code {close.code}: {close.reason[:200]!r}")


class _Visit:
    """One session, and what was done in it."""

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._flood: WebTransportStream | None = None
        self._flooded_bytes = 0
        """By the floods that are over."""

    async def tick(self) -> None:
        """Tell what was done, twice a second; one who does not read it has us wait."""
        with suppress(*_OVER):
            async with await self._session.create_unidirectional_stream() as stream:
                for number in itertools.count(1):
                    await self._send_tick(stream, number)
                    await trio.sleep(_TICK)

    async def _send_tick(self, stream: WebTransportSendStream, number: int) -> None:
        statistics = self._session.statistics()
        flood = self._flood
        tick = Tick(
            number=number,
            streams_opened=statistics.streams_opened,
            streams_accepted=statistics.streams_accepted,
            datagrams_received=statistics.datagrams_received,
            flood_bytes=self._flooded_bytes + (0 if flood is None else flood.bytes_sent),
            is_flooding=flood is not None,
        )
        await stream.send_all(_json.encode(tick) + b"\n")

    async def echo_datagrams(self) -> None:
        """Send back each datagram; what finds no room is lost, as datagrams are."""
        with suppress(*_OVER):
            async for data in self._session.datagrams():
                with suppress(LocalProtocolError):
                    self._session.send_datagram(data)

    async def serve_stream(self, stream: WebTransportStream | WebTransportReceiveStream) -> None:
        """Do what a stream's first byte asks for; a stream on which we can't answer is refused."""
        with suppress(*_OVER):
            async with stream:
                if not isinstance(stream, WebTransportStream):
                    return
                kind = await stream.receive_some(1)
                if kind == ECHO:
                    await echo_stream(stream=stream)
                elif kind == FLOOD and self._flood is None:
                    await self._write(stream)
                else:
                    stream.abort(code=Code.INVALID_ARGUMENT if self._flood is None else Code.RESOURCE_EXHAUSTED)

    async def _write(self, stream: WebTransportStream) -> None:
        self._flood = stream
        try:
            while True:
                await stream.send_all(_CHUNK)
                await trio.sleep(_PAUSE)
        finally:
            self._flood = None
            self._flooded_bytes += stream.bytes_sent
