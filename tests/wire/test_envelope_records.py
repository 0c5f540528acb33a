"""Envelopes as text: what is taken, what is refused with which field, and what metadata and errors become."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.records import Status
from trio_streams.wire.envelope_records import (
    Envelope,
    EnvelopeFault,
    error_body,
    id_text,
    is_json_rpc,
    parse,
    parse_metadata,
    parse_status,
    quote,
    remaining_ms,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.text(max_size=9), st.text(max_size=9) | st.integers(), json_values, st.dictionaries(st.text(), json_values))
def test_what_json_writes_is_read(type_: str, id_: str | int, payload: object, metadata: dict[str, object]) -> None:
    """Every envelope that another writer makes comes out as it went in, whatever its payload is."""
    written = json.dumps({"type": type_, "id": id_, "payload": payload, "metadata": metadata, "unheard": [1]})
    envelope = parse(written.encode())
    assert (envelope.type, envelope.id, envelope.metadata) == (type_, id_, metadata)
    assert json.loads(bytes(envelope.payload)) == payload


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    """Whatever comes is an envelope or a fault."""
    with contextlib.suppress(EnvelopeFault):
        assert isinstance(parse(data), Envelope)


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"{nope", "PARSE_ERROR", "malformed"),
        (b"", "PARSE_ERROR", "truncated"),
        (b'{"payload":"\xff"}', "PARSE_ERROR", "not UTF-8 at byte 12"),
        (b'{"payload":NaN}', "PARSE_ERROR", "malformed"),
        (b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "PARSE_ERROR", "nested too deeply"),
        (b'{"type":"\\ud800"}', "PARSE_ERROR", "Invalid JSON"),
        (b"[]", "INVALID_ENVELOPE", "array"),
        (b"5", "INVALID_ENVELOPE", "int"),
    ],
)
def test_broken_text_is_a_fault(message: bytes, code: str, text: str) -> None:
    """What is no envelope at all is refused without an id, and never raises anything else."""
    with pytest.raises(EnvelopeFault, match=text) as info:
        parse(message)
    assert (info.value.code, info.value.id) == (code, "")


@pytest.mark.parametrize(
    ("envelope", "field", "id_"),
    [
        ({"id": "x", "type": 5}, "type", "x"),
        ({"id": 7, "procedure": []}, "procedure", "7"),
        ({"id": [1]}, "id", ""),
        ({"id": True}, "id", ""),
        ({"id": 1.5}, "id", ""),
        ({"id": "x", "channel": {}}, "channel", "x"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(envelope: dict[str, Any], field: str, id_: str) -> None:
    """With the envelope's id, where that can be told."""
    with pytest.raises(EnvelopeFault) as info:
        parse(json.dumps(envelope).encode())
    assert (info.value.code, info.value.id, info.value.details) == ("INVALID_ENVELOPE", id_, {"field": field})


def test_an_id_behind_a_fault_may_be_out_of_reach() -> None:
    """Where the id's own text is broken, the fault has none."""
    with pytest.raises(EnvelopeFault) as info:
        parse(b'{"type":5,"id":"\\ud800"}')
    assert info.value.id == ""


def test_ids_are_strings() -> None:
    """As in the original, a number stands for its digits, however many."""
    assert [id_text(value) for value in ("a", 5, 10**30, None)] == ["a", "5", "1" + "0" * 30, ""]


def test_metadata_becomes_strings() -> None:
    """Names in lower case; numbers, booleans and lists as JavaScript writes them; the rest is dropped."""
    given_ = {"X-A": "b", "n": 5, "f": 1.0, "g": 1.5, "h": 1e300, "t": True, "u": False, "l": [1, None, "x"], "o": {}}
    assert parse_metadata({**given_, "none": None, "empty": [], "nested": [{}]}) == {
        "x-a": "b",
        "n": "5",
        "f": "1",
        "g": "1.5",
        "h": "1e+300",
        "t": "true",
        "u": "false",
        "l": "1,x",
    }
    assert parse_metadata(None) == parse_metadata([1]) == {}


@pytest.mark.parametrize(
    ("deadline", "left"),
    [("1500", 500), ("1000.5", 1), ("0", 0), ("-1e9", 0), ("inf", None), ("nan", None), ("soon", None)],
)
def test_a_deadline_is_a_time_of_day(deadline: str, left: int | None) -> None:
    """What is left of it counts; one that cannot be read is none."""
    assert remaining_ms({"x-deadline": deadline}, 1_000.0) == left
    assert remaining_ms({}, 1_000.0) is None


@pytest.mark.parametrize(
    ("status", "is_stream", "body"),
    [
        (Status("NOT_FOUND", "no"), True, {"code": "NOT_FOUND", "status": 404, "message": "no"}),
        (Status("INTERNAL", "boom"), True, {"code": "STREAM_ERROR", "status": 500, "message": "boom"}),
        (Status("INTERNAL", "boom"), False, {"code": "INTERNAL_ERROR", "status": 500, "message": "boom"}),
        (Status("FAILED_PRECONDITION"), True, {"code": "FAILED_PRECONDITION", "status": 412, "message": ""}),
        (Status("OWN", "x", {"a": 1}), True, {"code": "OWN", "status": 500, "message": "x", "details": {"a": 1}}),
    ],
)
def test_errors_are_the_originals(status: Status, is_stream: bool, body: dict[str, object]) -> None:
    """Code, status, message, and details where there are some."""
    assert error_body(status, is_stream=is_stream) == body


@pytest.mark.parametrize(
    ("envelope", "status"),
    [
        ({"payload": {"code": "OWN", "message": "m", "details": [1]}}, Status("OWN", "m", [1])),
        ({"payload": {"code": "STREAM_ERROR"}}, Status("INTERNAL")),
        ({"payload": {"code": "OK"}}, Status("UNKNOWN")),
        ({"payload": {"code": 5}}, Status("UNKNOWN")),
        ({"code": "PERMISSION_DENIED", "message": "no"}, Status("PERMISSION_DENIED", "no")),
        ({}, Status("UNKNOWN")),
    ],
)
def test_errors_are_read(envelope: dict[str, Any], status: Status) -> None:
    """From the payload or from beside it; an error never looks like success."""
    assert parse_status(parse(json.dumps(envelope).encode())) == status


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted_text_is_read_back(text: str) -> None:
    """Names and ids cannot break out of the envelope they stand in."""
    assert json.loads(quote(text)) == text


def test_what_is_too_large_says_how_much() -> None:
    """Field, size and limit, for people and for programs."""
    fault = EnvelopeFault.too_large("id", 300, 256, "i")
    assert (fault.code, fault.id, str(fault)) == ("MESSAGE_TOO_LARGE", "i", "id of 300 bytes passes the limit of 256")
    assert fault.details == {"field": "id", "size": 300, "limit": 256}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b'{"jsonrpc":"2.0","method":"a"}', True),
        (b'{"jsonrpc":"1.0","m\xc3\xbcthod":1}', True),
        (b' [{"jsonrpc":"2.0"}]', True),
        (b"[]", True),
        (b'{"jsonrpc":"2.0","type":"request"}', False),
        (b'{"method":"a"}', False),
        (b"[1", False),
        (b"5", False),
        (b'"\xff"', False),
    ],
)
def test_json_rpc_is_told_from_envelopes(text: bytes, answer: bool) -> None:
    """By the member `jsonrpc` without a type, or by being a list; whether the call is sound is its machine's to say."""
    assert is_json_rpc(text) is answer
