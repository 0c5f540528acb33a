"""A session that sends back whatever comes: what clients are tried with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from trio_streams.errors import ConnectionLost, LocalProtocolError, StreamReset, StreamStopped
from trio_streams.webtransport.copying import copy_stream_data, echo_stream
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.session import WebTransportSession

__all__ = ["echo_session"]


async def echo_session(session: WebTransportSession) -> None:
    """Serve a session with echoes until its peer closes it; a handler for `serve`.

    A bidirectional stream comes back on itself, a unidirectional one on a new one of ours, and a datagram as a datagram,
    unless there is no room for it: then it is lost, as datagrams are.

    Args:
      session: whose streams and datagrams nobody else takes.

    Cancellation: as leaving the session's block: streams under way are reset.
    """
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_echo_datagrams, session)
            async for stream in session.incoming_streams():
                if isinstance(stream, WebTransportStream):
                    nursery.start_soon(_echo, stream)
                else:
                    nursery.start_soon(_echo_on_another, session, stream)
            nursery.cancel_scope.cancel()
    except* ConnectionLost:  # any number of the tasks may learn it at once
        pass


async def _echo(stream: WebTransportStream) -> None:
    async with stream:
        await echo_stream(stream=stream)


async def _echo_on_another(session: WebTransportSession, source: WebTransportReceiveStream) -> None:
    async with source, await session.create_unidirectional_stream() as destination:
        with contextlib.suppress(StreamReset, StreamStopped):
            await copy_stream_data(source=source, destination=destination, chunk_size=65_536)


async def _echo_datagrams(session: WebTransportSession) -> None:
    is_lost = contextlib.suppress(LocalProtocolError)  # made once, and entered for each
    async for data in session.datagrams():
        with is_lost:
            session.send_datagram(data)
