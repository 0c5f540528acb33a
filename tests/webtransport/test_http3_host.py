"""What requests on all connections share, over links that only write down what they are told."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.fake_requests import FakeLink, head, serving
from trio_streams.service.exchange import Exchange, ExchangeConfig, respond
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.http3_host import Http3Host


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


async def test_connections_share_a_host_and_nothing_else() -> None:
    """Requests of two connections with the same ids are two exchanges, and one that is lost takes none of the other's."""
    async with serving(hello) as (first, host):
        second = FakeLink(peer="192.0.2.2:9")
        host.attach(second)
        for link in (first, second):
            link.ask(head())
        first.lose()
        await wait_all_tasks_blocked()
        assert second.said()[-1] == ("end",)
        assert host.exchanges == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b":method", b"CONNECT"), (b":authority", b"a:1")], "501"),
        ([*head("CONNECT"), (b":protocol", b"websocket")], "501"),
        ([(b":scheme", b"http"), (b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")], "421"),
    ],
)
async def test_what_is_not_for_the_handler_is_answered(headers: list[tuple[bytes, bytes]], status: str) -> None:
    """Refusals are whole answers, even to a request that has no end yet, and are in the access log."""
    records: list[AccessRecord] = []
    async with serving(hello, on_access=records.append) as (link, _):
        link.ask(headers, is_ended=False)
        await wait_all_tasks_blocked()
        said = link.said()
    assert said[0][1][":status"] == status
    assert said[1][1].startswith(b'{"error":{"code":"')
    assert said[2] == ("end",)
    assert [record.status for record in records] == [int(status)]


async def test_a_request_without_a_host_is_malformed(caplog: pytest.LogCaptureFixture) -> None:
    """Its stream is reset with H3_MESSAGE_ERROR and given back; the log says whose it was."""
    with caplog.at_level(logging.INFO, logger="trio_streams.http3"):
        async with serving(hello) as (link, host):
            assert link.ask(head(authority=None)) is None
            assert link.said() == [("abandon", "H3_MESSAGE_ERROR"), ("release",)]
            assert host.exchanges == 0
    assert "192.0.2.1:4433: a request names no host" in caplog.text


async def test_a_drain_turns_new_requests_away_and_waits_for_the_others() -> None:
    """Late requests were not looked at, and are told so; `wait_idle` returns with the last delivery."""
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        await hello(exchange)

    async with serving(handler) as (link, host), trio.open_nursery() as nursery:
        link.ask(head())
        await wait_all_tasks_blocked()
        host.drain()
        link.ask(head(), stream_id=4)
        assert link.said(4) == [("abandon", "H3_REQUEST_REJECTED"), ("release",)]
        is_idle = trio.Event()

        async def wait() -> None:
            await host.wait_idle()
            is_idle.set()

        nursery.start_soon(wait)
        go_on.set()
        await wait_all_tasks_blocked()
        assert link.said()[-1] == ("end",)
        assert not is_idle.is_set()
        link.deliver()
        await wait_all_tasks_blocked()
        assert is_idle.is_set()


async def test_waiting_for_idleness_may_be_cancelled() -> None:
    """It leaves the exchange as it is."""
    async with serving(hello) as (link, host):
        link.ask(head())
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await host.wait_idle()
        assert scope.cancelled_caught
        assert host.exchanges == 1
        link.deliver()
        await host.wait_idle()


async def test_a_host_that_does_not_run_turns_requests_away() -> None:
    """Before `run` and after it nobody would handle them."""
    host, link = Http3Host(hello), FakeLink()
    host.attach(link)
    link.ask(head())
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        nursery.cancel_scope.cancel()
    link.ask(head(), stream_id=4)
    for stream_id in (0, 4):
        assert link.said(stream_id) == [("abandon", "H3_REQUEST_REJECTED"), ("release",)]


async def test_the_access_log_has_each_exchange_once(autojump_clock: MockClock) -> None:
    """Answered, left and cancelled: with target, status, bytes of the body, seconds, peer and version."""
    records: list[AccessRecord] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/":
            await trio.sleep(2)
            await hello(exchange)
        elif exchange.request.path == "/begun":
            await exchange.send_head(201)
        await trio.sleep_forever()

    async with serving(handler, on_access=records.append) as (link, _):
        first = link.ask(head("GET", "/?a=%20b"))
        link.ask(head("GET", "/begun"), stream_id=4)
        link.ask(head("POST", "/silent"), stream_id=8)
        await trio.sleep(3)
        assert first is not None
        first.on_stopped(0)
        await trio.sleep(1)
    peer = "192.0.2.1:4433"
    assert records[0] == AccessRecord("GET", "/?a=%20b", 200, 5, 3.0, peer, "3")
    assert sorted(records[1:], key=lambda record: record.path) == [
        AccessRecord("GET", "/begun", 201, 0, 4.0, peer, "3"),
        AccessRecord("POST", "/silent", 0, 0, 4.0, peer, "3"),
    ]


async def test_nobody_is_looked_at_without_a_timeout(autojump_clock: MockClock) -> None:
    """With `stall_timeout=None` a client may take as long as it likes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"x" * 100)

    async with serving(handler, ExchangeConfig(stall_timeout=None)) as (link, host):
        link.room[0] = 50
        link.ask(head())
        await trio.sleep(10_000)
        assert host.exchanges == 1
        link.give_room(50)
        await wait_all_tasks_blocked()
        assert link.said()[-1] == ("end",)


async def test_a_log_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What `on_access` raises is logged; this exchange and others are answered."""

    def on_access(record: AccessRecord) -> None:
        raise OSError(f"no room for {record.path}")

    async with serving(hello, on_access=on_access) as (link, _):
        for stream_id in (0, 4):
            link.ask(head(), stream_id=stream_id)
            await wait_all_tasks_blocked()
            assert link.said(stream_id)[-1] == ("end",)
    assert caplog.text.count("OSError: no room for /") == 2


class FailingSource:
    """Fails whoever takes from it."""

    is_ended = False

    def attach(self, pull: object) -> None:
        pass

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        raise ValueError("broken")


async def test_a_source_that_fails_ends_its_own_exchange(caplog: pytest.LogCaptureFixture) -> None:
    """Its stream is reset, whoever's task wrote, and others are answered."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/hello":
            return await hello(exchange)
        await exchange.send_head(200)
        return await exchange.send_from(FailingSource())

    async with serving(handler) as (link, host):
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said()[-2:] == [("abandon", "H3_INTERNAL_ERROR"), ("release",)]
        link.ask(head("GET", "/hello"), stream_id=4)
        await wait_all_tasks_blocked()
        assert link.said(4)[-1] == ("end",)
        assert host.exchanges == 1
    assert "ValueError: broken" in caplog.text
