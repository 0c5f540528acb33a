"""Requests become operations, or are refused with what is wrong about them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.operations import Append, Create, Delete, Fork, Head, List, Read, Start
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.requests import MAX_INTEGER, parse_request, parse_time
from trio_streams.transports.exchange_head import RequestHead

ROOT = "/v1/stream/"
OFFSET = "0000000000000042"


def parse(method: str, path: str = "a/b", query: str = "", **headers: str) -> object:
    """The operation of a request; header names have `_` for `-`."""
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return parse_request(RequestHead(method=method, path=ROOT + path, query_string=query, headers=fields), ROOT)


def refusal(method: str, path: str = "a", query: str = "", **headers: str) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(method, path, query, **headers)
    return caught.value


def test_plain_operations() -> None:
    """Method and path alone name an operation."""
    assert parse("PUT") == Create("a/b")
    assert parse("GET") == Read("a/b")
    assert parse("HEAD") == Head("a/b")
    assert parse("DELETE") == Delete("a/b")
    assert parse("POST") == Append("a/b")
    assert parse("GET", "") == List()
    assert parse("GET", "", "prefix=a&after=a/b&limit=7") == List("a", "a/b", 7)


def test_all_of_a_creation() -> None:
    """Every header of PUT has its place."""
    headers = {"content_type": " text/plain; charset=utf-8 ", "stream_ttl": "0", "stream_closed": "TRUE"}
    assert parse("PUT", **headers) == Create("a/b", "text/plain; charset=utf-8", 0, None, is_closed=True)
    assert parse("PUT", stream_expires_at="2027-01-15T08:00:00Z") == Create("a/b", expires_at=1_800_000_000.0)
    fork = {"stream_forked_from": "/v1/stream/x%20y", "stream_fork_offset": OFFSET, "stream_fork_sub_offset": "3"}
    assert parse("PUT", **fork) == Create("a/b", fork=Fork("x y", OFFSET, 3))
    assert parse("PUT", stream_forked_from="/mounted/v1/stream/x", stream_fork_offset="-1") == Create(
        "a/b", fork=Fork("x", "-1")
    )


def test_all_of_an_append() -> None:
    """Every header of POST has its place."""
    producer = {"producer_id": "p", "producer_epoch": "007", "producer_seq": str(MAX_INTEGER)}
    assert parse(
        "POST", content_type="a/b", stream_seq="s", if_match='"e"', stream_closed="true", **producer
    ) == Append("a/b", "a/b", True, ("p", 7, MAX_INTEGER), "s", '"e"')


def test_all_of_a_read() -> None:
    """Every parameter and header of GET has its place."""
    assert parse("GET", "a", f"offset={OFFSET}&live=long-poll&cursor=5", if_none_match="*") == Read(
        "a", 42, "long-poll", "5", "*"
    )
    assert parse("GET", "a", "offset=now&live=sse") == Read("a", Start.NOW, "sse")
    assert parse("GET", "a", "offset=-1&live=") == Read("a")
    assert parse("GET", "a", "unknown=1") == Read("a")


@pytest.mark.parametrize("value", ["false", "yes", "1", "", " true", "true,true"])
def test_only_true_closes(value: str) -> None:
    """Any other value of `Stream-Closed` counts as absent, not as an error."""
    assert parse("POST", "a", stream_closed=value) == Append("a")


@pytest.mark.parametrize("value", ["true", "TRUE", "True", "tRuE"])
def test_true_closes_in_any_case(value: str) -> None:
    """`Stream-Closed` is compared without case, which the reference server does not do."""
    assert parse("POST", "a", stream_closed=value) == Append("a", is_closing=True)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        *(
            ({"stream_ttl": text}, "Stream-TTL")
            for text in ("", "01", "+1", "-1", "1.0", "1e3", " 1", "1a", str(2**53))
        ),
        ({"stream_ttl": "1", "stream_expires_at": "2027-01-15T08:00:00Z"}, "Stream-TTL"),
        ({"content_type": "nonsense"}, "Content-Type"),
        ({"content_type": "a/" + "b" * 256}, "Content-Type"),
        ({"stream_fork_offset": OFFSET}, "Stream-Fork-Offset"),
        ({"stream_fork_sub_offset": "0"}, "Stream-Fork-Sub-Offset"),
        ({"stream_forked_from": ROOT + "a", "stream_fork_offset": "now"}, "Stream-Fork-Offset"),
        ({"stream_forked_from": ROOT + "a", "stream_fork_offset": ""}, "Stream-Fork-Offset"),
        ({"stream_forked_from": ROOT + "a", "stream_fork_sub_offset": "-1"}, "Stream-Fork-Sub-Offset"),
        ({"stream_forked_from": ROOT + "a", "stream_fork_sub_offset": ""}, "Stream-Fork-Sub-Offset"),
        ({"stream_forked_from": ROOT + "a/../b"}, "path"),
    ],
)
def test_bad_creations(headers: dict[str, str], field: str) -> None:
    """A creation that is malformed is refused by 400, and the answer names the field."""
    refused = refusal("PUT", **headers)
    assert refused.status == 400
    assert refused.details is not None
    assert refused.details["field"] == field


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"producer_id": "p"}, "Producer-Id"),
        ({"producer_epoch": "1", "producer_seq": "1"}, "Producer-Id"),
        ({"producer_id": "", "producer_epoch": "1", "producer_seq": "1"}, "Producer-Id"),
        ({"producer_id": " ", "producer_epoch": "1", "producer_seq": "1"}, "Producer-Id"),
        ({"producer_id": "p" * 257, "producer_epoch": "1", "producer_seq": "1"}, "Producer-Id"),
        *(
            ({"producer_id": "p", "producer_epoch": text, "producer_seq": "1"}, "Producer-Epoch")
            for text in ("", "-1", "1e3", "1a", " 1", "٣", str(2**53), "9" * 30)
        ),
        ({"producer_id": "p", "producer_epoch": "1", "producer_seq": "x"}, "Producer-Seq"),
        ({"stream_seq": ""}, "Stream-Seq"),
        ({"stream_seq": "s" * 257}, "Stream-Seq"),
    ],
)
def test_bad_appends(headers: dict[str, str], field: str) -> None:
    """An append that is malformed is refused by 400, and the answer names the field."""
    refused = refusal("POST", **headers)
    assert refused.status == 400
    assert refused.details is not None
    assert refused.details["field"] == field


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=", "offset"),
        ("offset=-1&offset=-1", "offset"),
        ("offset=1", "offset"),
        ("offset=0,1", "offset"),
        ("offset=..%2F..", "offset"),
        ("live=sse", "offset"),
        ("live=long-poll", "offset"),
        ("offset=-1&live=yes", "live"),
        ("offset=-1&live=sse&live=sse", "live"),
    ],
)
def test_bad_reads(query: str, field: str) -> None:
    """A read with a parameter that is malformed, missing or repeated is refused by 400."""
    refused = refusal("GET", query=query)
    assert refused.status == 400
    assert refused.details is not None
    assert refused.details["field"] == field


@pytest.mark.parametrize("limit", ["0", "1001", "x", ""])
def test_bad_limits(limit: str) -> None:
    """A list is as long as it may be."""
    assert refusal("GET", "", f"limit={limit}").status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [("x" * 1025, 400), ("a\nb", 400), ("a/./b", 400), ("..", 400), ("__ds", 404), ("__ds/jwks.json", 404)],
)
def test_paths_that_can_be_nobodys(path: str, status: int) -> None:
    """Reserved paths hold no stream, and neither do those that could be taken for another one."""
    assert refusal("GET", path).status == status


def test_paths_that_look_alike() -> None:
    """Dots within names, and names that begin like the reserved one, are paths like any."""
    assert parse("GET", "a.b/..c/__dsx") == Read("a.b/..c/__dsx")
    assert parse("GET", "__dsx") == Read("__dsx")


def test_another_root_is_elsewhere() -> None:
    """What is not below the root is not found."""
    with pytest.raises(Refused) as caught:
        parse_request(RequestHead(method="GET", path="/v2/a"), ROOT)
    assert caught.value.status == 404


@pytest.mark.parametrize(("method", "path"), [("PATCH", "a"), ("PUT", ""), ("DELETE", "")])
def test_other_methods(method: str, path: str) -> None:
    """What a stream, or the root, does not take is 405, with what it takes."""
    refused = refusal(method, path)
    assert refused.status == 405
    assert dict(refused.headers)["allow"] == ("DELETE, GET, HEAD, POST, PUT" if path else "GET, HEAD")


def test_repeated_headers_are_joined() -> None:
    """A header that comes twice is one value with a comma, as HTTP has it, and never just one of the two."""
    head = RequestHead(
        method="POST", path=ROOT + "a", headers=(("producer-id", "a"), ("producer-id", "b"), ("stream-closed", "true"))
    )
    with pytest.raises(Refused):
        parse_request(head, ROOT)
    head = RequestHead(method="GET", path=ROOT + "a", headers=(("if-none-match", '"a"'), ("if-none-match", '"b"')))
    assert parse_request(head, ROOT) == Read("a", if_none_match='"a", "b"')


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_times_of_rfc_3339(moment: datetime, minutes: int) -> None:
    """A time is understood in any zone, to the microsecond."""
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    expected = moment.replace(tzinfo=UTC).timestamp() - minutes * 60
    assert abs(parse_time("t", moment.isoformat() + zone) - expected) < 1e-3


def test_forms_of_times() -> None:
    """Letters in lower case and leap seconds are RFC 3339."""
    assert parse_time("t", "2027-01-15t08:00:00.5z") == 1_800_000_000.5
    assert parse_time("t", "2016-12-31T23:59:60Z") == parse_time("t", "2016-12-31T23:59:59Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027-01-15",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00:00",
        "2027-02-30T08:00:00Z",
        "2027-01-15T24:00:00Z",
        "2027-01-15T08:00Z",
        "2027-01-15T08:00:00+25:00",
        "2027-01-15T08:00:00.Z",
        "1800000000",
        "Fri, 15 Jan 2027 08:00:00 GMT",
        "٢027-01-15T08:00:00Z",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_what_is_no_time(text: str) -> None:
    """Other forms, and days that do not exist, are refused, and the message names the field."""
    with pytest.raises(Refused, match="Stream-Expires-At is a time of RFC 3339"):
        parse_time("Stream-Expires-At", text)
