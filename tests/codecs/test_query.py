"""Query strings, read by what each field declares."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing

import attrs
import pytest

from trio_streams.codecs import (
    decode_query,
)
from trio_streams.errors import CodecError


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@attrs.frozen
class Item:
    name: str
    price: float
    tag: str | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


class Options(typing.TypedDict, total=False):
    name: typing.Required[str]
    size: int


@attrs.frozen
class Search:
    level: str = "info"
    limit: int = 10
    follow: bool = False
    ratio: float | None = None
    tags: list[str] = attrs.field(factory=list)
    ids: list[int] | None = None
    since: dt.datetime | None = None
    kind: Level = Level.LOW
    where: Item | None = None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Search()),
        ({"level": ["404"]}, Search(level="404")),
        ({"level": ["true"], "limit": ["5"], "follow": ["1"]}, Search(level="true", limit=5, follow=True)),
        ({"follow": ["false"], "ratio": ["1e-1"]}, Search(ratio=0.1)),
        ({"follow": ["true"], "ratio": [""]}, Search(follow=True)),
        ({"tags": ["1", "b"], "ids": ["1", "2"]}, Search(tags=["1", "b"], ids=[1, 2])),
        ({"since": ["2024-01-01T00:00:00Z"]}, Search(since=dt.datetime(2024, 1, 1, tzinfo=dt.UTC))),
        ({"kind": ["high"]}, Search(kind=Level.HIGH)),
        ({"where": ['{"name":"n","price":1}']}, Search(where=Item("n", 1.0))),
    ],
)
def test_query_by_declared_type(query: dict[str, list[str]], expected: Search) -> None:
    """Text is read as what its field declares, and a missing field is its default."""
    assert decode_query(Search, query) == expected


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ({"limit": ["x"]}, "$.limit", "expected an integer, got a string of 1 characters"),
        ({"limit": ["1.5"]}, "$.limit", "expected an integer"),
        ({"limit": ["٣"]}, "$.limit", "expected an integer"),
        ({"limit": ["1", "2"]}, "$.limit", "given 2 times, expected once"),
        ({"follow": ["yes"]}, "$.follow", "expected a boolean"),
        ({"ratio": ["nan"]}, "$.ratio", "got a string of 3 characters"),
        ({"ratio": ["1e999"]}, "$.ratio", "expected a finite number"),
        ({"nope": ["secret"]}, "$.nope", "unknown field `nope`"),
        ({"ids": ["1", "x"]}, "$.ids[1]", "expected an integer"),
        ({"kind": ["secret"]}, "$.kind", "one of the 2 values of Level"),
        ({"tags": ["x"] * 257}, "$", "257 values; at most 256"),
        ({"level": ["x" * 20_000]}, "$", "20005 bytes; at most 16384"),
        ({"where": ["[" * 100]}, "$", "deeper than 64"),
    ],
)
def test_query_refused(query: dict[str, list[str]], path: str, message: str) -> None:
    """A query is refused with the field and the limit, never its value."""
    with pytest.raises(CodecError) as caught:
        decode_query(Search, query)
    assert caught.value.path == path
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_query_into_other_types() -> None:
    """Dataclasses, TypedDicts, dicts and `object` take queries too; a number has no fields to take them."""
    assert decode_query(Point, {"x": ["1"]}) == Point(1.0)
    assert decode_query(Options, {"name": ["5"], "size": ["5"]}) == {"name": "5", "size": 5}
    assert decode_query(dict[str, int], {"a": ["1"]}) == {"a": 1}
    assert decode_query(object, {"a": ["1"], "b": ["1", "2"]}) == {"a": "1", "b": ["1", "2"]}
    assert decode_query(dict, {"a": ["1"]}) == {"a": "1"}
    with pytest.raises(TypeError, match="named fields"):
        decode_query(int, {"a": ["1"]})
