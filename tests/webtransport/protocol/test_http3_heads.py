"""Heads and trailers: a row for each rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webtransport.protocol.http3_fake import GET
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_heads import (
    AnswerHead,
    RequestHead,
    check_answer,
    check_request,
    check_trailers,
    join_cookies,
)
from trio_streams.webtransport.protocol.requests import RawHeaders

CONNECT: RawHeaders = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]


def request(changes: dict[bytes, bytes | None], *fields: tuple[bytes, bytes]) -> RawHeaders:
    pseudo = dict(GET) | changes
    return [(name, value) for name, value in pseudo.items() if value is not None] + list(fields)


def extended(changes: dict[bytes, bytes | None] | None = None) -> RawHeaders:
    return request({b":method": b"CONNECT", b":protocol": b"webtransport", **(changes or {})})


@pytest.mark.parametrize(
    ("headers", "head"),
    [
        (GET, RequestHead(b"GET", None)),
        (request({b":method": b"POST"}, (b"content-length", b"12")), RequestHead(b"POST", 12)),
        (request({}, (b"content-length", b"5"), (b"content-length", b"5")), RequestHead(b"GET", 5)),
        (request({}, (b"te", b"Trailers")), RequestHead(b"GET", None)),
        (request({}, (b"host", b"example.org")), RequestHead(b"GET", None)),
        (request({b":authority": None}, (b"host", b"example.org")), RequestHead(b"GET", None)),
        (request({b":method": b"OPTIONS", b":path": b"*"}), RequestHead(b"OPTIONS", None)),
        (request({b":scheme": b"HTTPS", b":path": b'/a"b?c=d/e'}), RequestHead(b"GET", None)),
        (request({b":scheme": b"urn", b":authority": None, b":path": b""}), RequestHead(b"GET", None)),
        (request({}, (b"x", b""), (b"y", b"a b\tc\xff")), RequestHead(b"GET", None)),
        (CONNECT, RequestHead(b"CONNECT", None)),
        (extended(), RequestHead(b"CONNECT", None)),
    ],
)
def test_sound_requests(headers: RawHeaders, head: RequestHead) -> None:
    """What a head says of its message."""
    assert check_request(headers, allows_protocol=True) == head
    assert head.is_tunnel is (head.method == b"CONNECT")


@pytest.mark.parametrize(
    "headers",
    [
        # §4.3: pseudo-header fields
        [],
        request({b":method": None}),
        request({b":method": b""}),
        request({b":method": b"G T"}),
        request({b":scheme": None}),
        request({b":scheme": b"1http"}),
        request({b":path": None}),
        request({b":path": b""}),
        request({b":path": b"a"}),
        request({b":path": b"*"}),
        request({b":path": b"/a b"}),
        request({b":path": b"/a#b"}),
        request({b":path": b"/\xe4"}),
        request({b":scheme": b"urn", b":path": None}),
        request({b":authority": None}),
        request({b":authority": b""}),
        request({b":authority": b"user@example.org"}),
        request({}, (b"host", b"example.com")),
        request({}, (b"host", b"example.org"), (b"host", b"example.org")),
        request({b":status": b"200"}),
        request({b":unknown": b""}),
        [*GET, (b":method", b"GET")],
        [(b"x", b"y"), *GET],
        [*GET, (b"x", b"y"), (b":path", b"/")],
        # §4.2: fields
        request({}, (b"Upper", b"")),
        request({}, (b"a b", b"")),
        request({}, (b"a\nb", b"")),
        request({}, (b"", b"")),
        request({}, (b"a:", b"")),
        request({}, (b"x", b"a\nb")),
        request({}, (b"x", b"a\r")),
        request({}, (b"x", b"\0")),
        request({}, (b"x", b"\x7f")),
        request({}, (b"x", b" a")),
        request({}, (b"x", b"a\t"), (b"y", b"")),
        request({}, (b"connection", b"close")),
        request({}, (b"keep-alive", b"1")),
        request({}, (b"proxy-connection", b"close")),
        request({}, (b"transfer-encoding", b"chunked")),
        request({}, (b"upgrade", b"h2c")),
        request({}, (b"te", b"gzip")),
        # RFC 9110 §8.6
        request({}, (b"content-length", b"")),
        request({}, (b"content-length", b"-1")),
        request({}, (b"content-length", b"1, 1")),
        request({}, (b"content-length", b"1"), (b"content-length", b"2")),
        request({}, (b"content-length", b"9" * 19)),
        # §4.4, RFC 9220
        [(b":method", b"CONNECT")],
        [(b":method", b"CONNECT"), (b":authority", b"")],
        [*CONNECT, (b":path", b"/")],
        [*CONNECT, (b":scheme", b"https")],
        request({b":protocol": b"webtransport"}),
        extended({b":protocol": b""}),
        extended({b":path": None}),
        extended({b":scheme": None}),
        extended({b":authority": None}),
        [*extended({b":authority": None}), (b"host", b"example.org")],
    ],
)
def test_malformed_requests(headers: RawHeaders) -> None:
    """Each is H3_MESSAGE_ERROR on its stream (RFC 9114 §4.1.2)."""
    with pytest.raises(Http3Error) as caught:
        check_request(headers, allows_protocol=True)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_MESSAGE_ERROR, False)


def test_a_protocol_has_to_be_allowed() -> None:
    """Without ENABLE_CONNECT_PROTOCOL an extended CONNECT request is malformed (RFC 8441 §3)."""
    with pytest.raises(Http3Error):
        check_request(extended(), allows_protocol=False)
    assert check_request(CONNECT, allows_protocol=False).is_tunnel


@pytest.mark.parametrize(
    ("headers", "head", "is_final"),
    [
        ([(b":status", b"200")], AnswerHead(200, None), True),
        ([(b":status", b"404"), (b"content-length", b"3")], AnswerHead(404, 3), True),
        ([(b":status", b"103"), (b"link", b"</a>")], AnswerHead(103, None), False),
    ],
)
def test_sound_answers(headers: RawHeaders, head: AnswerHead, *, is_final: bool) -> None:
    """What a head says of its message."""
    assert check_answer(headers) == head
    assert head.is_final is is_final


def test_answers_without_content() -> None:
    """Those to HEAD, 204 and 304; a tunnel is what a CONNECT request gets with a 2xx."""
    assert AnswerHead(200, 5).has_no_content(b"HEAD")
    assert AnswerHead(204, 5).has_no_content(b"GET")
    assert AnswerHead(304, 5).has_no_content(b"GET")
    assert not AnswerHead(200, 5).has_no_content(b"GET")
    assert AnswerHead(204, None).is_tunnel(b"CONNECT")
    assert not AnswerHead(404, None).is_tunnel(b"CONNECT")
    assert not AnswerHead(200, None).is_tunnel(b"GET")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b":status", b"20")],
        [(b":status", b"099")],
        [(b":status", b"2000")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b"te", b"trailers")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"content-length", b"x")],
    ],
)
def test_malformed_answers(headers: RawHeaders) -> None:
    """Each is H3_MESSAGE_ERROR on its stream; 101 is not HTTP/3's (§4.5)."""
    with pytest.raises(Http3Error) as caught:
        check_answer(headers)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_MESSAGE_ERROR, False)


@pytest.mark.parametrize("headers", [[(b":status", b"200")], [(b":x", b"")], [(b"X", b"")], [(b"upgrade", b"")]])
def test_malformed_trailers(headers: RawHeaders) -> None:
    """Trailers have no pseudo-header fields (§4.3), and else the rules of heads; there may be none."""
    check_trailers([])
    check_trailers([(b"checksum", b"1")])
    with pytest.raises(Http3Error):
        check_trailers(headers)


def test_cookies_are_joined() -> None:
    """Several become one field, and nothing else changes (§4.2.1)."""
    head: RawHeaders = [*GET, (b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d"), (b"cookie", b"e")]
    assert join_cookies(head) == [*GET, (b"x", b"y"), (b"cookie", b"a=b; c=d; e")]
    assert join_cookies(GET) is GET


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*dict(GET), b":protocol", b":status", b"host", b"te", b"content-length", b"a\nb", b""])
            | st.binary(max_size=5),
            st.sampled_from([*dict(GET).values(), b"CONNECT", b"200", b"101", b"trailers"]) | st.binary(max_size=5),
        ),
        max_size=8,
    )
)
def test_any_head_is_sound_or_named(headers: RawHeaders) -> None:
    """Any bytes are a head or H3_MESSAGE_ERROR; in a sound one no part can be taken for something else."""
    for check in (lambda: check_request(headers, allows_protocol=True), lambda: check_answer(headers)):
        try:
            check()
        except Http3Error as error:
            if error.http3_code is not Http3Code.H3_MESSAGE_ERROR:
                raise
        else:
            assert not any(set(name + value) & set(b"\r\n\0") for name, value in headers)
            assert all(name == name.lower() for name, _ in headers)
