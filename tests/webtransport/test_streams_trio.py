"""Trio's own checkers of byte streams, on streams of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from trio.testing import MockClock

from tests.webtransport.link_pair import open_pair, session_pair
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)


class Makers:
    """What Trio's checkers ask for: a pair of connected streams, open or clogged."""

    def __init__(self, client: WebTransportSession, server: WebTransportSession) -> None:
        self.client = client
        self.server = server

    async def one_way(self) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
        sending = await self.client.create_unidirectional_stream()
        return sending, await self.server.accept_unidirectional_stream()

    async def one_way_back(self) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
        sending = await self.server.create_unidirectional_stream()
        return sending, await self.client.accept_unidirectional_stream()

    async def clogged_one_way(self) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
        sending, receiving = await self.one_way()
        await clog(sending)
        return sending, receiving

    async def both_ways(self) -> tuple[WebTransportStream, WebTransportStream]:
        ours = await self.client.create_bidirectional_stream()
        return ours, await self.server.accept_bidirectional_stream()

    async def clogged_both_ways(self) -> tuple[WebTransportStream, WebTransportStream]:
        ours, theirs = await self.both_ways()
        await clog(ours)
        await clog(theirs)
        return ours, theirs


async def clog(stream: WebTransportSendStream | WebTransportStream) -> None:
    """Send until nothing more is taken, however long one waits."""
    with trio.move_on_after(10):
        while True:
            await stream.send_all(bytes(100_000))


@asynccontextmanager
async def makers() -> AsyncIterator[Makers]:
    async with open_pair() as pair, session_pair(pair) as (client, server):
        yield Makers(client, server)


async def test_a_unidirectional_stream_is_a_one_way_stream(autojump_clock: MockClock) -> None:
    """Trio's checker finds nothing wrong with a unidirectional stream, empty or clogged."""
    async with makers() as make:
        await trio.testing.check_one_way_stream(make.one_way, make.clogged_one_way)


async def test_a_servers_unidirectional_stream_is_a_one_way_stream(autojump_clock: MockClock) -> None:
    """Trio's checker finds nothing wrong with one that the server opened."""
    async with makers() as make:
        await trio.testing.check_one_way_stream(make.one_way_back, None)


async def test_a_bidirectional_stream_is_a_half_closeable_stream(autojump_clock: MockClock) -> None:
    """Trio's checker finds nothing wrong with a bidirectional stream, empty or clogged."""
    async with makers() as make:
        await trio.testing.check_half_closeable_stream(make.both_ways, make.clogged_both_ways)
