"""Inputs as they are typed on a command line, and schemas as they are shown there."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_site import router
from trio_streams.cli.items import line
from trio_streams.cli.process import UsageError
from trio_streams.cli.reflection import Server, notation
from trio_streams.cli.values import Input, read_input
from trio_streams.procedures.describe import Description, ProcedureDescription, describe

SERVER = Server(describe(router))
TAIL = SERVER.find("tail")
assert TAIL is not None
SCHEMA = TAIL.input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["level=error"], {"level": "error"}),
        (["limit=5"], {"limit": 5}),
        (["limit=-5", "exact=true"], {"limit": -5, "exact": True}),
        (["limit=null"], {"limit": None}),
        (["limit="], {"limit": None}),
        (["exact=false"], {"exact": False}),
        (["ratio=2"], {"ratio": 2}),
        (["ratio=2.5e3"], {"ratio": 2500.0}),
        (["tags=a"], {"tags": ["a"]}),
        (["tags=1", "limit=1", "tags=b=c"], {"tags": ["1", "b=c"], "limit": 1}),
        (['tags:=["a", "b"]'], {"tags": ["a", "b"]}),
        (["since=2020-01-01T00:00:00Z"], {"since": "2020-01-01T00:00:00Z"}),
        (['ports:={"http": 80}'], {"ports": {"http": 80}}),
        (["kind=b"], {"kind": "b"}),
        (["unknown=404"], {"unknown": "404"}),
        (["unknown:=404"], {"unknown": 404}),
        (["level:=1"], {"level": 1}),
    ],
)
def test_values_get_the_types_of_the_schema(words: Sequence[str], expected: dict[str, object]) -> None:
    """`=` is what the schema says, a string where it says nothing; `:=` is JSON, whatever the schema says."""
    assert read_input(words, SERVER, SCHEMA) == expected


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["level=loud"], "level is info or error, not 'loud'"),
        (["limit=x"], "limit is an integer or null, not 'x'"),
        (["limit=1.5"], "limit is an integer or null, not '1.5'"),
        (["limit=٣"], "limit is an integer or null, not '٣'"),
        (["ratio=nan"], "ratio is a number, not 'nan'"),
        (["ratio=1e999"], "ratio is a number, not '1e999'"),
        (["exact=yes"], "exact is true or false, not 'yes'"),
        (["ports=80"], "ports is an object, which takes :=, not '80'"),
        (["limit:=x"], "limit is not JSON: "),
        (["level=info", "level=error"], "level is given twice, and is no list"),
        (["tags=a", "tags:=[]"], "tags is given twice, and is no list"),
    ],
)
def test_values_that_do_not_fit(words: Sequence[str], text: str) -> None:
    """One line that names the key and what it should have been."""
    with pytest.raises(UsageError) as raised:
        read_input(words, SERVER, SCHEMA)
    assert str(raised.value).startswith(text)


def test_without_a_schema_values_are_strings() -> None:
    """A server that does not tell, or whose input is no record, gets texts."""
    assert read_input(["a=1", "b:=1"], Server(), None) == {"a": "1", "b": 1}
    assert read_input(["a=1"], SERVER, {"type": "integer"}) == {"a": "1"}


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,9}", fullmatch=True), st.text()))
def test_any_text_is_a_value(pairs: dict[str, str]) -> None:
    """Signs, line ends and quotes in a value are the value's own."""
    words = [f"{key}={value}" for key, value in pairs.items()]
    assert read_input(words, Server(), None) == pairs


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_is_taken_as_it_is(value: object) -> None:
    """One argument that is no pair is JSON; none is no input."""
    given_input = Input.parse([json.dumps(value)])
    assert not given_input.is_typed_by_server
    assert given_input.value == value
    assert Input.parse([]).value is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["{"], "the input is not JSON: "),
        (["word"], "the input is not JSON: "),
        (["a=1", "{}"], "the input is JSON, or key=value pairs: '{}' is no pair"),
        (["1", "2"], "the input is JSON, or key=value pairs: '1' is no pair"),
        (["1=2", "a=1"], "the input is JSON, or key=value pairs: '1=2' is no pair"),
    ],
)
def test_an_input_that_is_neither(words: Sequence[str], text: str) -> None:
    """It is refused before any server is asked."""
    with pytest.raises(UsageError) as raised:
        Input.parse(words)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "any"),
        (None, "any"),
        ("nonsense", "any"),
        ({"type": ["string", "null"]}, "any"),
        ({"type": "integer"}, "integer"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"$ref": "#/schemas/Tail", "default": 1}, "Tail"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}, "integer | string?"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "a"}, '"a"'),
        ({"type": "array", "items": {"$ref": "#/schemas/Tail"}}, "[Tail]"),
        ({"type": "array"}, "[any]"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {}]}, "[integer, any]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "{string: number}"),
        ({"type": "object", "additionalProperties": False}, "{string: any}"),
    ],
)
def test_a_schema_in_short(schema: object, text: str) -> None:
    """Types as people write them; what a stranger sends beside that is `any`."""
    assert notation(schema) == text


def test_a_deep_schema_has_an_end() -> None:
    """Notation does not follow a stranger's nesting for ever, nor his circle of references."""
    deep: dict[str, object] = {"type": "integer"}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    assert notation(deep) == "[" * 8 + "any" + "]" * 8
    circle = Server(Description(procedures=[], schemas={"A": {"$ref": "#/schemas/B"}, "B": {"$ref": "#/schemas/A"}}))
    assert circle.resolve({"$ref": "#/schemas/A"}) == {}


@given(st.none() | st.integers() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()))
def test_a_printed_line_is_the_item(item: object) -> None:
    """A line of output is JSON of the item, on one line, and has nothing in it that a terminal would obey."""
    text = line(item)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert json.loads(text) == item


def test_procedures_are_found_as_callers_name_them() -> None:
    """An exact name first, then one with parameters; nothing else."""
    exact = ProcedureDescription(name="users.me.feed", kind="server")
    server = Server(Description(procedures=[*SERVER.description.procedures, exact]))
    assert server.find("users.me.feed") is exact
    found = server.find("users.42.feed")
    assert found is not None
    assert found.name == "users.[id].feed"
    assert server.find("users.42") is None
    assert server.find("users.42.feeds") is None


def test_one_procedure_keeps_the_schemas_that_it_needs() -> None:
    """Those that its types name, and those that these name."""
    only = SERVER.only("tail")
    assert only is not None
    assert [one.name for one in only.description.procedures] == ["tail"]
    assert list(only.description.schemas) == ["Level", "Tail"]
    assert SERVER.only("nothing") is None
