"""Readers who come back with an id, and subscribers in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.conformance.http.hosts import until
from tests.service.test_broadcast import END, item, reading, window
from trio_streams.codes import Code
from trio_streams.errors import StreamReset
from trio_streams.procedures.router import Router
from trio_streams.service.broadcast import Broadcast, BroadcastConfig, LagPolicy
from trio_streams.service.broadcast_readers import dropped_event
from trio_streams.urls import connect, serve
from trio_streams.wire import sse


async def last_id(broadcast: Broadcast[bytes], count: int) -> str:
    """What a reader names who saw so many of ten events."""
    async with reading(broadcast) as (reader,):
        broadcast.publish_nowait(item(0))
        broadcast.publish_nowait(*[item(n) for n in range(1, 10)])
        await reader.take()
        return reader.events()[count - 1].id


@pytest.mark.parametrize("count", [1, 4, 9, 10])
async def test_a_reader_goes_on_where_it_was(count: int) -> None:
    """Behind the event that it names, also in the middle of a run; what comes later follows, with ids that go on."""
    broadcast = Broadcast[bytes](config=window(20, replay_bytes=100_000))
    header = (("last-event-id", await last_id(broadcast, count)),)
    async with reading(broadcast, headers=header) as (reader,):
        broadcast.publish_nowait(item(10))
        broadcast.end()
        await reader.take_all()
        *events, end = reader.events()
        assert [event.data for event in events] == [item(n) for n in range(count, 11)]
        assert [int(event.id.rpartition("-")[2]) for event in events] == list(range(count + 1, 12))
        assert end.event == "end"


async def test_an_id_that_is_too_old() -> None:
    """What is not kept any more is counted, and what is kept follows."""
    broadcast = Broadcast[bytes](config=window(1, replay_bytes=300))
    header = (("last-event-id", await last_id_of_singles(broadcast)),)
    async with reading(broadcast, headers=header) as (reader,):
        broadcast.end()
        await reader.take_all()
        dropped, *events, _ = reader.events()
        assert (dropped.event, dropped.data) == ("dropped", b'{"dropped":4}')
        assert [event.data for event in events] == [item(n) for n in range(5, 10)]


async def last_id_of_singles(broadcast: Broadcast[bytes]) -> str:
    async with reading(broadcast) as (reader,):
        for n in range(10):
            broadcast.publish_nowait(item(n))
            await reader.take()
        return reader.events()[0].id


@pytest.mark.parametrize(
    "last_event_id", ["other-3", "", "3", "{epoch}-", "{epoch}-x", "{epoch}-999", "{epoch}-\u0663"]
)
async def test_an_id_of_another_broadcast(last_event_id: str) -> None:
    """Nobody knows what it missed, so it is told that, and gets what is kept; no id at all gets nothing old."""
    broadcast = Broadcast[bytes](config=window(20, replay_bytes=100_000))
    epoch = (await last_id(broadcast, 1)).partition("-")[0]
    header = (("last-event-id", last_event_id.format(epoch=epoch)),)
    async with reading(broadcast, headers=header) as (reader,):
        broadcast.end()
        await reader.take_all()
        if not last_event_id:
            assert reader.data == END
            return
        dropped, *events, _ = reader.events()
        assert (dropped.event, dropped.data) == ("dropped", b'{"dropped":null}')
        assert [event.data for event in events] == [item(n) for n in range(10)]


async def test_a_reader_that_comes_back_may_be_behind_until_it_has_caught_up() -> None:
    """What it asked for is no reason to disconnect it; what it then leaves unread is."""
    broadcast = Broadcast[bytes](config=window(10, replay_bytes=100_000))
    header = (("last-event-id", await last_id(broadcast, 1)),)
    async with reading(broadcast, headers=header) as (reader,):
        for n in range(10):
            broadcast.publish_nowait(item(n))
        await reader.take()
        for n in range(10):
            broadcast.publish_nowait(item(n))
        assert broadcast.statistics().disconnected_readers == 0
        broadcast.publish_nowait(item(0))
        assert broadcast.statistics().disconnected_readers == 1


async def test_without_replay_there_are_no_ids() -> None:
    """And a reader that names one starts from now."""
    broadcast = Broadcast[bytes]()
    async with reading(broadcast, headers=(("last-event-id", "a-1"),)) as (reader,):
        broadcast.publish_nowait(b"1")
        assert await reader.take() == b"data: 1\n\n"


async def test_subscribers_get_items() -> None:
    """As they were published, not as bytes; after the end of the broadcast iteration ends."""
    broadcast = Broadcast[int](lambda value: b"%d" % value)
    seen: list[int] = []

    async def read() -> None:
        async with broadcast.subscribe() as items:
            async for value in items:
                seen.append(value)  # noqa: PERF401 - looked at while it grows

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await broadcast.publish(1, 2, 3)
        await wait_all_tasks_blocked()
        assert seen == [1, 2, 3]
        broadcast.publish_nowait(4)
        broadcast.end()
    assert seen == [1, 2, 3, 4]
    assert broadcast.statistics().readers == 0


async def test_a_subscriber_that_drops_counts() -> None:
    """It misses the oldest, also from within a run that it has begun."""
    broadcast = Broadcast[bytes](config=window(3, policy=LagPolicy.DROP))
    async with broadcast.subscribe() as items:
        broadcast.publish_nowait(item(0), item(1))
        assert await items.receive() == item(0)
        for n in range(2, 6):
            broadcast.publish_nowait(item(n))
        assert [await items.receive() for _ in range(3)] == [item(n) for n in range(3, 6)]
        assert items.dropped_items == 2
        with pytest.raises(trio.WouldBlock):
            items.receive_nowait()


async def test_a_subscriber_that_is_disconnected_is_told() -> None:
    """`StreamReset` with RESOURCE_EXHAUSTED, and again."""
    broadcast = Broadcast[bytes](config=window(3))
    async with broadcast.subscribe() as items:
        for n in range(4):
            broadcast.publish_nowait(item(n))
        for _ in range(2):
            with pytest.raises(StreamReset, match="more than 300 bytes behind") as info:
                await items.receive()
            assert info.value.code == Code.RESOURCE_EXHAUSTED


async def test_a_publisher_waits_for_a_subscriber() -> None:
    """With `WAIT` everything arrives, however slow it is."""
    broadcast = Broadcast[bytes](config=window(2, policy=LagPolicy.WAIT))

    async def publish() -> None:
        for n in range(10):
            await broadcast.publish(item(n))
        broadcast.end()

    async with broadcast.subscribe() as items, trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        assert broadcast.statistics().published_items == 2
        assert [value async for value in items] == [item(n) for n in range(10)]


async def test_closing_wakes_who_waits_and_cancelling_takes_nothing() -> None:
    """`ClosedResourceError` for a reader that waits; a cancelled `receive` leaves the item for the next one."""
    broadcast = Broadcast[bytes]()
    items = broadcast.subscribe()
    with trio.CancelScope() as scope:
        scope.cancel()
        await items.receive()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(items.receive)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    broadcast.publish_nowait(b"1")
    assert await items.receive() == b"1"

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await items.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await items.aclose()
    broadcast.publish_nowait(b"2")
    with pytest.raises(trio.ClosedResourceError):
        items.receive_nowait()


async def test_a_procedure_streams_a_broadcast() -> None:
    """A handler yields from its subscription, and gives it up when its caller leaves."""
    broadcast = Broadcast[int](lambda value: b"%d" % value, config=BroadcastConfig(window_bytes=10_000))
    router = Router()

    @router.stream("ticks")
    async def ticks() -> AsyncIterator[int]:
        async with broadcast.subscribe() as items:
            async for value in items:
                yield value

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, router, "tcp://127.0.0.1:0"))
        async with connect(url) as client:
            async with client.stream("ticks", returns=int) as stream:
                await until(lambda: broadcast.statistics().readers == 1)
                await broadcast.publish(1, 2)
                assert [await stream.receive(), await stream.receive()] == [1, 2]
            await until(lambda: broadcast.statistics().readers == 0)
        nursery.cancel_scope.cancel()


def test_events_of_a_dropped_notice_parse() -> None:
    """The notice is one event with a type of its own."""
    (event,) = sse.SseParser().receive(dropped_event(3))
    assert (event.event, event.data) == ("dropped", b'{"dropped":3}')
