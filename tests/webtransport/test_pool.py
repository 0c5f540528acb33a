"""`StreamPool`: streams ahead of their users, and again."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.fake_session import FakeSession, end_by_both
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.webtransport.pool import StreamPool
from trio_streams.webtransport.streams import WebTransportStream


async def test_streams_are_open_before_anybody_asks() -> None:
    """The pool fills itself in the background, and no further than its size."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=3) as pool:
        await wait_all_tasks_blocked()
        assert session.opened == 3
        stream = await pool.get_stream(timeout=0)
        assert stream.stream_id in {0, 4, 8}
    assert session.machine.ended == [one for one in (0, 4, 8) if one != stream.stream_id]
    assert (session.machine.resets, stream.is_writable) == ({}, True)


async def test_workers_that_return_their_streams_share_them() -> None:
    """A hundred uses by three at once need no more than the pool's three."""
    session = FakeSession()

    async def work(pool: StreamPool) -> None:
        for _ in range(33):
            stream = await pool.get_stream()
            await trio.lowlevel.checkpoint()
            await pool.return_stream(stream)

    async with StreamPool(session.as_session, pool_size=3) as pool, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work, pool)
    assert session.opened == 3


async def test_takers_that_return_nothing_get_new_ones() -> None:
    """Each a stream of its own, as long as the peer allows more."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=2) as pool:
        taken = {(await pool.get_stream(timeout=10)).stream_id for _ in range(10)}
        assert len(taken) == session.opened == 10


async def test_a_taken_stream_that_is_over_makes_room() -> None:
    """It is no more expected back, so another one is opened for it."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=2) as pool:
        await wait_all_tasks_blocked()
        stream = await pool.get_stream()
        await wait_all_tasks_blocked()
        assert session.opened == 2
        end_by_both(stream)
        await wait_all_tasks_blocked()
        assert session.opened == 3
        await pool.return_stream(stream)  # which is no fault: nobody can know what the peer has done meanwhile
        assert session.opened == 3


async def test_a_returned_stream_goes_to_whoever_has_waited_longest() -> None:
    """It need not wait for the peer's credit, and the one who came first comes first."""
    session = FakeSession(credit=1)
    got: list[str] = []
    async with StreamPool(session.as_session, pool_size=2) as pool, trio.open_nursery() as nursery:
        stream = await pool.get_stream()

        async def take(name: str) -> None:
            assert await pool.get_stream() is stream
            got.append(name)

        for name in "ab":
            nursery.start_soon(take, name)
            await wait_all_tasks_blocked()
        for expected in ["a"], ["a", "b"]:
            await pool.return_stream(stream)
            await wait_all_tasks_blocked()
            assert got == expected


async def test_the_timeout(autojump_clock: MockClock) -> None:
    """It is for the wait; the stream that comes later is not lost, and without a limit it is waited for."""
    session = FakeSession(credit=0)
    async with StreamPool(session.as_session, pool_size=1) as pool:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await pool.get_stream(timeout=3)
        assert trio.current_time() - began == 3
        session.grant(1)
        await wait_all_tasks_blocked()
        assert (await pool.get_stream(timeout=0)).stream_id == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.get_stream)
            await trio.sleep(1_000)
            session.grant(1)
        with pytest.raises(ValueError, match="timeout must be at least 0, not -1"):
            await pool.get_stream(timeout=-1)


async def test_a_cancelled_taker_takes_nothing() -> None:
    """Neither before nor while it waits."""
    session = FakeSession(credit=1)
    async with StreamPool(session.as_session, pool_size=1) as pool:
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.get_stream()
        assert scope.cancelled_caught
        await pool.get_stream(timeout=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.get_stream)
            await wait_all_tasks_blocked()
            session.grant(1)
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert (await pool.get_stream(timeout=0)).stream_id == 4


def end_it(stream: WebTransportStream) -> None:
    stream.end()


def peer_ends(stream: WebTransportStream) -> None:
    stream.on_received([], is_ended=True)


def peer_speaks(stream: WebTransportStream) -> None:
    stream.on_received([b"late"], is_ended=False)


def peer_resets(stream: WebTransportStream) -> None:
    stream.on_reset(1)


def peer_stops(stream: WebTransportStream) -> None:
    stream.on_stopped(1)


SPOILERS = [end_it, peer_ends, peer_speaks, peer_resets, peer_stops]


@pytest.mark.parametrize("spoil", SPOILERS)
async def test_what_is_no_good_is_closed_when_it_is_returned(spoil: Callable[[WebTransportStream], None]) -> None:
    """A half that is over, or something unread, and the next taker gets another stream."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=1) as pool:
        stream = await pool.get_stream()
        spoil(stream)
        await pool.return_stream(stream)
        assert not stream.is_writable
        assert not stream.is_readable
        await wait_all_tasks_blocked()
        assert await pool.get_stream(timeout=0) is not stream


@pytest.mark.parametrize("spoil", SPOILERS)
async def test_what_goes_bad_while_it_is_idle_is_not_given_out(spoil: Callable[[WebTransportStream], None]) -> None:
    """It is closed, and another one is found."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=2) as pool:
        await wait_all_tasks_blocked()
        for stream in list(session.streams.values()):
            assert isinstance(stream, WebTransportStream)
            spoil(stream)
        assert (await pool.get_stream()).stream_id == 8
        assert not any(session.streams[one].is_writable for one in (0, 4) if one in session.streams)


async def test_one_that_is_over_while_idle_is_replaced() -> None:
    """At once, and not when somebody asks."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=2) as pool:
        await wait_all_tasks_blocked()
        peer = session.streams[0]
        peer.on_stopped(1)
        assert isinstance(peer, WebTransportStream)
        peer.on_reset(1)
        await wait_all_tasks_blocked()
        assert session.opened == 3
        await pool.get_stream(timeout=0)


async def test_one_that_dies_on_its_way_to_its_taker() -> None:
    """Whoever waits goes on waiting."""
    session = FakeSession(credit=1)
    async with StreamPool(session.as_session, pool_size=1) as pool, trio.open_nursery() as nursery:
        stream = await pool.get_stream()
        got: list[int] = []

        async def take() -> None:
            got.append((await pool.get_stream()).stream_id)

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        returning = pool.return_stream(stream)
        returning.send(None)  # up to its checkpoint, so that nobody else runs meanwhile
        returning.close()
        stream.on_reset(1)
        await wait_all_tasks_blocked()
        assert got == []
        session.grant(1)
        await wait_all_tasks_blocked()
        assert got == [4]


async def test_a_full_pool_closes_what_is_returned() -> None:
    """No more than its size stays idle."""
    session = FakeSession()
    async with StreamPool(session.as_session, pool_size=2) as pool:
        taken = [await pool.get_stream() for _ in range(5)]
        await wait_all_tasks_blocked()
        for stream in taken:
            await pool.return_stream(stream)
        assert sum(stream.is_writable for stream in taken) == 2
        assert len(session.machine.ended) == 3


async def test_wrong_returns() -> None:
    """A stream of somebody else, one that was returned, and one of another pool are told apart from good ones."""
    session = FakeSession()
    async with StreamPool(session.as_session) as pool, StreamPool(session.as_session) as other:
        stranger = await session.create_bidirectional_stream()
        with pytest.raises(LocalProtocolError, match=f"stream {stranger.stream_id}: it was not taken from this pool"):
            await pool.return_stream(stranger)
        assert stranger.is_writable
        stream = await pool.get_stream()
        with pytest.raises(LocalProtocolError, match="not taken from this pool"):
            await other.return_stream(stream)
        await pool.return_stream(stream)
        with pytest.raises(LocalProtocolError, match="it was returned already"):
            await pool.return_stream(stream)


async def test_close_all() -> None:
    """Idle streams are ended, whoever waits hears of it, and what is returned later is closed, with an error."""
    session = FakeSession(credit=2)
    async with StreamPool(session.as_session, pool_size=2) as pool:
        stream = await pool.get_stream()
        lent = await pool.get_stream()
        await pool.return_stream(stream)
        await pool.get_stream()
        await pool.return_stream(stream)

        async def take() -> None:
            await pool.get_stream()
            with pytest.raises(trio.ClosedResourceError, match="this StreamPool is closed"):
                await pool.get_stream()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            await pool.close_all()
        await pool.close_all()
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            await pool.get_stream()
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            await pool.return_stream(lent)
        assert not lent.is_writable
        session.grant(10)
        await wait_all_tasks_blocked()
        assert session.opened == 2


async def test_the_body_goes_on_after_close_all() -> None:
    """Closing a pool inside its block cancels nobody but its own task; neither does leaving it by an error or a cancellation."""
    session = FakeSession()
    async with StreamPool(session.as_session) as pool:
        await pool.close_all()
        await trio.lowlevel.checkpoint()
    with pytest.raises(KeyError):
        async with StreamPool(session.as_session):
            raise KeyError
    with trio.CancelScope() as scope:
        async with StreamPool(session.as_session, pool_size=2):
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert not any(stream.is_writable for stream in session.streams.values())


async def test_a_stream_that_opens_as_the_pool_closes() -> None:
    """It does not stay behind."""
    session = FakeSession(credit=0)
    async with StreamPool(session.as_session) as pool:
        await wait_all_tasks_blocked()
        session.grant(1)
        await pool.close_all()
    assert session.opened == 1
    assert not session.streams[0].is_writable


async def test_a_lost_connection_is_for_those_who_ask() -> None:
    """It does not end the pool's block; whoever waits, and whoever asks later, hears of it."""
    session = FakeSession(credit=1)
    async with StreamPool(session.as_session) as pool:
        stream = await pool.get_stream()

        async def take() -> None:
            with pytest.raises(ConnectionLost, match="gone"):
                await pool.get_stream()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            session.fail(ConnectionLost("gone"))
        await take()
        await pool.return_stream(stream)
        session.error = None
        session.grant(1)
        again = await pool.get_stream()
        await pool.return_stream(again)
        assert await pool.get_stream(timeout=0) is again


async def test_wrong_use() -> None:
    """Outside of its block, twice, or without room, a pool says so."""
    session = FakeSession()
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"pool_size must be at least 1, not {size}"):
            StreamPool(session.as_session, pool_size=size)
    pool = StreamPool(session.as_session)
    with pytest.raises(LocalProtocolError, match="outside its block"):
        await pool.get_stream()
    async with pool:
        with pytest.raises(LocalProtocolError, match="twice"):
            await pool.__aenter__()


async def test_a_pool_does_not_keep_what_was_taken() -> None:
    """What its takers let go of, with the session, is freed without the collector."""
    session = FakeSession()
    gc.disable()
    try:
        async with StreamPool(session.as_session, pool_size=1) as pool:
            stream = await pool.get_stream()
            end_by_both(stream)
            assert len(pool._taken) == 1
            del stream
            await wait_all_tasks_blocked()
            assert len(pool._taken) == 0
    finally:
        gc.enable()
