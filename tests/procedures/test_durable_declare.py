"""What may be declared durable, and which log an input names."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, TypedDict

import attrs
import pytest

from trio_streams.errors import RpcError
from trio_streams.procedures import Kind, Router
from trio_streams.procedures.describe import describe
from trio_streams.procedures.documents import openapi_document
from trio_streams.procedures.durable.end import encode_end, read_end
from trio_streams.procedures.durable.path import MAX_PATH_CHARACTERS, PathTemplate, check_run_id, new_run_id
from trio_streams.procedures.durable.place import Place
from trio_streams.procedures.procedure import ResumePoint, declare
from trio_streams.service.context import Context
from trio_streams.service.replay_log import RunConfig, RunEnded


@attrs.frozen
class Ask:
    job: str


@dataclasses.dataclass
class Data:
    job: str


class Typed(TypedDict):
    job: str


class Colour(enum.Enum):
    RED = "red"


async def handle(ask: Ask) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "segments with one '/'"),
        ("/a", "segments with one '/'"),
        ("a/", "segments with one '/'"),
        ("a//b", "segments with one '/'"),
        ("a/../b", "segments with one '/'"),
        ("a b", "letters, digits"),
        ("a?b", "letters, digits"),
        ("ä", "letters, digits"),
        ("{job", "no template"),
        ("{}", "the name of a field"),
        ("{0}", "the name of a field"),
        ("{job.x}", "the name of a field"),
        ("{job!r}", "the name of a field"),
        ("{job:>3}", "the name of a field"),
        ("a/{other}", "the input has no field 'other'"),
    ],
)
def test_templates_that_are_none(text: str, match: str) -> None:
    """They are refused where they are declared, in words that say what is wrong."""
    with pytest.raises(ValueError, match=match):
        declare("a", Kind.SERVER, handle, durable=text)


@pytest.mark.parametrize("input_type", [Ask, Data, Typed, str, int, bytes])
def test_fields_are_looked_for_where_they_are_known(input_type: object) -> None:
    """Records tell their fields, and plain values have none; anything else is looked at when it is there."""
    template = PathTemplate.parse("{job}/{other}")
    with pytest.raises(ValueError, match="has no field '(other|job)'"):
        template.check_fields(input_type, ())
    template.check_fields(input_type, ("other", "job"))
    for unknown in (object, dict, dict[str, str], Ask | Data):
        template.check_fields(unknown, ())


@pytest.mark.parametrize("direction", ["client", "bidi"])
def test_only_server_streams_are_durable(direction: str) -> None:
    """What takes a run of items can't be kept by what it gives."""
    router = Router()
    handlers: dict[str, Callable[..., Any]] = {}

    async def collect(items: AsyncIterator[int]) -> int:
        return 0

    async def talk(items: AsyncIterator[int]) -> AsyncIterator[int]:
        yield 0

    handlers = {"client": collect, "bidi": talk}
    with pytest.raises(TypeError, match="only server streams are durable"):
        router.stream("x", direction=direction, durable="x")(handlers[direction])
    with pytest.raises(TypeError, match="their items have ids already"):
        router.stream("x", durable="x", id_of=str)(handle)


def test_a_handler_may_take_where_to_go_on() -> None:
    """`resume_from` is a third parameter of durable streams only; elsewhere it is a name like any other."""

    async def resumable(ask: Ask, ctx: Context, *, resume_from: ResumePoint) -> AsyncIterator[int]:
        yield 1

    async def plain(resume_from: Ask) -> AsyncIterator[int]:
        yield 1

    assert declare("a", Kind.SERVER, resumable, durable="a").is_resumable
    assert not declare("a", Kind.SERVER, handle, durable="a").is_resumable
    assert declare("a", Kind.SERVER, plain).input_type is Ask


def test_a_mounted_procedure_stays_durable() -> None:
    """Its path is the one that it declares; the builder declares it as well."""
    inner, outer = Router(), Router()
    inner.stream("x").durable("x/{job}").handler(handle)
    outer.mount("in", inner)
    procedure = outer.get("in.x")
    assert procedure is not None
    assert procedure.durable == PathTemplate.parse("x/{job}")


def test_a_description_says_so() -> None:
    """Who asks what there is learns which streams can be gone on with; not where they are kept."""
    router = Router()
    router.stream("x", durable="secret/{job}")(handle)
    router.stream("y")(handle)
    assert [(one.name, one.is_durable) for one in describe(router).procedures] == [("x", True), ("y", False)]


def test_documents_say_how_to_go_on() -> None:
    """OpenAPI has the header that brings the last id, for durable streams alone."""
    router = Router()
    router.stream("x", durable="x/{job}")(handle)
    router.stream("y")(handle)
    paths = openapi_document(router)["paths"]
    headers = [
        [one["name"] for one in paths[f"/streams/{name}"]["get"].get("parameters", []) if one["in"] == "header"]
        for name in "xy"
    ]
    assert headers == [["Last-Event-ID"], []]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"job": "a"}, "jobs/a"),
        ({"job": "a/../b"}, "jobs/a%2F..%2Fb"),
        ({"job": "%2e é?"}, "jobs/%252e%20%C3%A9%3F"),
        ({"job": -7}, "jobs/-7"),
        ({"job": uuid.UUID(int=1)}, "jobs/00000000-0000-0000-0000-000000000001"),
        ({"job": Colour.RED}, "jobs/red"),
        (Ask("x"), "jobs/x"),
        (Data("x"), "jobs/x"),
    ],
)
def test_fields_in_a_path(value: object, path: str) -> None:
    """Text, integers, UUIDs and members of enumerations; whatever they hold stays in its segment."""
    assert PathTemplate.parse("jobs/{job}").fill(value, {}, "") == path


@pytest.mark.parametrize(
    "value",
    [{}, None, 5, {"job": None}, {"job": ""}, {"job": True}, {"job": 1.5}, {"job": ["a"]}, {"job": "."}, {"job": ".."},
     {"job": "\ud800"}, {"job": "x" * MAX_PATH_CHARACTERS}],
)  # fmt: skip
def test_inputs_that_name_no_log(value: object) -> None:
    """They come from strangers: INVALID_ARGUMENT, and never another path."""
    with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
        PathTemplate.parse("jobs/{job}").fill(value, {}, "")


def test_parameters_of_the_name_are_fields_too() -> None:
    """They come before fields of the input; `{run}` is the run's own."""
    template = PathTemplate.parse("users/{id}/{run}")
    assert template.has_run
    assert template.fill({"id": "no"}, {"id": "42"}, "r") == "users/42/r"
    assert declare("users.[id].feed", Kind.SERVER, handle, durable="users/{id}").durable is not None


def test_ids_of_runs() -> None:
    """Fresh ones differ and pass the check; what could be guessed is refused."""
    assert check_run_id(new_run_id()) != new_run_id()
    for text in ("", "a" * 21, "a" * 65, "a" * 22 + "/", "ä" * 22):
        with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
            check_run_id(text)


def test_places() -> None:
    """A place is read as it was written, and an item later is one more behind the dot."""
    place = Place("r-_1", 12, 3)
    assert str(place) == "r-_1@12.3"
    assert Place.parse(str(place)) == place
    assert str(place.behind(2)) == "r-_1@12.5"


def test_ends() -> None:
    """OK, or code, message and details; what has no JSON is left out."""
    assert read_end(encode_end(None)) is None
    error = read_end(encode_end(RpcError("MINE", "so", {"a": [1]})))
    assert isinstance(error, RunEnded)
    assert (error.code, error.message, error.details) == ("MINE", "so", {"a": [1]})
    error = read_end(encode_end(RpcError("INTERNAL", "so", object())))
    assert error is not None
    assert error.details is None
    assert not error.is_our_fault
    for message in (b'{"end":{"code":"OK","x":1}}', b'{"end":{}}', b"5", b"", b"{"):
        with pytest.raises(RunEnded, match="ABORTED"):
            read_end(message)


@pytest.mark.parametrize(
    "fields",
    [{"max_runs": 0}, {"linger_timeout": -1}, {"keep_seconds": 0}, {"max_pending_bytes": 0}, {"max_read_bytes": 0},
     {"goodbye_timeout": 0}],
)  # fmt: skip
def test_limits_that_are_none(fields: dict[str, Any]) -> None:
    """The configuration refuses them by name."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        RunConfig(**fields)
