"""HTTP exchanges as they pass by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.exchange_host import drive
from trio_streams.codes import Code
from trio_streams.dashboard.config import DashboardConfig
from trio_streams.dashboard.exchanges import ExchangeRow, Exchanges
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.service.exchange import Exchange, ExchangeConfig, RequestHead, respond
from trio_streams.service.sse import respond_sse
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire.http1_body import encode_chunk


def _request(method: str, path: str) -> RequestHead:
    return RequestHead(method=method, path=path, peer="peer:1")


async def test_an_exchange_is_a_row_while_it_lives_and_remembered_after(autojump_clock: MockClock) -> None:
    """Method, path, peer, status, bytes both ways and seconds."""
    exchanges = Exchanges(DashboardConfig())

    async def handle(exchange: Exchange) -> None:
        body = await exchange.receive_body()
        (row,) = exchanges.live.values()
        assert (row.method, row.path, row.peer, row.status, row.outcome) == ("POST", "/double", "peer:1", 0, "")
        await trio.sleep(2)
        await respond(exchange, 200, body * 2)

    answer = await drive(exchanges.wrap(handle), _request("POST", "/double"), body=(b"abc",))
    assert b"".join(answer.writes) == b"abcabc"
    assert exchanges.live == {}
    (row,) = exchanges.recent
    assert (row.status, row.bytes_received, row.bytes_sent, row.seconds, row.outcome) == (200, 3, 6, 2.0, "done")
    assert (exchanges.count, exchanges.bytes_received, exchanges.bytes_sent) == (1, 3, 6)


async def test_a_body_is_counted_however_it_is_read(autojump_clock: MockClock) -> None:
    """By chunks, by iteration or whole."""
    exchanges = Exchanges(DashboardConfig())

    async def handle(exchange: Exchange) -> None:
        assert not exchange.has_head
        assert await exchange.receive_some() == b"ab"
        assert [chunk async for chunk in exchange.iter_body()] == [b"cd", b"e"]
        assert not exchange.cancel_scope.cancel_called
        await respond(exchange, 204, b"")

    await drive(exchanges.wrap(handle), _request("POST", "/x"), body=(b"ab", b"cd", b"e"))
    assert exchanges.recent[0].bytes_received == 5


async def test_events_are_counted_as_items(autojump_clock: MockClock) -> None:
    """Three items and the end of the stream, but no heartbeat."""
    exchanges = Exchanges(DashboardConfig())

    async def items() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
            await trio.sleep(20)

    async def handle(exchange: Exchange) -> None:
        await respond_sse(exchange, items())

    await drive(exchanges.wrap(handle), _request("GET", "/streams/numbers"))
    (row,) = exchanges.recent
    assert (row.is_events, row.items, exchanges.items) == (True, 4, 4)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_a_source_sends_is_counted(is_chunked: bool, autojump_clock: MockClock) -> None:
    """Bytes as they are taken, in chunks or not, and events, of which a heartbeat is none."""
    exchanges = Exchanges(DashboardConfig())
    pieces = [b"data: 1\n\ndata: 2\n\n", b":\n\n", b"data: 3\n\n"]
    if is_chunked:
        pieces = [encode_chunk(one) for one in pieces]
    whole = b"".join(pieces)

    class Events:
        is_ended = False

        def attach(self, pull: Callable[[], None]) -> None:
            pull()

        def take_nowait(self, *, is_chunked: bool) -> bytes:
            self.is_ended = not pieces
            return pieces.pop(0) if pieces else b""

    async def handle(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-type", "text/event-stream")])
        await exchange.send_from(Events())

    answer = await drive(exchanges.wrap(handle), _request("GET", "/events"))
    assert b"".join(answer.writes) == whole
    (row,) = exchanges.recent
    assert (row.bytes_sent, row.items) == (len(whole), 3)
    assert (exchanges.bytes_sent, exchanges.items) == (len(whole), 3)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(RpcError(Code.NOT_FOUND, "no"), "failed"), (ValueError("x"), "failed"), (ConnectionLost("gone"), "left")],
)
async def test_a_handler_that_fails_is_said_to(error: Exception, outcome: str, autojump_clock: MockClock) -> None:
    """Its exception goes on to the host; that its client has gone is not its fault."""
    exchanges = Exchanges(DashboardConfig())

    async def handle(exchange: Exchange) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    exchange = HostedExchange(_request("GET", "/x"), ExchangeConfig())
    with pytest.raises(type(error)):
        await exchanges.wrap(handle)(exchange)
    assert [(row.outcome, row.status) for row in exchanges.recent] == [(outcome, 0)]


async def test_who_reads_slowly_holds_the_handler_and_may_leave(autojump_clock: MockClock) -> None:
    """A handler that waits for room is held; one that is cancelled meanwhile was left, and its row is no longer live."""
    exchanges = Exchanges(DashboardConfig())

    async def handle(exchange: Exchange) -> None:
        await exchange.send_head(200)
        while True:
            await exchange.send(b"x" * 1000)

    exchange = HostedExchange(_request("GET", "/x"), ExchangeConfig(send_buffer_bytes=1500))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchanges.wrap(handle), exchange)
        await wait_all_tasks_blocked()
        (row,) = exchanges.live.values()
        assert row.bytes_sent == 2000
        assert [row.is_held(trio.current_time() + later) for later in (0.0, 0.2)] == [False, True]
        nursery.cancel_scope.cancel()
    assert exchanges.live == {}
    assert [(row.outcome, row.waits_since) for row in exchanges.recent] == [("left", None)]


async def test_what_is_remembered_is_bounded(autojump_clock: MockClock) -> None:
    """The last few exchanges, and of their paths the beginning."""
    exchanges = Exchanges(DashboardConfig(max_recent_exchanges=2, max_path_characters=5))

    async def handle(exchange: Exchange) -> None:
        await respond(exchange, 200, b"")

    for number in range(4):
        await drive(exchanges.wrap(handle), _request("GET", f"/{number}{'x' * 999}"))
    rows: list[ExchangeRow] = list(exchanges.recent)
    assert [row.path for row in rows] == ["/2xxx", "/3xxx"]
    assert exchanges.count == 4
