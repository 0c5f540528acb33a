"""How requests over HTTP/3 end: stalled, delivered, refused and cancelled, over a machine that only writes down what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.fake_requests import FakeLink, head, serving
from trio_streams.service.exchange import Exchange, ExchangeConfig, respond
from trio_streams.testing.cancelling import cancel_everywhere


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


async def stubborn(exchange: Exchange) -> None:
    await exchange.send_head(200)
    await exchange.send(b"begun")
    await trio.sleep_forever()


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_client_that_takes_nothing_is_given_up(is_over: bool, autojump_clock: MockClock) -> None:
    """After `stall_timeout` without a byte of progress, under way or when its handler is long done."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"x" * 100)
        if not is_over:
            await trio.sleep_forever()

    async with serving(handler, ExchangeConfig(stall_timeout=8)) as (link, host):
        link.room[0] = 1_000 if is_over else 50
        link.ask(head())
        await trio.sleep(5)
        link.leave(size=10)  # it moves, so it gets the time once more
        await trio.sleep(7)
        assert host.exchanges == 1
        await trio.sleep(3)
        assert link.said()[-2:] == [("abandon", "H3_REQUEST_CANCELLED"), ("release",)]
        assert host.exchanges == 0


async def test_what_has_left_waits_for_nobody(autojump_clock: MockClock) -> None:
    """An answer that has left as a whole is QUIC's to deliver, however long that takes."""
    async with serving(hello, ExchangeConfig(stall_timeout=8)) as (link, host):
        link.ask(head())
        await trio.sleep(1)
        link.leave()
        await trio.sleep(100)
        assert host.exchanges == 1
        link.deliver()
        assert link.said()[-1] == ("release",)


async def test_delivered_before_its_handler_is_done() -> None:
    """A handler may go on behind its answer; the stream is released when it returns."""
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await hello(exchange)
        await go_on.wait()

    async with serving(handler) as (link, host):
        link.ask(head())
        await wait_all_tasks_blocked()
        link.deliver()
        await wait_all_tasks_blocked()
        assert host.exchanges == 1
        assert link.said()[-1] == ("end",)
        go_on.set()
        await wait_all_tasks_blocked()
        assert link.said()[-1] == ("release",)
        assert host.exchanges == 0


async def test_a_head_that_the_machine_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """It ends its own stream, and is in the log; others are answered."""
    async with serving(stubborn) as (link, host):
        link.fault = "the head is 70000 bytes, the limit is 65536"
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said() == [("abandon", "H3_INTERNAL_ERROR"), ("release",)]
        assert host.exchanges == 0
        assert "can't answer GET '/': the head is 70000 bytes" in caplog.text
        link.fault = None
        link.ask(head(), stream_id=4)
        await wait_all_tasks_blocked()
        assert link.said(4)[-1] == ("body", b"begun")


async def test_a_cancelled_server_resets_what_is_unfinished() -> None:
    """H3_REQUEST_CANCELLED, and the stream is released."""
    async with serving(stubborn) as (link, _):
        link.ask(head())
        await wait_all_tasks_blocked()
    assert link.said()[2:] == [("abandon", "H3_REQUEST_CANCELLED"), ("release",)]


async def test_a_handler_that_cancels_itself_before_its_head() -> None:
    """There is no answer: the stream is reset."""

    async def handler(exchange: Exchange) -> None:
        exchange.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()

    async with serving(handler) as (link, _):
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said() == [("abandon", "H3_REQUEST_CANCELLED"), ("release",)]


async def test_every_await_of_a_handler_may_be_cancelled() -> None:
    """Wherever its client stops it, the stream ends one way or the other, and nothing is left."""
    done: list[trio.Event] = []

    async def handler(exchange: Exchange) -> None:
        async for chunk in exchange.iter_body():
            await respond(exchange, 200, chunk)
        done[-1].set()

    async def scenario(link: FakeLink) -> None:
        sink = link.ask(head("POST"), is_ended=False)
        assert sink is not None
        try:
            await trio.lowlevel.checkpoint()
            sink.on_body([b"x"], 1, False)
            await trio.lowlevel.checkpoint()
            sink.on_body([], 0, True)
            await done[-1].wait()
        except trio.Cancelled:
            sink.on_stopped(0x10C)
            raise

    @asynccontextmanager
    async def around() -> AsyncIterator[FakeLink]:
        done.append(trio.Event())
        async with serving(handler) as (link, host):
            yield link
            await wait_all_tasks_blocked()
            if link.said()[-1] == ("end",):
                link.deliver()
            assert link.said()[-1] == ("release",)
            assert (host.exchanges, link.sinks) == (0, {})

    assert await cancel_everywhere(scenario, around) > 0


@pytest.mark.parametrize("steps", range(12))
async def test_a_server_cancelled_at_any_step(steps: int) -> None:
    """Cancelled after any number of schedule points, the stream was released or never given away."""

    async def handler(exchange: Exchange) -> None:
        body = await exchange.receive_body()
        await exchange.send_head(200)
        for _ in range(4):
            await exchange.send(body)
            await trio.lowlevel.checkpoint()

    async with serving(handler, ExchangeConfig(send_buffer_bytes=2)) as (link, _):
        link.room[0] = 3
        link.ask(head("POST"), b"ab")
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
    assert link.said()[-2:] == [("abandon", "H3_REQUEST_CANCELLED"), ("release",)]
