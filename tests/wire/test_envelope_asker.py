"""What a client says, envelope by envelope; the expected texts are the wire document's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.envelope_asker import EnvelopeAsker
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import split
from trio_streams.wire.message_limits import MessageLimits


def only(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    (message,) = split(data)
    return json.loads(message)


def opened(
    form: Form, metadata: dict[str, str] | None = None, *, deadline_ms: int | None = None
) -> tuple[EnvelopeAsker, bytes]:
    asker = EnvelopeAsker(MessageLimits())
    assert asker.encode(1, records.Open("thing", metadata or {})) == b""
    return asker, asker.begin(1, form, deadline_ms)


@pytest.mark.parametrize(
    ("form", "kind"), [(Form.CALL, "request"), (Form.EVENT, "event"), (Form.STREAM, "stream:start")]
)
def test_what_takes_one_item_is_one_envelope(form: Form, kind: str) -> None:
    """Made by the item, or by the end where there is none; the end of what was asked says nothing."""
    asker, begun = opened(form, {"a": "b"}, deadline_ms=5_000)
    assert begun == b""
    assert not asker.is_asked(1)
    expected = {"id": "1", "procedure": "thing", "type": kind, "metadata": {"a": "b", "x-deadline": "5000"}}
    assert only(asker.encode_run(1, [b'{"n":1}'])) == {**expected, "payload": {"n": 1}}
    assert asker.is_asked(1)
    assert asker.encode(1, records.End()) == b""
    bare, _ = opened(form)
    assert only(bare.encode(1, records.End())) == {"id": "1", "procedure": "thing", "type": kind}


@pytest.mark.parametrize("form", [Form.UPLOAD, Form.BIDIRECTIONAL])
def test_what_takes_items_begins_at_once(form: Form) -> None:
    """Items, end and errors follow, each with the procedure."""
    asker, begun = opened(form)
    assert only(begun) == {"id": "1", "procedure": "thing", "type": "stream:start"}
    named = {"id": "1", "procedure": "thing"}
    assert [json.loads(message) for message in split(asker.encode_run(1, [b"1", b"null"]))] == [
        {**named, "type": "stream:data", "payload": 1},
        {**named, "type": "stream:data", "payload": None},
    ]
    assert only(asker.encode(1, records.End(trailers={"t": "1"}))) == {
        **named,
        "type": "stream:end",
        "metadata": {"t": "1"},
    }
    error = only(asker.encode(1, records.End(records.Status("OWN", "m", [1]))))
    assert (error["type"], error["payload"]) == (
        "stream:error",
        {"code": "OWN", "status": 500, "message": "m", "details": [1]},
    )
    error = only(asker.encode(1, records.Reset(Code.CANCELLED, "enough")))
    assert (error["type"], error["payload"]["code"]) == ("stream:error", "CANCELLED")


@pytest.mark.parametrize(
    ("form", "code", "is_said"),
    [
        (Form.CALL, Code.OK, True),
        (Form.STREAM, Code.OK, True),
        (Form.STREAM, Code.CANCELLED, True),
        (Form.UPLOAD, Code.CANCELLED, True),
        (Form.UPLOAD, Code.OK, False),
    ],
)
def test_stop_is_cancel(form: Form, code: Code, is_said: bool) -> None:
    """But for an upload that nobody waits for, which goes on."""
    asker, _ = opened(form)
    if not form.takes_items:
        asker.encode_run(1, [b"1"])
    said = asker.encode(1, records.Stop(code))
    assert [json.loads(message) for message in split(said)] == (
        [{"id": "1", "procedure": "thing", "type": "cancel"}] if is_said else []
    )


def test_what_was_never_asked_is_never_cancelled() -> None:
    """Nor reset: the server knows nothing of it. The same holds for what is over."""
    asker, _ = opened(Form.CALL)
    assert asker.encode(1, records.Stop(Code.CANCELLED)) == b""
    assert asker.encode(1, records.Reset()) == b""
    asker.forget(1)
    asker.forget(1)
    assert asker.encode(1, records.Stop(Code.CANCELLED)) == b""
    assert asker.form(1) is None
    assert not asker.is_asked(1)


def test_a_cancel_behind_the_end_does_not_overtake_it() -> None:
    """It follows the end, once; and it replaces what a reset would say."""
    asker, _ = opened(Form.BIDIRECTIONAL)
    asker.cancel_at_end(1)
    assert asker.encode(1, records.Stop()) == b""
    kinds = [json.loads(message)["type"] for message in split(asker.encode(1, records.End()))]
    assert kinds == ["stream:end", "cancel"]
    assert only(asker.encode(1, records.Reset()))["type"] == "cancel"


def test_a_ping_is_told_from_streams() -> None:
    """By its id; it names a procedure, as the original refuses everything else unread."""
    asker = EnvelopeAsker(MessageLimits())
    assert only(asker.encode(0, records.Ping(7))) == {"id": "p7", "procedure": "ping", "type": "ping"}


@pytest.mark.parametrize("record", [records.Hello("s"), records.GoAway(Code.OK), records.ConnectionCredit(1, 1)])
def test_what_the_dialect_has_no_word_for(record: records.Record) -> None:
    """Nothing is said."""
    assert EnvelopeAsker(MessageLimits()).encode(0, record) == b""


def test_a_head_has_no_place() -> None:
    """Metadata travel with the question."""
    asker, _ = opened(Form.BIDIRECTIONAL)
    assert asker.encode(1, records.Header({"a": "b"})) == b""


@pytest.mark.parametrize(
    ("name", "metadata", "field", "size"),
    [("n" * 11, {}, "name", 11), ("", {}, "name", 0), ("n", {"a": "b" * 20}, "metadata", 21)],
)
def test_names_and_metadata_are_bounded(name: str, metadata: dict[str, str], field: str, size: int) -> None:
    """Before anything is kept; with field and size."""
    asker = EnvelopeAsker(MessageLimits(max_name_bytes=10, max_metadata_bytes=20))
    with pytest.raises(LocalProtocolError) as caught:
        asker.encode(1, records.Open(name, metadata))
    assert (caught.value.field, caught.value.size) == (field, size)
    assert asker.form(1) is None


def test_a_name_that_is_no_text_is_refused() -> None:
    """A lone surrogate has no UTF-8."""
    with pytest.raises(LocalProtocolError, match="OPEN can't be encoded"):
        EnvelopeAsker(MessageLimits()).encode(1, records.Open("\ud800"))


def test_the_overhead_is_never_less_than_what_is_added() -> None:
    """So that an item that is let through fits into what the server takes."""
    for form in Form:
        asker, begun = opened(form, {"k": "ü" * 50}, deadline_ms=1 << 50)
        sent = asker.encode_run(1, [b"12345"])
        assert len(sent) <= 5 + asker.overhead_bytes(1)
        assert len(begun) <= asker.overhead_bytes(1)
