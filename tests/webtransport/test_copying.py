"""`copy_stream_data` and `echo_stream`: ends and abandoned halves are passed on, and so is waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import open_pair, session_pair
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport import (
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
    WebTransportStreamReset,
    WebTransportStreamStopped,
    copy_stream_data,
    echo_session,
    echo_stream,
)


@asynccontextmanager
async def sessions() -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
    with trio.fail_after(600):
        async with open_pair(config=WebTransportConfig()) as pair, session_pair(pair) as both:
            yield both


class Relay:
    """A server that copies one unidirectional stream into another: what its client writes to, and what it reads."""

    def __init__(
        self,
        writing: WebTransportSendStream,
        source: WebTransportReceiveStream,
        destination: WebTransportSendStream,
        reading: WebTransportReceiveStream,
    ) -> None:
        self.writing = writing
        self.source = source
        self.destination = destination
        self.reading = reading

    @classmethod
    async def open(cls, client: WebTransportSession, server: WebTransportSession) -> Relay:
        writing = await client.create_unidirectional_stream()
        source = await server.accept_unidirectional_stream()
        destination = await server.create_unidirectional_stream()
        return cls(writing, source, destination, await client.accept_unidirectional_stream())

    async def copy(self) -> int:
        return await copy_stream_data(source=self.source, destination=self.destination)


@pytest.mark.parametrize("code", [0, 7, 0xFFFF_FFFF])
async def test_a_reset_is_passed_on(code: int, autojump_clock: MockClock) -> None:
    """With its code; whoever copies hears of it, too."""
    async with sessions() as (client, server):
        relay = await Relay.open(client, server)
        relay.writing.reset(code)
        with pytest.raises(WebTransportStreamReset) as caught:
            await relay.copy()
        assert caught.value.application_code == code
        with pytest.raises(WebTransportStreamReset) as caught:
            await relay.reading.read()
        assert caught.value.application_code == code


async def test_a_stop_is_passed_on(autojump_clock: MockClock) -> None:
    """Back to the one who writes, with its code."""
    async with sessions() as (client, server):
        relay = await Relay.open(client, server)
        relay.reading.stop(9)
        await trio.sleep(1)
        await relay.writing.write(b"x")
        with pytest.raises(WebTransportStreamStopped) as caught:
            await relay.copy()
        assert caught.value.application_code == 9
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamStopped) as caught:
            await relay.writing.write(b"y")
        assert caught.value.application_code == 9


async def test_a_reset_without_a_code(autojump_clock: MockClock) -> None:
    """What no application has said a number for is passed on by our table's."""
    async with sessions() as (client, server):
        relay = await Relay.open(client, server)
        relay.source.on_reset(None)
        with pytest.raises(WebTransportStreamReset) as caught:
            await relay.copy()
        assert (caught.value.application_code, caught.value.code) == (None, Code.UNKNOWN)
        with pytest.raises(WebTransportStreamReset) as caught:
            await relay.reading.read()
        assert caught.value.application_code == Code.UNKNOWN


async def test_one_direction_of_a_bidirectional_stream(autojump_clock: MockClock) -> None:
    """The destination's own incoming half is left alone, even where the source is reset."""
    async with sessions() as (client, server):
        writing = await client.create_unidirectional_stream()
        source = await server.accept_unidirectional_stream()
        ours = await client.create_bidirectional_stream()
        theirs = await server.accept_bidirectional_stream()
        writing.reset(1)
        with pytest.raises(WebTransportStreamReset):
            await copy_stream_data(source=source, destination=theirs)
        await ours.write(b"still open", end_stream=True)
        assert await theirs.read_all() == b"still open"


async def test_a_cancelled_copy_leaves_both_open(autojump_clock: MockClock) -> None:
    """What came later can be copied by another call."""
    async with sessions() as (client, server):
        relay = await Relay.open(client, server)
        await relay.writing.write(b"one ")
        with trio.move_on_after(5) as scope:
            await relay.copy()
        assert scope.cancelled_caught
        await relay.writing.write(b"two", end_stream=True)
        assert await relay.copy() == 3
        assert await relay.reading.read_all() == b"one two"


async def test_a_lost_connection_is_raised(autojump_clock: MockClock) -> None:
    """By the copy, and by the echo."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        relay = await Relay.open(client, server)
        ours = await client.create_bidirectional_stream()
        theirs = await server.accept_bidirectional_stream()
        assert ours.is_writable

        async def copy() -> None:
            with pytest.raises(ConnectionLost):
                await relay.copy()

        async def echo() -> None:
            with pytest.raises(ConnectionLost):
                await echo_stream(stream=theirs)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy)
            nursery.start_soon(echo)
            await trio.sleep(1)
            pair.server.lose(ConnectionLost("cut"))


async def test_a_chunk_has_a_size(autojump_clock: MockClock) -> None:
    """At least one byte."""
    async with sessions() as (client, server):
        relay = await Relay.open(client, server)
        with pytest.raises(ValueError, match="must be at least 1"):
            await copy_stream_data(source=relay.source, destination=relay.destination, chunk_size=0)


async def test_an_echo_that_nobody_wants(autojump_clock: MockClock) -> None:
    """A peer that stops our half has its own stopped, by the same code, and nothing is raised."""
    async with sessions() as (client, server):
        ours = await client.create_bidirectional_stream()
        theirs = await server.accept_bidirectional_stream()
        ours.stop(4)
        await ours.write(b"x")
        await trio.sleep(1)
        await echo_stream(stream=theirs)
        await trio.sleep(1)
        with pytest.raises(WebTransportStreamStopped) as caught:
            await ours.write(b"y")
        assert caught.value.application_code == 4


@asynccontextmanager
async def echoed() -> AsyncIterator[tuple[WebTransportSession, trio.Event]]:
    """A client's session whose server echoes, and when that is over."""
    async with sessions() as (client, server), trio.open_nursery() as nursery:
        over = trio.Event()

        async def serve() -> None:
            await echo_session(server)
            over.set()

        nursery.start_soon(serve)
        yield client, over
        nursery.cancel_scope.cancel()


async def test_a_session_of_echoes(autojump_clock: MockClock) -> None:
    """Many streams of both kinds at once, and datagrams; each comes back whole."""
    async with echoed() as (session, over), trio.open_nursery() as nursery:
        data = bytes(range(256)) * 1_000
        sizes: list[int] = []

        async def both_ways() -> None:
            stream: WebTransportStream = await session.create_bidirectional_stream()
            async with trio.open_nursery() as inner:
                inner.start_soon(lambda: stream.write(data, end_stream=True))
                assert await stream.read_all() == data
            sizes.append(len(data))

        async def one_way() -> None:
            stream = await session.create_unidirectional_stream()
            await stream.write(data, end_stream=True)

        for _ in range(5):
            nursery.start_soon(both_ways)
            nursery.start_soon(one_way)
        for _ in range(5):
            assert await (await session.accept_unidirectional_stream()).read_all() == data
        for number in range(10):
            session.send_datagram(b"%d" % number)
            assert await session.receive_datagram() == b"%d" % number
    assert sizes == [len(data)] * 5
    assert not over.is_set()


async def test_abandoned_streams_do_not_end_a_session_of_echoes(autojump_clock: MockClock) -> None:
    """Resets and stops of either kind are one stream's matter."""
    async with echoed() as (session, over):
        for code in range(3):
            both = await session.create_bidirectional_stream()
            await both.write(b"x")
            both.abort(code=code)
            one = await session.create_unidirectional_stream()
            await one.write(b"x")
            back = await session.accept_unidirectional_stream()
            if code == 1:
                back.stop(5)
            one.reset(code)
        await trio.sleep(5)
        assert not over.is_set()
        assert session.statistics().open_streams <= 3
        last = await session.create_bidirectional_stream()
        await last.write(b"still there", end_stream=True)
        assert await last.read_all() == b"still there"


async def test_a_session_of_echoes_ends_with_its_peer(autojump_clock: MockClock) -> None:
    """By a close with any code, without an error; whichever of its tasks learns it first, or all at once."""
    for code in (0, *[5] * 20):
        async with echoed() as (session, over):
            await session.create_bidirectional_stream()
            session.close(code, "bye")
            with trio.fail_after(5):
                await over.wait()


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_source_that_breaks_is_no_end(is_lost: bool, autojump_clock: MockClock) -> None:
    """A relay between two connections: half a file came, then its connection broke or its session was closed. Nobody hears END."""
    with trio.fail_after(600):
        async with (
            open_pair(config=WebTransportConfig()) as up,
            session_pair(up) as (uploader, source_server),
            sessions() as (destination_client, destination_server),
        ):
            writing = await uploader.create_unidirectional_stream()
            await writing.send_all(b"half a file")
            source = await source_server.accept_unidirectional_stream()
            destination = await destination_server.create_unidirectional_stream()
            await trio.sleep(1)
            if is_lost:
                up.client.close()
            else:
                uploader.close(5, "gone")
            await trio.sleep(1)
            with pytest.raises(ConnectionLost):
                await copy_stream_data(source=source, destination=destination)
            reading = await destination_client.accept_unidirectional_stream()
            assert await reading.receive_some() == b"half a file"
            with trio.move_on_after(5) as scope:
                await reading.receive_some()
            assert scope.cancelled_caught
