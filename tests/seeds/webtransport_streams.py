"""Two sessions in memory, and streams between them, for the tests of the document of WebTransport streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from tests.webtransport.link_pair import open_pair, session_pair
from trio_streams.webtransport import (
    QuicLimits,
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)

Sessions: TypeAlias = tuple[WebTransportSession, WebTransportSession]
Streams: TypeAlias = tuple[WebTransportStream, WebTransportStream]


@asynccontextmanager
async def sessions(config: WebTransportConfig | None = None) -> AsyncIterator[Sessions]:
    """A client's session and its server's."""
    with trio.fail_after(600):
        async with open_pair(config=config) as pair, session_pair(pair) as both:
            yield both


@asynccontextmanager
async def streams(config: WebTransportConfig | None = None) -> AsyncIterator[Streams]:
    """The two ends of a bidirectional stream."""
    async with sessions(config) as (client, server):
        yield await bidirectional(client, server)


async def bidirectional(client: WebTransportSession, server: WebTransportSession) -> Streams:
    ours = await client.create_bidirectional_stream()
    return ours, await server.accept_bidirectional_stream()


async def unidirectional(
    client: WebTransportSession, server: WebTransportSession
) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
    ours = await client.create_unidirectional_stream()
    return ours, await server.accept_unidirectional_stream()


async def peer_of(stream: WebTransportStream, session: WebTransportSession) -> WebTransportStream:
    """The peer's end of a stream, wherever it is in line."""
    while True:
        theirs = await session.accept_bidirectional_stream()
        if theirs.stream_id == stream.stream_id:
            return theirs


def small(window_bytes: int = 1_000, **limits: int) -> WebTransportConfig:
    """Little room, so that a little is much."""
    return WebTransportConfig(
        quic=QuicLimits(
            window_bytes=window_bytes,
            connection_window_bytes=window_bytes * 100,
            max_send_buffer_bytes=window_bytes,
            send_low_mark_bytes=window_bytes // 2,
            **limits,
        )
    )
