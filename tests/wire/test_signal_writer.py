"""What one side says in ts-signal-rpc's messages, stream by stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.errors import LocalProtocolError
from trio_streams.wire.message_framing import split
from trio_streams.wire.signal_names import REQUEST, SEND, STREAM, STREAM_ID
from trio_streams.wire.signal_writer import TO, Kind, Said, SignalWriter, said_of


def spoken(data: bytes) -> list[Any]:
    """Messages, decoded."""
    return [json.loads(one) for one in split(data)]


def begun(said: Said, *, name: str | None = None, is_relayed: bool = False) -> SignalWriter:
    """A writer with one stream, number 1."""
    writer = SignalWriter(name, is_relayed=is_relayed)
    writer.begin(1, said)
    return writer


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.SEND])
def test_a_request_is_one_message(kind: Kind) -> None:
    """The item is the request's data; the end says nothing more, and names are there once they are known."""
    writer = begun(Said(kind, "r", "b"), name="A")
    writer.client_id = "a"
    assert spoken(writer.encode_run(1, [b'{"x":1}'])) == [
        {"category": "request", "from": "a", "fromName": "A", "requestId": "r", "to": "b", "data": {"x": 1}}
    ]
    assert writer.encode_run(1, [b"2"]) == b""
    assert writer.encode(1, records.End()) == b""


def test_a_request_without_an_item_asks_with_null() -> None:
    """An end without an item is a request for nothing; one that was abandoned before is never heard of."""
    assert spoken(begun(Said(Kind.REQUEST, "r")).encode(1, records.End()))[0]["data"] is None
    assert begun(Said(Kind.REQUEST, "r")).encode(1, records.Reset(Code.CANCELLED)) == b""


def test_a_response_goes_to_who_asked() -> None:
    """The answer names the request and its sender, who may be somebody behind a relay."""
    writer = begun(Said(Kind.ASKED, "r", "b", "B"))
    assert spoken(writer.encode_run(1, [b"7"])) == [
        {"category": "response", "requestId": "r", "to": "b", "toName": "B", "data": 7}
    ]
    assert writer.encode(1, records.End(records.Status("INTERNAL", "too late"))) == b""


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (records.End(), None),
        (records.End(records.Status("NOT_FOUND", "no")), {"code": "NOT_FOUND", "message": "no"}),
        (records.Reset(Code.CANCELLED, "left"), {"code": "CANCELLED", "message": "left"}),
    ],
)
def test_a_handler_that_gives_nothing_answers(record: records.Record, error: Mapping[str, str] | None) -> None:
    """Nothing, a failure and an abandoned handler are answered; the original leaves its caller waiting."""
    (answer,) = spoken(begun(Said(Kind.ASKED, "r")).encode(1, record))
    assert answer["data"] is None
    assert answer.get("error") == error


def test_a_stream_is_items_and_an_end() -> None:
    """Items are messages of their own, addressed where there is an address; an end says whether it was a good one."""
    writer = begun(Said(Kind.STREAM, "s"))
    assert spoken(writer.encode_run(1, [b"1", b"[2]"])) == [
        {"type": "StreamData", "streamId": "s", "payload": 1},
        {"type": "StreamData", "streamId": "s", "payload": [2]},
    ]
    assert spoken(writer.encode(1, records.End())) == [{"type": "StreamEnd", "streamId": "s"}]
    failed = records.End(records.Status("INTERNAL", "Something went wrong"))
    assert spoken(writer.encode(1, failed)) == [
        {"type": "StreamError", "streamId": "s", "error": "Something went wrong", "code": "INTERNAL"}
    ]
    assert spoken(writer.encode(1, records.Reset(Code.CANCELLED))) == [
        {"type": "StreamError", "streamId": "s", "error": "CANCELLED", "code": "CANCELLED"}
    ]
    writer = begun(Said(Kind.STREAM, "s", "b"))
    assert spoken(writer.encode_run(1, [b"1"])) == [{"type": "StreamData", "streamId": "s", "payload": 1, "to": "b"}]
    assert spoken(writer.encode(1, records.End())) == [{"type": "StreamEnd", "streamId": "s", "to": "b"}]


@pytest.mark.parametrize(
    ("code", "is_relayed", "told"),
    [
        (Code.OK, False, "OK"),
        (Code.OK, True, "OK"),
        (Code.RESOURCE_EXHAUSTED, False, "RESOURCE_EXHAUSTED"),
        (Code.RESOURCE_EXHAUSTED, True, None),
    ],
)
def test_a_sender_learns_that_its_stream_was_closed(code: Code, is_relayed: bool, told: str | None) -> None:
    """A stop is an error that names the stream; behind a relay a refusal is silent, since others may hear the stream."""
    writer = begun(Said(Kind.HEARD, "s"), is_relayed=is_relayed)
    answer = spoken(writer.encode(1, records.Stop(code, "why")))
    assert [one["details"] for one in answer] == ([] if told is None else [{"code": told, "streamId": "s"}])


def test_a_call_that_is_given_up_is_told_to_whom_was_asked() -> None:
    """Only once it was asked; the error names the call, and goes where the call went."""
    writer = begun(Said(Kind.REQUEST, "r", to="b"))
    assert writer.encode(1, records.Stop(Code.CANCELLED)) == b""
    writer.encode_run(1, [b"1"])
    assert spoken(writer.encode(1, records.Stop(Code.CANCELLED))) == [
        {
            "category": "error",
            "to": "b",
            "error": "The call was given up",
            "details": {"code": "CANCELLED", "requestId": "r"},
        }
    ]


def test_what_has_no_word_is_not_said() -> None:
    """Our half of the peer's stream, stops of calls, heads, and what comes for streams that are over."""
    writer = begun(Said(Kind.HEARD, "s"))
    assert writer.encode_run(1, [b"1"]) == writer.encode(1, records.End()) == b""
    assert writer.encode(1, records.Header({})) == b""
    assert begun(Said(Kind.REQUEST, "r")).encode(1, records.Stop(Code.CANCELLED)) == b""
    writer.forget(1)
    assert writer.find(1) is None
    assert writer.encode(1, records.End()) == b""


def test_a_connection_that_is_given_up_says_why() -> None:
    """A failure is an error message; a drain has no word."""
    writer = SignalWriter()
    assert writer.encode(0, records.GoAway()) == b""
    assert spoken(writer.encode(0, records.GoAway(Code.PROTOCOL_ERROR, "why"))) == [
        {"category": "error", "error": "why", "details": {"code": "PROTOCOL_ERROR"}}
    ]


def test_what_is_opened_here_has_an_id() -> None:
    """Calls get a fresh one, streams the one that was agreed on or a fresh one."""
    assert said_of(REQUEST, {TO: "b"}, lambda: "new") == Said(Kind.REQUEST, "new", "b")
    assert said_of(SEND, {}, lambda: "new") == Said(Kind.SEND, "new")
    assert said_of(STREAM, {STREAM_ID: "s"}, lambda: "new") == Said(Kind.STREAM, "s")
    assert said_of(STREAM, {}, lambda: "new") == Said(Kind.STREAM, "new")


@pytest.mark.parametrize(
    ("name", "metadata", "field"),
    [
        ("system.cpu", {}, "name"),
        (STREAM, {"content-encoding": "deflate"}, "metadata"),
        (SEND, {STREAM_ID: "s"}, "metadata"),
    ],
)
def test_what_the_dialect_lacks_is_refused(name: str, metadata: Mapping[str, str], field: str) -> None:
    """Other streams and other metadata can't be sent, and the caller hears it."""
    with pytest.raises(LocalProtocolError) as caught:
        said_of(name, metadata, lambda: "new")
    assert (caught.value.field, caught.value.code) == (field, Code.UNIMPLEMENTED)
