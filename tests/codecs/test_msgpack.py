"""MessagePack of declared types: JSON's meaning, judged by JSON's codec."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codecs import json_codec
from trio_streams.codecs.msgpack import msgpack_codec
from trio_streams.errors import CodecError


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@attrs.frozen
class Record:
    name: str
    data: bytes = b""
    when: dt.datetime | None = None
    key: uuid.UUID | None = None
    price: decimal.Decimal | None = None
    colour: Colour = Colour.RED
    numbers: list[float] = attrs.field(factory=list)
    by_name: dict[str, int] = attrs.field(factory=dict)


_RECORDS = st.builds(
    Record,
    name=st.text(),
    data=st.binary(max_size=50),
    when=st.none() | st.datetimes(timezones=st.just(dt.UTC)) | st.datetimes(),
    key=st.none() | st.uuids(),
    price=st.none() | st.decimals(allow_nan=False, allow_infinity=False),
    colour=st.sampled_from(Colour),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    by_name=st.dictionaries(st.text(), st.integers(-(2**63), 2**64 - 1), max_size=3),
)


@given(_RECORDS)
def test_a_record_comes_back(record: Record) -> None:
    """Equal to what was encoded, and to what JSON makes of it."""
    codec = msgpack_codec(Record)
    assert codec.decode(codec.encode(record)) == record
    assert json_codec(Record).decode(json_codec(Record).encode(record)) == record


def test_bytes_are_bytes() -> None:
    """They take their own length; base64, as JSON has it, is understood, too."""
    codec = msgpack_codec(bytes)
    assert len(codec.encode(b"x" * 100)) == 102
    assert codec.decode(codec.encode(b"\x00\xff")) == b"\x00\xff"
    assert codec.decode(msgspec.msgpack.encode("AP8=")) == b"\x00\xff"
    assert codec.content_type == "application/msgpack"
    assert repr(codec) == "msgpack_codec(<class 'bytes'>)"


@given(st.binary(max_size=60))
def test_garbage_is_refused(data: bytes) -> None:
    """Whatever the bytes are: a value of the type, or one clear error."""
    for type_ in (Record, int, object, list[str]):
        try:
            msgpack_codec(type_).decode(data)
        except CodecError as exc:
            told = exc
        else:
            continue
        assert str(told).startswith("$")


@pytest.mark.parametrize(
    ("type_", "document", "message"),
    [
        (Record, {"name": 5}, r"\$.name: expected a string"),
        (Record, {}, r"\$.name: is required|missing"),
        (int, "5", "expected an integer"),
        (object, float("nan"), "numbers must be finite"),
        (float, {"a": [float("inf")]}, r"\$.a\[0\]: numbers must be finite"),
    ],
)
def test_what_does_not_fit_is_told_as_in_json(type_: object, document: object, message: str) -> None:
    """With the path of the field."""
    with pytest.raises(CodecError, match=message):
        msgpack_codec(type_).decode(msgspec.msgpack.encode(document))


def test_limits() -> None:
    """Depth both ways, integers of 64 bits, values of the wrong type."""
    codec = msgpack_codec(object, max_depth=3)
    assert codec.decode(codec.encode([[["x"]]])) == [[["x"]]]
    with pytest.raises(CodecError, match="nested deeper than 3 levels"):
        codec.encode([[[["x"]]]])
    with pytest.raises(CodecError, match="nested deeper than 3 levels"):
        codec.decode(msgspec.msgpack.encode([[[{"a": "x"}]]]))
    with pytest.raises(CodecError, match="more than 64 bits"):
        msgpack_codec(int).encode(2**70)
    with pytest.raises(CodecError, match="nested deeper"):
        msgpack_codec(object).decode(b"\x91" * 100_000 + b"\xc0")
    with pytest.raises(CodecError, match="malformed"):
        msgpack_codec(object).decode(b"\xc1")
    with pytest.raises(TypeError, match="no codec for"):
        msgpack_codec(complex)
