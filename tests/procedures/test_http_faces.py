"""What HTTP carries besides calls and event streams: uploads, events, lines of JSON, JSON-RPC, documents, interceptors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast

import attrs
import pytest
import trio

from trio_streams import Client, Context, Router, RpcError, connect, serve
from trio_streams.procedures.interceptors import BearerAuthentication, Principal, Tickets
from trio_streams.service.interceptor import Invocation, Proceed
from trio_streams.transports.http_client import HttpClient, HttpResponse
from trio_streams.urls.server import HostName

HOSTS: Final = ("hypercorn", "lean")


@attrs.frozen
class Reading:
    name: str
    value: int


class Application:
    """Its router, and what its handlers saw."""

    def __init__(self) -> None:
        self.router = Router()
        self.seen: list[object] = []
        self.gate = trio.Event()
        for declare in (self._calls, self._uploads):
            declare()

    def _calls(self) -> None:
        @self.router.call("add")
        async def add(numbers: list[int]) -> int:
            return sum(numbers)

        @self.router.call("fail")
        async def fail(code: str) -> None:
            raise RpcError(code, "as asked", {"a": 1})

        @self.router.event("noted")
        async def noted(text: str) -> None:
            await self.gate.wait()
            self.seen.append(text)

        @self.router.stream("count")
        async def count(limit: int = 3) -> AsyncIterator[Reading]:
            for number in range(limit):
                yield Reading("n", number)
            if limit > 5:
                raise RpcError("ABORTED", "too many")

        @self.router.stream("lines").content_type("application/x-ndjson")
        async def lines() -> AsyncIterator[int]:
            yield 1

        @self.router.stream("users.[id].feed")
        async def feed(ctx: Context) -> AsyncIterator[str]:
            yield ctx.params["id"]

    def _uploads(self) -> None:
        @self.router.stream("total", direction="client")
        async def total(readings: AsyncIterable[Reading]) -> int:
            return sum([reading.value async for reading in readings])

        @self.router.stream("size", direction="client")
        async def size(chunks: AsyncIterable[bytes]) -> int:
            return sum([len(chunk) async for chunk in chunks])

        @self.router.stream("first", direction="client")
        async def first(numbers: AsyncIterable[int]) -> int:
            async for number in numbers:
                return number
            return -1

        @self.router.stream("chat", direction="bidi")
        async def chat(lines: AsyncIterable[str]) -> AsyncIterator[str]:
            async for line in lines:
                yield line


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Each host in turn."""
    return str(request.param)


@asynccontextmanager
async def served(app: Router, host: str) -> AsyncIterator[tuple[str, Client, HttpClient]]:
    """The server's URL, a client of procedures and a plain one."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0", host=cast("HostName", host)))
            async with connect(url) as client, HttpClient() as http:
                yield url, client, http
            nursery.cancel_scope.cancel()


async def _some(items: list[object]) -> AsyncIterator[object]:
    for item in items:
        await trio.lowlevel.checkpoint()
        yield item


async def test_uploads_as_lines_and_as_bytes(host: str) -> None:
    """Items of any iterable arrive in order and typed; a handler that has enough answers before the end."""
    async with served(Application().router, host) as (url, client, http):
        readings = [Reading("a", number) for number in range(1_000)]
        assert await client.upload("total", readings, returns=int) == 499_500
        assert await client.upload("total", _some([*readings[:3]]), returns=int) == 3
        assert await client.upload("total", [], returns=int) == 0
        assert await client.upload("size", [b"\x00" * 50_000] * 3, content_type="application/octet-stream") == 150_000
        assert await client.upload("size", [b"ab", b"c"]) == 3
        assert await client.upload("first", range(10)) == 0
        plain = await http.request(
            "POST", f"{url}/streams/total", body=b'{"name": "a", "value": 4}\n\n{"name": "b", "value": 5}'
        )
        assert (plain.status, plain.body) == (200, b"9")


@pytest.mark.parametrize(
    ("name", "content_type", "body", "status", "words"),
    [
        ("total", "application/x-ndjson", b'{"name": "a", "value": 1}\n{"name": 5, "value": 1}', 400, "$[0].name"),
        ("total", "application/octet-stream", b"x", 400, "takes lines of JSON"),
        ("total", "application/x-ndjson", b'"' + b"x" * 1_100_000, 400, "longer than 1048576"),
        ("missing", "application/x-ndjson", b"1", 404, "no procedure 'missing'"),
        ("chat", "application/x-ndjson", b"1", 501, "bidirectional stream, which HTTP can't carry"),
        ("count", "application/x-ndjson", b"1", 422, "GET /streams/count"),
    ],
)
async def test_uploads_that_are_refused(
    host: str, name: str, content_type: str, body: bytes, status: int, words: str
) -> None:
    """Each with the place and the reason; the connection goes on."""
    async with served(Application().router, host) as (url, client, http):
        headers = [("content-type", content_type)]
        answer = await http.request("POST", f"{url}/streams/{name}", headers=headers, body=body)
        assert (answer.status, words in answer.body.decode()) == (status, True), answer.body
        assert await client.call("add", [1, 2]) == 3


async def test_an_event_is_taken_at_once(host: str) -> None:
    """202 while its handler still waits; a wrong kind is told."""
    application = Application()
    async with served(application.router, host) as (url, client, http):
        await client.event("noted", "hello")
        assert application.seen == []
        application.gate.set()
        while not application.seen:
            await trio.lowlevel.checkpoint()
        assert application.seen == ["hello"]
        with pytest.raises(RpcError, match="'add' is a call: POST /add"):
            await client.event("add", [1])
        with pytest.raises(RpcError, match="expected a string"):
            await client.event("noted", 5)
        answer = await http.request("POST", f"{url}/events/noted", body=b'"again"')
        assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize(
    ("name", "accept", "is_lines"),
    [
        ("count", None, False),
        ("count", "*/*", False),
        ("count", "application/x-ndjson", True),
        ("count", "text/event-stream, application/x-ndjson", False),
        ("count", "text/event-stream;q=0.5, application/x-ndjson", True),
        ("count", "application/x-ndjson;q=oops", False),
        ("lines", None, True),
        ("lines", "text/event-stream", False),
    ],
)
async def test_lines_where_they_are_asked_for(host: str, name: str, accept: str | None, is_lines: bool) -> None:
    """By `Accept`, or by what the stream says it is."""
    async with served(Application().router, host) as (url, _, http):
        headers = [] if accept is None else [("accept", accept)]
        answer = await http.request("GET", f"{url}/streams/{name}", headers=headers)
        types = dict(answer.headers)["content-type"]
        assert (types == "application/x-ndjson", answer.body.startswith(b"data: ")) == (is_lines, not is_lines)
        if is_lines and name == "count":
            assert [json.loads(line)["value"] for line in answer.body.splitlines()] == [0, 1, 2]


async def test_lines_that_fail_stop_short(host: str) -> None:
    """An error has no line: the body is visibly not whole."""
    async with served(Application().router, host) as (url, _, http):
        headers = [("accept", "application/x-ndjson")]
        seen = b""
        with pytest.raises(Exception, match="lost|disconnect|incomplete|closed"):
            async with http.open_exchange("GET", f"{url}/streams/count?input=6", headers=headers) as exchange:
                assert exchange.status == 200
                async for chunk in exchange:
                    seen += chunk
        assert seen.count(b"\n") == 6


async def test_an_input_without_fields(host: str) -> None:
    """It is `?input=…`, as text or as JSON; a client sends it so."""
    async with served(Application().router, host) as (url, client, http):
        async with client.stream("count", 2, returns=Reading) as items:
            assert [item.value async for item in items] == [0, 1]
        answers = {}
        for query in ("input=1", "limit=1", "input=x", "input=1&input=2"):
            answer = await http.request("GET", f"{url}/streams/count?{query}")
            answers[query] = (answer.status, b"as ?input=" in answer.body, b"expected an integer" in answer.body)
        assert answers == {
            "input=1": (200, False, False),
            "limit=1": (400, True, False),
            "input=x": (400, False, False),
            "input=1&input=2": (400, True, False),
        }


async def test_names_with_parameters(host: str) -> None:
    """What stands in their place reaches the handler."""
    async with served(Application().router, host) as (_, client, _), client.stream("users.42.feed") as items:
        assert [item async for item in items] == ["42"]


def _rpc(method: str, params: object = None, id: object = None) -> dict[str, object]:  # noqa: A002 - as JSON-RPC has it
    call: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    return call if id is None else {**call, "id": id}


async def test_json_rpc(host: str) -> None:
    """Calls, a batch, notifications and errors; what streams is told where it can."""
    application = Application()
    application.gate.set()

    async with served(application.router, host) as (url, _, http):

        async def ask(document: object) -> HttpResponse:
            return await http.request("POST", f"{url}/rpc", body=json.dumps(document).encode())

        one = await ask(_rpc("add", [[1, 2]], 7))
        assert json.loads(one.body) == {"jsonrpc": "2.0", "result": 3, "id": 7}
        batch = await ask(
            [_rpc("add", [[1]], "a"), _rpc("noted", ["x"]), _rpc("fail", ["NOT_FOUND"], "b"), _rpc("none", None, 1)]
        )
        first, second, third = json.loads(batch.body)
        assert (first["result"], first["id"]) == (1, "a")
        assert (second["error"]["data"], second["id"]) == ({"a": 1}, "b")
        assert (third["error"]["code"], third["id"]) == (-32601, 1)
        quiet = await ask(_rpc("noted", ["y"]))
        assert (quiet.status, quiet.body) == (204, b"")
        while len(application.seen) < 2:
            await trio.lowlevel.checkpoint()
        assert sorted(map(str, application.seen)) == ["x", "y"]
        stream = json.loads((await ask(_rpc("count", None, 1))).body)
        assert "which JSON-RPC can't carry; use GET /streams/count" in stream["error"]["message"]
        wrong = json.loads((await http.request("POST", f"{url}/rpc", body=b"{")).body)
        assert wrong["error"]["code"] == -32700


async def test_documents_where_they_are_enabled(host: str) -> None:
    """They name the URL that is really bound."""
    app = Application().router
    app.enable_usd(title="T")
    async with served(app, host) as (url, _, http):
        document = json.loads((await http.request("GET", f"{url}/docs/openapi.json")).body)
        assert (document["info"]["title"], document["servers"]) == ("T", [{"url": url}])
        assert "/streams/total" in document["paths"]


async def test_interceptors_stand_around_every_face(host: str) -> None:
    """A refusal is a status before anything has been sent; each face passes its items by; a ticket is good in a URL."""
    application = Application()
    application.gate.set()
    tickets = Tickets()
    principal = Principal("ann")
    seen: list[object] = []

    async def watch(invocation: Invocation, proceed: Proceed) -> object:
        invocation.on_received(lambda item: seen.append((invocation.name, "received", item)))
        invocation.on_sent(lambda item: seen.append((invocation.name, "sent", item)))
        return await proceed()

    async def verify(token: str) -> Principal | None:
        return principal if token == "good" else None

    application.router.use(BearerAuthentication(verify, tickets=tickets), watch)
    async with served(application.router, host) as (url, client, http):
        for method, path in (("GET", "/streams/count"), ("POST", "/streams/total"), ("POST", "/add")):
            assert (await http.request(method, f"{url}{path}", body=b"" if method == "POST" else None)).status == 401
        good = {"authorization": "Bearer good"}
        assert await client.call("add", [1], metadata=good) == 1
        assert await client.upload("total", [Reading("a", 2)], metadata=good) == 2
        async with client.stream("count", 1, metadata=good) as items:
            assert len([item async for item in items]) == 1
        ticket = tickets.issue(principal)
        target = f"{url}/streams/count?input=1&ticket={ticket}"
        assert [(await http.request("GET", target)).status for _ in range(2)] == [200, 401]
    assert seen[:4] == [
        ("add", "received", [1]),
        ("add", "sent", 1),
        ("total", "received", Reading("a", 2)),
        ("total", "sent", 2),
    ]
    assert ("count", "sent", Reading("n", 0)) in seen
