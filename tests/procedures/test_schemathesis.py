"""The HTTP routes held against their OpenAPI document, with requests that schemathesis makes of that document."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection
from functools import partial
from typing import Any, Final

import attrs
import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from trio_streams import Context, Router, RpcError, serve
from trio_streams.urls.server import HostName

EXAMPLES: Final = 40
"""Of each procedure, with data that fits and with data that does not."""

TIMEOUT: Final = 30
"""Seconds for an answer: a fail-safe."""

SETTINGS: Final = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

CHOOSY: Final = (
    "/events/notes.seen",
    "/math.add",
    "/notes.query",
    "/notes.same",
    "/streams/lines.some",
    "/streams/numbers.sum",
    "/times",
)
"""What an answer refuses, if its input is not of the declared type."""

OTHERS: Final = (
    "/notes.refuse",
    "/streams/files.size",
    "/streams/lines.plain",
    "/streams/numbers.below",  # what is added to its one parameter may have no form in a query: then nothing is wrong
    "/users.{id}.greet",
)
"""A stream in both directions is not among them: HTTP carries none."""

CONFORMANCE: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

app: Final = Router()
app.enable_usd(title="Sample", version="2")


class Level(enum.Enum):
    INFO = "info"
    ERROR = "error"


@attrs.frozen
class Span:
    start: int
    end: int


@attrs.frozen
class Query:
    level: Level
    limit: int = 3
    weight: float | None = None
    tags: list[str] = attrs.field(factory=list)
    is_exact: bool = False
    span: Span | None = None


@attrs.frozen
class Note:
    text: str
    made: dt.datetime | None = None
    spans: dict[str, Span] = attrs.field(factory=dict)


@app.call("math.add").example([1, 2], 3)
async def add(numbers: list[int]) -> int:
    return sum(numbers)


@app.call("notes.same")
async def same(note: Note) -> Note:
    return note


@app.call("notes.query")
async def query_back(query: Query) -> Query:
    return query


@app.call("notes.refuse")
async def refuse() -> None:
    raise RpcError("NOT_FOUND", "there are none", {"left": 0})


@app.call("users.[id].greet")
async def greet(ctx: Context) -> str:
    return f"hello {ctx.params['id']}"


@app.call("times")
async def times(factor: int = 3) -> int:
    return 2 * factor


@app.stream("numbers.below")
async def below(limit: int) -> AsyncIterator[int]:
    for number in range(min(limit, 3)):
        yield number


@app.event("notes.seen")
async def seen(note: Note) -> None:
    pass


@app.stream("lines.some")
async def lines(query: Query) -> AsyncIterator[Note]:
    for number in range(min(query.limit, 5)):
        yield Note(f"{query.level.value} {number}")


@app.stream("lines.plain").content_type("application/x-ndjson")
async def plain() -> AsyncIterator[int]:
    for number in range(3):
        yield number


@app.stream("numbers.sum", direction="client")
async def total(numbers: AsyncIterable[int]) -> int:
    return sum([number async for number in numbers])


@app.stream("files.size", direction="client")
async def size(chunks: AsyncIterable[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


@app.stream("chat", direction="bidi")
async def chat(items: AsyncIterable[str]) -> AsyncIterator[str]:
    async for item in items:
        yield item


@schemathesis.serializer("application/x-ndjson")
def _to_line(ctx: schemathesis.SerializationContext, value: object) -> bytes:
    """What fits the schema is one item, and as a line a whole body."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


def _make_requests(
    url: str, mode: GenerationMode, checks: list[Callable[..., Any]], paths: Collection[str]
) -> list[str]:
    """Make requests of a server's document and check the answers; which paths the document has."""
    schema = schemathesis.openapi.from_url(f"{url}/docs/openapi.json", timeout=TIMEOUT)
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    with requests.Session() as session:
        for operation in (one for one in operations if one.path in paths):

            @settings(SETTINGS)
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(session=session, checks=checks, timeout=TIMEOUT)

            ask()
    return sorted(operation.path for operation in operations)


async def _judge(host: HostName, mode: GenerationMode, check: Callable[..., Any], paths: Collection[str]) -> list[str]:
    async with trio.open_nursery() as nursery:
        urls: list[str] = await nursery.start(partial(serve, app, "http://127.0.0.1:0", host=host))
        make = partial(_make_requests, urls[0], mode, [*CONFORMANCE, check], paths)
        found = await trio.to_thread.run_sync(make)
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("host", ["lean", "hypercorn"])
async def test_what_the_document_allows_is_taken(host: HostName) -> None:
    """By every procedure that HTTP carries; statuses, content types and bodies are the documented ones."""
    found = await _judge(host, GenerationMode.POSITIVE, positive_data_acceptance, {*CHOOSY, *OTHERS})
    assert found == sorted({*CHOOSY, *OTHERS})


@pytest.mark.parametrize("host", ["lean", "hypercorn"])
async def test_what_the_document_does_not_allow_is_refused(host: HostName) -> None:
    """With the documented error: never taken for something else, and never the server's own fault."""
    await _judge(host, GenerationMode.NEGATIVE, negative_data_rejection, CHOOSY)
