"""Procedures over HTTP: what the server answers, and what the client makes of answers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.procedures.application import Application, Line, Query
from tests.procedures.site import Site, client_of
from tests.transports.exchange_host import Answer, drive
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError, RpcError
from trio_streams.procedures.http_client import HttpProcedureClient
from trio_streams.procedures.http_server import LONGEST_MS, TIMEOUT_HEADER, http_handler
from trio_streams.service.exchange import RequestHead
from trio_streams.transports.http_client import HttpClient


async def ask(
    application: Application,
    method: str,
    path: str,
    *,
    query: str = "",
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    urls: Sequence[str] = (),
) -> Answer:
    handler = http_handler(application.router, lambda: urls)
    request = RequestHead(method=method, path=path, query_string=query, headers=tuple(headers), peer="peer:1")
    return await drive(handler, request, body=(body,) if body else ())


# -- the server ------------------------------------------------------------------------------------------------


async def test_a_call_is_a_post() -> None:
    """POST /<name> takes the input as JSON, or none, and answers with the result as JSON."""
    answer = await ask(Application(), "POST", "/add", body=b"[1, 2]")
    assert (answer.status, answer.headers["content-type"], answer.writes) == (200, "application/json", [b"3"])
    answer = await ask(Application(), "POST", "/about")
    assert json.loads(b"".join(answer.writes)) == {"level": "info", "limit": 3, "tags": []}


async def test_a_stream_is_a_get() -> None:
    """GET /streams/<name> answers with an event for each item, then `end`; the query is decoded by the fields' types."""
    application = Application()
    answer = await ask(application, "GET", "/streams/lines", query="level=404&limit=1&events=named")
    text = b"".join(answer.writes).decode()
    assert answer.headers["content-type"] == "text/event-stream"
    assert text == 'event: data\ndata: {"level":"404","number":0}\n\nevent: end\ndata: {}\n\n'
    assert application.seen == ["lines closed"]
    answer = await ask(application, "GET", "/streams/lines")
    assert b"".join(answer.writes).count(b"data: {") == 4


async def test_a_stream_that_fails() -> None:
    """Three events and then `error`, with code, message, details and the HTTP status that it would have been."""
    answer = await ask(Application(), "GET", "/streams/lines", query="level=fail")
    *_, last = b"".join(answer.writes).decode().strip().split("\n\n")
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2]) == {
        "code": "NOT_FOUND",
        "message": "no more",
        "details": [1],
        "status": 404,
    }


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "status", "code", "message"),
    [
        ("POST", "/missing", "", b"", 404, "NOT_FOUND", "there is no procedure 'missing'"),
        ("GET", "/streams/" + "x" * 300, "", b"", 404, "NOT_FOUND", "(300 characters)"),
        ("GET", "/streams/add", "", b"", 422, "FAILED_PRECONDITION", "'add' is a call: POST /add"),
        ("POST", "/lines", "", b"", 422, "FAILED_PRECONDITION", "'lines' is a server stream: GET /streams/lines"),
        ("POST", "/total", "", b"", 422, "FAILED_PRECONDITION", "'total' is a client stream: POST /streams/total"),
        (
            "POST",
            "/streams/lines",
            "",
            b"",
            422,
            "FAILED_PRECONDITION",
            "'lines' is a server stream: GET /streams/lines",
        ),
        ("POST", "/streams/total", "", b"1\nx", 400, "INVALID_ARGUMENT", "$[0]"),
        ("POST", "/events/add", "", b"", 422, "FAILED_PRECONDITION", "'add' is a call: POST /add"),
        ("GET", "/streams/double", "", b"", 501, "UNIMPLEMENTED", "'double' is a bidirectional stream, which HTTP"),
        ("GET", "/streams/lines", "limit=many", b"", 400, "INVALID_ARGUMENT", "limit"),
        ("POST", "/add", "", b"[1, 2", 400, "INVALID_ARGUMENT", "$"),
        ("POST", "/wrong", "", b"", 500, "INTERNAL", "not of its declared type"),
        ("POST", "/fail", "", b'""', 500, "INTERNAL", "internal error"),
        ("PUT", "/add", "", b"", 405, "METHOD_NOT_ALLOWED", "/add takes POST, not PUT"),
    ],
)
async def test_errors(method: str, path: str, query: str, body: bytes, status: int, code: str, message: str) -> None:
    """Each mistake is one JSON error with the status of its code."""
    answer = await ask(Application(), method, path, query=query, body=body)
    assert answer.status == status
    assert answer.error["code"] == code
    assert message in str(answer.error["message"])


async def test_what_http_cannot_carry_names_a_url_that_can() -> None:
    """The refusal of a bidirectional stream names the other URLs of the application."""
    urls = ["http://h:1", "tcp://h:2", "ws://h:3"]
    answer = await ask(Application(), "POST", "/streams/double", urls=urls)
    assert str(answer.error["message"]).endswith("use tcp://h:2 or ws://h:3")


async def test_the_context_over_http(autojump_clock: trio.testing.MockClock) -> None:
    """Headers are the metadata, x-request-id the id, x-timeout-ms the deadline; without them there are defaults."""
    application = Application()
    handler = http_handler(application.router)
    for headers in ((("x-request-id", "mine"), (TIMEOUT_HEADER, "1500")), ()):
        await drive(handler, RequestHead(method="POST", path="/about", headers=headers, peer="peer:1"))
    first, second = application.contexts
    assert (first.request_id, first.peer, first.metadata["x-request-id"]) == ("mine", "peer:1", "mine")
    assert first.deadline == first.cancel_scope.deadline == trio.current_time() + 1.5
    assert (second.request_id, second.deadline) == ("http-1", float("inf"))


async def test_a_deadline_answers_a_call(autojump_clock: trio.testing.MockClock) -> None:
    """A call whose deadline passes is cancelled and answered 504; one that cancels itself is answered 499."""
    application = Application()
    answer = await ask(application, "POST", "/hang", headers=[(TIMEOUT_HEADER, "500")])
    assert (trio.current_time(), answer.status, answer.error["code"]) == (0.5, 504, "DEADLINE_EXCEEDED")
    assert application.seen == ["hang cancelled"]
    answer = await ask(application, "POST", "/give-up")
    assert (answer.status, answer.error["code"]) == (499, "CANCELLED")


async def test_a_deadline_ends_a_stream(autojump_clock: trio.testing.MockClock) -> None:
    """A stream whose deadline passes delivers what it had, closes its generator, and ends with an error event."""
    application = Application()
    answer = await ask(
        application, "GET", "/streams/lines", query="level=hang&limit=1", headers=[(TIMEOUT_HEADER, "9")]
    )
    text = b"".join(answer.writes).decode()
    assert text.startswith('data: {"level":"hang","number":0}\n\nevent: error\ndata: {')
    assert '"code":"DEADLINE_EXCEEDED"' in text
    assert application.seen == ["lines closed"]


async def test_a_parameters_default() -> None:
    """Without an input the handler's own default counts."""
    assert (await ask(Application(), "POST", "/times")).writes == [b"6"]
    assert (await ask(Application(), "POST", "/times", body=b"5")).writes == [b"10"]


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "²", "1" * 16, ""])
async def test_a_wrong_deadline(value: str) -> None:
    """A deadline that is no number of milliseconds is refused."""
    answer = await ask(Application(), "POST", "/about", headers=[(TIMEOUT_HEADER, value)])
    assert (answer.status, answer.error["code"]) == (400, "INVALID_ARGUMENT")
    assert TIMEOUT_HEADER in str(answer.error["message"])


# -- the client ------------------------------------------------------------------------------------------------


async def test_the_clients_call() -> None:
    """A call is a POST with the input as JSON and the metadata and what is left of the deadline as headers."""
    site = Site()
    site.respond(200, b"5")
    async with client_of(site) as client:
        with trio.fail_after(100):
            assert await client.call("a b", [1], returns=int, metadata={"K": "é"}) == 5
        with trio.fail_after(1e300):
            assert await client.call("add") == 5
        assert await client.call("add") == 5
    first, second, third = site.requests
    head, _, body = first.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%20b HTTP/1.1\r\n")
    assert "k: é".encode("latin-1") in head
    left = int(head.partition(b"x-timeout-ms: ")[2].split(b"\r\n")[0])
    assert 0 < left <= 100_000
    assert body in {b"[1]", b""}
    assert b"x-timeout-ms: %d\r\n" % LONGEST_MS in second
    assert b"x-timeout-ms" not in third


@pytest.mark.parametrize("metadata", [{"k": "€"}, {"é": "v"}])
async def test_metadata_that_http_cannot_carry(metadata: dict[str, str]) -> None:
    """Metadata beyond ISO 8859-1 is refused before anything is sent."""
    site = Site()
    async with client_of(site) as client:
        with pytest.raises(LocalProtocolError, match="over HTTP: not ISO 8859-1"):
            await client.call("add", metadata=metadata)
    assert site.requests == []


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (404, b'{"error": {"code": "NOT_FOUND", "message": "no", "details": 1}}', RpcError, "NOT_FOUND: no"),
        (500, b"<html>", RpcError, "UNKNOWN: HTTP status 500, with 6 bytes that are not our error"),
        (502, b"{}", RpcError, "UNKNOWN: HTTP status 502"),
        (500, b'{"error": 5}', RemoteProtocolError, "an error of 1 bytes with status 500 can't be read"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_error_bodies(status: int, body: bytes, error: type[Exception], message: str, stream: bool) -> None:
    """An error body of ours is its RpcError; anything else is named by its status and size."""
    site = Site()
    site.respond(status, body)
    async with client_of(site) as client:
        with pytest.raises(error, match=message):
            if stream:
                async with client.stream("lines"):
                    pass
            else:
                await client.call("add")


async def test_the_clients_stream() -> None:
    """Events become items of the type asked for, and `end` a clean end; the input is the query."""
    site = Site()
    site.respond(
        200,
        b'data: {"level":"a","number":1}\n\nevent: data\ndata: {"level":"b","number":2}\n\nevent: end\ndata: {}\n\n',
    )
    async with client_of(site) as client:
        async with client.stream("lines", Query("x y", 2, ["a", "b"]), returns=Line, metadata={"k": "v"}) as lines:
            assert [line async for line in lines] == [Line("a", 1), Line("b", 2)]
        async with client.stream("lines", {"none": None, "flag": True, "list": [1]}, high_water_mark=0) as items:
            assert len([item async for item in items]) == 2
        async with client.stream("lines", {"none": None}):
            pass
        async with client.stream("lines", [1]):
            pass
    assert [request.split(b" ")[1] for request in site.requests] == [
        b"/streams/lines?level=x+y&limit=2&tags=a&tags=b",
        b"/streams/lines?flag=true&list=1",
        b"/streams/lines",
        b"/streams/lines?input=%5B1%5D",
    ]


@pytest.mark.parametrize(
    ("events", "length", "error", "message"),
    [
        (b'event: error\ndata: {"code":"GONE","message":"m","details":[1]}\n\n', None, RpcError, "GONE: m"),
        (b"event: error\ndata: x\n\n", None, RemoteProtocolError, "an error of 1 bytes with status 500 can't be read"),
        (b"", None, ConnectionLost, "/streams/lines ended before the stream's end"),
        (b"", 1_000, ConnectionLost, "lost"),
    ],
    ids=["error event", "broken error event", "no end", "truncated"],
)
async def test_how_a_stream_can_fail(events: bytes, length: int | None, error: type[Exception], message: str) -> None:
    """What arrived can be read; then an error says what ended the stream instead of its `end`."""
    site = Site()
    site.respond(200, b"data: 1\n\n" + events, length)
    async with client_of(site) as client, client.stream("lines") as lines:
        received = []
        with pytest.raises(error, match=message):
            async for item in lines:
                received.append(item)  # noqa: PERF401 - the loop fails
        assert received == [1]


async def test_a_cancelled_receive_loses_nothing() -> None:
    """A receive that is cancelled while it waits takes nothing; the next one gets the item."""
    site = Site()
    site.respond(200, b"data: 1\n\n", 1_000)
    site.is_held = True
    async with client_of(site) as client, client.stream("lines", returns=int) as lines:
        assert await lines.receive() == 1
        with trio.move_on_after(0.01) as scope:
            await lines.receive()
        assert scope.cancelled_caught


@pytest.mark.parametrize("how", ["stop", "aclose", "leave", "fail"])
async def test_a_reader_that_wants_no_more(how: str) -> None:
    """Stopping, closing and leaving end the reading of events, and the block goes on, or fails bare."""
    site = Site()
    site.respond(200, b"data: 1\n\n" * 1_000 + b"event: end\ndata: {}\n\n")
    async with client_of(site) as client:
        with pytest.raises(KeyError) if how == "fail" else trio.CancelScope():
            async with client.stream("lines", high_water_mark=1) as lines:
                await lines.receive()
                if how == "stop":
                    lines.stop()
                elif how == "aclose":
                    await lines.aclose()
                elif how == "fail":
                    raise KeyError("body")
                if how in {"stop", "aclose"}:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    with pytest.raises(trio.ClosedResourceError):
                        await lines.receive()


async def test_closing_before_more_arrives() -> None:
    """A reader that closed a drained stream is not troubled by events that come later."""
    first, more = trio.Event(), trio.Event()

    class Slow(Site):
        async def serve(self, stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(
                b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\ndata: 1\n\n"
            )
            await more.wait()
            await stream.send_all(b"data: 2\n\n")
            first.set()
            await trio.sleep_forever()

    async with client_of(Slow()) as client, client.stream("lines") as lines:
        assert await lines.receive() == 1
        await lines.aclose()
        more.set()
        await first.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_what_the_client_refuses() -> None:
    """Bidirectional streams are refused, and the error says where they work."""
    async with HttpClient() as http:
        client = HttpProcedureClient("http://h:1", http)
        with pytest.raises(
            RpcError, match="UNIMPLEMENTED: 'double': http://h:1 can't carry a bidirectional stream; connect to"
        ):
            async with client.bidi("double"):
                pass


async def test_events_of_other_kinds_and_in_pieces() -> None:
    """Comments and events that mean nothing here are passed over, and an event may come in pieces."""

    class Slow(Site):
        async def serve(self, stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(
                b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for piece in (b": hello\n\nevent: other\ndata: x\n\nda", b"ta: 1", b"\n\nevent: end\ndata: {}\n\n"):
                await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
                await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(b"0\r\n\r\n")

    async with client_of(Slow()) as client, client.stream("lines") as lines:
        assert [item async for item in lines] == [1]
