"""A run of payloads as the answer to an exchange."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import LocalProtocolError, RpcError, StreamReset
from trio_streams.service.exchange import Exchange, ExchangeConfig, RequestHead
from trio_streams.service.sse import END_ID, SseConfig, last_event_id, respond_sse
from trio_streams.streams.abc import ReceiveStream
from trio_streams.streams.local import open_stream
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire.sse import Event, SseParser


async def stream(
    source: AsyncIterable[bytes | Event] | ReceiveStream[bytes] | trio.MemoryReceiveChannel[bytes],
    *,
    config: SseConfig | None = None,
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
        await respond_sse(
            exchange, source, named=named, headers=[("x-more", "1")], debug=debug, config=config or SseConfig()
        )

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


# -- ids, and the end -------------------------------------------------------------------------------------------


def asks(query: str = "", **headers: str) -> RequestHead:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RequestHead(method="GET", path="/", query_string=query, headers=pairs)


EVENT_SOURCE = asks(accept="text/event-stream")


async def test_events_have_types_and_ids_of_their_own() -> None:
    """An item may be a whole event; one without a type has the stream's, and one without an id none."""

    async def items() -> AsyncIterator[bytes | Event]:
        yield b"0"
        yield Event(b"1", id="a")
        yield Event(b"2", "other", "b")
        yield Event(b"3")

    _, writes, _ = await stream(items(), named=True)
    assert b"".join(writes) == (
        b"event: data\ndata: 0\n\nevent: data\nid: a\ndata: 1\n\nevent: other\nid: b\ndata: 2\n\n"
        b"event: data\ndata: 3\n\nevent: end\ndata: {}\n\n"
    )


async def test_a_channel_of_events() -> None:
    """A run that has events in it is encoded one by one."""
    send, receive = trio.open_memory_channel[bytes](3)
    for item in (Event(b"1", id="a"), b"2", Event(b"3", id="c")):
        send.send_nowait(item)  # type: ignore[arg-type]
    send.close()
    _, writes, _ = await stream(receive)
    assert b"".join(writes).startswith(b"id: a\ndata: 1\n\ndata: 2\n\nid: c\ndata: 3\n\n")


async def test_the_end_of_a_stream_is_marked_for_those_who_come_again() -> None:
    """An EventSource's last id after `end` is the reserved one; a request that brings it gets 204 and no more."""
    _, writes, _ = await stream(count(1), request=EVENT_SOURCE)
    parser = SseParser()
    *_, end = parser.receive(b"".join(writes))
    assert (end.event, end.data, parser.last_event_id) == ("end", b"{}", END_ID)


@pytest.mark.parametrize("request_head", [asks(last_event_id=END_ID), asks(f"lastEventId={END_ID}")])
async def test_who_has_seen_the_end_gets_204(request_head: RequestHead) -> None:
    """By header or query; the source is not touched."""
    exchange = HostedExchange(request_head, ExchangeConfig())
    await respond_sse(exchange, count(3, ValueError("touched")))
    head = await exchange.take_head()
    assert head is not None
    assert head.status == 204
    assert await exchange.take_body() is None
    assert exchange.is_ended


@pytest.mark.parametrize(
    ("error", "is_marked"),
    [
        (RpcError(Code.NOT_FOUND, "no"), True),
        (RpcError("OWN", "own"), True),
        (RpcError(Code.UNAVAILABLE, "later"), False),
    ],
)
async def test_an_error_ends_it_for_good_unless_it_may_pass(error: Exception, is_marked: bool) -> None:
    """What cannot succeed later is not asked for again; what may keeps the last item's id."""
    _, writes, _ = await stream(count(1, error), request=EVENT_SOURCE)
    *_, last = SseParser().receive(b"".join(writes))
    assert (last.event, last.id == END_ID) == ("error", is_marked)


async def test_no_item_can_have_the_id_that_ends_a_stream() -> None:
    """It is refused where it is sent: the client would never come again."""

    async def items() -> AsyncIterator[Event]:
        yield Event(b"1", id=END_ID)

    exchange = HostedExchange(RequestHead(method="GET", path="/"), ExchangeConfig())
    with pytest.raises(LocalProtocolError, match="ends a stream"):
        await respond_sse(exchange, items())


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (asks(), None),
        (asks(last_event_id=""), None),
        (asks("lastEventId="), None),
        (asks("lastEventId=a%C3%A9"), "aé"),
        (asks("lastEventId=q", last_event_id="h"), "h"),
        (asks(last_event_id="Ã©"), "é"),
        (asks(last_event_id="€"), "?"),
    ],
)
def test_the_last_event_id_is_read(request_head: RequestHead, expected: str | None) -> None:
    """From the header, which is UTF-8, or else from the query; empty is none."""
    assert last_event_id(request_head) == expected


# -- time ------------------------------------------------------------------------------------------------------


async def slow(*pauses: float) -> AsyncIterator[bytes]:
    for pause in pauses:
        await trio.sleep(pause)
        yield b"x"


async def test_silence_is_filled_with_comments(autojump_clock: MockClock) -> None:
    """Whenever nothing was sent for an interval there is a comment, which no client takes for an event."""
    _, writes, _ = await stream(slow(35.0, 1.0, 40.0))
    beat, item = b": \n\n", b"data: x\n\n"
    assert writes == [beat, beat, item, item, beat, beat, beat, item + b"event: end\ndata: {}\n\n"]


async def test_without_heartbeats(autojump_clock: MockClock) -> None:
    """None turns them off."""
    _, writes, _ = await stream(slow(100.0), config=SseConfig(heartbeat_interval=None))
    assert writes == [b"data: x\n\nevent: end\ndata: {}\n\n"]


async def test_retry_comes_first() -> None:
    """The client learns how long to wait before anything can break."""
    _, writes, _ = await stream(count(0), config=SseConfig(retry_ms=2_000))
    assert b"".join(writes) == b"retry: 2000\n\nevent: end\ndata: {}\n\n"


@pytest.mark.parametrize("kind", ["generator", "channel"])
async def test_after_its_time_a_stream_ends_for_now(kind: str, autojump_clock: MockClock) -> None:
    """The answer is whole but has no `end`, so a client comes again with its last id; a generator is closed."""
    closed: list[bool] = []

    async def endless() -> AsyncIterator[Event]:
        try:
            yield Event(b"1", id="a")
            await trio.sleep_forever()
        finally:
            closed.append(True)

    send, receive = trio.open_memory_channel[bytes](1)
    send.send_nowait(Event(b"1", id="a"))  # type: ignore[arg-type]
    source: AsyncIterable[bytes | Event] = endless() if kind == "generator" else receive
    config = SseConfig(max_duration=10.0, heartbeat_interval=None)
    _, writes, is_whole = await stream(source, config=config, request=EVENT_SOURCE)
    assert (b"".join(writes), is_whole) == (b"id: a\ndata: 1\n\n", True)
    assert trio.current_time() >= 10.0
    assert closed == ([True] if kind == "generator" else [])
    send.close()


@pytest.mark.parametrize("field", ["heartbeat_interval", "retry_ms", "max_duration"])
def test_a_config_is_validated_where_it_is_made(field: str) -> None:
    """A value out of range is refused with its field's name."""
    with pytest.raises(ValueError, match=field):
        SseConfig(**{field: -1})
