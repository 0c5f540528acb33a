"""Durable streams over HTTP: ids, `Last-Event-ID`, ends that an EventSource understands, and what serving them takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from tests.procedures.durable_site import Ask, Site, serving
from tests.procedures.fake_replay_log import FakeReplayLog
from tests.procedures.site import EVENTS, client_of
from tests.procedures.site import Site as AnsweringSite
from tests.transports.exchange_host import Answer, drive
from trio_streams import Drain, ServerConfig, asgi_app, connect, serve
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.durable.place import PLACE_KEY
from trio_streams.procedures.durable.runs import DurableRuns
from trio_streams.procedures.http_client import NEVER
from trio_streams.procedures.http_server import http_handler
from trio_streams.service.background import Background
from trio_streams.service.exchange import ExchangeHandler, RequestHead
from trio_streams.service.replay_log import RunConfig
from trio_streams.service.sse import END_ID, SseConfig
from trio_streams.testing.peers import until
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.asgi_types import Message
from trio_streams.wire.event_source import EventSourceConfig


@asynccontextmanager
async def handler_of(site: Site, log: FakeReplayLog, **options: Any) -> AsyncGenerator[ExchangeHandler, None]:
    async with open_bare_nursery() as nursery:
        runs = DurableRuns(log, Background(nursery))
        yield http_handler(site.router, runs=runs, **options)
        nursery.cancel_scope.cancel()


async def get(
    handler: ExchangeHandler, query: str, *headers: tuple[str, str], method: str = "GET", name: str = "shared"
) -> Answer:
    head = RequestHead(method=method, path=f"/streams/{name}", query_string=query, headers=headers)
    return await drive(handler, head)


def text(answer: Answer) -> str:
    return b"".join(answer.writes).decode()


async def test_each_event_has_an_id() -> None:
    """One before the first item for who is lost there, one for each, and the end's; the head says where it begins."""
    async with handler_of(Site(), FakeReplayLog()) as handler:
        await get(handler, "job=a&items=3")
        answer = await get(handler, "job=a", ("accept", EVENTS))
        assert text(answer) == (
            'id: log-1@0.0\n\nid: log-1@0.1\ndata: "a 0"\n\nid: log-1@0.2\ndata: "a 1"\n\n'
            f'id: log-1@0.3\ndata: "a 2"\n\nevent: end\nid: {END_ID}\ndata: {{}}\n\n'
        )
        assert dict(answer.headers)[PLACE_KEY] == "log-1@0.0"


@pytest.mark.parametrize("how", ["header", "query"])
async def test_the_last_id_resumes(how: str) -> None:
    """By header or by query, and nothing is doubled; who has seen the end gets 204."""
    async with handler_of(Site(), FakeReplayLog()) as handler:
        for last_id, items in (("log-1@0.0", 3), ("log-1@0.2", 1), ("log-1@0.3", 0)):
            await get(handler, "job=a&items=3")
            query = "job=a&items=3" + (f"&lastEventId={last_id}" if how == "query" else "")
            answer = await get(handler, query, *([("last-event-id", last_id)] if how == "header" else []))
            assert answer.status == 200
            assert text(answer).count('data: "a') == items
        assert (await get(handler, "job=a", ("last-event-id", END_ID))).status == 204


@pytest.mark.parametrize(
    ("last_id", "status"),
    [("garbage", 400), ("log-1@1.0", 400), ("log-2@0.0", 404), ("log-1@0.9", 416), ("log-1@99.0", 416)],
)
async def test_ids_that_are_none(last_id: str, status: int) -> None:
    """They are refused before anything is answered, so an EventSource gives up."""
    site = Site()
    async with handler_of(site, FakeReplayLog()) as handler:
        await get(handler, "job=a")
        assert (await get(handler, "job=a", ("last-event-id", last_id))).status == status
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_hypercorn, handler, "127.0.0.1", 0))
            async with connect(url) as client:
                with pytest.raises(RpcError):
                    async with client.durable_stream("shared", Ask("a"), after=last_id):
                        pass
            nursery.cancel_scope.cancel()
        assert site.started == ["a"]


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAVAILABLE", "MINE"])
async def test_a_stored_end_is_the_end(code: str) -> None:
    """Also where its code says elsewhere that to try again may help: an EventSource stops."""
    async with handler_of(Site(), FakeReplayLog()) as handler:
        answer = await get(handler, f"job=a&items=1&end={code}", ("accept", EVENTS))
        assert f"event: error\nid: {END_ID}\n" in text(answer)
        assert f'"code":"{code}","message":"as asked","details":{{"job":"a"}}' in text(answer)


async def test_lines_and_looks() -> None:
    """Lines of JSON go without ids; a HEAD starts nothing."""
    site = Site()
    async with handler_of(site, FakeReplayLog()) as handler:
        answer = await get(handler, "job=a", method="HEAD")
        assert (answer.status, site.started) == (200, [])
        answer = await get(handler, "job=a&items=2", ("accept", "application/x-ndjson"))
        assert text(answer) == '"a 0"\n"a 1"\n'


async def test_answers_that_are_renewed(autojump_clock: trio.abc.Clock) -> None:
    """`max_duration` ends an answer for now; the run goes on, and who comes again misses nothing."""
    site = Site()
    site.steps = trio.Semaphore(2)
    async with handler_of(site, FakeReplayLog(), sse_config=SseConfig(max_duration=5)) as handler:
        first = text(await get(handler, "job=a"))
        assert first.endswith('data: "a 1"\n\n')
        last_id = first.split("id: ")[-1].partition("\n")[0]
        for _ in range(3):
            site.steps.release()
        second = text(await get(handler, "job=a", ("last-event-id", last_id)))
        assert [line for line in second.splitlines() if line.startswith("data: ")] == [
            'data: "a 2"',
            'data: "a 3"',
            'data: "a 4"',
            "data: {}",
        ]
    assert site.started == ["a"]


async def test_serving_takes_a_log() -> None:
    """Without one the server says so when it starts, and names the procedure; so does the application for other hosts."""
    site = Site()
    with pytest.raises(LocalProtocolError, match="'shared' is durable: serve it with replay_log="):
        await serve(site.router, "tcp://127.0.0.1:0")
    with pytest.raises(LocalProtocolError, match="'shared' is durable"):
        asgi_app(site.router)
    with pytest.raises(LocalProtocolError, match="give a background="):
        asgi_app(site.router, replay_log=FakeReplayLog())
    answer = await get(http_handler(site.router), "job=a")
    assert answer.status == 501
    assert "'shared' is durable, and served without a log" in text(answer)


@pytest.mark.parametrize("scheme", ["tcp", "ws", "http", "unix"])
@pytest.mark.parametrize("host", ["hypercorn", "lean"])
async def test_every_transport_reads_the_same_run(scheme: str, host: str, tmp_path: Path) -> None:
    """An id of one is an id of any other."""
    site, log = Site(), FakeReplayLog()
    url = f"unix:{tmp_path}/s" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
    with trio.fail_after(60):
        async with serving(site, url, "http://127.0.0.1:0", replay_log=log, host=host) as (here, there):
            async with connect(here) as client, client.durable_stream("own", Ask("a"), returns=str) as items:
                got = [await items.receive(), await items.receive()]
                last_id = items.last_id
            async with (
                connect(there) as client,
                client.durable_stream("own", Ask("a"), returns=str, after=last_id) as items,
            ):
                got += [item async for item in items]
    assert got == [f"a {number}" for number in range(5)]
    assert site.started == ["a"]


async def test_an_application_for_another_host() -> None:
    """`asgi_app` takes the log and a nursery's background; its exchanges and WebSockets share the runs."""
    site = Site()
    async with trio.open_nursery() as nursery:
        app = asgi_app(site.router, replay_log=FakeReplayLog(), background=Background(nursery), runs=RunConfig())
        sent: list[Message] = []
        asked: list[bool] = []

        async def receive() -> dict[str, Any]:
            if asked:
                await trio.sleep_forever()
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/streams/shared",
            "query_string": b"job=a&items=2",
            "headers": [],
            "client": ("127.0.0.1", 1),
        }
        with trio.fail_after(60):
            await app(scope, receive, send)
        nursery.cancel_scope.cancel()
    body = b"".join(cast("bytes", message.get("body", b"")) for message in sent)
    assert body.count(b'data: "a') == 2


async def test_envelopes_read_from_the_beginning() -> None:
    """Their answers have no place for ids: `stream` reads a run, and `durable_stream` says what is the matter."""
    site = Site()
    with trio.fail_after(60):
        async with (
            serving(site, "ws://127.0.0.1:0") as (url,),
            connect(url, dialect="envelopes") as client,
            client.stream("shared", {"job": "a", "items": 2}, returns=str) as items,
        ):
            assert [item async for item in items] == ["a 0", "a 1"]
            with pytest.raises(RpcError, match="UNIMPLEMENTED: 'shared': envelopes can't say"):
                client.durable_stream("shared", Ask("a"))


async def test_an_ordinary_stream_over_http() -> None:
    """It is told apart by its head, before anything of it is taken."""
    with trio.fail_after(60):
        async with serving(Site(), "http://127.0.0.1:0") as (url,), connect(url) as client:
            with pytest.raises(RpcError, match="FAILED_PRECONDITION: 'plain' is no durable stream"):
                async with client.durable_stream("plain", Ask("a")):
                    pass


async def test_who_must_not_come_back() -> None:
    """A client that is to make one attempt tells of the loss, and of the id to go on with."""
    site = AnsweringSite()
    head = f"{PLACE_KEY}: r@0.0\r\ncontent-length"
    site.respond(200, b"id: r@0.0\n\nid: r@0.1\ndata: 1\n\n", 1_000)
    site.answer = site.answer.replace(b"content-length", head.encode())
    async with client_of(site, NEVER) as client, client.durable_stream("x", returns=int) as items:
        assert items.last_id == "r@0.0"
        assert await items.receive() == 1
        with pytest.raises(ConnectionLost):
            await items.receive()
        assert items.last_id == "r@0.1"


async def test_a_drain_ends_runs() -> None:
    """At its deadline, like all that is under way: the end is stored, and the next server's callers see it."""
    site, log, drain = Site(), FakeReplayLog(), Drain()
    config = ServerConfig(drain_timeout=0.2, runs=RunConfig(linger_timeout=None))
    with trio.fail_after(60):
        async with serving(site, "tcp://127.0.0.1:0", replay_log=log, config=config, drain=drain) as (url,):
            async with connect(url) as client, client.durable_stream("shared", Ask("a", 1, "hang")) as items:
                await items.receive()
            drain.begin()
            await until(lambda: log.logs["jobs/a"].is_closed)
    assert log.logs["jobs/a"].items[-1] == b'{"end":{"code":"UNAVAILABLE","message":"the server was stopped"}}'
    async with serving(site, "http://127.0.0.1:0", replay_log=log) as (url,):
        quick = EventSourceConfig(retry_delay=0.001)
        async with connect(url, event_source=quick) as client, client.durable_stream("shared", Ask("a")) as items:
            await items.receive()
            with pytest.raises(RpcError, match="UNAVAILABLE: the server was stopped"):
                await items.receive()
    assert site.started == ["a"]
