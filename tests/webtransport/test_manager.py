"""`StreamManager`: places, statistics, and the end of all its streams."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.webtransport.fake_session import FakeSession, end_by_both
from trio_streams.codes import Code
from trio_streams.core.states import StreamState
from trio_streams.errors import ConnectionLost, StreamReset, StreamStopped
from trio_streams.webtransport.manager import StreamManager
from trio_streams.webtransport.streams import WebTransportSendStream, WebTransportStream


async def test_places_come_back_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever waits first gets the first place, which is free when a stream is over in both directions, not before."""
    session = FakeSession()
    order: list[str] = []
    async with StreamManager(session.as_session, max_streams=2) as manager, trio.open_nursery() as nursery:
        first = await manager.create_bidirectional_stream()
        second = await manager.create_unidirectional_stream()

        async def create(name: str) -> None:
            if name == "b":
                await manager.create_unidirectional_stream()
            else:
                await manager.create_bidirectional_stream()
            order.append(name)

        for name in "abc":
            nursery.start_soon(create, name)
            await wait_all_tasks_blocked()
        assert manager.get_stats().waiting_tasks == 3
        first.end()
        first.on_delivered()
        await wait_all_tasks_blocked()
        assert order == []
        first.on_received([], is_ended=True)
        await wait_all_tasks_blocked()
        assert order == ["a"]
        end_by_both(second)
        await wait_all_tasks_blocked()
        assert order == ["a", "b"]
        nursery.cancel_scope.cancel()


async def test_each_way_to_be_over_gives_the_place_back() -> None:
    """Resets, stops, aborts, closing and a lost connection do, each exactly once."""
    session = FakeSession()
    async with StreamManager(session.as_session, max_streams=1) as manager:
        stream = await manager.create_bidirectional_stream()
        stream.on_reset(7)
        stream.on_stopped(8)
        stream = await manager.create_bidirectional_stream()
        stream.abort(code=1)
        stream.abort(code=2)
        stream = await manager.create_bidirectional_stream()
        await stream.aclose()
        stream.on_delivered()
        sending = await manager.create_unidirectional_stream()
        sending.on_stopped(None)
        sending = await manager.create_unidirectional_stream()
        session.fail(ConnectionLost("gone"))
        stats = manager.get_stats()
        assert (stats.open_streams, stats.opened_streams) == (0, 5)
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                await manager.create_bidirectional_stream()
        assert manager.get_stats().opened_streams == 5


async def test_a_cancelled_creation_leaves_nothing() -> None:
    """Whether it waits for a place or for the peer's credit: no stream, and the place is free."""
    session = FakeSession(credit=1)
    async with StreamManager(session.as_session, max_streams=2) as manager:
        await manager.create_bidirectional_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.create_bidirectional_stream)  # has a place, and waits for credit
            nursery.start_soon(manager.create_bidirectional_stream)  # waits for a place
            await wait_all_tasks_blocked()
            assert manager.get_stats().waiting_tasks == 1
            nursery.cancel_scope.cancel()
        session.grant(1)
        await manager.create_bidirectional_stream()
        stats = manager.get_stats()
        assert (stats.open_streams, stats.waiting_tasks, session.opened) == (2, 0, 2)


async def test_statistics_outlive_streams() -> None:
    """Totals go on, a row goes with its stream, and a failure counts even if it is met after the stream was over."""
    session = FakeSession()
    async with StreamManager(session.as_session, max_streams=2) as manager:
        stream = await manager.create_bidirectional_stream()
        await stream.write(b"12345")
        stream.on_received([b"abc"], is_ended=False)
        assert await stream.read() == b"abc"
        (row,) = manager.get_stats().streams
        assert (row.stream_id, row.state, row.bytes_sent, row.bytes_received) == (0, StreamState.OPEN, 5, 3)
        stream.on_reset(1)
        stream.on_stopped(2)
        with pytest.raises(StreamReset):
            await stream.read()
        with pytest.raises(StreamStopped):
            await stream.write(b"more")
        for _ in range(20):
            sending = await manager.create_unidirectional_stream()
            await sending.write(b"x", end_stream=True)
            sending.on_delivered()
        stats = manager.get_stats()
        assert stats.streams == ()
        assert (stats.opened_streams, stats.open_streams, stats.max_streams) == (21, 0, 2)
        assert (stats.bytes_sent, stats.bytes_received, stats.errors) == (25, 3, 2)
        assert len(manager._ended) <= 2


async def test_waits_are_timed_by_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    """A write that waits for room and a read that waits for bytes are as long as they were, on their stream and in total."""
    session = FakeSession()
    session.machine.room_bytes = 10
    async with StreamManager(session.as_session) as manager, trio.open_nursery() as nursery:
        stream = await manager.create_bidirectional_stream()
        nursery.start_soon(stream.write, bytes(15))
        nursery.start_soon(stream.read)
        await trio.sleep(3)
        session.machine.fetch(stream)
        await trio.sleep(2)
        stream.on_received([b"x"], is_ended=False)
        await wait_all_tasks_blocked()
        (row,) = manager.get_stats().streams
        assert (row.write_seconds, row.read_seconds, row.errors) == (3, 5, 0)
        end_by_both(stream)
        stats = manager.get_stats()
        assert (stats.write_seconds, stats.read_seconds, stats.streams) == (3, 5, ())


async def test_shutdown_closes_and_wakes() -> None:
    """Streams are ended in order, whoever waits hears of it, and nothing is made any more."""
    session = FakeSession(credit=1)
    manager = StreamManager(session.as_session, max_streams=2)
    stream = await manager.create_bidirectional_stream()
    errors: list[str] = []

    async def create() -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            await manager.create_unidirectional_stream()
        errors.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        nursery.start_soon(create)
        await wait_all_tasks_blocked()
        await manager.shutdown()
    assert len(errors) == 2
    assert "shut down" in errors[0]
    assert session.machine.ended == [stream.stream_id]
    assert session.machine.stops == {stream.stream_id: 0}
    assert session.machine.resets == {}
    await manager.shutdown()
    for again in (manager.create_bidirectional_stream, manager.__aenter__):
        with pytest.raises(trio.ClosedResourceError):
            await again()
    assert manager.get_stream(stream.stream_id) is stream  # its end is still to be delivered
    stream.on_delivered()
    assert manager.get_stream(stream.stream_id) is None


async def test_a_creation_that_shutdown_overtakes() -> None:
    """A stream that is open just when the manager is shut down does not stay behind."""
    session = FakeSession(credit=0)
    manager = StreamManager(session.as_session)
    async with trio.open_nursery() as nursery:

        async def create() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await manager.create_bidirectional_stream()

        nursery.start_soon(create)
        await wait_all_tasks_blocked()
        session.grant(1)
        await manager.shutdown()
    stats = manager.get_stats()
    assert (session.opened, stats.open_streams, session.streams) == (1, 0, {})
    assert session.machine.resets == {0: Code.CANCELLED}


@pytest.mark.parametrize(
    ("error", "code"), [(None, None), (ValueError("mine"), Code.INTERNAL), ("cancelled", Code.CANCELLED)]
)
async def test_leaving_the_block(error: Exception | str | None, code: Code | None) -> None:
    """Each stream is left as its own block would be: in order, by its error's code, or as cancelled."""
    session = FakeSession()
    raising = pytest.raises(ValueError, match="mine") if isinstance(error, ValueError) else nullcontext()
    with trio.CancelScope() as scope, raising:
        async with StreamManager(session.as_session) as manager:
            for _ in range(2):
                await manager.create_bidirectional_stream()
            await manager.create_unidirectional_stream()
            if error == "cancelled":
                scope.cancel()
                await trio.lowlevel.checkpoint()
            elif isinstance(error, Exception):
                raise error
    assert session.machine.resets == ({} if code is None else dict.fromkeys((0, 4, 8), code))
    assert session.machine.ended == ([0, 4, 8] if code is None else [])


async def test_a_cancelled_shutdown_closes_all() -> None:
    """Not one stream is left out."""
    session = FakeSession()
    manager = StreamManager(session.as_session)
    for _ in range(3):
        await manager.create_bidirectional_stream()
    with trio.CancelScope() as scope:
        scope.cancel()
        await manager.shutdown()
    assert scope.cancelled_caught
    assert session.machine.ended == [0, 4, 8]


async def test_streams_are_found_by_their_ids() -> None:
    """Those of this manager alone, while they are open."""
    session = FakeSession()
    other = await session.create_bidirectional_stream()
    async with StreamManager(session.as_session) as manager:
        both = await manager.create_bidirectional_stream()
        one = await manager.create_unidirectional_stream()
        assert isinstance(both, WebTransportStream)
        assert isinstance(one, WebTransportSendStream)
        assert (manager.get_stream(both.stream_id), manager.get_stream(one.stream_id)) == (both, one)
        assert (manager.get_stream(other.stream_id), manager.get_stream(999)) == (None, None)
        end_by_both(both)
        assert manager.get_stream(both.stream_id) is None


def test_a_limit_is_positive() -> None:
    """A manager that could never make a stream is refused."""
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"max_streams must be at least 1, not {limit}"):
            StreamManager(FakeSession().as_session, max_streams=limit)
