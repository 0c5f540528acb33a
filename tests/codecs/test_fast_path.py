"""The fast path changes no answer: msgspec and the converter accept, refuse and encode alike."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import enum
import json
import math
import typing
import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.codecs.samples import Cat, Checked, Dog, Item, Level, Node, Options, Order, Point, Private, Size
from trio_streams.codecs import (
    Codec,
    JsonCodec,
    json_codec,
    make_converter,
)
from trio_streams.codecs.plain import plan_for
from trio_streams.errors import CodecError


class Fuzzy(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Fuzzy:
        return cls.A


def _reference(type_: object) -> JsonCodec[object]:
    """The converter alone, without msgspec's fast path."""
    return JsonCodec(type_, max_depth=64, converter=make_converter(), allow_fast_path=False)


def _outcome(codec: Codec[object], data: bytes) -> tuple[str, object]:
    try:
        value = codec.decode(data)
    except CodecError as exc:
        return ("refused", str(exc))
    return ("accepted", (type(value), repr(value)))


@pytest.mark.parametrize("type_", [Checked, Private, Fuzzy, Cat | Dog, Options, Size, decimal.Decimal, dict[int, int]])
def test_off_the_fast_path(type_: object) -> None:
    """Types where msgspec would be laxer than the converter stay off the fast path."""
    assert not plan_for(type_).decodes


FAST_TYPES: list[object] = [
    None, bool, int, float, str, object, bytes, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, Level, Item,
    Order, Point, Node, list[int], dict[str, float], tuple[int, str], tuple[int, ...], int | float | None,
    int | str, Item | None, list[Item], typing.Literal["a", "b"], typing.Literal[1, 2],
]  # fmt: skip

_TEXTS = st.sampled_from(
    ["", "low", "a", "AP8=", "AP8", "AP9=", "2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.1234567+01:00",
     "2024-01-02T24:00:00", "03:04:05", "P1D", "P1W", "-PT1.5S", "1", "00000000-0000-0000-0000-000000000007", "0" * 32]
) | st.text(max_size=5)  # fmt: skip
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2**64, 0, 1, -1, 10**30])
_NAMES = st.sampled_from(
    ["id", "items", "note", "at", "pair", "level", "name", "price", "tag", "x", "y", "labels", "value", "children"]
) | st.text(max_size=3)  # fmt: skip
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXTS


def _containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    point = st.fixed_dictionaries({"x": inner}, optional={"y": inner, "labels": inner})
    item = st.fixed_dictionaries({"name": _TEXTS, "price": inner}, optional={"tag": inner, "extra": inner})
    order = st.fixed_dictionaries(
        {"id": _NUMBERS, "items": st.lists(item, max_size=2)},
        optional={"at": inner, "pair": inner, "level": inner, "note": inner},
    )
    node = st.fixed_dictionaries({"value": _NUMBERS}, optional={"children": inner})
    any_dict = st.dictionaries(_NAMES, inner, max_size=4)
    return st.lists(inner, max_size=3) | any_dict | item | order | point | node


_DOCUMENTS = st.recursive(_SCALARS, _containers, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(type_=st.sampled_from(FAST_TYPES), document=_DOCUMENTS)
def test_the_fast_path_decodes_as_the_converter_does(type_: object, document: object) -> None:
    """Msgspec's fast path accepts and refuses what the converter does, with equal values, types and messages."""
    codec = json_codec(type_)
    assert isinstance(codec, JsonCodec)
    assert codec.has_fast_path
    data = json.dumps(document).encode()
    assert _outcome(json_codec(type_), data) == _outcome(_reference(type_), data)


@settings(max_examples=300, deadline=None)
@given(type_=st.sampled_from(FAST_TYPES), document=_DOCUMENTS, data=st.data())
@example(type_=Item, document=None, data=None)
def test_broken_text_is_refused_alike(type_: object, document: object, data: st.DataObject | None) -> None:
    """Any damage to the text, also in skipped fields, is judged alike on both paths, and nothing but CodecError comes."""
    samples = [
        b'{"name":"n","price":1,"z":%s}' % z for z in (b"1e999", b'"\xff"', b'"\\ud800"', b"9" * 5000, b"NaN", b"01")
    ]
    if data is not None:
        text = bytearray(json.dumps(document, ensure_ascii=False).encode())
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2)
            | st.sampled_from([b"NaN", b"1e999", b"\\", b'"', b"-", b"{", b"\xff", b"\\ud800", b"0"])
        )
        samples = [bytes(text)]
    for sample in samples:
        assert _outcome(json_codec(type_), sample) == _outcome(_reference(type_), sample)


_ITEMS = st.builds(Item, st.text(), st.floats(allow_nan=False, allow_infinity=False), st.none() | st.text())
_VALUES: dict[object, st.SearchStrategy[object]] = {
    Item: _ITEMS,
    Point: st.builds(Point, st.floats(), st.floats(), st.dictionaries(st.text(), st.integers())),
    Order: st.builds(
        Order, st.integers(), st.lists(_ITEMS), _SCALARS, st.none() | st.datetimes(timezones=st.just(dt.UTC)),
        st.tuples(st.integers(), st.text()), st.sampled_from(Level)),
    list[int]: st.lists(st.integers()),
    dict[str, float]: st.dictionaries(st.text(), st.floats()),
    dt.timedelta: st.timedeltas(),
    typing.cast(object, int | float | None): st.none() | st.integers() | st.floats(),
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_fast_path_encodes_as_the_converter_does(data: st.DataObject) -> None:
    """The bytes are equal on both paths, and decode to what was encoded; what one refuses the other refuses."""
    type_ = data.draw(st.sampled_from(list(_VALUES)))
    value = data.draw(_VALUES[type_])
    results: list[bytes | str] = []
    for codec in (json_codec(type_), _reference(type_)):
        try:
            results.append(codec.encode(value))
        except CodecError as exc:
            results.append(str(exc))
    assert results[0] == results[1]
    if isinstance(results[0], bytes):
        assert json_codec(type_).decode(results[0]) == value


_UNTYPED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([Level.LOW, Point(1, 2), decimal.Decimal("1.50"), dt.date(2024, 1, 2), b"x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3) | st.integers(0, 9), _UNTYPED, max_size=4))
@pytest.mark.parametrize("type_", [dict[str, object], dict[str, typing.Any]])
def test_an_untyped_object_is_encoded_as_a_mapping_is(type_: object, value: dict[str, object]) -> None:
    """The pass of our own for `dict[str, object]` makes what cattrs makes of a mapping of the same items."""
    mapping: Codec[object] = json_codec(collections.abc.Mapping[str, object])
    own: Codec[object] = json_codec(type_)
    assert own.encode(value) == mapping.encode(value)


@pytest.mark.parametrize("value", [[1], 1, None, {"a": math.nan}, {"a": [math.inf]}, {"a": object()}])
def test_an_untyped_object_refuses_what_a_mapping_does(value: object) -> None:
    """What is no object, and numbers that are not finite, are refused there, too."""
    codec: Codec[object] = json_codec(dict[str, object])
    with pytest.raises(CodecError):
        codec.encode(value)


@pytest.mark.parametrize(("depth", "is_refused"), [(64, False), (65, True)])
def test_the_depth_of_an_untyped_object_is_counted(depth: int, is_refused: bool) -> None:
    """A short text is not searched for depth, and none that nests too deeply is short enough for that."""
    value: object = []
    for _ in range(depth - 2):
        value = [value]
    codec: Codec[object] = json_codec(dict[str, object], max_depth=64)
    if is_refused:
        with pytest.raises(CodecError, match="nested deeper than 64"):
            codec.encode({"": value})
    else:
        assert codec.encode({"": value}).count(b"[") == depth - 1
