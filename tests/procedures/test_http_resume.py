"""Streams over HTTP whose items have ids: what the server says of them, and how a client goes on behind the last one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from tests.procedures.application import Application, Line, Query
from tests.procedures.site import EVENTS, Site, client_of
from tests.transports.exchange_host import drive
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.procedures import Router
from trio_streams.procedures.http_client import NEVER, HttpProcedureClient
from trio_streams.procedures.http_server import http_handler
from trio_streams.service.context import Context
from trio_streams.service.exchange import Exchange, RequestHead
from trio_streams.service.sse import END_ID, SseConfig
from trio_streams.transports.http import serve_lean
from trio_streams.transports.http_client import HttpClient
from trio_streams.urls import connect
from trio_streams.wire.event_source import EventSourceConfig


def numbered() -> Router:
    """A stream whose items have ids, and which goes on behind the last one."""
    router = Router()

    @router.stream("numbers", id_of=lambda line: line.number if line.number % 2 else None)
    async def numbers(query: Query, ctx: Context) -> AsyncIterator[Line]:
        for number in range(int(ctx.last_event_id or 0) + 1, query.limit + 1):
            yield Line("a", number)
            await trio.sleep(0.01)

    return router


async def test_items_have_the_ids_that_their_stream_declares() -> None:
    """`id_of` names an item, or None; the client's last id is the handler's, by header or query."""
    handler = http_handler(numbered())
    head = RequestHead(
        method="GET",
        path="/streams/numbers",
        query_string="limit=4",
        headers=(("accept", EVENTS), ("last-event-id", "2")),
    )
    answer = await drive(handler, head)
    assert b"".join(answer.writes).decode() == (
        'id: 3\ndata: {"level":"a","number":3}\n\ndata: {"level":"a","number":4}\n\n'
        f"event: end\nid: {END_ID}\ndata: {{}}\n\n"
    )
    head = RequestHead(method="GET", path="/streams/numbers", query_string="limit=4&lastEventId=3")
    assert b"".join((await drive(handler, head)).writes).count(b'data: {"level') == 1


async def test_who_has_seen_the_end_does_not_reach_the_handler() -> None:
    """204, without a call; an unknown stream is still unknown."""
    application = Application()
    handler = http_handler(application.router)
    for name, status in (("lines", 204), ("missing", 404)):
        head = RequestHead(method="GET", path=f"/streams/{name}", headers=(("last-event-id", END_ID),))
        answer = await drive(handler, head)
        assert answer.status == status
    assert application.contexts == []


def test_only_server_streams_have_ids() -> None:
    """A conversation can't be resumed, so an id there would promise too much."""
    router = Router()
    with pytest.raises(TypeError, match="only the items of server streams have ids"):

        @router.stream("talk", direction="bidi", id_of=str)
        async def talk(items: AsyncIterator[int]) -> AsyncIterator[int]:
            async for item in items:
                yield item


async def test_a_stream_whose_items_have_ids_is_resumed() -> None:
    """The server ends its answers after a moment; the caller gets every item once, and the end."""
    handler = http_handler(numbered(), sse_config=SseConfig(max_duration=0.04, retry_ms=1))
    reconnect = EventSourceConfig(retry_delay=0.001)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_lean, handler, "127.0.0.1", 0))
            async with HttpClient() as http:
                client = HttpProcedureClient(url, http, reconnect=reconnect)
                async with client.stream("numbers", {"limit": 20}, returns=Line) as lines:
                    numbers = [line.number async for line in lines]
            nursery.cancel_scope.cancel()
    # An id stands for every other item, so the one behind it may come twice: the server's choice.
    assert sorted(set(numbers)) == list(range(1, 21))


@pytest.mark.parametrize(("has_id", "reconnect"), [(False, EventSourceConfig()), (True, NEVER)])
async def test_a_stream_that_can_not_or_must_not_be_resumed(has_id: bool, reconnect: EventSourceConfig) -> None:
    """Without an id a second request would begin anew; then, or where the caller forbids it, the loss is an error."""
    site = Site()
    site.respond(200, b"id: 1\ndata: 1\n\n" if has_id else b"data: 1\n\n")
    async with client_of(site, reconnect) as client, client.stream("lines", returns=int) as items:
        assert await items.receive() == 1
        with pytest.raises(ConnectionLost, match="ended before the stream's end"):
            await items.receive()
    assert len(site.requests) == 1


@pytest.mark.parametrize(("event_source", "requests"), [(NEVER, 1), (EventSourceConfig(retry_delay=0.001), 2)])
async def test_connect_says_how_streams_come_back(event_source: EventSourceConfig, requests: int) -> None:
    """What is given to `connect` is what its client goes by."""
    asked: list[str] = []

    async def answer(exchange: Exchange) -> None:
        asked.append(dict(exchange.request.headers).get("last-event-id", ""))
        await exchange.send_head(200, [("content-type", EVENTS)])
        await exchange.send(b"id: 1\ndata: 1\n\n" if len(asked) == 1 else b"id: 2\ndata: 2\n\nevent: end\ndata: {}\n\n")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_lean, answer, "127.0.0.1", 0))
            async with (
                connect(url, event_source=event_source) as client,
                client.stream("numbers", returns=int) as numbers,
            ):
                assert await numbers.receive() == 1
                if requests == 2:
                    assert await numbers.receive() == 2
                else:
                    with pytest.raises(ConnectionLost):
                        await numbers.receive()
            nursery.cancel_scope.cancel()
    assert asked == ["", "1"][:requests]


async def test_an_answer_that_is_no_event_stream() -> None:
    """200 with other content is refused without reading it, which might never end."""
    site = Site()
    site.respond(200, b"<html>", 1_000, "text/html")
    site.is_held = True
    async with client_of(site) as client:
        with pytest.raises(RemoteProtocolError, match="content of type 'text/html'"):
            async with client.stream("lines"):
                pass
