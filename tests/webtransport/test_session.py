"""Sessions: opening and taking streams, and datagrams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.link_pair import SMALL, open_pair, session_pair
from tests.webtransport.session_uses import FEW, uses_of
from trio_streams.errors import LocalProtocolError
from trio_streams.webtransport.ending import Closer
from trio_streams.webtransport.errors import SessionClosed, WebTransportStreamReset
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream


async def test_streams_are_opened_first_come_first_served(autojump_clock: MockClock) -> None:
    """Who waits for the peer to allow another stream gets it in order, and one who gave up is passed over."""
    async with open_pair(server_config=FEW) as pair, session_pair(pair) as (client, server):
        order: list[int] = []
        is_done = trio.Event()

        async def use(number: int) -> None:
            async with await client.create_unidirectional_stream():
                order.append(number)
                if len(order) == 4:
                    is_done.set()

        async def give_up() -> None:
            with trio.move_on_after(1):
                await client.create_unidirectional_stream()

        held = [await client.create_unidirectional_stream() for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(use, number)
                nursery.start_soon(give_up)
                await wait_all_tasks_blocked()
            await trio.sleep(2)
            assert order == []
            nursery.start_soon(take_all, server)
            for stream in held:
                await stream.aclose()
            await is_done.wait()
            nursery.cancel_scope.cancel()
        assert order == [0, 1, 2, 3]
        assert client.statistics().streams_opened == 6


async def take_all(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        await stream.read_all()
        await stream.aclose()


async def test_both_kinds_come_in_the_order_in_which_they_were_opened(autojump_clock: MockClock) -> None:
    """`incoming_streams` gives both kinds; taking one kind leaves the others where they are."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        for number in range(6):
            opened = await (client.create_unidirectional_stream if number % 2 else client.create_bidirectional_stream)()
            await opened.write(bytes([number]))
        await trio.sleep(1)
        assert server.statistics().waiting_streams == 6
        second = await server.accept_unidirectional_stream()
        fourth = await server.accept_unidirectional_stream()
        first = await server.accept_bidirectional_stream()
        rest = [stream async for stream in aiter_some(server, 3)]
        kinds = [isinstance(stream, WebTransportStream) for stream in rest]
        assert kinds == [True, True, False]
        assert [await stream.read() for stream in (first, second, fourth, *rest)] == [
            b"\0",
            b"\1",
            b"\3",
            b"\2",
            b"\4",
            b"\5",
        ]


async def aiter_some(
    session: WebTransportSession, count: int
) -> AsyncIterator[WebTransportStream | WebTransportReceiveStream]:
    streams = session.incoming_streams()
    for _ in range(count):
        yield await anext(streams)


async def test_a_stream_that_nobody_takes_keeps_its_place(autojump_clock: MockClock) -> None:
    """A peer that opens and resets streams without end gets no more of them than it may have open."""
    async with open_pair(server_config=FEW) as pair, session_pair(pair) as (client, server):
        with trio.move_on_after(20):
            while True:
                (await client.create_unidirectional_stream()).abort(code=1)
        waiting = server.statistics().waiting_streams
        assert 0 < waiting <= 2
        for _ in range(waiting):
            with pytest.raises(WebTransportStreamReset):
                await (await server.accept_unidirectional_stream()).read()
        (await client.create_unidirectional_stream()).abort()


async def test_a_loop_over_streams_ends_with_a_session_that_ended_well(autojump_clock: MockClock) -> None:
    """Code 0 from the peer, and our own close, end loops over streams and datagrams; what came before is taken first."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        await (await server.create_unidirectional_stream()).write(b"x")
        server.send_datagram(b"d")
        await trio.sleep(1)
        server.close()
        assert (await client.wait_closed()).closer is Closer.PEER
        assert len([stream async for stream in client.incoming_streams()]) == 1
        assert [data async for data in client.datagrams()] == [b"d"]
        assert [stream async for stream in server.incoming_streams()] == []
        assert [data async for data in server.datagrams()] == []
        with pytest.raises(SessionClosed):
            await client.receive_datagram()


async def test_a_loop_over_streams_raises_where_the_session_ended_badly(autojump_clock: MockClock) -> None:
    """Another code than 0 raises `SessionClosed` from loops, and from every other operation of the client."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        server.close(3, "no more")
        await client.wait_closed()
        for use in uses_of(client):
            with pytest.raises(SessionClosed) as caught:
                await use()
            assert (caught.value.code, caught.value.reason) == (3, "no more")
        assert str(caught.value) == "the peer closed the session with code 3: no more"


async def test_datagrams_arrive(autojump_clock: MockClock) -> None:
    """Datagrams go both ways, as bytes-like objects, also empty ones."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        for data in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
            client.send_datagram(data)
        assert [await server.receive_datagram() for _ in range(4)] == [b"a", b"b", b"c", b""]
        server.send_datagram(b"back")
        assert await client.receive_datagram() == b"back"
        assert client.statistics().datagrams_sent == 4
        assert server.statistics().datagrams_received == 4


async def test_a_datagram_that_is_too_large_is_an_error_at_the_sender(autojump_clock: MockClock) -> None:
    """The largest that is said to fit arrives; one byte more names field, size and limit."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        limit = client.max_datagram_size
        assert limit is not None
        client.send_datagram(bytes(limit))
        with pytest.raises(LocalProtocolError) as caught:
            client.send_datagram(bytes(limit + 1))
        assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_datagram_size", limit + 1, limit)
        assert len(await server.receive_datagram()) == limit


async def test_datagrams_that_nobody_takes_are_dropped(autojump_clock: MockClock) -> None:
    """The oldest make room for the newest, what has waited too long is gone, and both are counted."""
    config = attrs.evolve(SMALL, max_received_datagrams=2, max_received_datagram_age=5.0)
    async with open_pair(config=config) as pair, session_pair(pair) as (client, server):
        for number in range(4):
            client.send_datagram(bytes([number]))
        await trio.sleep(1)
        assert await server.receive_datagram() == b"\2"
        await trio.sleep(10)
        with trio.move_on_after(1) as scope:
            await server.receive_datagram()
        assert scope.cancelled_caught
        statistics = server.statistics()
        assert (statistics.datagrams_received, statistics.datagrams_dropped, statistics.datagrams_expired) == (4, 2, 1)


async def test_datagrams_that_wait_too_long_to_leave_are_dropped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network takes nothing, what is sent grows old, and only what is young leaves later."""
    config = attrs.evolve(SMALL, quic=attrs.evolve(SMALL.quic, max_datagram_age=1.0))
    async with open_pair(config=config) as pair, session_pair(pair) as (client, server):
        with monkeypatch.context() as patched:
            patched.setattr(pair, "flush", lambda link: None)
            client.send_datagram(b"old")
            await trio.sleep(2)
            client.send_datagram(b"young")
        pair.kick(pair.client)
        assert await server.receive_datagram() == b"young"


async def test_a_run_of_datagrams_is_taken_in_batches(autojump_clock: MockClock) -> None:
    """Whoever takes many that are here lets others run now and then, and nobody has to wait for the last one."""
    async with open_pair() as pair, session_pair(pair) as (client, server), trio.open_nursery() as nursery:
        for number in range(200):
            client.send_datagram(bytes([number]))
        await trio.sleep(1)
        got: list[bytes] = []
        seen: list[int] = []

        async def look() -> None:
            while len(got) < 200:
                seen.append(len(got))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(look)
        while len(got) < 200:
            got.append(await server.receive_datagram())
        assert got == [bytes([number]) for number in range(200)]
        assert len(set(seen)) > 1


async def test_a_cancelled_receive_takes_no_datagram(autojump_clock: MockClock) -> None:
    """Receives that are cancelled just when datagrams arrive lose none of them."""
    async with open_pair() as pair, session_pair(pair) as (client, server), trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(30):
                client.send_datagram(bytes([number]))
                await trio.sleep(0.1)

        nursery.start_soon(send)
        got: list[bytes] = []
        while len(got) < 30:
            with trio.move_on_after(0.1):
                got.append(await server.receive_datagram())
        assert got == [bytes([number]) for number in range(30)]


async def test_what_a_session_is(autojump_clock: MockClock) -> None:
    """A session knows what it was asked for, and by whom."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        assert (client.path, server.path, server.peer) == ("/room", "/room", "client")
        assert (client.protocol, dict(server.headers)) == (None, {})
        assert repr(server) == f"<WebTransportSession {server.session_id} '/room' open>"
        stream = await client.create_bidirectional_stream()
        assert client.get_stream(stream.stream_id) is stream
        taken = await server.accept_bidirectional_stream()
        assert not isinstance(taken, WebTransportReceiveStream)
