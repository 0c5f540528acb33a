"""Peers whose connection is gone, or takes nothing more."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.rig import raw_pair
from trio_streams.errors import ConnectionLost, RpcError, StreamStopped
from trio_streams.peer import RpcPeer, open_peer_pair


async def test_after_a_loss_everything_says_so(autojump_clock: MockClock) -> None:
    """Sending and receiving on a lost connection fail at once, also for a peer that is opened over it."""
    async with raw_pair() as (peer, connection, link):
        peer.start_stream([1], "early")
        await wait_all_tasks_blocked()
        link.lose()
        await peer.wait_closed()
        with pytest.raises(ConnectionLost, match="Connection closed"):
            await peer.send_stream([1])
        with pytest.raises(ConnectionLost, match="Connection closed"):
            await peer.receive_stream("x")[1].wait_begun()
        async with RpcPeer(connection) as late:
            await late.wait_closed()
            assert [item async for item in _until_lost(late)] == [1]
            with pytest.raises(ConnectionLost, match="Connection closed"):
                await late.ping()


async def _until_lost(peer: RpcPeer) -> AsyncIterator[object]:
    """What had arrived of a stream that nobody had claimed when the connection broke."""
    stream = peer.receive_stream("early")[1]
    for item in [await stream.receive()]:
        yield item


async def test_a_peer_that_goes_away_takes_no_streams(autojump_clock: MockClock) -> None:
    """To send to a peer that drains is an error that says so; the connection is not closed."""
    async with raw_pair() as (peer, connection, _):
        connection.go_away("draining")
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost, match="takes no new streams: it is going away"):
            await peer.send_stream([1])


async def test_a_stream_beside_everything_else_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong with a stream of `start_stream` is the receiver's to hear, and in the log; the peer goes on."""

    async def fail() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("a bad feed")

    async with open_peer_pair() as (left, right):
        with caplog.at_level(logging.DEBUG, logger="trio_streams"):
            _, stream = right.receive_stream(left.start_stream(fail()))
            assert await stream.receive() == 1
            with pytest.raises(RpcError, match="INTERNAL: internal error"):
                await stream.receive()
            _, refused = right.receive_stream("bytes", int)
            left.start_stream([1], "bytes")
            assert await refused.receive() == 1
            await wait_all_tasks_blocked()
        assert "a bad feed" in caplog.text
        assert [record.levelname for record in caplog.records if "failed" in record.message] == ["ERROR"]


async def test_a_peer_that_abandons_its_half_wants_nothing(autojump_clock: MockClock) -> None:
    """A RESET of the half that carries nothing counts as a refusal."""
    async with raw_pair() as (peer, connection, _), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(StreamStopped, match="CANCELLED: not now"):
                await peer.send_stream(_slow())

        nursery.start_soon(send)
        stream = await connection.accept_stream()
        stream.reset(reason="not now")
        await wait_all_tasks_blocked()


async def _slow() -> AsyncIterator[int]:
    yield 1
    await trio.sleep_forever()


async def test_a_claim_made_while_a_stream_is_refused(autojump_clock: MockClock) -> None:
    """Who waits for the stream to begin hears why it never will; who is in the middle of a batch is closed with it."""
    async with raw_pair() as (peer, connection, _):
        _, stream = peer.receive_stream("x")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(RpcError, match="UNIMPLEMENTED"):
                    await stream.wait_begun()

            nursery.start_soon(wait)
            metadata = {"stream-id": "x", "content-type": "text/html"}
            async with connection.open_stream("peer.stream", metadata=metadata):
                await wait_all_tasks_blocked()


def test_a_loop_that_is_left_when_trio_is_gone() -> None:
    """An iterator that outlives its run is dropped in silence."""
    loops: list[object] = []

    async def main() -> None:
        async with open_peer_pair() as (left, right):
            left.start_stream(range(10), "x")
            _, stream = right.receive_stream("x")
            loops.append(aiter(stream))
            assert await stream.receive() == 0
            stream.is_over = False

    trio.run(main)
    loops.clear()
    gc.collect()
