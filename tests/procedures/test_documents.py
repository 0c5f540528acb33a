"""Documents of an application, judged by validators that we did not write."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, cast

import attrs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from trio_streams.procedures import Router
from trio_streams.procedures.documents import (
    ContentTypes,
    DocumentInfo,
    asyncapi_document,
    openapi_document,
    to_yaml,
    usd_document,
)

SERVERS = (
    "http://127.0.0.1:7002",
    "ws://127.0.0.1:7001",
    "tcp://127.0.0.1:7000",
    "unix:/run/app.sock",
    "wt://127.0.0.1:7003",
)


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
    limit: int = 100
    tags: list[str] = attrs.field(factory=list)
    span: Span | None = None


@attrs.frozen
class Line:
    """One line of a log."""

    level: Level
    message: str


def make_app() -> Router:
    app = Router()

    @app.call("math.add").example([1, 2], 3, "two numbers")
    async def add(numbers: list[int]) -> int:
        """Add numbers."""
        return sum(numbers)

    @app.event("users.seen", input=str)
    async def seen(user: str) -> None:
        """Note that somebody was seen."""

    @app.stream("logs.tail").content_type("application/x-ndjson")
    async def tail(query: Query) -> AsyncIterator[Line]:
        """Stream log entries."""
        yield Line(query.level, "")

    @app.stream("files.upload", direction="client")
    async def upload(chunks: AsyncIterable[bytes]) -> int:
        return 0

    @app.stream("numbers.sum", direction="client")
    async def total(numbers: AsyncIterable[int]) -> int:
        return 0

    @app.stream("chat", direction="bidi")
    async def chat(lines: AsyncIterable[str]) -> AsyncIterator[Line]:
        yield Line(Level.INFO, "")

    @app.stream("users.[id].feed")
    async def feed() -> AsyncIterator[object]:
        yield None

    return app


def test_openapi_is_what_a_validator_accepts() -> None:
    """Every procedure that HTTP carries is there, and the document is valid OpenAPI 3.1."""
    document = openapi_document(make_app(), DocumentInfo(title="T", version="2", description="D"), servers=SERVERS)
    OpenAPIV31SpecValidator(cast("Any", document)).validate()
    assert {path: sorted(item) for path, item in document["paths"].items()} == {
        "/events/users.seen": ["post"],
        "/math.add": ["post"],
        "/streams/files.upload": ["post"],
        "/streams/logs.tail": ["get"],
        "/streams/numbers.sum": ["post"],
        "/streams/users.{id}.feed": ["get"],
    }
    assert document["servers"] == [{"url": "http://127.0.0.1:7002"}]
    assert document["info"] == {"title": "T", "version": "2", "description": "D"}
    tail = document["paths"]["/streams/logs.tail"]["get"]
    assert [(p["name"], p["required"], "content" in p) for p in tail["parameters"]] == [
        ("level", True, False),
        ("limit", False, False),
        ("tags", False, False),
        ("span", False, True),
    ]
    add = document["paths"]["/math.add"]["post"]
    assert add["requestBody"]["content"]["application/json"]["examples"] == {
        "example1": {"value": [1, 2], "summary": "two numbers"}
    }


def test_there_is_no_null_in_a_query() -> None:
    """A number that may be null may have an empty value instead; text and records are left out."""
    app = Router()

    @attrs.frozen
    class Options:
        weight: float | None = None
        text: str | None = None
        level: Level | None = None
        span: Span | None = None

    @app.stream("one", input=Options)
    async def one(options: Options) -> AsyncIterator[int]:
        yield 1

    document = openapi_document(app)
    OpenAPIV31SpecValidator(cast("Any", document)).validate()
    weight, text, level, span = document["paths"]["/streams/one"]["get"]["parameters"]
    assert (weight["schema"], weight["allowEmptyValue"]) == ({"type": "number"}, True)
    assert (text["schema"], level["schema"]) == ({"type": "string"}, {"$ref": "#/components/schemas/Level"})
    assert span["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Span"}}}
    assert [it["name"] for it in (text, level, span) if "allowEmptyValue" in it] == []


def test_usd_is_openapi_and_more() -> None:
    """The streams with their directions, content types and payloads; calls as JSON-RPC methods; where else it is served."""
    info = DocumentInfo(streams=ContentTypes(supported=["application/json", "application/x-ndjson"]))
    document = usd_document(make_app(), info, servers=SERVERS)
    # Its one key that OpenAPI does not know, and that is no extension either.
    OpenAPIV31SpecValidator(cast("Any", {key: value for key, value in document.items() if key != "usd"})).validate()
    extension = document["x-usd"]
    assert (document["usd"], document["openapi"]) == ("1.0.0", "3.1.0")
    assert extension["protocols"] == ["http", "websocket", "tcp", "udp", "streams", "jsonrpc"]
    assert [server["protocol"] for server in extension["servers"]] == ["websocket", "tcp", "udp"]
    endpoints = extension["streams"]["endpoints"]
    assert {name: endpoint["direction"] for name, endpoint in endpoints.items()} == {
        "chat": "bidirectional",
        "files.upload": "client-to-server",
        "logs.tail": "server-to-client",
        "numbers.sum": "client-to-server",
        "users.[id].feed": "server-to-client",
    }
    assert endpoints["logs.tail"]["contentTypes"] == {
        "default": "application/x-ndjson",
        "supported": ["application/json", "application/x-ndjson"],
    }
    assert endpoints["logs.tail"]["message"]["payload"] == {"$ref": "#/components/schemas/Line"}
    assert sorted(extension["jsonrpc"]["methods"]) == ["math.add", "users.seen"]


def test_asyncapi_has_a_message_for_each_direction() -> None:
    """References lead somewhere, and the application sends what it sends."""
    document = asyncapi_document(make_app(), servers=SERVERS)
    assert sorted(document["servers"]) == ["http", "tcp2", "ws1", "wt3"]
    assert document["servers"]["wt3"] == {"host": "127.0.0.1:7003", "protocol": "webtransport"}
    assert document["channels"]["users._id_.feed"]["address"] == "users.{id}.feed"
    for operation in document["operations"].values():
        for reference in (operation["channel"], *operation["messages"]):
            found: Any = document
            for part in reference["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            assert found
    actions = [name for name in document["operations"] if name.startswith("chat")]
    assert actions == ["chat.receive", "chat.send"]


def test_an_application_of_nothing_and_one_of_streams_only() -> None:
    """Neither has JSON-RPC methods; both are valid."""
    app = Router()
    OpenAPIV31SpecValidator(cast("Any", openapi_document(app))).validate()
    assert usd_document(app)["x-usd"]["protocols"] == ["http"]

    @app.stream("one")
    async def one() -> AsyncIterator[int]:
        yield 1

    assert usd_document(app)["x-usd"]["protocols"] == ["http", "streams"]
    assert usd_document(app, servers=["tcp://127.0.0.1:1"])["x-usd"]["protocols"] == ["tcp", "streams"]
    assert "servers" not in asyncapi_document(app)


def test_schemas_hold_what_the_handler_gives() -> None:
    """A payload that the codec encodes is valid by the document's schema."""
    document = usd_document(make_app())
    schema = {**document["components"]["schemas"]["Line"], "components": document["components"]}
    assert Draft202012Validator(schema).is_valid({"level": "info", "message": "m"})
    assert not Draft202012Validator(schema).is_valid({"level": "loud", "message": "m"})


def test_enabling_says_what_the_document_says() -> None:
    """Nothing is served before; what is given is kept."""
    app = Router()
    assert app.documents is None
    app.enable_usd(title="T", streams=ContentTypes(default="text/csv"))
    assert app.documents == DocumentInfo(title="T", streams=ContentTypes("text/csv"))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(_VALUES)
def test_yaml_reads_back(value: object) -> None:
    """Whatever JSON can say, a YAML reader that we did not write reads the same."""
    if _has_specials(value):
        return
    assert yaml.safe_load(to_yaml(value)) == value


def _has_specials(value: object) -> bool:
    """Characters that YAML 1.1's readers refuse in any form, and numbers that they take for text."""
    if isinstance(value, str):
        return not all(c.isprintable() or c in "\n\t" for c in value)
    if isinstance(value, float):
        return "e" in repr(value)
    if isinstance(value, dict):
        return any(_has_specials(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_has_specials, value))


@pytest.mark.parametrize("document", [usd_document, openapi_document, asyncapi_document])
def test_every_document_is_the_same_in_yaml(document: Callable[..., object]) -> None:
    """Of the documents themselves no exception is made."""
    made = document(make_app(), servers=SERVERS)
    assert yaml.safe_load(to_yaml(made)) == made
