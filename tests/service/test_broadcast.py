"""One publisher and its readers, on a host that is nothing but a list of writes."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import LocalProtocolError
from trio_streams.service.broadcast import Broadcast, BroadcastConfig, LagPolicy
from trio_streams.service.compression import Compression, compressed
from trio_streams.service.exchange import ExchangeConfig, ExchangeHandler, RequestHead
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire import sse

END = b"event: end\ndata: {}\n\n"


def window(items: int, **settings: object) -> BroadcastConfig:
    """A window of so many items of 36 bytes."""
    fields: dict[str, object] = {"window_bytes": items * 100, **settings}
    return BroadcastConfig(**fields)  # type: ignore[arg-type]


def item(n: int) -> bytes:
    return b"%036d" % n


@attrs.define
class Reader:
    """An exchange whose host writes when the test says so."""

    exchange: HostedExchange
    data: bytes = b""
    is_done: bool = False

    async def take(self) -> bytes:
        """What the host would write next; the answer's end is empty."""
        with trio.fail_after(10):
            part = await self.exchange.take_body()
        self.data += part or b""
        return part or b""

    async def take_all(self) -> bytes:
        while await self.take():
            pass
        return self.data

    def events(self) -> list[sse.Event]:
        return sse.SseParser().receive(self.data)


@asynccontextmanager
async def reading(
    broadcast: Broadcast[bytes] | ExchangeHandler,
    count: int = 1,
    *,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    policy: LagPolicy | None = None,
) -> AsyncIterator[list[Reader]]:
    async def handle(reader: Reader) -> None:
        async def handler(exchange: object) -> None:
            if isinstance(broadcast, Broadcast):
                await broadcast.respond(reader.exchange, policy=policy)
            else:
                await broadcast(reader.exchange)

        await run_handler(reader.exchange, handler)
        reader.is_done = True

    request = RequestHead(method=method, path="/", headers=headers)
    readers = [Reader(HostedExchange(request, ExchangeConfig())) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for reader in readers:
            nursery.start_soon(handle, reader)
        await wait_all_tasks_blocked()
        yield readers
        nursery.cancel_scope.cancel()


async def test_everybody_gets_everything_once_encoded(autojump_clock: trio.testing.MockClock) -> None:
    """Three readers get the same events in order; the encoder ran once for each item."""
    encoded: list[int] = []

    def encode(value: int) -> bytes:
        encoded.append(value)
        return msgspec.json.encode(value)

    broadcast = Broadcast[int](encode)
    async with reading(broadcast.respond, 3) as readers:
        await broadcast.publish(1, 2)
        broadcast.publish_nowait(3)
        broadcast.end()
        broadcast.end()
        for reader in readers:
            assert await reader.take_all() == b"data: 1\n\ndata: 2\n\ndata: 3\n\n" + END
        await wait_all_tasks_blocked()
        assert all(reader.is_done and reader.exchange.is_ended for reader in readers)
    assert encoded == [1, 2, 3]
    assert broadcast.statistics().readers == 0


async def test_a_reader_gets_what_is_published_from_now_on() -> None:
    """Nothing of what was before, unless it asks; after the end it gets the end."""
    broadcast = Broadcast[bytes]()
    broadcast.publish_nowait(b"before")
    async with reading(broadcast) as (reader,):
        broadcast.publish_nowait(b"after")
        assert await reader.take() == b"data: after\n\n"
    broadcast.end()
    async with reading(broadcast) as (reader,):
        assert await reader.take_all() == END


async def test_head_gets_the_head_alone() -> None:
    """And is no reader."""
    broadcast = Broadcast[bytes]()
    async with reading(broadcast, method="HEAD") as (reader,):
        head = await reader.exchange.take_head()
        assert head is not None
        assert dict(head.headers)["content-type"] == "text/event-stream"
        assert (await reader.take_all(), reader.is_done, broadcast.statistics().readers) == (b"", True, 0)


async def test_events_have_the_configured_type() -> None:
    """`event:` stands before each."""
    broadcast = Broadcast[bytes](config=BroadcastConfig(event="price"))
    async with reading(broadcast) as (reader,):
        broadcast.publish_nowait(b"1", b"2")
        await reader.take()
        assert [(event.event, event.data) for event in reader.events()] == [("price", b"1"), ("price", b"2")]


async def test_a_reader_that_is_behind_is_disconnected() -> None:
    """By default its answer ends without an `end` event, so that it comes back; the others notice nothing."""
    broadcast = Broadcast[bytes](config=window(3))
    async with reading(broadcast, 2) as (slow, fast):
        for n in range(4):
            broadcast.publish_nowait(item(n))
            await fast.take()
        assert await slow.take_all() == b""
        await wait_all_tasks_blocked()
        assert (slow.is_done, fast.is_done, slow.exchange.is_ended) == (True, False, True)
        assert [event.data for event in fast.events()] == [item(n) for n in range(4)]
        statistics = broadcast.statistics()
        assert (statistics.disconnected_readers, statistics.readers, statistics.readers_behind) == (1, 1, 0)


async def test_a_reader_within_its_window_is_not() -> None:
    """All that waits is joined, and the reader counts as having caught up."""
    broadcast = Broadcast[bytes](config=window(3))
    async with reading(broadcast) as (reader,):
        for turn in range(10):
            for n in range(3):
                broadcast.publish_nowait(item(3 * turn + n))
            assert broadcast.statistics().readers_behind == 1
            await reader.take()
            assert broadcast.statistics().readers_behind == 0
        assert [event.data for event in reader.events()] == [item(n) for n in range(30)]


async def test_a_reader_that_drops_is_told_how_many() -> None:
    """It misses the oldest, and an event says so before what follows."""
    broadcast = Broadcast[bytes](config=window(3, policy=LagPolicy.DROP))
    async with reading(broadcast) as (reader,):
        for n in range(10):
            broadcast.publish_nowait(item(n))
        await reader.take()
        await reader.take()
        broadcast.publish_nowait(item(10))
        await reader.take()
        dropped, *rest = reader.events()
        assert (dropped.event, dropped.data) == ("dropped", b'{"dropped":7}')
        assert [event.data for event in rest] == [item(n) for n in range(7, 11)]
    assert broadcast.statistics().dropped_items == 7


async def test_a_publisher_waits_for_a_reader() -> None:
    """With `WAIT` it goes on when the reader has taken something, or has left; `publish_nowait` says that it would."""
    broadcast = Broadcast[bytes](config=window(3))
    published = 0

    async def publish() -> None:
        nonlocal published
        while published < 20:
            await broadcast.publish(item(published))
            published += 1

    async with reading(broadcast, 1) as (free,), reading(broadcast, policy=LagPolicy.WAIT) as (slow,):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            await wait_all_tasks_blocked()
            assert published == 3
            with pytest.raises(trio.WouldBlock):
                broadcast.publish_nowait(b"")
            await free.take()
            await wait_all_tasks_blocked()
            assert published == 3
            await slow.take()
            await wait_all_tasks_blocked()
            assert published == 6
            await free.take()
            slow.exchange.abandon()
            await wait_all_tasks_blocked()
            assert published == 20  # nobody left to wait for: `free` has been disconnected
            assert broadcast.statistics().disconnected_readers == 1
        assert [event.data for event in slow.events()] == [item(n) for n in range(3)]


async def test_a_cancelled_publication_reaches_nobody() -> None:
    """Waiting for room or before: nothing of it appears, and the next one does."""
    broadcast = Broadcast[bytes](config=window(1, policy=LagPolicy.WAIT))
    async with reading(broadcast) as (reader,):
        with trio.CancelScope() as scope:
            scope.cancel()
            await broadcast.publish(b"never")
        assert scope.cancelled_caught
        await broadcast.publish(item(0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broadcast.publish, b"never")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await reader.take()
        await broadcast.publish(item(1))
        await reader.take()
        assert [event.data for event in reader.events()] == [item(0), item(1)]


async def test_a_publication_under_way_reaches_everybody() -> None:
    """Cancelled between two slices of readers, it goes on to the last one; a later one stays behind it."""
    broadcast = Broadcast[bytes]()
    async with reading(broadcast, 300) as readers:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(broadcast.publish, b"1")
                while not broadcast.statistics().published_items:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
                broadcast.publish_nowait(b"2")
        for reader in readers:
            while len(reader.events()) < 2:
                await reader.take()
            assert reader.data == b"data: 1\n\ndata: 2\n\n"


async def test_a_stalled_reader_holds_nothing_of_its_own() -> None:
    """Whatever is published, and however many stall, the log stays within its limit."""
    config = window(10, policy=LagPolicy.DROP)
    broadcast = Broadcast[bytes](config=config)
    async with reading(broadcast, 50) as readers:
        for n in range(1_000):
            broadcast.publish_nowait(item(n))
            assert broadcast.statistics().retained_bytes <= config.window_bytes + 100
        statistics = broadcast.statistics()
        assert (statistics.readers_behind, statistics.published_items) == (50, 1_000)
        assert all([await reader.take() for reader in readers])


async def test_a_cancelled_or_lost_reader_leaves() -> None:
    """Its place is given up, and publishing goes on."""
    broadcast = Broadcast[bytes]()
    async with reading(broadcast, 2) as (lost, other):
        lost.exchange.abandon()
        broadcast.publish_nowait(b"1")
        await wait_all_tasks_blocked()
        assert broadcast.statistics().readers == 1
        assert await other.take() == b"data: 1\n\n"
    assert broadcast.statistics().readers == 0
    broadcast.publish_nowait(b"2")


async def test_a_comment_goes_to_those_with_nothing_to_read() -> None:
    """It keeps proxies content; who has something waiting needs none, nor do subscribers."""
    broadcast = Broadcast[bytes]()
    async with reading(broadcast, 2) as (idle, busy), broadcast.subscribe() as items:
        broadcast.publish_nowait(b"1")
        await idle.take()
        items.receive_nowait()
        broadcast.comment_nowait("beat")
        broadcast.comment_nowait("beat")
        assert await idle.take() == b": beat\n\n"
        assert await busy.take() == b"data: 1\n\n"
        with pytest.raises(LocalProtocolError, match="line end"):
            broadcast.comment_nowait("a\nb")


async def test_what_cannot_be_published_is_refused() -> None:
    """Too much at once, what is not bytes, and anything after the end; nothing of it appears."""
    broadcast = Broadcast[bytes](config=window(3))
    with pytest.raises(LocalProtocolError, match="400 bytes at once: the window has 300") as info:
        broadcast.publish_nowait(*[item(0)] * 4)
    assert (info.value.field, info.value.size, info.value.limit) == ("items", 400, 300)
    with pytest.raises(LocalProtocolError, match="without an encoder"):
        await broadcast.publish("text")  # type: ignore[arg-type]
    broadcast.publish_nowait()
    assert broadcast.statistics().published_items == 0
    broadcast.end()
    with pytest.raises(trio.ClosedResourceError, match="has ended"):
        broadcast.publish_nowait(b"")
    with pytest.raises(trio.ClosedResourceError, match="has ended"):
        await broadcast.publish(b"")
    with pytest.raises(ValueError, match="window_bytes"):
        BroadcastConfig(window_bytes=0)


async def test_the_end_frees_a_publisher_that_waits() -> None:
    """It is told that the broadcast has ended."""
    broadcast = Broadcast[bytes](config=window(1, policy=LagPolicy.WAIT))
    async with reading(broadcast) as (reader,), trio.open_nursery() as nursery:
        broadcast.publish_nowait(item(0))

        async def publish() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await broadcast.publish(item(1))

        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        broadcast.end()
        assert (await reader.take_all()).endswith(END)


async def test_events_can_be_compressed() -> None:
    """Each reader's own encoder stands between the log and its connection."""
    broadcast = Broadcast[bytes]()
    handler = compressed(broadcast.respond, Compression(events=True))
    async with reading(handler, headers=(("accept-encoding", "gzip"),)) as (reader,):
        coder = zlib.decompressobj(31)
        for n in range(3):
            broadcast.publish_nowait(item(n))
            assert coder.decompress(await reader.take()) == b"data: " + item(n) + b"\n\n"
        broadcast.end()
        reader.data = b""
        assert coder.decompress(await reader.take_all()) == END
        assert coder.eof
