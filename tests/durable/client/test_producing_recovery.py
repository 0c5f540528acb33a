"""A producer whose requests are refused for a reason that passes, and calls of it that are cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.durable.client.sites import Site, serve_in_thread
from trio_streams.durable import (
    AsyncDurableStream,
    DurableConfig,
    FetchError,
    IdempotentProducer,
    StreamNotFoundError,
    require_bearer,
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for all tests."""
    with serve_in_thread() as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Site]:
    """A server that wants a token."""
    with serve_in_thread(DurableConfig(authenticate=require_bearer({"new"}))) as found:
        yield found


async def create(url: str, **fields: Any) -> AsyncDurableStream:
    """A JSON stream."""
    return await AsyncDurableStream.create(url, content_type="application/json", **fields)


async def read(handle: AsyncDurableStream) -> list[object]:
    """All values of a JSON stream."""
    async with handle.stream(live=False) as res:
        return await res.read_json()


async def test_a_token_that_is_out_of_date_is_renewed(guarded: Site) -> None:
    """`on_error` gives a new one, and nothing is lost; what it gives is the producer's, not the handle's."""
    asked: list[Exception] = []

    def renew(error: Exception) -> dict[str, dict[str, str]]:
        asked.append(error)
        return {"headers": {"Authorization": "Bearer new"}}

    url = guarded.root + "renewed"
    async with (
        await create(url, headers={"Authorization": "Bearer new"}) as good,
        AsyncDurableStream(url, content_type="application/json", headers={"Authorization": "Bearer old"}) as stale,
    ):
        async with IdempotentProducer(stale, "p", on_error=renew) as producer:
            for number in range(3):
                await producer.append(number)
        assert await read(good) == [0, 1, 2]
        assert [getattr(error, "status", 0) for error in asked] == [401]
        with pytest.raises(FetchError):
            await stale.head()


async def test_without_a_new_token_nothing_is_given_up(guarded: Site) -> None:
    """The refusal is a FetchError, once; when the token is good, the same batches go."""
    token = "old"
    url = guarded.root + "kept"
    async with await create(url, headers={"Authorization": "Bearer new"}) as good:
        stream = AsyncDurableStream(
            url, content_type="application/json", headers={"Authorization": lambda: f"Bearer {token}"}
        )
        async with stream, IdempotentProducer(stream, "p") as producer:
            await producer.append(1)
            with pytest.raises(FetchError) as caught:
                await producer.flush()
            assert caught.value.status == 401
            token = "new"
            await producer.append(2)
            await producer.flush()
        assert await read(good) == [1, 2]


async def test_a_callable_that_fails_surfaces_once(site: Site) -> None:
    """From the next call, as it was raised; then it goes on with the same batches."""
    faults = [ZeroDivisionError("no token")]

    def header() -> str:
        if faults:
            raise faults.pop()
        return "x"

    url = site.root + "callable"
    async with (
        await create(url),
        AsyncDurableStream(url, content_type="application/json", headers={"X": header}) as stream,
    ):
        async with IdempotentProducer(stream, "p") as producer:
            await producer.append(1)
            with pytest.raises(ZeroDivisionError, match="no token"):
                await producer.flush()
            await producer.flush()
        assert await read(stream) == [1]


async def test_a_fault_that_was_told_is_not_told_again(site: Site) -> None:
    """Leaving the block raises nothing that a call has raised before."""
    async with AsyncDurableStream(site.root + "none", content_type="application/json") as stream:
        async with IdempotentProducer(stream, "p") as producer:
            await producer.append(1)
            with pytest.raises(StreamNotFoundError):
                await producer.flush()
        assert producer.progress.unsent_items == 1


@pytest.mark.parametrize("way", ["flush", "detach", "restart", "close"])
async def test_a_call_that_is_cancelled_while_it_waits(site: Site, way: str) -> None:
    """What was appended is stored all the same, and the producer goes on."""
    is_open = trio.Event()

    async def header() -> str:
        await is_open.wait()
        return "x"

    url = f"{site.root}cancelled-{way}"
    async with (
        await create(url),
        AsyncDurableStream(url, content_type="application/json", headers={"X": header}) as stream,
    ):
        async with IdempotentProducer(stream, "p", linger=1_000.0) as producer:
            await producer.append(1)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(getattr(producer, way))
                    await wait_all_tasks_blocked(0.01)
                    scope.cancel()
            assert scope.cancelled_caught
            assert producer.epoch == 0
            is_open.set()
        assert producer.progress.acknowledged_items == 1
        assert await read(stream) == [1]
        assert (await stream.head()).is_closed is (way == "close")


async def test_all_who_wait_learn_of_a_failure(site: Site) -> None:
    """One is told what went wrong, the others that the producer has failed."""
    told: list[str] = []

    async def append(producer: IdempotentProducer) -> None:
        try:
            await producer.flush()
        except Exception as exc:  # noqa: BLE001 - to be looked at
            told.append(type(exc).__name__)

    async with (
        AsyncDurableStream(site.root + "none", content_type="application/json") as stream,
        IdempotentProducer(stream, "p", linger=1_000.0) as producer,
    ):
        await producer.append(1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(append, producer)
    assert sorted(told) == ["ProducerClosedError", "ProducerClosedError", "StreamNotFoundError"]
