"""Heads of plain requests, as handlers know them."""

from __future__ import annotations

import pytest

from tests.webtransport.fake_requests import head
from trio_streams.transports.exchange import ResponseHead
from trio_streams.webtransport.http3_head import answer_fields, refusal_of, request_head, target_of
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.wire.http1_fields import Fields

DATE = Fields([("date", "now")])


def test_a_request_is_what_it_is_over_any_http() -> None:
    """Path and query apart, the authority as `host`, names and values as they came, duplicates in order."""
    headers = head("POST", "/a%20b/c?d=%20e&f", ("x", "1"), ("x", "2"), ("y", "\xff"), authority="example.org:4433")
    request = request_head(headers, "192.0.2.1:9")
    assert (request.method, request.path, request.query_string) == ("POST", "/a b/c", "d=%20e&f")
    assert (request.scheme, request.http_version, request.peer) == ("https", "3", "192.0.2.1:9")
    assert request.headers == (("host", "example.org:4433"), ("x", "1"), ("x", "2"), ("y", "\xff"))
    assert request.header("x") == "1, 2"
    assert target_of(headers) == "/a%20b/c?d=%20e&f"


def test_cookies_that_were_cut_are_one() -> None:
    """Several fields are joined as a `Cookie` header is written."""
    request = request_head(head("GET", "/", ("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")), "")
    assert request.header("cookie") == "a=1; b=2; c=3"
    assert [name for name, _ in request.headers].count("cookie") == 1


def test_a_host_is_named_once() -> None:
    """By the authority, by `host`, or by both alike."""
    for headers in (
        head("GET", "/"),
        head("GET", "/", ("host", "example.org"), authority=None),
        head("GET", "/", ("host", "example.org")),
    ):
        assert request_head(headers, "").headers == (("host", "example.org"),)


@pytest.mark.parametrize(
    "headers",
    [
        head("GET", "/", authority=None),
        head("GET", "/", authority=""),
        head("GET", "/", authority="user@example.org"),
        head("GET", "/", ("host", "example.com")),
        head("GET", "/", ("host", "example.org"), ("host", "example.org")),
    ],
)
def test_requests_without_a_host(headers: list[tuple[bytes, bytes]]) -> None:
    """Nobody, two of them, or a user: the message is malformed."""
    with pytest.raises(Http3Error) as info:
        request_head(headers, "")
    assert info.value.http3_code is Http3Code.H3_MESSAGE_ERROR
    assert not info.value.ends_connection
    assert info.value.field == "authority"


@pytest.mark.parametrize(
    ("changed", "status", "text"),
    [
        ({b":method": b"CONNECT", b":protocol": b"websocket"}, 501, "'websocket' over HTTP/3"),
        ({b":method": b"CONNECT", b":protocol": b"x" * 900}, 501, "x" * 100),
        ({b":method": b"CONNECT"}, 501, "tunnels"),
        ({b":scheme": b"http"}, 421, "https alone"),
    ],
)
def test_what_is_not_for_handlers(changed: dict[bytes, bytes], status: int, text: str) -> None:
    """WebSockets, tunnels and plain http are refused with a reason; other requests are not."""
    refusal = refusal_of(list({**dict(head("GET", "/")), **changed}.items()))
    assert refusal is not None
    assert refusal.status == status
    assert text in refusal.text
    assert len(refusal.text) < 200
    assert refusal_of(head("GET", "/")) is None


def test_an_answer_has_no_headers_of_connections() -> None:
    """What belongs to HTTP/1.1's connections is left out, the date is added once, and 204 has no length."""
    fields = [("connection", "close"), ("transfer-encoding", "chunked"), ("x", "\xe9"), ("content-length", "0")]
    assert answer_fields(ResponseHead(200, tuple(fields)), DATE) == [
        (b":status", b"200"),
        (b"x", b"\xe9"),
        (b"content-length", b"0"),
        (b"date", b"now"),
    ]
    assert answer_fields(ResponseHead(204, (("content-length", "0"), ("date", "then"))), DATE) == [
        (b":status", b"204"),
        (b"date", b"then"),
    ]


def test_the_target_of_a_tunnel_is_its_authority() -> None:
    """CONNECT has no path."""
    assert target_of([(b":method", b"CONNECT"), (b":authority", b"example.org:443")]) == "example.org:443"
