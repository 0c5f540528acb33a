"""JSON Schema of declared types, judged by a validator that we did not write."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from trio_streams.codecs import json_codec
from trio_streams.codecs.json_schema import Schema, Schemas
from trio_streams.errors import CodecError

T = TypeVar("T")


class Colour(enum.Enum):
    """What one sees."""

    RED = "red"
    GREEN = "green"


@attrs.frozen
class Point:
    """Where it is.

    More of it.
    """

    x: int
    y: float = 0.5
    colour: Colour = Colour.RED
    tags: list[str] = attrs.field(factory=list)
    when: dt.datetime | None = None
    _number: int = attrs.field(init=False, default=0)


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(init=False, default=0)


class Options(TypedDict, total=False):
    limit: int
    label: str


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]


def whole(type_: object) -> Schema:
    """A schema with its components beside it, as a validator wants it."""
    schemas = Schemas("#/$defs/")
    schema = schemas.of(type_)
    return {**schema, "$defs": schemas.components}


@pytest.mark.parametrize(
    ("type_", "schema"),
    [
        (None, {"type": "null"}),
        (int, {"type": "integer"}),
        (object, {}),
        (Any, {}),
        (Annotated[str, "a note"], {"type": "string"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a"], {"const": "a"}),
        (Literal["a", 1, Colour.RED], {"enum": ["a", 1, "red"]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array"}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Mapping, {"type": "object"}),
        (T, {}),
        (complex, {}),
    ],
)
def test_types_without_a_name(type_: object, schema: Schema) -> None:
    """What stands for itself is no component."""
    schemas = Schemas()
    assert schemas.of(type_) == schema
    assert schemas.components == {}


def test_a_record_is_a_component() -> None:
    """With its description, defaults that JSON can say, and what is required; what callers can't set is left out."""
    schemas = Schemas()
    assert schemas.of(list[Point]) == {"type": "array", "items": {"$ref": "#/components/schemas/Point"}}
    assert schemas.components == {
        "Point": {
            "title": "Point",
            "description": "Where it is.",
            "type": "object",
            "required": ["x"],
            "properties": {
                "x": {"type": "integer"},
                "y": {"type": "number", "default": 0.5},
                "colour": {"$ref": "#/components/schemas/Colour", "default": "red"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            },
        },
        "Colour": {"title": "Colour", "description": "What one sees.", "enum": ["red", "green"]},
    }


def test_names_are_told_apart() -> None:
    """Two classes of one name, and one class with two arguments, are different components; one class is one."""

    def make_other() -> type:
        @attrs.frozen
        class Point:
            z: int

        return Point

    other = make_other()
    schemas = Schemas()
    names = [schemas.of(type_)["$ref"].rpartition("/")[2] for type_ in (Point, other, Page[int], Page[str], Point)]
    assert names == ["Point", "Point2", "Page_int", "Page_str", "Point"]
    assert schemas.components["Page_int"]["properties"] == {"items": {"type": "array", "items": {}}}
    assert "description" not in schemas.components["Page_int"]


def test_a_default_that_json_cannot_say_is_left_out() -> None:
    """The field is optional all the same."""

    @attrs.frozen
    class Odd:
        ratio: float = float("nan")

    assert whole(Odd)["$defs"]["Odd"]["properties"] == {"ratio": {"type": "number"}}


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (Point, {"x": 1, "when": None}, {"y": 1}),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, {"name": "a", "children": [{"nom": "b"}]}),
        (Options, {"limit": 1}, {"limit": "1"}),
        (tuple[int, str], [1, "a"], [1]),
        (dict[str, Colour], {"a": "red"}, {"a": "blue"}),
        (Point | Tree, {"name": "a"}, {"nom": "b"}),
        (decimal.Decimal, "1.50", True),
    ],
)
def test_a_foreign_validator_agrees_with_the_codec(type_: object, good: object, bad: object) -> None:
    """What one takes the other takes, and what one refuses the other refuses."""
    schema = whole(type_)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    codec, plain = json_codec(type_), json_codec(object)
    assert validator.is_valid(good)
    codec.decode(plain.encode(good))
    assert not validator.is_valid(bad)
    with pytest.raises(CodecError):
        codec.decode(plain.encode(bad))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "name", "limit"]), inner),
    max_leaves=6,
)


@given(_JSON)
def test_what_the_codec_takes_is_valid(value: object) -> None:
    """For any document: a schema never refuses what the codec takes."""
    for type_ in (Point, Tree, Options, list[int], int | str, dict[str, float]):
        try:
            json_codec(type_).decode(json_codec(object).encode(value))
        except CodecError:
            continue
        assert Draft202012Validator(whole(type_)).is_valid(value)
