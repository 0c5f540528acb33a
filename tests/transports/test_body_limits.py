"""Request bodies that come too slowly, in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_streams.errors import RpcError
from trio_streams.service.exchange import ExchangeConfig, RequestHead
from trio_streams.transports.body_limits import check_pace
from trio_streams.transports.exchange import HostedExchange

CONFIG = ExchangeConfig(body_timeout=20, min_body_bytes_per_second=10)


def post() -> HostedExchange:
    return HostedExchange(RequestHead(method="POST", path="/"), CONFIG)


async def feed(exchange: HostedExchange, size: int, every: float) -> None:
    while True:
        await trio.sleep(every)
        exchange.feed_nowait(b"x" * size, is_last=False)


async def refused_at(exchange: HostedExchange, size: int, every: float) -> tuple[float, RpcError]:
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, exchange, size, every)
        with pytest.raises(RpcError) as caught:
            await exchange.receive_body()
        nursery.cancel_scope.cancel()
    return trio.current_time() - start, caught.value


async def test_a_silence_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """`body_timeout` seconds after the last piece, whoever waits for the next one is told so."""
    exchange = post()
    exchange.feed_nowait(b"abc", is_last=False)
    assert await exchange.receive_some() == b"abc"
    start = trio.current_time()
    with pytest.raises(RpcError, match="body_timeout is 20 seconds") as caught:
        await exchange.receive_some()
    assert trio.current_time() - start == 20
    assert (caught.value.code, caught.value.details) == ("IDLE_TIMEOUT", {"field": "body_timeout", "limit": 20})


@pytest.mark.parametrize(("size", "every", "expected"), [(1, 0.5, 20.5), (1, 19, 38), (45, 5, 25)])
async def test_a_pace_is_bounded(
    autojump_clock: trio.testing.MockClock, size: int, every: float, expected: float
) -> None:
    """From `body_timeout` on, the first piece that finds the average below the minimum is the last one."""
    seconds, error = await refused_at(post(), size, every)
    assert seconds == expected
    assert "min_body_bytes_per_second is 10 bytes a second" in error.message


async def test_a_body_that_keeps_the_pace(autojump_clock: trio.testing.MockClock) -> None:
    """At the minimum exactly it may take for ever; and the piece that completes it is never too late."""
    exchange = post()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, exchange, 10, 1)
        with trio.move_on_after(500.5):
            await exchange.receive_body()
            pytest.fail("it has no end")
        nursery.cancel_scope.cancel()
    exchange = post()

    async def complete() -> None:
        await trio.sleep(15)
        exchange.feed_nowait(b"a", is_last=False)
        await trio.sleep(15)
        exchange.feed_nowait(b"b", is_last=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(complete)
        assert await exchange.receive_body() == b"ab"


async def test_pieces_may_take_their_time(autojump_clock: trio.testing.MockClock) -> None:
    """What is taken piece by piece has no pace: an upload of live items lasts as long as they come."""
    exchange = post()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, exchange, 1, 19)
        for _ in range(50):
            assert await exchange.receive_some() == b"x"
        nursery.cancel_scope.cancel()


async def test_waiting_for_a_piece_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled wait takes nothing, and is a cancellation, not a silence."""
    exchange = post()
    with trio.move_on_after(1) as scope:
        await exchange.receive_some()
    assert scope.cancelled_caught
    exchange.feed_nowait(b"abc", is_last=True)
    assert await exchange.receive_body() == b"abc"


def test_no_minimum() -> None:
    """None is any pace."""
    check_pace(ExchangeConfig(min_body_bytes_per_second=None), 0, 1_000_000)
