"""What an append does, and in what order it is judged."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trio_streams.durable.protocol.decisions import Appended, Decision, decide_append
from trio_streams.durable.protocol.operations import Append
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import ProducerState, Stored, StreamRecord

RECORD = StreamRecord(
    stream_id=9, path="a", content_type="text/plain", created_at=1.0, touched_at=1.0, ttl_seconds=60, tail=3
)
JSON = attrs.evolve(RECORD, content_type="application/json", tail=0)


def state(record: StreamRecord = RECORD, **producers: tuple[int, int]) -> StreamState:
    known = {name: ProducerState(epoch, seq, 1.0) for name, (epoch, seq) in producers.items()}
    return StreamState(Stored(record, known), ((9, 0, None),))


def _knowing(known: tuple[int, int] | None) -> StreamState:
    return state() if known is None else state(p=known)


def decide(
    of: StreamState, body: bytes = b"xy", *, content_type: str | None = "text/plain", **rest: object
) -> Decision:
    operation = Append("a", content_type, **rest)  # type: ignore[arg-type]
    return decide_append(operation, body, of, 5.0, max_producers=2)


def refusal(of: StreamState, body: bytes = b"xy", **rest: object) -> Refused:
    with pytest.raises(Refused) as caught:
        decide(of, body, **rest)  # type: ignore[arg-type]
    return caught.value


def test_an_append_moves_the_tail() -> None:
    """What is appended lies at the tail; the record keeps all that has nothing to do with it."""
    decision = decide(state())
    assert decision.result == Appended(5)
    assert [(entry.position, entry.data, entry.at) for entry in decision.entries] == [(3, b"xy", 5.0)]
    assert decision.step is not None
    assert decision.step.record == attrs.evolve(RECORD, tail=5, touched_at=5.0)


def test_every_field_of_a_record_survives() -> None:
    """An append forgets nothing of a stream: the record is copied by hand, and this finds a field that is left out."""
    changes: dict[str, Any] = {
        field.name: (value if (value := getattr(RECORD, field.name)) is not field.default else f"<{field.name}>")
        for field in attrs.fields(StreamRecord)
        if field.name != "is_closed"
    } | {"tail": 3, "stream_seq": None, "references": 2, "start": 1}  # fmt: skip
    full = StreamRecord(**changes)
    decision = decide(state(full))
    assert decision.step is not None
    assert decision.step.record == attrs.evolve(full, tail=5, touched_at=5.0, closed_by=None)


@pytest.mark.parametrize("content_type", ["text/plain", "TEXT/PLAIN; charset=utf-8"])
def test_content_types_are_compared_without_parameters(content_type: str) -> None:
    """A media type is the same in any case and with any parameters."""
    assert decide(state(), content_type=content_type).result.tail == 5


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "text/plain", 400, "INVALID_ARGUMENT"),
        (b"x", None, 400, "INVALID_ARGUMENT"),
        (b"x", "", 400, "INVALID_ARGUMENT"),
        (b"x", "text/html", 409, "CONTENT_TYPE_MISMATCH"),
    ],
)
def test_bad_bodies(body: bytes, content_type: str | None, status: int, code: str) -> None:
    """Nothing, and something of no or another type, is refused."""
    refused = refusal(state(), body, content_type=content_type)
    assert (refused.status, refused.code) == (status, code)


def test_an_empty_array_is_nothing() -> None:
    """POST `[]` is 400."""
    assert refusal(state(JSON), b"[]", content_type="application/json").status == 400


def test_closing() -> None:
    """A body and the closure are one step; a close without a body asks for no content type."""
    decision = decide(state(), is_closing=True)
    assert decision.result == Appended(5, is_closed=True)
    decision = decide(state(), b"", content_type="nonsense", is_closing=True)
    assert (decision.result, decision.entries) == (Appended(3, is_closed=True), [])
    assert decision.step is not None
    assert decision.step.record.is_closed


def test_closed_comes_first() -> None:
    """A closed stream says so, whatever else is wrong, and where it ended."""
    closed = state(attrs.evolve(RECORD, is_closed=True, stream_seq="z"), p=(5, 5))
    for rest in (
        {},
        {"content_type": "text/html"},
        {"producer": ("p", 1, 1)},
        {"is_closing": True},
        {"stream_seq": "a"},
    ):
        refused = refusal(closed, **rest)
        assert (refused.status, refused.code) == (409, "STREAM_CLOSED")
        assert dict(refused.headers) == {"stream-closed": "true", "stream-next-offset": "0000000000000003"}


def test_closing_again() -> None:
    """A close without a body may be repeated by anybody, one with a producer by the same request alone."""
    closed = state(attrs.evolve(RECORD, is_closed=True, closed_by=("p", 1, 2)))
    assert decide(closed, b"", is_closing=True).result == Appended(3, is_closed=True, is_duplicate=True)
    again = decide(closed, is_closing=True, producer=("p", 1, 2))
    assert (again.result, again.step) == (Appended(3, True, True, (1, 2)), None)
    assert refusal(closed, b"", is_closing=True, producer=("p", 1, 3)).code == "STREAM_CLOSED"


def test_who_closed_is_remembered() -> None:
    """The producer's triple that closed a stream is kept with it."""
    decision = decide(state(), b"", is_closing=True, producer=("p", 0, 0))
    assert decision.step is not None
    assert decision.step.record.closed_by == ("p", 0, 0)
    assert decision.step.producers == {"p": ProducerState(0, 0, 5.0)}


@pytest.mark.parametrize(
    ("known", "sent"), [(None, (0, 0)), (None, (7, 0)), ((1, 4), (1, 5)), ((1, 4), (2, 0)), ((1, 4), (9, 0))]
)
def test_producers_go_on(known: tuple[int, int] | None, sent: tuple[int, int]) -> None:
    """A producer begins at 0, in any epoch, and goes on by one."""
    decision = decide(_knowing(known), producer=("p", *sent))
    assert decision.result == Appended(5, producer=sent)


@pytest.mark.parametrize("seq", [0, 3, 4])
def test_duplicates(seq: int) -> None:
    """What a producer has sent already is not appended again; the answer names the highest that was accepted."""
    decision = decide(state(p=(1, 4)), producer=("p", 1, seq), stream_seq="a", if_match='"x"')
    assert decision == (Appended(3, is_duplicate=True, producer=(1, 4)), None, ())


@pytest.mark.parametrize(
    ("known", "sent", "status", "headers"),
    [
        (None, (0, 1), 409, {"producer-expected-seq": "0", "producer-received-seq": "1"}),
        ((1, 4), (1, 6), 409, {"producer-expected-seq": "5", "producer-received-seq": "6"}),
        ((1, 4), (0, 5), 403, {"producer-epoch": "1"}),
        ((1, 4), (2, 1), 400, {}),
    ],
)
def test_producers_out_of_line(
    known: tuple[int, int] | None, sent: tuple[int, int], status: int, headers: dict[str, str]
) -> None:
    """A gap, an epoch that is over, and one that does not begin at 0 are refused, and the answer says what is expected."""
    refused = refusal(_knowing(known), producer=("p", *sent))
    assert (refused.status, dict(refused.headers)) == (status, headers)


def test_producers_are_bounded() -> None:
    """A stream knows so many producers; those that it knows go on."""
    full = state(p=(0, 0), q=(0, 0))
    refused = refusal(full, producer=("r", 0, 0))
    assert (refused.status, refused.details) == (429, {"field": "Producer-Id", "limit": 2})
    assert decide(full, producer=("p", 0, 1)).result.tail == 5


@pytest.mark.parametrize(
    ("last", "sent", "is_taken"),
    [(None, "a", True), ("a", "b", True), ("9", "10", False), ("a", "a", False), ("b", "a", False), ("Z", "a", True)],
)
def test_stream_seq(last: str | None, sent: str, is_taken: bool) -> None:
    """`Stream-Seq` grows strictly, byte by byte and not as a number."""
    of = state(attrs.evolve(RECORD, stream_seq=last))
    if is_taken:
        decision = decide(of, stream_seq=sent)
        assert decision.step is not None
        assert decision.step.record.stream_seq == sent
    else:
        assert refusal(of, stream_seq=sent).code == "SEQ_CONFLICT"


def test_stream_seq_is_kept() -> None:
    """An append without `Stream-Seq` leaves the last one in force."""
    decision = decide(state(attrs.evolve(RECORD, stream_seq="m")))
    assert decision.step is not None
    assert decision.step.record.stream_seq == "m"


@pytest.mark.parametrize(
    ("value", "is_met"),
    [
        ("*", True),
        ('"0000000000000003"', True),
        ('"x", "9:0000000000000001:0000000000000003"', True),
        ('"9:-1:0000000000000003"', True),
        ('"9:0000000000000003:0000000000000003:c"', False),
        ('W/"0000000000000003"', False),
        ('"8:-1:0000000000000003"', False),
        ('"0000000000000002"', False),
        ("0000000000000003", False),
    ],
)
def test_if_match(value: str, is_met: bool) -> None:
    """An append can ask for the tail it knows: by a read's ETag, or by the bare offset in quotes; else it is 412."""
    if is_met:
        assert decide(state(), if_match=value).result.tail == 5
    else:
        refused = refusal(state(), if_match=value)
        assert (refused.status, dict(refused.headers)) == (412, {"stream-next-offset": "0000000000000003"})
