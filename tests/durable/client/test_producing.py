"""An idempotent producer, on our server and on the published one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.interop.durable.servers import server_url as server_url
from trio_streams.durable import (
    AsyncDurableStream,
    IdempotentProducer,
    ProducerClosedError,
    ProducerOptions,
    StaleEpochError,
    StreamClosedError,
    StreamNotFoundError,
)
from trio_streams.errors import CodecError, LocalProtocolError


@pytest.fixture
def new_url(server_url: str) -> Callable[[], str]:
    """Makes URLs of streams that are not there yet."""
    return lambda: f"{server_url}/{uuid.uuid4().hex}"


async def create(url: str) -> AsyncDurableStream:
    """A JSON stream."""
    return await AsyncDurableStream.create(url, content_type="application/json")


async def read(handle: AsyncDurableStream) -> list[object]:
    """All values of a JSON stream."""
    async with handle.stream(live=False) as res:
        return await res.read_json()


async def test_messages_are_stored_in_order(new_url: Callable[[], str]) -> None:
    """Leaving the block waits for all of them; `progress` tells so afterwards."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            for number in range(300):
                await producer.append(number)
        assert await read(handle) == list(range(300))
        progress = producer.progress
        assert (progress.acknowledged_items, progress.doubtful_items, progress.unsent_items) == (300, 0, 0)
        assert progress.last_offset == (await handle.head()).offset
        assert not producer.is_open


async def test_many_small_requests_at_once(new_url: Callable[[], str]) -> None:
    """Some overtake others and meet a gap; the order is kept all the same."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p", max_batch_bytes=1, linger=0, max_in_flight=8) as producer:
            for number in range(150):
                await producer.append(number)
            await producer.flush()
            assert producer.progress.acknowledged_items == 150
            assert (producer.epoch, producer.next_seq) == (0, 150)
        assert await read(handle) == list(range(150))


async def test_the_content_type_is_asked_for(new_url: Callable[[], str]) -> None:
    """Entering the block learns it; where there is no stream it fails there."""
    url = new_url()
    async with await create(url), AsyncDurableStream(url) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            producer.append_nowait({"a": 1})
            with pytest.raises(CodecError):
                producer.append_nowait(b"not json")
        assert await read(handle) == [{"a": 1}]
    async with AsyncDurableStream(new_url()) as handle:
        with pytest.raises(StreamNotFoundError):
            async with IdempotentProducer(handle, "p"):
                raise AssertionError("not entered")


async def test_a_flush_does_not_wait_for_company(new_url: Callable[[], str]) -> None:
    """What lingers leaves, and is stored when the flush returns."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p", linger=1_000.0) as producer:
            await producer.flush()
            await producer.append(1)
            await producer.flush()
            assert await read(handle) == [1]
            await producer.append(2)
        assert await read(handle) == [1, 2]


async def test_closing_closes_once(new_url: Callable[[], str]) -> None:
    """All before it, the last message, and the end; a second call gives the same result."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            await producer.append(1)
            result = await producer.close("bye")
            assert await producer.close("not looked at") == result
            with pytest.raises(ProducerClosedError) as caught:
                await producer.append(2)
            assert caught.value.code == "ALREADY_CLOSED"
            with pytest.raises(LocalProtocolError, match="closed"):
                await producer.restart()
        assert await read(handle) == [1, "bye"]
        head = await handle.head()
        assert head.is_closed
        assert head.offset == result.next_offset


async def test_closing_without_a_message(new_url: Callable[[], str]) -> None:
    """Two calls at once close once."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer, trio.open_nursery() as nursery:
            nursery.start_soon(producer.close)
            nursery.start_soon(producer.close)
        assert (await handle.head()).is_closed


async def test_a_close_that_is_left_is_done_by_leaving(new_url: Callable[[], str]) -> None:
    """Cancelled, it goes on in the background, and the end of the block waits for it."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            with trio.CancelScope() as scope:
                scope.cancel()
                await producer.close()
            with trio.move_on_after(0):
                await producer.close("bye")
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(producer.close, "bye")
                    await wait_all_tasks_blocked()
                    scope.cancel()
        assert (await handle.head()).is_closed


async def test_detaching_leaves_the_stream_open(new_url: Callable[[], str]) -> None:
    """All is stored, nothing more is taken; a restart takes again."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            await producer.append(1)
            await producer.detach()
            await producer.detach()
            with pytest.raises(ProducerClosedError):
                producer.append_nowait(2)
            await producer.restart()
            await producer.append(3)
        assert await read(handle) == [1, 3]
        assert not (await handle.head()).is_closed


async def test_a_restart_shuts_out_the_epoch_before(new_url: Callable[[], str]) -> None:
    """Who still writes in it gets a StaleEpochError, once, and can do nothing but restart, too."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as old, IdempotentProducer(handle, "p") as new:
            await old.append("old")
            await old.flush()
            await new.restart()
            assert new.epoch == 1
            await new.append("new")
            await new.flush()
            await old.append("lost")
            with pytest.raises(StaleEpochError) as caught:
                await old.flush()
            assert caught.value.current_epoch == 1
            for call in (old.flush, lambda: old.append("x"), old.close):
                with pytest.raises(ProducerClosedError) as closed:
                    await call()
                assert closed.value.code == "PRODUCER_FAILED"
            await old.restart()
            assert old.epoch == 2
            await old.append("again")
        assert await read(handle) == ["old", "new", "again"]
        assert old.progress.abandoned_items == 1


async def test_an_epoch_is_claimed(new_url: Callable[[], str]) -> None:
    """From a producer with a higher epoch, and from one that has used the same."""
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p", epoch=5) as producer:
            await producer.append("five")
        for epoch, expected in ((0, 6), (6, 7)):
            async with IdempotentProducer(handle, "p", epoch=epoch, auto_claim=True) as producer:
                await producer.append(expected)
                await producer.flush()
                assert producer.epoch == expected
        assert await read(handle) == ["five", 6, 7]


async def test_a_run_with_the_same_batches_stores_them_once(new_url: Callable[[], str]) -> None:
    """What the server has under these numbers counts as stored, and is counted."""
    async with await create(new_url()) as handle:
        for duplicates in (0, 2):
            async with IdempotentProducer(handle, "p", linger=60.0) as producer:
                await producer.append(1)
                await producer.append(2)
            assert producer.progress.duplicate_items == duplicates
        assert await read(handle) == [1, 2]


async def test_closing_under_a_number_that_was_used(new_url: Callable[[], str], request: pytest.FixtureRequest) -> None:
    """A server takes it for a duplicate and closes nothing: that must not count as closed."""
    is_reference = "reference" in request.node.name  # it says that the stream is closed, and it is not
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p") as producer:
            await producer.append(1)
        async with IdempotentProducer(handle, "p") as producer:
            try:
                await producer.close()
            except StaleEpochError:
                assert not (await handle.head()).is_closed
            else:
                assert is_reference
                return
        async with IdempotentProducer(handle, "p", auto_claim=True) as producer:
            await producer.close()
            assert producer.epoch == 1
        assert (await handle.head()).is_closed


async def test_a_stream_that_somebody_else_closes(new_url: Callable[[], str]) -> None:
    """The error surfaces from leaving the block, bare, where no call came before."""
    async with await create(new_url()) as handle:
        await handle.close()
        with pytest.raises(StreamClosedError) as caught:
            async with IdempotentProducer(handle, "p") as producer:
                await producer.append(1)
        assert caught.value.__notes__ == ["producer 'p': 0 messages are stored, 0 may be, 1 are not"]


async def test_an_exception_gives_up_what_is_not_stored(new_url: Callable[[], str]) -> None:
    """It leaves as it is, with a note; nothing is sent after the block."""
    async with await create(new_url()) as handle:
        with pytest.raises(ZeroDivisionError) as caught:
            async with IdempotentProducer(handle, "p", linger=1_000.0) as producer:
                await producer.append(1)
                raise ZeroDivisionError
        assert caught.value.__notes__ == ["producer 'p': 0 messages are stored, 0 may be, 1 are not"]
        assert await read(handle) == []
        assert producer.progress.unsent_items == 1
        for call in (lambda: producer.append(2), producer.flush, producer.close, producer.restart):
            with pytest.raises(LocalProtocolError, match="async with"):
                await call()


async def test_a_cancellation_gives_up_what_is_not_stored(new_url: Callable[[], str]) -> None:
    """The block ends at once."""
    async with await create(new_url()) as handle:
        with trio.CancelScope() as scope:
            async with IdempotentProducer(handle, "p", linger=1_000.0) as producer:
                await producer.append(1)
                scope.cancel()
        assert scope.cancelled_caught
        assert await read(handle) == []


async def test_messages_that_wait_for_room_come_in_order(new_url: Callable[[], str]) -> None:
    """Past the limit `append` waits and `append_nowait` would; cancelled there, nothing is appended."""
    options = ProducerOptions(max_pending_bytes=100)
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p", linger=1_000.0, options=options) as producer:
            await producer.append("x" * 50)
            with pytest.raises(trio.WouldBlock):
                producer.append_nowait(0)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(producer.append, "cancelled")
                    await wait_all_tasks_blocked()
                    scope.cancel()
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(producer.append, number)
                    await wait_all_tasks_blocked()
                nursery.start_soon(_keep_flushing, producer, 21)
        assert await read(handle) == ["x" * 50, *range(20)]


async def _keep_flushing(producer: IdempotentProducer, items: int) -> None:
    while producer.progress.acknowledged_items < items:
        await producer.flush()


@pytest.mark.parametrize("way", ["close", "detach"])
async def test_whoever_waits_for_room_learns_of_the_end(new_url: Callable[[], str], way: str) -> None:
    """A producer that is closed or detached takes nothing more, also from those that wait."""
    options = ProducerOptions(max_pending_bytes=100)
    async with await create(new_url()) as handle:
        async with IdempotentProducer(handle, "p", linger=1_000.0, options=options) as producer:
            await producer.append("x" * 50)
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(_refused, producer)
                await wait_all_tasks_blocked()
                await getattr(producer, way)()
        assert await read(handle) == ["x" * 50]


async def _refused(producer: IdempotentProducer) -> None:
    with pytest.raises(ProducerClosedError):
        await producer.append("late")


async def test_a_producer_is_entered_once(new_url: Callable[[], str]) -> None:
    """And works inside its block only."""
    async with await create(new_url()) as handle:
        producer = IdempotentProducer(handle, "p")
        with pytest.raises(LocalProtocolError, match="async with"):
            await producer.append(1)
        async with producer:
            with pytest.raises(LocalProtocolError, match="once"):
                await producer.__aenter__()


@pytest.mark.parametrize(
    "arguments",
    [
        {"producer_id": ""},
        {"epoch": -1},
        {"epoch": 2**53},
        {"max_batch_bytes": 0},
        {"max_in_flight": 0},
        {"linger": -1.0},
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any]) -> None:
    """A ValueError names what is out of range."""
    handle = AsyncDurableStream("http://localhost/x")
    with pytest.raises(ValueError, match=next(iter(arguments))):
        IdempotentProducer(handle, **{"producer_id": "p", **arguments})


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(ProducerOptions) if field.name != "retry"])
def test_options_are_checked(field: str) -> None:
    """Each limit must allow something."""
    with pytest.raises(ValueError, match=field):
        ProducerOptions(**{field: 0})  # type: ignore[arg-type]
