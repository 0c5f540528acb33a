"""JSON and raw codecs: what they accept, what they refuse and how they say so."""

# One claim may take two looks at one value.

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import json
import sys
import typing
import uuid

import attrs
import cattrs
import pytest

from tests.codecs.samples import Cat, Checked, Dog, Item, Level, Node, Options, Order, Point, Private, Size
from trio_streams.codecs import (
    Codec,
    JsonCodec,
    RawCodec,
    json_codec,
    make_converter,
    raw,
)
from trio_streams.codecs.plain import plan_for
from trio_streams.errors import CodecError


@attrs.frozen
class DearItem(Item):
    secret: str = "hidden"


@attrs.frozen
class LoudDog(Dog):
    volume: int = 0


@attrs.frozen
class Chain:
    next: Chain | None


@attrs.frozen
class Everything:
    when: dt.datetime
    day: dt.date
    time: dt.time
    took: dt.timedelta
    id: uuid.UUID
    price: decimal.Decimal
    data: bytes
    level: Level
    size: Size
    options: Options
    pet: Cat | Dog
    mixed: int | str | None
    tags: frozenset[str]
    counts: dict[int, int]
    either: typing.Literal["a", 1]


EVERYTHING = Everything(
    when=dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC),
    day=dt.date(2024, 1, 2),
    time=dt.time(3, 4, 5),
    took=dt.timedelta(days=1, seconds=2.5),
    id=uuid.UUID(int=7),
    price=decimal.Decimal("1.50"),
    data=b"\x00\xff",
    level=Level.HIGH,
    size=Size.LARGE,
    options={"name": "n", "size": 3},
    pet=Dog(barks=2),
    mixed="text",
    tags=frozenset({"a"}),
    counts={1: 2},
    either=1,
)


def _reference(type_: object) -> JsonCodec[object]:
    """The converter alone, without msgspec's fast path."""
    return JsonCodec(type_, max_depth=64, converter=make_converter(), allow_fast_path=False)


def test_raw_leaves_bytes_as_they_are() -> None:
    """`raw` returns the bytes it is given, copies what may change, and refuses text."""
    codec: Codec[bytes] = RawCodec()
    assert raw.encode(b"a") == codec.decode(b"a") == b"a"
    assert raw.content_type == "application/octet-stream" and repr(raw) == "raw"
    assert type(raw.encode(typing.cast(bytes, bytearray(b"a")))) is bytes
    with pytest.raises(CodecError, match="expected bytes, got a str"):
        raw.encode(typing.cast(bytes, "a"))


def test_one_codec_per_type() -> None:
    """A type is resolved once; other options are another codec."""
    assert json_codec(Order) is json_codec(Order)
    assert json_codec() is json_codec(object)
    assert json_codec(Order, forbid_extra_keys=True) is not json_codec(Order)
    assert json_codec(Order).content_type == "application/json"
    assert repr(json_codec(int)) == "json_codec(<class 'int'>)"


def test_every_declared_type_comes_back() -> None:
    """Dates are ISO 8601, bytes base64, enums their values, and each comes back as what was declared."""
    data = json_codec(Everything).encode(EVERYTHING)
    assert json.loads(data) == {
        "when": "2024-01-02T03:04:05.000006Z",
        "day": "2024-01-02",
        "time": "03:04:05",
        "took": "P1DT2.5S",
        "id": str(uuid.UUID(int=7)),
        "price": "1.50",
        "data": "AP8=",
        "level": "high",
        "size": 2,
        "options": {"name": "n", "size": 3},
        "pet": {"barks": 2},
        "mixed": "text",
        "tags": ["a"],
        "counts": {"1": 2},
        "either": 1,
    }
    back = json_codec(Everything).decode(data)
    assert back == EVERYTHING
    assert [type(back.size), type(back.mixed), type(back.tags)] == [Size, str, frozenset]


def test_object_encodes_what_is_json_like() -> None:
    """With `object` each value is encoded by its own class, also deep inside."""
    value = {"all": [EVERYTHING, Point(1.0)], Level.LOW: {1}, "when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 5: (1,)}
    assert json.loads(json_codec().encode(value)) == {
        "all": [json.loads(json_codec(Everything).encode(EVERYTHING)), {"x": 1.0, "y": 0.0, "labels": {}}],
        "low": [1],
        "when": "2024-01-01T00:00:00Z",
        "5": [1],
    }


def test_records_keep_the_declared_order_and_fields() -> None:
    """A record is written in declared order, and a subclass as what was declared: the rest stays at home."""
    assert json_codec(Item).encode(DearItem("n", 1.0)) == b'{"name":"n","price":1.0,"tag":null}'
    order = Order(1, [DearItem("n", 1.0)])
    assert b"hidden" not in json_codec(Order).encode(order)
    assert b"hidden" not in json_codec(list[Item]).encode([DearItem("n", 1.0)])
    assert b"hidden" not in json_codec(typing.cast(type[Item], Item | None)).encode(DearItem("n", 1.0))
    assert json_codec(Private).decode(json_codec(Private).encode(Private(5))) == Private(5)


def test_recursive_types_work() -> None:
    """A type that contains itself is resolved, within the depth limit."""
    tree = Node(1, [Node(2), Node(3, [Node(4)])])
    assert json_codec(Node).decode(json_codec(Node).encode(tree)) == tree
    for _ in range(70):
        tree = Node(0, [tree])
    with pytest.raises(CodecError, match="deeper than 64"):
        json_codec(Node).encode(tree)


@pytest.mark.parametrize(
    ("type_", "data", "path", "message"),
    [
        (int, b'"5"', "$", "expected an integer, got a string of 1 characters"),
        (int, b"true", "$", "expected an integer, got a boolean"),
        (int, b"1.0", "$", "expected an integer, got a number"),
        (float, b"true", "$", "expected a finite number, got a boolean"),
        (float, b"1e999", "$", "numbers must be finite"),
        (float, b"NaN", "$", "numbers must be finite"),
        (object, b"[1, -Infinity]", "$", "numbers must be finite"),
        (object, b'{"a":[1e999]}', "$.a[0]", "numbers must be finite"),
        (float, b"1" * 400, "$", "numbers must be finite"),
        (int, b"1" * 4301, "$", "at most 4,300 digits"),
        (str, b"5", "$", "expected a string, got an integer"),
        (str, b'"a\xff"', "$", "broken UTF-8 at byte 2 of 4"),
        (str, b'"\\ud800"', "$", "malformed"),
        (str, b"", "$", "empty payload"),
        (str, b'"secret', "$", "ends too early"),
        (list[int], b"{}", "$", "expected an array, got an object of 0 fields"),
        (list[int], b'[1,"x"]', "$[1]", "expected an integer"),
        (tuple[int, str], b"[1]", "$", "expected an array of 2 items, got an array of 1 items"),
        (dict[str, int], b'{"a b":null}', "$['a b']", "expected an integer, got null"),
        (dict[int, int], b'{"x":1}', "$.x", "expected an integer as a key"),
        (Order, b"[]", "$", "expected an object"),
        (Order, b'{"items":[]}', "$.id", "required field `id` is missing"),
        (Order, b'{"id":1,"items":[{"name":"n","price":1},{"name":"n","price":"secret"}]}', "$.items[1].price",
         "expected a finite number, got a string of 6 characters"),
        (Order, b'{"id":1,"items":[],"at":"secret"}', "$.at", "expected a date and time in ISO 8601"),
        (Order, b'{"id":1,"items":[],"level":"secret"}', "$.level", "expected one of the 2 values of Level"),
        (Size, b"true", "$", "expected one of the 2 values of Size"),
        (typing.Literal["a", 1], b"true", "$", "expected one of the 2 literal values"),
        (bytes, b'"se%cret"', "$", "expected bytes as base64"),
        (decimal.Decimal, b'"NaN"', "$", "numbers must be finite"),
        (decimal.Decimal, b'"secret"', "$", "expected a decimal number"),
        (Cat | Dog, b'{"secret":1}', "$", "told apart by their own fields"),
        (int | str | None, b"[]", "$", "expected integer or null or string, got an array"),
        (Checked, b'{"level":-987}', "$.level", ""),
        (Options, b'{"size":1}', "$.name", "required field `name` is missing"),
        (Options, b"[]", "$", "expected an object"),
        (None, b"0", "$", "expected null, got an integer"),
        (object, b"[" * 65 + b"]" * 65, "$", "deeper than 64"),
        (Item, b'{"name":"n","price":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "$", "deeper than 64"),
    ],
)  # fmt: skip
def test_refused_with_place_and_kind(type_: object, data: bytes, path: str, message: str) -> None:
    """A refusal names the place, what was expected and the kind that came, and never quotes the payload."""
    with pytest.raises(CodecError) as caught:
        json_codec(type_).decode(data)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value) and "987" not in str(caught.value)
    if type_ is not Checked:
        assert caught.value.path == path
        assert str(caught.value).startswith(f"{path}: ")


def test_brackets_in_strings_do_not_nest() -> None:
    """Depth counts structure: brackets and escaped quotes in strings are text, and siblings are not nested."""
    text = '[]{}"\\' * 300
    data = json.dumps([text, [[]] * 500]).encode()
    assert json_codec().decode(data) == [text, [[]] * 500]
    assert json_codec(max_depth=3).decode(data) == [text, [[]] * 500]
    with pytest.raises(CodecError, match="deeper than 2 levels"):
        json_codec(max_depth=2).decode(data)
    with pytest.raises(CodecError, match=r"malformed|trailing"):
        json_codec().decode(b"]" + b"[]" * 200)


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (float("nan"), "$", "numbers must be finite"),
        ({"a": [1, float("inf"), None]}, "$.a[1]", "numbers must be finite"),
        (Point(float("-inf")), "$.x", "numbers must be finite"),
        (decimal.Decimal("NaN"), "$", "numbers must be finite"),
        pytest.param(10**5000, "$", "more than 4,300 digits", id="huge"),
        pytest.param("\ud800", "$", "lone surrogate", id="surrogate"),
        (object(), "$", "expected a value that JSON can hold, got a object"),
        ({(1, 2): 3}, "$", "can't be encoded"),
    ],
)
def test_what_can_not_be_encoded(value: object, path: str, message: str) -> None:
    """What JSON can't hold is refused by the encoder with its place."""
    with pytest.raises(CodecError, match=message) as caught:
        json_codec().encode(value)
    assert caught.value.path == path


@pytest.mark.parametrize(("type_", "value"), [(Point, Point(float("nan"))), (list[float], [1.0, float("inf")])])
def test_the_fast_path_refuses_nan(type_: object, value: object) -> None:
    """Msgspec alone would write NaN as null."""
    assert plan_for(type_).encodes
    with pytest.raises(CodecError, match="numbers must be finite"):
        json_codec(type_).encode(value)


def test_a_cycle_is_an_error_and_no_recursion_error() -> None:
    """A value that contains itself is refused as nested too deeply."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="nested too deeply"):
        json_codec().encode(loop)


def test_integers_are_exact() -> None:
    """Integers keep every digit, far beyond 64 bits; null beside a finite float is no NaN."""
    for number in (2**63, -(2**63) - 1, 2**64, 10**4299):
        assert json_codec(int).decode(json_codec(int).encode(number)) == number
        assert json_codec().decode(str(number).encode()) == number
    assert json_codec(list[float | None]).encode([None, 1.0]) == b"[null,1.0]"


def test_unknown_fields() -> None:
    """Unknown fields are ignored, whatever they hold, unless they are forbidden, and then they are named."""
    data = b'{"name":"n","price":1,"extra":1e999}'
    assert json_codec(Item).decode(data) == Item("n", 1.0)
    with pytest.raises(CodecError, match="unknown field `extra`"):
        json_codec(Item, forbid_extra_keys=True).decode(data)
    typed = json_codec(Options)
    assert typed.decode(b'{"name":"n","extra":1}') == {"name": "n"}
    assert typed.encode(typing.cast(Options, {"name": "n", "extra": 1})) == b'{"name":"n"}'
    with pytest.raises(CodecError, match="unknown field `extra`"):
        json_codec(Options, forbid_extra_keys=True).decode(b'{"name":"n","extra":1}')


def test_a_long_name_is_cut() -> None:
    """A peer's field name reaches the message cut and escaped."""
    with pytest.raises(CodecError) as caught:
        json_codec(dict[str, int]).decode(json.dumps({"\n" + "x" * 500: None}).encode())
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_hooks_of_your_own() -> None:
    """A converter with own hooks rules alone."""
    converter: cattrs.Converter = make_converter()
    converter.register_structure_hook_func(lambda t: t is complex, lambda value, _: complex(value))
    converter.register_unstructure_hook(complex, str)
    codec = json_codec(complex, converter=converter)
    assert codec.decode(codec.encode(1 + 2j)) == 1 + 2j


@pytest.mark.parametrize("type_", [bytes | str, complex, list[complex]])
def test_a_type_that_json_can_not_carry(type_: object) -> None:
    """A type that can't be told from JSON fails when it is registered, not at the first item."""
    with pytest.raises(TypeError):
        json_codec(type_)


@pytest.mark.parametrize("type_", [str | uuid.UUID | dt.date, dt.date | str | uuid.UUID])
def test_unions_go_from_special_to_general(type_: object) -> None:
    """In a union the special form of a string wins and text comes last, in whatever order they are declared."""
    codec = json_codec(type_)
    for value in (uuid.UUID(int=7), dt.date(2024, 1, 1), "text"):
        assert codec.decode(codec.encode(value)) == value
    assert type(json_codec(typing.cast(type[object], float | int)).decode(b"1")) is int


def test_recursive_unions_work() -> None:
    """A type that contains itself through a union is resolved, and its subclass is encoded as declared."""
    codec = json_codec(Chain)
    chain = Chain(Chain(None))
    assert codec.decode(codec.encode(chain)) == chain
    assert json_codec(Cat | Dog | None).encode(LoudDog(1, volume=9)) == b'{"barks":1}'


def test_little_stack_left() -> None:
    """Where the caller has almost no stack left, deep JSON is a CodecError on both paths, and never a RecursionError."""
    data = b"[" * 60 + b"]" * 60

    def at_depth(left: int) -> None:
        if left:
            at_depth(left - 1)
        else:
            for codec in (json_codec(), _reference(object)):
                try:
                    codec.decode(data)
                except CodecError as exc:
                    assert "nested" in str(exc)  # noqa: PT017

    depth = len(inspect.stack())
    at_depth(sys.getrecursionlimit() - depth - 50)


@dataclasses.dataclass
class Branch:
    name: str
    leaves: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Spot:
    x: int
    leaves: list[str] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Twig:
    name: str
    length: int


def test_records_are_told_apart_by_what_they_require() -> None:
    """A field that is made when it is absent tells nothing; several records of growing size are told apart, too."""
    codec = json_codec(Branch | Spot | Twig)
    assert codec.decode(b'{"name": "a"}') == Branch("a")
    assert codec.decode(b'{"x": 1, "leaves": []}') == Spot(1)
    assert codec.decode(b'{"name": "a", "length": 2}') == Twig("a", 2)
    with pytest.raises(TypeError, match="no field of their own tells them apart"):
        json_codec(Branch | dataclasses.make_dataclass("Other", [("name", str)])).decode(b"{}")
