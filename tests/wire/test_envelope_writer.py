"""Answers as envelopes, letter by letter as captures of Raffel 0.2.3 have them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.envelope_records import EnvelopeFault
from trio_streams.wire.envelope_writer import EnvelopeWriter, Form
from trio_streams.wire.message_framing import split

DENIED = records.Status("PERMISSION_DENIED", "no", {"why": "x"})


def begun(form: Form, id_: str = "s", name: str = "counter") -> EnvelopeWriter:
    writer = EnvelopeWriter()
    writer.begin(1, id_, name, form)
    return writer


def only(frames: bytes) -> dict[str, Any]:
    (message,) = split(frames)
    answer = json.loads(message)
    assert isinstance(answer, dict)
    return answer


def test_forms_say_who_sends_a_run() -> None:
    """The client, the server, both or none; `stream:start` asks for those that have a run."""
    assert [form for form in Form if form.takes_items] == [Form.BIDIRECTIONAL, Form.UPLOAD]
    assert [form for form in Form if form.gives_items] == [Form.STREAM, Form.BIDIRECTIONAL]
    assert [form for form in Form if not form.is_stream] == [Form.CALL, Form.EVENT]


def test_a_stream_is_what_the_original_sends() -> None:
    """Echo, items with a counter, end; the order of the fields, too."""
    writer = begun(Form.STREAM, "stream_1")
    frames = writer.encode_start(1) + writer.encode_run(1, [b'{"n":0}', b'{"n":1}']) + writer.encode_run(1, [b"2"])
    assert split(frames + writer.encode(1, records.End())) == [
        b'{"id":"stream_1:stream:start","procedure":"counter","type":"stream:start","payload":null,"metadata":{}}',
        b'{"id":"stream_1:stream:data:0","procedure":"counter","type":"stream:data","payload":{"n":0},"metadata":{}}',
        b'{"id":"stream_1:stream:data:1","procedure":"counter","type":"stream:data","payload":{"n":1},"metadata":{}}',
        b'{"id":"stream_1:stream:data:2","procedure":"counter","type":"stream:data","payload":2,"metadata":{}}',
        b'{"id":"stream_1:stream:end","procedure":"counter","type":"stream:end","payload":null,"metadata":{}}',
    ]


def test_a_failed_stream_says_so() -> None:
    """Behind its items, with code, status, message and details."""
    writer = begun(Form.BIDIRECTIONAL, "s3", "failcoded")
    writer.encode_run(1, [b"0"])
    (error,) = split(writer.encode(1, records.End(DENIED)))
    assert error == (
        b'{"id":"s3:stream:error","procedure":"failcoded","type":"stream:error","payload":'
        b'{"code":"PERMISSION_DENIED","status":403,"message":"no","details":{"why":"x"}},"metadata":{}}'
    )
    assert only(writer.encode(1, records.Reset(Code.ABORTED, "why")))["payload"]["code"] == "ABORTED"


def test_a_call_has_one_answer() -> None:
    """A response for the first item, and none for what comes behind it, whatever that is."""
    writer = begun(Form.CALL, "r1", "ping")
    assert split(writer.encode_run(1, [b'{"pong":1}'])) == [
        b'{"id":"r1:response","procedure":"ping","type":"response","payload":{"pong":1},"metadata":{}}'
    ]
    assert (
        writer.encode_run(1, [b"2"]) == writer.encode(1, records.End()) == writer.encode(1, records.End(DENIED)) == b""
    )


@pytest.mark.parametrize(
    ("form", "id_", "kind"), [(Form.CALL, "r", "r:error"), (Form.UPLOAD, "r", "r:stream:error"), (Form.EVENT, "", "")]
)
def test_a_failure_has_the_form_of_what_was_asked(form: Form, id_: str, kind: str) -> None:
    """`error` for calls, `stream:error` for streams, and nothing for an event whose sender gave no id."""
    frames = begun(form, id_).encode(1, records.End(DENIED))
    assert (only(frames)["id"] if kind else frames.decode()) == kind


@pytest.mark.parametrize(
    ("form", "id_", "payload"),
    [(Form.CALL, "r", None), (Form.UPLOAD, "r", None), (Form.EVENT, "r", {"received": True})],
)
def test_an_end_without_an_item_is_an_answer(form: Form, id_: str, payload: object) -> None:
    """Null, or that an event was received; nothing for an event without an id, nor for its items."""
    writer = begun(form, id_)
    answer = only(writer.encode(1, records.End()))
    assert (answer["id"], answer["type"], answer["payload"]) == ("r:response", "response", payload)
    assert begun(Form.EVENT, "").encode(1, records.End()) == b""
    assert begun(Form.EVENT).encode_run(1, [b"1"]) == b""


def test_an_event_with_a_result_is_still_received() -> None:
    """What an event's handler gives back is nobody's."""
    writer = begun(Form.EVENT)
    writer.encode_run(1, [b"1"])
    assert only(writer.encode(1, records.End()))["payload"] == {"received": True}


def test_heads_and_trailers_are_metadata() -> None:
    """A head goes with the first item, or with the end where there is none; trailers go with the end."""
    writer = begun(Form.STREAM)
    assert writer.encode(1, records.Header({"a": "b"})) == b""
    answers = [json.loads(one) for one in split(writer.encode_run(1, [b"1", b"2"]))]
    assert [answer["metadata"] for answer in answers] == [{"a": "b"}, {}]
    assert only(writer.encode(1, records.End(trailers={"t": "1"})))["metadata"] == {"t": "1"}
    writer.encode(1, records.Header({"a": "b"}))
    assert only(writer.encode(1, records.End(DENIED)))["metadata"] == {"a": "b"}
    call = begun(Form.CALL)
    call.encode(1, records.Header({"a": "b"}))
    assert only(call.encode_run(1, [b"1"]))["metadata"] == {"a": "b"}


def test_encoding_an_end_twice_is_the_same() -> None:
    """The multiplexer encodes one to see that it can be, and again when it goes."""
    writer = begun(Form.STREAM)
    assert writer.encode(1, records.End(DENIED)) == writer.encode(1, records.End(DENIED))


def test_an_empty_item_is_null() -> None:
    """There is no JSON without a character."""
    assert only(begun(Form.STREAM).encode_run(1, [b""]))["payload"] is None
    assert only(begun(Form.CALL).encode_run(1, [b""]))["payload"] is None


@pytest.mark.parametrize(
    ("form", "id_", "message"),
    [(Form.STREAM, "s:stream:error", "Stream cancelled"), (Form.CALL, "s:error", "Request cancelled")],
)
def test_a_cancelled_stream_names_no_procedure(form: Form, id_: str, message: str) -> None:
    """As in the original, whose payload lacks only the status."""
    answer = only(begun(form).encode_cancelled(1))
    assert (answer["id"], answer["procedure"]) == (id_, "")
    assert answer["payload"] == {"code": "CANCELLED", "status": 499, "message": message}


def test_faults_are_errors() -> None:
    """`error`, and `stream:error` for a start: the original's client would wait for ever otherwise."""
    fault = EnvelopeFault("NOT_FOUND", "Stream 'nope' not found", "s4", procedure="nope")
    (error,) = split(EnvelopeWriter().encode_fault(fault))
    assert error == (
        b'{"id":"s4:error","procedure":"nope","type":"error",'
        b'"payload":{"code":"NOT_FOUND","status":404,"message":"Stream \'nope\' not found"},"metadata":{}}'
    )
    assert only(EnvelopeWriter().encode_fault(fault, is_start=True))["type"] == "stream:error"


def test_other_records_have_no_word() -> None:
    """Grants, pings and refusals of input say nothing here; a connection's end by a fault is an error without an id."""
    writer = begun(Form.STREAM)
    for record in (records.Hello("x"), records.Credit(1, 2), records.Ping(1), records.Stop(), records.GoAway()):
        assert writer.encode(1, record) == b""
    assert writer.encode(0, records.Ping(1)) == b""
    over = only(writer.encode(0, records.GoAway(Code.MESSAGE_TOO_LARGE, "17 MiB")))
    assert (over["id"], over["payload"]["code"], over["payload"]["status"]) == (":error", "MESSAGE_TOO_LARGE", 413)


def test_details_that_json_cannot_hold_are_our_mistake() -> None:
    """They are refused before anything is queued."""
    with pytest.raises(LocalProtocolError, match="END can't be encoded") as info:
        begun(Form.STREAM).encode(1, records.End(records.Status("OWN", "", object())))
    assert info.value.field == "END"


def test_only_whole_items_and_only_out() -> None:
    """There are no pieces here, and input is not its business."""
    writer = begun(Form.STREAM)
    with pytest.raises(LocalProtocolError, match="piece"):
        writer.encode_piece(1, Piece(b"x", 5))
    assert writer.decode(b"x") == []
    writer.forget(1)
    writer.forget(1)
    assert writer.encode(1, records.End()) == b""


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_name_breaks_an_envelope(id_: str, name: str) -> None:
    """Whatever a client calls a stream, its envelopes are JSON and carry that name."""
    writer = begun(Form.STREAM, id_ or "x", name)
    answer = only(writer.encode_run(1, [b"1"]))
    assert (answer["id"], answer["procedure"]) == (f"{id_ or 'x'}:stream:data:0", name)
