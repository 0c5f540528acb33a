"""Two ends of a stream between two sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from tests.webtransport.link_pair import LinkPair, open_pair, session_pair
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream

__all__ = ["Talk", "fill", "talk"]


@attrs.frozen
class Talk:
    """Two sessions, and the two ends of a stream in both directions."""

    pair: LinkPair
    client: WebTransportSession
    server: WebTransportSession
    here: WebTransportStream
    there: WebTransportStream

    async def one_way(self) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
        sending = await self.client.create_unidirectional_stream()
        return sending, await self.server.accept_unidirectional_stream()


@asynccontextmanager
async def talk() -> AsyncIterator[Talk]:
    async with open_pair() as pair, session_pair(pair) as (client, server):
        here = await client.create_bidirectional_stream()
        yield Talk(pair, client, server, here, await server.accept_bidirectional_stream())


async def fill(stream: WebTransportStream | WebTransportSendStream) -> int:
    """Write until nothing more is taken; how many bytes were."""
    with trio.move_on_after(10):
        while True:
            await stream.write(bytes(10_000))
    return stream.bytes_sent
