"""Results as HTTP says them."""

from __future__ import annotations

import json

import attrs
import pytest

from trio_streams.durable.protocol import answers, refusals
from trio_streams.durable.protocol.answers import Answer
from trio_streams.durable.protocol.decisions import Appended
from trio_streams.durable.protocol.machine import Chunk, Created
from trio_streams.durable.protocol.operations import Append, List, Read, Start
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import Stored, StreamRecord
from trio_streams.transports.exchange_head import RequestHead

RECORD = StreamRecord(stream_id=9, path="a", content_type="text/plain", created_at=0.0, touched_at=0.0, tail=7)
HEAD = RequestHead(method="PUT", path="/v1/stream/a b", headers=(("host", "example.org"),))
PUBLIC = "public, max-age=60"


def fields(answer: Answer) -> dict[str, str]:
    """An answer's headers, without those that every answer has."""
    assert len({name for name, _ in answer.headers}) == len(answer.headers)
    headers = dict(answer.headers)
    assert headers.pop("x-content-type-options") == "nosniff"
    assert headers.pop("cross-origin-resource-policy") == "cross-origin"
    return headers


def chunk(record: StreamRecord = RECORD, *pieces: bytes, **changes: object) -> Chunk:
    state = StreamState(Stored(record), ())
    end = 3 + sum(map(len, pieces))
    return Chunk(state, pieces, 3, end, is_up_to_date=True, is_closed=False)._replace(**changes)  # type: ignore[arg-type]


def read(of: Chunk, start: int | Start = 3, live: str | None = None, none_match: str | None = None) -> Answer:
    operation = Read("a", start, live, "5", none_match)  # type: ignore[arg-type]
    return answers.read(of, operation, "99", PUBLIC)


def test_creations() -> None:
    """A new stream is 201 with its place, an existing one 200; a closed one says so."""
    answer = answers.created(Created(RECORD, is_new=True), HEAD)
    assert answer.status == 201
    assert fields(answer) == {
        "content-type": "text/plain",
        "stream-next-offset": "0000000000000007",
        "location": "http://example.org/v1/stream/a%20b",
    }
    answer = answers.created(Created(attrs.evolve(RECORD, is_closed=True), is_new=False), HEAD)
    assert (answer.status, fields(answer)["stream-closed"]) == (200, "true")
    nowhere = RequestHead(method="PUT", path="/a")
    assert fields(answers.created(Created(RECORD, is_new=True), nowhere))["location"] == "http://localhost/a"


@pytest.mark.parametrize(
    ("result", "status", "more"),
    [
        (Appended(7), 204, {}),
        (Appended(7, is_closed=True), 204, {"stream-closed": "true"}),
        (Appended(7, producer=(1, 2)), 200, {"producer-epoch": "1", "producer-seq": "2"}),
        (Appended(7, is_duplicate=True, producer=(1, 2)), 204, {"producer-epoch": "1", "producer-seq": "2"}),
        (
            Appended(7, is_closed=True, producer=(1, 2)),
            200,
            {"producer-epoch": "1", "producer-seq": "2", "stream-closed": "true"},
        ),
    ],
)
def test_appends(result: Appended, status: int, more: dict[str, str]) -> None:
    """A producer's new data is 200, anything else 204."""
    answer = answers.appended(result, Append("a", "text/plain"))
    assert (answer.status, fields(answer)) == (status, {"stream-next-offset": "0000000000000007", **more})


def test_a_producers_close_without_data() -> None:
    """A close without a body is 204, a producer's as well."""
    assert answers.appended(Appended(7, True, False, (1, 2)), Append("a", is_closing=True)).status == 204


def test_heads() -> None:
    """HEAD says all there is to know, and is kept by no cache."""
    answer = answers.found(RECORD)
    assert fields(answer) == {
        "content-type": "text/plain",
        "stream-next-offset": "0000000000000007",
        "cache-control": "no-store",
        "etag": '"9:-1:0000000000000007"',
    }
    answer = answers.found(attrs.evolve(RECORD, is_closed=True, ttl_seconds=5, expires_at=1_800_000_000.25))
    headers = fields(answer)
    assert headers["stream-ttl"] == "5"
    assert headers["stream-expires-at"] == "2027-01-15T08:00:00.250Z"
    assert headers["etag"] == '"9:-1:0000000000000007:c"'


def test_catch_up() -> None:
    """A read says where it ended, and may be kept by caches."""
    answer = read(chunk(RECORD, b"ab", b"cd"))
    assert (answer.status, answer.body) == (200, b"abcd")
    assert fields(answer) == {
        "content-type": "text/plain",
        "stream-next-offset": "0000000000000007",
        "stream-up-to-date": "true",
        "etag": '"9:0000000000000003:0000000000000007"',
        "cache-control": PUBLIC,
    }
    partial = fields(read(chunk(RECORD, b"ab", is_up_to_date=False)))
    assert "stream-up-to-date" not in partial


def test_json_is_an_array() -> None:
    """A JSON stream's answer is one array, also where there is nothing in it."""
    record = attrs.evolve(RECORD, content_type="application/json")
    assert read(chunk(record, b"1,", b"2,")).body == b"[1,2]"
    assert read(chunk(record)).body == b"[]"


def test_the_closure_changes_the_etag() -> None:
    """Who has read all of an open stream is told when it is closed."""
    closed = fields(read(chunk(RECORD, b"ab", is_closed=True)))
    assert closed["stream-closed"] == "true"
    assert closed["etag"].endswith(':c"')


def test_reads_of_now() -> None:
    """What is read of a tail is kept by no cache, and has no validator."""
    answer = read(chunk(), Start.NOW, none_match="*")
    headers = fields(answer)
    assert (answer.status, answer.body, headers["cache-control"]) == (200, b"", "no-store")
    assert "etag" not in headers


@pytest.mark.parametrize(
    "value", ["*", 'W/"9:0000000000000003:0000000000000005"', '"x", "9:0000000000000003:0000000000000005"']
)
def test_not_modified(value: str) -> None:
    """Who has it is told so, without a body."""
    answer = read(chunk(RECORD, b"ab"), none_match=value)
    assert (answer.status, answer.body) == (304, b"")
    assert "content-type" not in fields(answer)
    assert read(chunk(RECORD, b"ab"), none_match='"x"').status == 200


def test_long_polls() -> None:
    """A long-poll has a cursor while the stream is open; one without data is 204 and kept by no cache."""
    answer = read(chunk(RECORD, b"ab"), live="long-poll")
    assert (answer.status, fields(answer)["stream-cursor"]) == (200, "99")
    answer = read(chunk(is_timed_out=True), live="long-poll")
    assert answer.status == 204
    assert fields(answer) == {
        "stream-next-offset": "0000000000000003",
        "stream-up-to-date": "true",
        "stream-cursor": "99",
        "cache-control": "no-store",
    }
    closed = fields(read(chunk(is_closed=True), live="long-poll"))
    assert closed["stream-closed"] == "true"
    assert "stream-cursor" not in closed


def test_event_streams() -> None:
    """Events say whether their data is base64."""
    assert "stream-sse-data-encoding" not in fields(answers.following(RECORD))
    headers = fields(answers.following(attrs.evolve(RECORD, content_type="image/png")))
    assert headers["stream-sse-data-encoding"] == "base64"
    assert headers["content-type"] == "text/event-stream"


def test_lists() -> None:
    """A list says where to go on, unless it is the last of it."""
    answer = answers.listed([RECORD], List(limit=1))
    assert json.loads(answer.body) == {
        "streams": [{"path": "a", "contentType": "text/plain", "nextOffset": "0000000000000007", "closed": False}],
        "next": "a",
    }
    assert json.loads(answers.listed([RECORD], List(limit=2)).body)["next"] is None
    assert fields(answer)["cache-control"] == "no-store"


def test_refusals() -> None:
    """A refusal has its headers, those of every answer, and words for people and for programs."""
    answer = answers.refused(refusals.stale_epoch(5))
    assert (answer.status, fields(answer)["producer-epoch"]) == (403, "5")
    assert json.loads(answer.body)["error"]["code"] == "STALE_EPOCH"
    answer = answers.refused(refusals.bad_request("offset", "bad"))
    assert json.loads(answer.body)["error"]["details"] == {"field": "offset"}


def test_the_rest() -> None:
    """A deletion has nothing to say, and OPTIONS what is allowed."""
    assert (answers.deleted().status, fields(answers.deleted())) == (204, {})
    assert fields(answers.options("GET")) == {"allow": "GET"}
