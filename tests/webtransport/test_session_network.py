"""Sessions over links that lose, double and reorder, and beside readers that do not read."""

from __future__ import annotations

import tracemalloc

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import SMALL, open_pair, session_pair
from tests.webtransport.quic_pair import unsteady
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream


async def echo(session: WebTransportSession) -> None:
    """Send back what arrives."""
    async for stream in session.incoming_streams():
        session.start_soon(echo_stream, stream)


async def echo_stream(stream: WebTransportStream | WebTransportReceiveStream) -> None:
    assert isinstance(stream, WebTransportStream)
    async with stream:
        async for chunk in stream.read_iter():
            await stream.write(chunk)


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.05), (3, 0.1), (4, 0.2)])
async def test_streams_survive_a_bad_network(seed: int, loss: float, autojump_clock: MockClock) -> None:
    """Twenty echoes at once come back whole over a link that loses up to a fifth, doubles and reorders."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        pair.network = unsteady(seed, loss)
        server.start_soon(echo, server)
        whole: list[int] = []

        async def ask(number: int) -> None:
            data = bytes([number]) * 1_000 * number
            async with await client.create_bidirectional_stream() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(write_all, stream, data)
                assert await stream.read_all() == data
            whole.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
        assert sorted(whole) == list(range(20))


async def write_all(stream: WebTransportStream, data: bytes) -> None:
    await stream.write(data, end_stream=True)


async def test_a_stream_that_nobody_reads_stops_no_other_one(autojump_clock: MockClock) -> None:
    """With one stream full, its writer waits, what is held is its window, and another stream moves ten windows."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        stuck = await client.create_unidirectional_stream()
        with trio.move_on_after(10):
            await stuck.write(bytes(1_000_000))
        unread = await server.accept_unidirectional_stream()
        window = SMALL.quic.window_bytes
        assert unread.unread_bytes <= window
        assert stuck.bytes_sent <= window + SMALL.quic.max_send_buffer_bytes
        server.start_soon(echo, server)
        free = await client.create_bidirectional_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, free, bytes(10 * window))
            assert len(await free.read_all()) == 10 * window
        assert unread.unread_bytes <= window


async def test_an_unread_peer_costs_its_windows(autojump_clock: MockClock) -> None:
    """A hundred streams that nobody takes hold no more than the connection's window, and the memory is in proportion."""
    config = attrs.evolve(SMALL, quic=attrs.evolve(SMALL.quic, max_connection_send_buffer_bytes=65_536))
    async with open_pair(config=config) as pair, session_pair(pair) as (client, server):

        async def flood() -> None:
            stream = await client.create_unidirectional_stream()
            await stream.write(bytes(100_000))

        tracemalloc.start()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(flood)
                await trio.sleep(30)
                nursery.cancel_scope.cancel()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        window = SMALL.quic.connection_window_bytes
        assert server.statistics().unread_bytes <= window
        assert server.statistics().unread_bytes > window - 20_000
        # Both sides are in here: what waits to be read, what waits to be sent, and the objects of 200 ends of streams.
        assert held < window + 65_536 + 3_000_000


async def test_credit_comes_back_from_whatever_ends_a_stream(autojump_clock: MockClock) -> None:
    """Full streams that are reset, stopped and closed, again and again, leave the connection its whole window."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        for turn in range(30):
            sending = await client.create_unidirectional_stream()
            with trio.move_on_after(3):
                await sending.write(bytes(200_000))
            receiving = await server.accept_unidirectional_stream()
            await receiving.read(size=1_000)
            if turn % 3 == 0:
                sending.abort(code=turn)
            elif turn % 3 == 1:
                receiving.abort(code=turn)
            await receiving.aclose()
            await sending.aclose()
        last = await client.create_unidirectional_stream()
        with trio.move_on_after(3):
            await last.write(bytes(200_000))
        assert (await server.accept_unidirectional_stream()).unread_bytes > SMALL.quic.window_bytes - 2_000
