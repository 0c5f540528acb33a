"""The exchange between a handler and a host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transports.exchange_host import drive, echo, post
from trio_streams.errors import (
    ConnectionLost,
    LocalProtocolError,
)
from trio_streams.service.exchange import (
    Exchange,
    ExchangeConfig,
    RequestHead,
    respond,
)
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import GATHER_BYTES, HostedExchange


async def test_a_body_arrives_and_an_answer_leaves_whole() -> None:
    """What the client sent is what the handler reads, and the length of the answer is declared."""
    answer = await drive(echo, post(), body=(b"ab", b"", b"cd"))
    assert (answer.status, b"".join(answer.writes), answer.is_whole) == (200, b"abcd", True)
    assert answer.headers["content-length"] == "4"


@pytest.mark.parametrize(("request_head", "size"), [(post(), 12), (post(11), 11)])
async def test_a_body_past_the_limit_is_413(request_head: RequestHead, size: int) -> None:
    """The answer names the field, its size and the limit; a declared length is refused before a byte is read."""
    answer = await drive(echo, request_head, body=(b"123456", b"123456", b"never read"))
    assert answer.status == 413
    assert answer.error["code"] == "MESSAGE_TOO_LARGE"
    assert answer.error["details"] == {"field": "body", "size": size, "limit": 10}


async def test_a_body_without_a_limit_of_its_own_has_the_configured_one() -> None:
    """`receive_body` is never unbounded."""

    async def handler(exchange: Exchange) -> None:
        await exchange.receive_body()

    answer = await drive(handler, post(), body=(b"1234",), config=ExchangeConfig(max_body_bytes=3))
    assert answer.status == 413


async def test_iter_body_gives_chunks_as_they_come() -> None:
    """Chunks are neither joined nor cut, and without a limit they may go on."""
    seen: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        seen.extend([chunk async for chunk in exchange.iter_body()])
        assert await exchange.receive_some() == b""
        await respond(exchange, 204, b"")

    chunks = tuple(b"%d" % n * 40_000 for n in range(5))
    await drive(handler, post(), body=chunks)
    assert tuple(seen) == chunks


async def test_the_body_is_read_ahead_to_its_bound() -> None:
    """A host that feeds a handler which reads nothing waits at the bound, and goes on when the body is dropped."""
    exchange = HostedExchange(post(), ExchangeConfig(body_buffer_bytes=10))
    fed = 0

    async def feed() -> None:
        nonlocal fed
        while True:
            await exchange.feed(b"12345", is_last=False)
            fed += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await wait_all_tasks_blocked()
        assert fed == 2
        assert await exchange.receive_some() == b"12345"
        await wait_all_tasks_blocked()
        assert fed == 3
        exchange.drop_body()
        await wait_all_tasks_blocked()
        assert fed == 5
        nursery.cancel_scope.cancel()


async def test_all_that_waits_is_one_write() -> None:
    """A handler that sends a thousand small chunks in a row costs the host a few writes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        for n in range(1_000):
            await exchange.send(b"%04d" % n)

    answer = await drive(handler)
    assert b"".join(answer.writes) == b"".join(b"%04d" % n for n in range(1_000))
    assert len(answer.writes) <= 3


async def test_a_write_is_never_larger_than_the_buffer() -> None:
    """A large item is cut, so that the deadline of one write says how fast a client must read."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"x" * 250)
        await exchange.send(b"y")

    answer = await drive(handler, config=ExchangeConfig(send_buffer_bytes=100))
    assert [len(write) for write in answer.writes] == [100, 100, 50, 1]


async def test_an_unread_answer_stops_its_handler_at_the_bound() -> None:
    """What waits stays below the bound and one item; senders wake in turn when the host takes it."""
    exchange = HostedExchange(post(), ExchangeConfig(send_buffer_bytes=1_000))
    sent = 0

    async def handler() -> None:
        nonlocal sent
        await exchange.send_head(200)
        while True:
            await exchange.send(b"x" * 100)
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handler)
        await wait_all_tasks_blocked()
        assert sent == 10
        assert await exchange.take_body() == b"x" * 1_000
        await wait_all_tasks_blocked()
        assert sent == 20
        nursery.cancel_scope.cancel()
    assert ExchangeConfig().send_buffer_bytes > GATHER_BYTES


async def test_a_lost_client_cancels_the_handler_and_its_finally_runs() -> None:
    """A handler blocked in an await is cancelled, and sends in its cleanup raise ConnectionLost."""
    exchange = HostedExchange(post(), ExchangeConfig())
    cleaned: list[str] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        try:
            await trio.sleep_forever()
        finally:
            with pytest.raises(ConnectionLost, match="the client is gone"):
                await exchange.send(b"bye")
            cleaned.append("finally")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_handler, exchange, handler)
        await wait_all_tasks_blocked()
        exchange.abandon()
    assert cleaned == ["finally"]
    assert exchange.cancel_scope.cancelled_caught
    assert not exchange.is_ended
    assert await exchange.take_body() is None


async def test_a_client_lost_before_the_head_gets_none() -> None:
    """The host's pump ends without a head, and a handler that tries to send one is told why."""
    exchange = HostedExchange(post(), ExchangeConfig())
    exchange.abandon()
    assert await exchange.take_head() is None
    with pytest.raises(ConnectionLost):
        await exchange.send_head(200)


async def test_the_order_of_calls_is_enforced() -> None:
    """No body before the head, no second head, nothing after the end; each error says what was attempted."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(LocalProtocolError, match="before the head"):
            await exchange.send(b"x")
        exchange.end()  # nothing to end yet
        await exchange.send_head(200, [("content-length", "3")])
        with pytest.raises(LocalProtocolError, match="second head"):
            await exchange.send_head(500)
        with pytest.raises(LocalProtocolError, match="3 are left"):
            await exchange.send(b"1234")
        await exchange.send(b"123")
        exchange.end()
        exchange.end()
        with pytest.raises(trio.ClosedResourceError, match="has ended"):
            await exchange.send(b"x")

    answer = await drive(handler)
    assert (answer.writes, answer.is_whole) == ([b"123"], True)


async def test_a_body_shorter_than_declared_does_not_look_whole() -> None:
    """The host is told to break off, so that the client sees a truncated answer."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-length", "3")])
        await exchange.send(b"12")

    answer = await drive(handler)
    assert (answer.writes, answer.is_whole) == ([b"12"], False)


@pytest.mark.parametrize(
    ("status", "headers", "match"),
    [
        (100, [], "status 100"),
        (600, [], "status 600"),
        (200, [("a b", "x")], "not a token"),
        (200, [("", "x")], "not a token"),
        (200, [("Content-Type", "x")], "lower case"),
        (200, [("x", "a\r\nset-cookie: forged")], "line end"),
        (200, [("x", "a\0")], "NUL"),
        (200, [("x", "\u20ac")], "8859-1"),
    ],
)
async def test_a_head_that_could_be_misread_is_refused(status: int, headers: list[tuple[str, str]], match: str) -> None:
    """No header can forge another one; the exchange stays usable."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(LocalProtocolError, match=match):
            await exchange.send_head(status, headers)
        await respond(exchange, 200, b"", [("x", "caf\xe9")])

    assert (await drive(handler)).headers == {"x": "caf\xe9", "content-length": "0"}


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answers_without_a_body_have_none(method: str, status: int) -> None:
    """HEAD, 204 and 304 keep their headers and lose their body."""

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, status, b"body")

    answer = await drive(handler, RequestHead(method=method, path="/"))
    assert (answer.status, answer.writes, answer.is_whole) == (status, [], True)


def test_a_request_head_reads_headers_and_query() -> None:
    """Several headers of a name are joined; the query is decoded, each field with all its values."""
    head = RequestHead(
        method="GET", path="/", query_string="a=1&a=%C3%A9&b=", headers=(("accept", "x"), ("via", "1"), ("accept", "y"))
    )
    assert head.header("accept") == "x, y"
    assert head.header("host") is None
    assert head.query == {"a": ["1", "é"], "b": [""]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExchangeConfig(max_body_bytes=0),
        lambda: ExchangeConfig(stall_timeout=0),
        lambda: ExchangeConfig(close_timeout=float("nan")),
    ],
)
def test_a_config_is_validated_where_it_is_made(make: Callable[[], Awaitable[None]]) -> None:
    """Limits and timeouts are positive."""
    with pytest.raises(ValueError, match="must be more than 0"):
        make()


class Words:
    """A source that has nothing but its end."""

    is_ended = True

    def attach(self, pull: Callable[[], None]) -> None:
        pull()

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        return b""


async def test_a_source_needs_an_open_answer_of_its_own() -> None:
    """A head, no declared length, no other source; cancelled, it is given up."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(LocalProtocolError, match="before the head"):
            await exchange.send_from(Words())
        await exchange.send_head(200)
        with trio.CancelScope() as scope:
            scope.cancel()
            await exchange.send_from(Words())
        assert scope.cancelled_caught
        await exchange.send_from(Words())
        await exchange.send(b"and more")
        endless = Words()
        endless.is_ended = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.send_from, endless)
            await wait_all_tasks_blocked()
            with pytest.raises(LocalProtocolError, match="another one is under way"):
                await exchange.send_from(Words())
            nursery.cancel_scope.cancel()
        exchange.end()
        with pytest.raises(trio.ClosedResourceError):
            await exchange.send_from(Words())

    answer = await drive(handler)
    assert (answer.writes, answer.is_whole) == ([b"and more"], True)


async def test_a_source_of_an_answer_with_a_length_is_refused() -> None:
    """Nobody could say whether it keeps to it."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-length", "0")])
        with pytest.raises(LocalProtocolError, match="declares a length"):
            await exchange.send_from(Words())

    assert (await drive(handler)).is_whole


async def test_each_answer_says_where_else_the_same_is_served() -> None:
    """`alt_svc` is in the handler's answers and in those to its faults; what a handler says by itself stays."""

    async def own(exchange: Exchange) -> None:
        await respond(exchange, 200, b"", [("alt-svc", "clear")])

    async def failing(exchange: Exchange) -> None:
        raise KeyError(exchange.request.path)

    config = ExchangeConfig(alt_svc='h3=":443"; ma=60')
    answers = [await drive(handler, post(), config=config) for handler in (echo, failing, own)]
    assert [answer.headers["alt-svc"] for answer in answers] == ['h3=":443"; ma=60', 'h3=":443"; ma=60', "clear"]
    assert "alt-svc" not in (await drive(echo, post())).headers


def test_what_alt_svc_says_is_one_line() -> None:
    """A value that could become another header is refused with the configuration."""
    with pytest.raises(ValueError, match="alt_svc is no value of a header"):
        ExchangeConfig(alt_svc="h3\r\nset-cookie: x")
