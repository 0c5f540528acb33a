"""Writers whose connections are cut at every byte of a request and of its answer: nothing is doubled, and a producer loses nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import pytest
import trio

from tests.faults.proxy import Cut, Ending, Weather, open_proxy
from trio_streams.durable import (
    AsyncDurableStream,
    FetchError,
    IdempotentProducer,
    ProducerOptions,
    RetryOptions,
    serve_durable,
)

OPTIONS: Final = ProducerOptions(retry=RetryOptions(max_retries=20, initial_delay=0.001, max_delay=0.005))
MOST_BYTES: Final = {True: 200, False: 270}
"""More than the request (True), and more than the answer."""


@attrs.frozen
class FirstCut(Weather):
    """Only some connections are cut, by their number."""

    numbers: frozenset[int] = frozenset({1})

    def of(self, number: int) -> Weather:
        return self if number in self.numbers else Weather()


@asynccontextmanager
async def open_line(root: str, weather: Weather) -> AsyncIterator[str]:
    """The URL of a way to a server on which the weather is bad."""
    host, _, port = root.removeprefix("http://").partition(":")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_proxy(listener, partial(trio.open_tcp_stream, host, int(port)), weather):
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/stream"


@asynccontextmanager
async def open_server() -> AsyncIterator[str]:
    """Our server on the lean host, in memory."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_durable, port=0))
        nursery.cancel_scope.cancel()


async def read(root: str, name: str) -> list[object]:
    """All of a stream, by the good way."""
    async with AsyncDurableStream(f"{root}/v1/stream/{name}") as handle, handle.stream(live=False) as res:
        return await res.read_json()


async def create(root: str, name: str) -> None:
    """A JSON stream, by the good way."""
    async with await AsyncDurableStream.create(f"{root}/v1/stream/{name}", content_type="application/json"):
        pass


def _cuts(is_upwards: bool, step: int) -> range:
    return range(0, MOST_BYTES[is_upwards], step)


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.FIN])
@pytest.mark.parametrize("is_upwards", [True, False], ids=["request", "answer"])
async def test_a_producer_loses_and_doubles_nothing(is_upwards: bool, ending: Ending) -> None:
    """Cut anywhere, the batch is sent again under its number: every message is there once, in order."""
    async with open_server() as root:
        for after_bytes in _cuts(is_upwards, 1 if ending is Ending.RESET else 31):
            name = f"{is_upwards}-{after_bytes}"
            await create(root, name)
            async with open_line(root, FirstCut(cut=Cut(ending, is_upwards, after_bytes))) as line:
                handle = AsyncDurableStream(f"{line}/{name}", content_type="application/json")
                async with handle, IdempotentProducer(handle, "p", linger=0, options=OPTIONS) as producer:
                    for number in range(3):
                        await producer.append(number)
                    await producer.flush()
                    await producer.append(3)
            assert await read(root, name) == [0, 1, 2, 3], after_bytes
            assert producer.progress.acknowledged_items == 4


@pytest.mark.parametrize("seed", range(12))
async def test_a_pipelining_producer_in_bad_weather(seed: int) -> None:
    """Several requests at once, most of their connections cut somewhere, late and in pieces."""
    async with open_server() as root:
        await create(root, "s")
        weather = FirstCut(
            seed=seed,
            max_chunk=100,
            latency=(0.0, 0.003),
            cut=Cut(Ending.RESET, seed % 2 == 0, 150 + 97 * seed),
            numbers=frozenset({1, 2, 3, 5, 6, 7, 9, 12, 15}),
        )
        async with open_line(root, weather) as line:
            handle = AsyncDurableStream(f"{line}/s", content_type="application/json")
            async with (
                handle,
                IdempotentProducer(handle, "p", linger=0, max_batch_bytes=10, options=OPTIONS) as producer,
            ):
                for number in range(60):
                    await producer.append(number)
                await producer.close("end")
        assert await read(root, "s") == [*range(60), "end"]


@pytest.mark.parametrize("is_upwards", [True, False], ids=["request", "answer"])
async def test_closing_closes_once(is_upwards: bool) -> None:
    """The closing request is cut all over; its message is there once, and the result is that of the closing."""
    async with open_server() as root:
        for after_bytes in _cuts(is_upwards, 11):
            name = f"{is_upwards}-{after_bytes}"
            await create(root, name)
            async with open_line(root, FirstCut(cut=Cut(Ending.RESET, is_upwards, after_bytes))) as line:
                handle = AsyncDurableStream(f"{line}/{name}", content_type="application/json")
                async with handle, IdempotentProducer(handle, "p", options=OPTIONS) as producer:
                    result = await producer.close({"end": True})
            async with AsyncDurableStream(f"{root}/v1/stream/{name}") as handle:
                head = await handle.head()
            assert head.is_closed
            assert result.next_offset == head.offset
            assert await read(root, name) == [{"end": True}], after_bytes


@pytest.mark.parametrize("is_upwards", [True, False], ids=["request", "answer"])
async def test_a_plain_append_is_never_doubled(is_upwards: bool) -> None:
    """It is stored once where it says so, at most once where it does not, and the handle goes on."""
    outcomes = {"stored": 0, "in doubt": 0}
    async with open_server() as root:
        for after_bytes in _cuts(is_upwards, 11):
            name = f"{is_upwards}-{after_bytes}"
            await create(root, name)
            weather = FirstCut(cut=Cut(Ending.RESET, is_upwards, after_bytes))
            async with (
                open_line(root, weather) as line,
                AsyncDurableStream(f"{line}/{name}", content_type="application/json") as handle,
            ):
                try:
                    await handle.append("first")
                    expected = [["first", "second"]]
                    outcomes["stored"] += 1
                except FetchError:
                    expected = [["first", "second"], ["second"]]
                    outcomes["in doubt"] += 1
                for _ in range(3):  # the second may still meet the connection that is being cut
                    try:
                        await handle.append("second")
                        break
                    except FetchError:
                        expected = [*expected, *([*one, "second"] for one in expected)]
            assert await read(root, name) in expected, (after_bytes, json.dumps(expected))
    assert min(outcomes.values()) > 0


async def test_an_outage_longer_than_patience_loses_nothing() -> None:
    """A FetchError, once; the next call goes on with the same batches when the server is back."""
    impatient = ProducerOptions(retry=RetryOptions(max_retries=2, initial_delay=0.001, max_delay=0.001))
    async with open_server() as root:
        await create(root, "s")
        weather = FirstCut(cut=Cut(Ending.RESET, False, 20), numbers=frozenset(range(1, 4)))
        async with open_line(root, weather) as line:
            handle = AsyncDurableStream(f"{line}/s", content_type="application/json")
            async with handle, IdempotentProducer(handle, "p", options=impatient) as producer:
                await producer.append(1)
                with pytest.raises(FetchError) as caught:
                    await producer.flush()
                assert caught.value.status is None
                await producer.append(2)
                await producer.flush()
        assert await read(root, "s") == [1, 2]


async def test_an_outage_at_the_end_surfaces_from_the_block() -> None:
    """Nobody was told before, so leaving tells it, bare, with what is stored and what may be."""
    impatient = ProducerOptions(retry=RetryOptions(max_retries=1, initial_delay=0.001, max_delay=0.001))
    async with open_server() as root:
        await create(root, "s")
        weather = FirstCut(cut=Cut(Ending.RESET, False, 20), numbers=frozenset(range(1, 100)))
        async with open_line(root, weather) as line:
            with pytest.raises(FetchError) as caught:
                handle = AsyncDurableStream(f"{line}/s", content_type="application/json")
                async with handle, IdempotentProducer(handle, "p", options=impatient) as producer:
                    await producer.append(1)
        assert caught.value.__notes__ == ["producer 'p': 0 messages are stored, 1 may be, 0 are not"]
        assert await read(root, "s") in ([], [1])


async def test_a_server_that_is_silent_is_left_after_a_time() -> None:
    """Leaving the block waits `close_timeout` seconds, and says what is not stored."""
    patient = ProducerOptions(close_timeout=0.3)
    async with open_server() as root:
        await create(root, "s")
        async with open_line(root, FirstCut(cut=Cut(Ending.SILENCE, True, 0))) as line:
            with pytest.raises(FetchError, match=r"0\.3 seconds") as caught:
                handle = AsyncDurableStream(f"{line}/s", content_type="application/json")
                async with handle, IdempotentProducer(handle, "p", options=patient) as producer:
                    await producer.append(1)
        assert caught.value.code == "TIMEOUT"
