"""What the seed `raffel-streams.md` says of documents, interceptors and files: each code block in our own code."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from textwrap import dedent

import attrs
import pytest
import trio

from trio_streams import Context, Router, RpcError, connect, serve
from trio_streams.procedures.discovery import Meta, load_directory
from trio_streams.procedures.documents import ContentTypes, usd_document
from trio_streams.procedures.interceptors import BearerAuthentication, Principal
from trio_streams.service.interceptor import Invocation, Proceed
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.messages import connect_websocket
from trio_streams.wire.envelope import Envelope, EnvelopeType

TCP = "tcp://127.0.0.1:0"


def test_block_2_usd_content_types() -> None:
    """JSON is the default of streams; what an application says instead stands in its document."""
    app = Router()
    assert ContentTypes() == ContentTypes(default="application/json", supported=("application/json",))
    app.enable_usd(
        streams=ContentTypes(default="application/json", supported=["application/json", "application/x-ndjson"])
    )

    @app.stream("ticks")
    async def ticks() -> AsyncIterator[int]:
        yield 1

    streams = usd_document(app, app.documents)["x-usd"]["streams"]
    assert streams["contentTypes"] == {
        "default": "application/json",
        "supported": ["application/json", "application/x-ndjson"],
    }
    assert streams["endpoints"]["ticks"]["message"]["contentType"] == "application/json"


def test_block_3_meta_overrides_the_content_type(tmp_path: Path) -> None:
    """A file says what its items are."""
    (tmp_path / "ticks.stream.py").write_text(
        dedent(
            """
            from trio_streams.procedures.discovery import Meta

            meta = Meta(content_type="application/x-ndjson")

            async def handler():
                yield 1
            """
        ),
        encoding="utf-8",
    )
    assert Meta().content_type is None
    document = usd_document(load_directory(tmp_path))
    endpoint = document["x-usd"]["streams"]["endpoints"]["ticks"]
    assert endpoint["message"]["contentType"] == "application/x-ndjson"
    assert endpoint["contentTypes"]["default"] == "application/x-ndjson"


@attrs.frozen
class Tail:
    level: str | None = None
    limit: int = 100


@attrs.frozen
class Entry:
    timestamp: dt.datetime
    message: str
    level: str


async def _verify(token: str) -> Principal | None:
    return Principal("ann") if token == "good" else None


async def test_block_4_fluent_builder() -> None:
    """Everything in one chain; the interceptor keeps out who may not, before the handler runs."""
    app = Router()
    begun: list[object] = []

    async def tail(query: Tail, ctx: Context) -> AsyncIterator[Entry]:
        begun.append(ctx.principal)
        for number in range(query.limit):
            yield Entry(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), str(number), query.level or "info")

    (
        app.stream("logs.tail")
        .input(Tail)
        .output(Entry)
        .description("Stream log entries in real-time")
        .direction("server")
        .use(BearerAuthentication(_verify))
        .handler(tail)
    )
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, app, TCP)
        async with connect(url) as client:
            async with client.stream("logs.tail", {"limit": 2}, metadata={"authorization": "Bearer good"}) as entries:
                assert [entry["message"] async for entry in entries] == ["0", "1"]  # type: ignore[index]
            async with client.stream("logs.tail", metadata={"authorization": "Bearer bad"}) as entries:
                with pytest.raises(RpcError, match="the token was refused"):
                    await entries.receive()
        nursery.cancel_scope.cancel()
    assert begun == [Principal("ann")]
    procedure = app.get("logs.tail")
    assert procedure is not None
    assert procedure.description == "Stream log entries in real-time"


async def test_builder_use() -> None:
    """Interceptors stand around the handler, the first one outermost."""
    app = Router()
    log: list[str] = []

    def noting(name: str) -> object:
        async def note(invocation: Invocation, proceed: Proceed) -> object:
            log.append(f"{name} {invocation.name}")
            return await proceed()

        return note

    async def answer() -> int:
        return 1

    app.call("answer").use(noting("a"), noting("b")).use(noting("c")).handler(answer)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, app, TCP)
        async with connect(url) as client:
            assert await client.call("answer") == 1
        nursery.cancel_scope.cancel()
    assert log == ["a answer", "b answer", "c answer"]


LIVE = """
import attrs
import trio

meta = {"description": "Stream live metrics", "direction": "server"}

@attrs.frozen
class Input:
    interval: int = 1000

@attrs.frozen
class Output:
    cpu: float
    memory: int

input_schema = Input
output_schema = Output

async def handler(input, ctx):
    while not ctx.cancelled:
        yield Output(cpu=input.interval / 1000, memory=1)
        await trio.sleep(0)
"""


async def test_block_17_file_based_streams(tmp_path: Path) -> None:
    """`metrics/live.stream.py` is `metrics.live`; its schemas count, and its defaults."""
    path = tmp_path / "metrics" / "live.stream.py"
    path.parent.mkdir()
    path.write_text(
        LIVE,
        encoding="utf-8",
    )
    app = load_directory(tmp_path)
    procedure = app.get("metrics.live")
    assert procedure is not None
    assert procedure.description == "Stream live metrics"
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, app, TCP)
        async with connect(url) as client:
            async with client.stream("metrics.live") as items:
                assert await items.receive() == {"cpu": 1.0, "memory": 1}
            async with client.stream("metrics.live", {"interval": "soon"}) as items:
                with pytest.raises(RpcError, match=r"\$.interval: expected an integer"):
                    await items.receive()
        nursery.cancel_scope.cancel()


# -- WebSocket Streaming, Protocol Support -------------------------------------------------------------------------


def _logs() -> Router:
    app = Router()

    @app.stream("logs.tail")
    async def tail(input: dict[str, str]) -> AsyncIterator[dict[str, str]]:  # noqa: A002
        if input["level"] == "none":
            raise RpcError("NOT_FOUND", "no such level", input)
        yield {"message": "Error..."}
        yield {"message": "Another..."}

    return app


async def _converse(app: Router, start: Mapping[str, object], count: int) -> list[dict[str, object]]:
    """What a WebSocket without a subprotocol hears after a start."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 30
        (url,) = await nursery.start(serve, app, "ws://127.0.0.1:0")
        carrier = await connect_websocket(url, subprotocols=(), require_subprotocol=False)
        await carrier.send_messages([json.dumps(start)])
        heard: list[dict[str, object]] = []
        while len(heard) < count:
            heard += [json.loads(message) for message in await carrier.receive_messages()]
        await carrier.aclose()
        nursery.cancel_scope.cancel()
    return heard


async def test_block_16_websocket_envelopes() -> None:
    """A start, its echo, a chunk for each item, the end; the ids of answers begin with the start's."""
    start = {"type": "stream:start", "id": "stream_1", "procedure": "logs.tail", "payload": {"level": "error"}}
    heard = await _converse(_logs(), start, 4)
    assert [one["type"] for one in heard] == [
        EnvelopeType.STREAM_START,
        EnvelopeType.STREAM_DATA,
        EnvelopeType.STREAM_DATA,
        EnvelopeType.STREAM_END,
    ]
    assert [one["payload"] for one in heard[1:3]] == [{"message": "Error..."}, {"message": "Another..."}]
    assert all(str(one["id"]).startswith("stream_1:") for one in heard)
    assert Envelope(type="stream:end", id="stream_1").procedure == ""


async def test_stream_error_envelope() -> None:
    """`stream:error` and the standard payload, of a stream that fails and of one that cannot start."""
    start = {"type": "stream:start", "id": "s", "procedure": "logs.tail", "payload": {"level": "none"}}
    _, failed = await _converse(_logs(), start, 2)
    assert (failed["type"], failed["payload"]) == (
        EnvelopeType.STREAM_ERROR,
        {"code": "NOT_FOUND", "status": 404, "message": "no such level", "details": {"level": "none"}},
    )
    (missing,) = await _converse(_logs(), {**start, "procedure": "nope"}, 1)
    assert missing["type"] == EnvelopeType.STREAM_ERROR
    assert missing["payload"] == {"code": "NOT_FOUND", "status": 404, "message": "Stream 'nope' not found"}


async def test_jsonrpc_refuses_streams() -> None:
    """With a message that names a URL that can carry it."""
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, _logs(), "http://127.0.0.1:0")
        call = {"jsonrpc": "2.0", "id": 1, "method": "logs.tail", "params": {"level": "error"}}
        async with HttpClient() as http:
            answer = await http.request("POST", f"{url}/rpc", body=json.dumps(call).encode())
        error = json.loads(answer.body)["error"]
        assert "which JSON-RPC can't carry; use GET /streams/logs.tail" in error["message"]
        nursery.cancel_scope.cancel()


async def test_uploads_over_http() -> None:
    """A client stream in a chunked request body, which the original has not."""
    app = Router()

    @app.stream("sum", direction="client")
    async def total(numbers: AsyncIterable[int]) -> int:
        return sum([number async for number in numbers])

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, app, "http://127.0.0.1:0")
        async with connect(url) as client:
            assert await client.upload("sum", [1, 2, 3]) == 6
        nursery.cancel_scope.cancel()
