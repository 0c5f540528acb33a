"""Requests for sessions and their answers, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.requests import (
    Answer,
    ConnectRequest,
    RawHeaders,
    encode_answer,
    encode_request,
    parse_answer,
    parse_request,
)
from trio_streams.webtransport.protocol.settings import Draft

HEAD = {
    b":method": b"CONNECT",
    b":protocol": b"webtransport",
    b":scheme": b"https",
    b":authority": b"example.org:4433",
    b":path": b"/chat?room=1",
}
REQUEST = ConnectRequest(authority="example.org", path="/", protocols=("one", "two"))


def head(changes: dict[bytes, bytes | None] | None = None) -> RawHeaders:
    return [(name, value) for name, value in (HEAD | (changes or {})).items() if value is not None]


@pytest.mark.parametrize("draft", list(Draft))
def test_requests_survive_the_round_trip(draft: Draft) -> None:
    """Every part of a request arrives, under each draft's token."""
    request = ConnectRequest(
        authority="[::1]:443",
        path="/a?b",
        origin="https://app.example.org",
        protocols=("one", 'tw"o'),
        headers=(("authorization", "Bearer x"),),
    )
    sent = encode_request(request, draft)
    assert (b":protocol", draft.token.encode()) in sent
    extra = (("sec-webtransport-http3-draft02", "1"),) if draft is Draft.DRAFT_02 else ()
    received = parse_request(sent)
    assert received == ConnectRequest(
        authority=request.authority,
        path=request.path,
        origin=request.origin,
        protocols=request.protocols,
        headers=request.headers + extra,
    )


def test_a_request_as_chromium_sends_it() -> None:
    """Draft 02 with subprotocols, whose header is newer than the draft."""
    extra = [
        (b"sec-webtransport-http3-draft02", b"1"),
        (b"origin", b"https://example.org"),
        (b"wt-available-protocols", b'"a", "b"'),
    ]
    request = parse_request([*head(), *extra])
    assert request is not None
    assert (request.authority, request.path) == ("example.org:4433", "/chat?room=1")
    assert (request.origin, request.protocols) == ("https://example.org", ("a", "b"))
    assert request.headers == (("sec-webtransport-http3-draft02", "1"),)


@pytest.mark.parametrize(
    "changes",
    [{b":method": b"GET"}, {b":protocol": b"websocket"}, {b":protocol": None}, {b":method": None}],
)
def test_other_requests_are_others(changes: dict[bytes, bytes | None]) -> None:
    """What is no CONNECT with one of our tokens is left to HTTP/3."""
    assert parse_request(head(changes)) is None


@pytest.mark.parametrize(
    "headers",
    [
        head({b":scheme": b"http"}),
        head({b":scheme": None}),
        head({b":authority": None}),
        head({b":authority": b"user@example.org"}),
        head({b":authority": b"a b"}),
        head({b":path": None}),
        head({b":path": b"chat"}),
        head({b":path": b"/a b"}),
        head({b":path": b"/a#b"}),
        head({b":status": b"200"}),
        [*head(), (b":path", b"/")],
        [*head({b":path": None}), (b"a", b"b"), (b":path", b"/")],
        [*head(), (b"content-length", b"0")],
        [*head(), (b"content-type", b"text/plain")],
        [*head(), (b"origin", b"https://a"), (b"origin", b"https://b")],
    ],
)
def test_malformed_requests(headers: RawHeaders) -> None:
    """A request without what it needs, or with what it must not have, resets its stream with H3_MESSAGE_ERROR."""
    with pytest.raises(Http3Error) as caught:
        parse_request(headers)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_MESSAGE_ERROR, False)


@pytest.mark.parametrize(
    "request_",
    [
        ConnectRequest(authority="", path="/"),
        ConnectRequest(authority="a", path=""),
        ConnectRequest(authority="a", path="/", headers=(("content-length", "0"),)),
        ConnectRequest(authority="a", path="/", headers=(("x", "a\r\nb"),)),
        ConnectRequest(authority="a", path="/", origin="a\nb"),
    ],
)
def test_malformed_requests_are_not_sent(request_: ConnectRequest) -> None:
    """What the server would have to refuse is our own error."""
    with pytest.raises(LocalProtocolError):
        encode_request(request_, Draft.DRAFT_15)


@pytest.mark.parametrize("draft", list(Draft))
@pytest.mark.parametrize("protocol", [None, "two"])
@pytest.mark.parametrize("status", [200, 204])
def test_acceptances_survive_the_round_trip(draft: Draft, protocol: str | None, status: int) -> None:
    """Any 2xx accepts, with or without a subprotocol; draft 02 is answered by its header."""
    sent = encode_answer(Answer(status=status, protocol=protocol, headers=(("server", "x"),)), REQUEST, draft)
    assert ((b"sec-webtransport-http3-draft", b"draft02") in sent) is (draft is Draft.DRAFT_02)
    received = parse_answer(sent, REQUEST.protocols)
    assert received is not None
    assert (received.status, received.protocol, received.is_accepted) == (status, protocol, True)
    assert ("server", "x") in received.headers


@pytest.mark.parametrize("status", [400, 403, 404, 405, 429, 503])
def test_refusals_survive_the_round_trip(status: int) -> None:
    """An error status refuses; draft 02 is not claimed with it."""
    received = parse_answer(encode_answer(Answer(status=status), REQUEST, Draft.DRAFT_02), REQUEST.protocols)
    assert received == Answer(status=status)
    assert not received.is_accepted


def test_redirects_are_refusals() -> None:
    """A redirect is not followed: it is an answer that accepts nothing."""
    received = parse_answer([(b":status", b"307"), (b"location", b"/b")], ())
    assert received == Answer(status=307, headers=(("location", "/b"),))
    assert not received.is_accepted


def test_an_answer_that_is_not_final() -> None:
    """103 Early Hints is not the answer yet."""
    assert parse_answer([(b":status", b"103")], ()) is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=101),
        Answer(status=302),
        Answer(status=600),
        Answer(status=200, protocol="three"),
        Answer(status=404, protocol="one"),
        Answer(status=200, headers=(("X-Upper", "a"),)),
    ],
)
def test_wrong_answers_are_not_sent(answer: Answer) -> None:
    """No redirect, nothing that is not final, no subprotocol that was not offered or of no session, no wrong header."""
    with pytest.raises(LocalProtocolError):
        encode_answer(answer, REQUEST, Draft.DRAFT_15)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b":status", b"20")],
        [(b":status", b"600")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b"content-length", b"0")],
        [(b"a", b"b"), (b":status", b"200")],
    ],
)
def test_malformed_answers(headers: RawHeaders) -> None:
    """An answer without one status, or with content, resets its stream with H3_MESSAGE_ERROR."""
    with pytest.raises(Http3Error) as caught:
        parse_answer(headers, ())
    assert caught.value.http3_code is Http3Code.H3_MESSAGE_ERROR


def test_the_servers_choice_is_checked() -> None:
    """A choice of the server's own is 0x0817b3dd; one of a wrong type is none; on a refusal it means nothing."""
    with pytest.raises(Http3Error) as caught:
        parse_answer([(b":status", b"200"), (b"wt-protocol", b'"three"')], ("one",))
    assert caught.value.http3_code == 0x0817B3DD
    received = parse_answer([(b":status", b"200"), (b"wt-protocol", b"one")], ("one",))
    assert received is not None and received.protocol is None
    received = parse_answer([(b":status", b"404"), (b"wt-protocol", b'"three"')], ("one",))
    assert received is not None and received.protocol is None


@given(st.lists(st.tuples(st.sampled_from([*HEAD, b":status", b"wt-protocol", b"origin"]), st.binary(max_size=9))))
def test_any_head_is_read_or_named(extra: RawHeaders) -> None:
    """Any bytes in a head make a request, somebody else's, or a named error."""
    try:
        request = parse_request([*extra, *head({name: None for name, _ in extra})])
        answer = parse_answer(extra, ())
    except Http3Error as error:
        if error.ends_connection:
            raise
    else:
        assert request is None or request.path.startswith("/")
        assert answer is None or 200 <= answer.status <= 599
