"""What the seed `raffel-streams.md` says of documents, interceptors and files: each code block in our own code."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
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
