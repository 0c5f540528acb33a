"""The records of `trio-streams.v1` as payloads."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import frame
from tests.wire.test_binary import BAD_FRAMES, VECTORS, decode
from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.wire import Frame
from trio_streams.wire.binary import PREFACE, BinaryWire
from trio_streams.wire.binary_records import NAMES, decode_record, encode_record


@pytest.mark.parametrize(
    ("data", "stream_id", "content"),
    [vector[1:] for vector in VECTORS if not isinstance(vector[3], list | Piece)],
    ids=[vector[0] for vector in VECTORS if not isinstance(vector[3], list | Piece)],
)
def test_vectors(data: bytes, stream_id: int, content: Frame) -> None:
    """Each record has the bytes that are written down, in both directions."""
    assert not isinstance(content, list | Piece | Exception)
    assert encode_record(content) == (data[0], data[12:])
    assert decode_record(data[0], 0, stream_id, data[12:]) == content


BAD_RECORDS = [bad for bad in BAD_FRAMES if bad[1][0] != NAMES.index("DATA")]


@pytest.mark.parametrize(
    ("data", "field", "size", "limit"), [b[1:] for b in BAD_RECORDS], ids=[b[0] for b in BAD_RECORDS]
)
def test_bad_payloads(data: bytes, field: str, size: int | None, limit: int | None) -> None:
    """What is malformed is named with field, size and limit."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_record(data[0], data[1], int.from_bytes(data[4:12], "big"), data[12:])
    assert (caught.value.field, caught.value.size, caught.value.limit) == (field, size, limit)


def test_details_may_be_any_value_that_has_a_json() -> None:
    """Finite numbers, nested lists and objects travel in a status."""

    @attrs.frozen
    class Place:
        line: int
        column: float

    details = {"at": [Place(1, 2.5)], "pair": (1, "x"), "none": None}
    kind, payload = encode_record(records.End(records.Status("INVALID_ARGUMENT", "no", details)))
    end = decode_record(kind, 0, 1, payload)
    assert isinstance(end, records.End)
    assert end.status.details == {"at": [{"line": 1, "column": 2.5}], "pair": [1, "x"], "none": None}


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (records.Open("x" * 20_000), "OPEN"),
        (records.Header({"k": "v" * 20_000}), "HEADER"),
        (records.End(records.Status("INTERNAL", "m" * 20_000)), "END"),
    ],
)
def test_a_record_that_is_too_long_is_refused(record: records.Record, field: str) -> None:
    """What does not fit into a frame is the sender's fault, named with size and limit."""
    with pytest.raises(LocalProtocolError) as caught:
        BinaryWire().encode(1, record)
    assert (caught.value.code, caught.value.field, caught.value.limit) == (Code.MESSAGE_TOO_LARGE, field, 16_384)
    assert caught.value.size is not None
    assert caught.value.size > 20_000


@pytest.mark.parametrize(
    "details",
    [object(), {(1, 2): 3}, 10**5000, "\ud800", float("nan"), [{"x": float("-inf")}], {1: float("nan")}],
    ids=["object", "tuple key", "long", "surrogate", "nan", "infinite", "nested nan"],
)
def test_what_json_cannot_express_is_refused(details: object) -> None:
    """A status whose details are no JSON is refused where it is made: NaN does not silently become null."""
    with pytest.raises(LocalProtocolError) as caught:
        BinaryWire().encode(1, records.End(records.Status("INTERNAL", "", details)))
    assert caught.value.field == "END"


@pytest.mark.parametrize(
    "record",
    [
        records.Open(5),  # type: ignore[arg-type]
        records.Open("x", {"k": 1}),  # type: ignore[dict-item]
        records.Header({"k": None}),  # type: ignore[dict-item]
        records.End(records.Status("X", 5)),  # type: ignore[arg-type]
        records.End(trailers={"k": 5.5}),  # type: ignore[dict-item]
    ],
)
def test_what_the_peer_would_refuse_is_not_sent(record: records.Record) -> None:
    """A wrong type in one record is the caller's fault, and must not cost the connection."""
    with pytest.raises(LocalProtocolError):
        BinaryWire().encode(1, record)


def test_a_reason_is_cut_between_characters() -> None:
    """A long reason is cut to 1,024 bytes, not inside a character; what is no UTF-8 is replaced."""
    [(_, reset)] = decode(PREFACE, BinaryWire().encode(1, records.Reset(Code.INTERNAL, "a" + "ü" * 2_000)))
    assert reset == records.Reset(Code.INTERNAL, "a" + "ü" * 511)
    assert BinaryWire().encode(1, records.Stop(Code.OK, "\ud800")).endswith(b"\x00?")


def test_unknown_codes_and_fields_are_from_the_future() -> None:
    """A code's number that this version does not know is UNKNOWN; unknown JSON fields are ignored."""
    future = frame(6, 1, b"\x00\x00\xff\xff") + frame(12, 0, b"\x00\x00\xff\xff" + bytes(8))
    assert decode(PREFACE, future) == [(1, records.Reset(Code.UNKNOWN)), (0, records.GoAway(Code.UNKNOWN))]
    assert decode(PREFACE, frame(2, 1, b'{"name":"x","new":[1]}')) == [(1, records.Open("x"))]
    assert decode(PREFACE, frame(5, 1, b"{}")) == [(1, records.End())]
