"""A run of payloads as the answer to an exchange."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import RpcError, StreamReset
from trio_streams.service.exchange import Exchange, ExchangeConfig, RequestHead
from trio_streams.service.sse import respond_sse
from trio_streams.streams.abc import ReceiveStream
from trio_streams.streams.local import open_stream
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire.sse import Event, SseParser


async def stream(
    source: AsyncIterable[bytes] | ReceiveStream[bytes] | trio.MemoryReceiveChannel[bytes],
    *,
    request: RequestHead | None = None,
    named: bool | None = None,
    debug: bool = False,
) -> tuple[dict[str, str], list[bytes], bool]:
    """The headers, the writes, and whether the answer is whole."""
    exchange = HostedExchange(request or RequestHead(method="GET", path="/"), ExchangeConfig())
    writes: list[bytes] = []

    async def pump() -> None:
        while (data := await exchange.take_body()) is not None:
            writes.append(data)

    async def handler(exchange: Exchange) -> None:
        await respond_sse(exchange, source, named=named, headers=[("x-more", "1")], debug=debug)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        await run_handler(exchange, handler)
    head = await exchange.take_head()
    assert head is not None
    assert head.status == 200
    return dict(head.headers), writes, exchange.is_ended


async def count(n: int, error: Exception | None = None) -> AsyncIterator[bytes]:
    for i in range(n):
        yield b'{"n":%d}' % i
    if error is not None:
        raise error


async def test_items_and_the_end_as_the_seed_shows_them() -> None:
    """Bare data events and an `end` with `{}`, under headers that keep caches and proxies from holding them back."""
    headers, writes, is_whole = await stream(count(2))
    assert b"".join(writes) == b'data: {"n":0}\n\ndata: {"n":1}\n\nevent: end\ndata: {}\n\n'
    assert headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "x-more": "1",
    }
    assert is_whole


@pytest.mark.parametrize(("query", "named"), [("events=named", None), ("", True)])
async def test_the_named_form_is_for_those_who_ask(query: str, named: bool | None) -> None:
    """`?events=named`, or the caller, turns bare events into `event: data`."""
    _, writes, _ = await stream(count(1), request=RequestHead(method="GET", path="/", query_string=query), named=named)
    assert b"".join(writes) == b'event: data\ndata: {"n":0}\n\nevent: end\ndata: {}\n\n'


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RpcError(Code.PERMISSION_DENIED, "no", {"why": "x"}),
            {"code": "PERMISSION_DENIED", "status": 403, "message": "no", "details": {"why": "x"}},
        ),
        (RpcError("OWN", "own"), {"code": "OWN", "status": 500, "message": "own"}),
        (StreamReset(Code.ABORTED, "r"), {"code": "ABORTED", "status": 409, "message": "r"}),
        (ValueError("secret"), {"code": "INTERNAL", "status": 500, "message": "internal error"}),
    ],
)
async def test_a_failing_source_ends_in_an_error_event(error: Exception, expected: dict[str, object]) -> None:
    """Three items, then the error; the answer is whole, and nothing follows."""
    _, writes, is_whole = await stream(count(3, error))
    *items, last = SseParser().receive(b"".join(writes))
    assert items == [Event(b'{"n":%d}' % n) for n in range(3)]
    assert (last.event, json.loads(last.data)) == ("error", expected)
    assert is_whole


async def test_debug_tells_the_text_of_a_crash() -> None:
    """With `debug` the error event says what crashed."""
    _, writes, _ = await stream(count(0, ValueError("the text")), debug=True)
    assert b"ValueError: the text" in b"".join(writes)


async def test_head_gets_the_head_alone() -> None:
    """HEAD answers at once and does not touch the source."""
    source = count(3, ValueError("touched"))
    _, writes, is_whole = await stream(source, request=RequestHead(method="HEAD", path="/"))
    assert (writes, is_whole) == ([], True)


async def test_what_a_channel_holds_leaves_together() -> None:
    """A thousand items of a memory channel are a few writes."""
    send, receive = trio.open_memory_channel[bytes](1_000)
    for i in range(1_000):
        send.send_nowait(b"%d" % i)
    send.close()
    _, writes, _ = await stream(receive)
    assert [event.data for event in SseParser().receive(b"".join(writes))][:-1] == [b"%d" % i for i in range(1_000)]
    assert len(writes) <= 3


async def test_what_a_stream_holds_leaves_together() -> None:
    """A thousand items of a stream are a few writes, and its status is the last event."""
    async with open_stream[bytes](high_water_mark=1_000) as source:
        await source.send_many([b"%d" % i for i in range(1_000)])
        source.end(Status("OWN", "own"))
        _, writes, is_whole = await stream(source)
    *items, last = SseParser().receive(b"".join(writes))
    assert [event.data for event in items] == [b"%d" % i for i in range(1_000)]
    assert (last.event, json.loads(last.data)["code"]) == ("error", "OWN")
    assert is_whole
    assert len(writes) <= 4


async def test_an_iterator_that_is_no_generator_is_iterated() -> None:
    """Any async iterable will do."""

    class Two:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x"

    _, writes, _ = await stream(Two())
    assert b"".join(writes).count(b"data: x\n\n") == 2


async def test_cancelling_closes_the_generator() -> None:
    """A generator blocked in an await is closed in the handler's own task when the client goes away."""
    exchange = HostedExchange(RequestHead(method="GET", path="/"), ExchangeConfig())
    closed: list[trio.lowlevel.Task] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await trio.sleep_forever()
        finally:
            closed.append(trio.lowlevel.current_task())

    tasks: list[trio.lowlevel.Task] = []

    async def handler(exchange: Exchange) -> None:
        tasks.append(trio.lowlevel.current_task())
        await respond_sse(exchange, endless())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_handler, exchange, handler)
        await wait_all_tasks_blocked()
        assert await exchange.take_body() == b"data: 1\n\n"
        exchange.abandon()
    assert closed == tasks
    assert not exchange.is_ended
