"""Limits of a connection, and requests that are here as a whole."""

from __future__ import annotations

import pytest

from trio_streams.wire.http1 import Http1Server
from trio_streams.wire.http1_records import Event, Http1Limits, whole_request


def test_limits_are_positive() -> None:
    """A limit that would refuse everything fails where it was written; None is no limit, where there may be none."""
    assert Http1Limits(max_body_bytes=None).max_body_bytes is None
    with pytest.raises(ValueError, match="header_timeout must be more than 0"):
        Http1Limits(header_timeout=0)
    with pytest.raises(ValueError, match="max_headers"):
        Http1Limits(max_headers=-1)


def events(*received: bytes) -> list[Event]:
    server = Http1Server(Http1Limits(), 0.0)
    for data in received:
        server.receive(data, 0.0)
    return server.events()


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


def test_a_whole_request() -> None:
    """Its head and all of its body, in one piece."""
    whole = whole_request(events(POST + b"Content-Length: 3\r\n\r\nabc"))
    assert whole is not None
    request, body = whole
    assert (request.method, body) == ("POST", b"abc")


def test_a_request_without_a_body_is_a_whole_one() -> None:
    """Its head is all of it."""
    whole = whole_request(events(GET))
    assert whole is not None
    assert whole[1] == b""


@pytest.mark.parametrize(
    "received",
    [
        (),
        (b"GET /",),
        (POST + b"Content-Length: 3\r\n\r\n",),
        (POST + b"Content-Length: 3\r\n\r\nab",),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n",),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",),
        (b"nonsense\r\n\r\n",),
        (GET, b""),
    ],
    ids=[
        "nothing",
        "half a head",
        "no body",
        "half a body",
        "two pieces",
        "an upgrade",
        "a fault",
        "the end behind it",
    ],
)
def test_what_is_no_whole_request(received: tuple[bytes, ...]) -> None:
    """What has not arrived yet, comes in several pieces, or is more than a request."""
    assert whole_request(events(*received)) is None
