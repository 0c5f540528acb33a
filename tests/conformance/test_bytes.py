"""The byte view of a stream on a connection, against Trio's own checkers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.abc import Clock
from trio.testing import check_half_closeable_stream, check_one_way_stream, check_two_way_stream

from tests.conformance.transports import Transport
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.streams import ByteStream
from trio_streams.streams.wire import StopPolicy
from trio_streams.testing.peers import ByteItems, Peers, open_peers

Pair = tuple[ByteStream, ByteStream]
PairMaker = Callable[[], Awaitable[Pair]]
Checker = Callable[[PairMaker, PairMaker | None], Awaitable[None]]


class Views:
    """Makes pairs of byte views, each over a stream of its own on one connection."""

    def __init__(self, peers: Peers, accepted: trio.MemoryReceiveChannel[ByteItems], nursery: trio.Nursery) -> None:
        self._peers = peers
        self._accepted = accepted
        self._nursery = nursery

    async def _hold(self, task_status: trio.TaskStatus[ByteItems]) -> None:
        # A block of its own: the checkers make streams inside nurseries that end before the streams do.
        async with self._peers.client.open_stream("bytes") as stream:
            task_status.started(stream)
            await trio.sleep_forever()

    async def _streams(self) -> tuple[ByteItems, ByteItems]:
        return await self._nursery.start(self._hold), await self._accepted.receive()

    async def pair(self) -> Pair:
        left, right = await self._streams()
        return ByteStream(left, left, max_item_bytes=4_096), ByteStream(right, right, max_item_bytes=4_096)

    async def clogged_pair(self) -> Pair:
        streams = await self._streams()
        for stream in streams:
            with suppress(trio.WouldBlock):
                while True:
                    stream.send_nowait(b"x")
        left, right = streams
        return ByteStream(left, left, max_item_bytes=4_096), ByteStream(right, right, max_item_bytes=4_096)


@asynccontextmanager
async def open_views(transport: Transport) -> AsyncIterator[Views]:
    accept_in, accept_out = trio.open_memory_channel[ByteItems](1)

    async def accept(stream: ByteItems) -> None:
        stream.stop_policy = StopPolicy.ON_ERROR
        await accept_in.send(stream)
        await trio.sleep_forever()

    config = ConnectionConfig(stream=StreamLimits(window_items=8))
    async with open_peers(transport.make, {"bytes": accept}, config=config) as peers, trio.open_nursery() as nursery:
        yield Views(peers, accept_out, nursery)
        await peers.check_alive()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_clogged", [False, True], ids=["free", "clogged"])
@pytest.mark.parametrize(
    "check",
    [check_one_way_stream, check_two_way_stream, check_half_closeable_stream],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
async def test_a_byte_view(check: Checker, is_clogged: bool, transport: Transport, clock: Clock | None) -> None:
    """The byte view of a stream is a byte stream as Trio's own checkers understand it; the connection goes on."""
    async with open_views(transport) as views:
        await check(views.pair, views.clogged_pair if is_clogged else None)
