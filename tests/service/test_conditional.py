"""Validators and ranges."""

from __future__ import annotations

import pytest

from tests.transports.exchange_host import Answer, drive
from trio_streams.service.conditional import (
    ByteRange,
    Validators,
    http_date,
    is_not_modified,
    make_etag,
    requested_range,
    respond_content,
)
from trio_streams.service.exchange import Exchange, RequestHead

THEN = 784_111_777.5
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BOTH = Validators(etag='"a"', last_modified=THEN)


def head(method: str = "GET", **headers: str) -> RequestHead:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RequestHead(method=method, path="/", headers=pairs)


def test_validators_say_themselves() -> None:
    """As headers, those that there are; an etag that is not quoted fails where it was written."""
    assert BOTH.headers == (("etag", '"a"'), ("last-modified", DATE))
    assert Validators().headers == ()
    assert http_date(THEN) == DATE
    assert make_etag(b"a") == make_etag(b"a") != make_etag(b"b")
    with pytest.raises(ValueError, match="quoted"):
        Validators(etag="a")


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (head(), False),
        (head(if_none_match='"a"'), True),
        (head(if_none_match='W/"a"'), True),
        (head(if_none_match='"b", "a"'), True),
        (head(if_none_match="*"), True),
        (head(if_none_match='"b"'), False),
        (head(if_none_match='"b"', if_modified_since=DATE), False),
        (head(if_modified_since=DATE), True),
        (head(if_modified_since="Sun, 06 Nov 1994 08:49:36 GMT"), False),
        (head(if_modified_since="yesterday"), False),
        (head(if_modified_since="Sun, 06 Nov 99999 08:49:36 GMT"), False),
        (head("HEAD", if_none_match='"a"'), True),
        (head("POST", if_none_match='"a"'), False),
    ],
)
def test_who_has_it_already(request_head: RequestHead, expected: bool) -> None:
    """Etags are compared weakly and overrule dates; only GET and HEAD are asked so."""
    assert is_not_modified(request_head, BOTH) is expected


def test_without_validators_nobody_has_it() -> None:
    """What has no etag or date matches none."""
    assert not is_not_modified(head(if_none_match='"a"'), Validators())
    assert not is_not_modified(head(if_modified_since=DATE), Validators())


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (head(), None),
        (head(range="bytes=0-0"), ByteRange(0, 1)),
        (head(range="bytes=2-"), ByteRange(2, 10)),
        (head(range="Bytes= 2-99 "), ByteRange(2, 10)),
        (head(range="bytes=-3"), ByteRange(7, 10)),
        (head(range="bytes=-30"), ByteRange(0, 10)),
        (head(range="bytes=-0"), ByteRange(10, 10)),
        (head(range="bytes=10-"), ByteRange(10, 10)),
        (head(range="bytes=3-2"), None),
        (head(range="bytes=-"), None),
        (head(range="bytes=0-1,3-4"), None),
        (head(range="items=0-1"), None),
        (head(range="bytes=\u0661-"), None),
        (head("HEAD", range="bytes=0-1"), None),
        (head(range="bytes=0-1", if_range='"a"'), ByteRange(0, 2)),
        (head(range="bytes=0-1", if_range='"b"'), None),
        (head(range="bytes=0-1", if_range='W/"a"'), None),
        (head(range="bytes=0-1", if_range=DATE), ByteRange(0, 2)),
        (head(range="bytes=0-1", if_range="Sun, 06 Nov 1994 08:49:38 GMT"), None),
        (head(range="bytes=0-1", if_range="x"), None),
    ],
)
def test_which_part_is_asked_for(request_head: RequestHead, expected: ByteRange | None) -> None:
    """A single range of bytes, cut to the size; anything else is the whole, and nothing of it is 416."""
    assert requested_range(request_head, 10, BOTH) == expected


def test_a_condition_without_validators_is_not_met() -> None:
    """`if-range` needs something to compare with."""
    assert requested_range(head(range="bytes=0-1", if_range='"a"'), 10) is None


async def answer(request: RequestHead, validators: Validators | None = None) -> Answer:
    async def handler(exchange: Exchange) -> None:
        await respond_content(exchange, b"0123456789", content_type="text/plain", validators=validators)

    return await drive(handler, request)


async def test_the_four_answers() -> None:
    """200 with validators, 206 and where, 416 and how much there is, 304 without a body."""
    whole = await answer(head())
    assert (whole.status, b"".join(whole.writes), whole.headers["accept-ranges"]) == (200, b"0123456789", "bytes")
    assert whole.headers["etag"] == make_etag(b"0123456789")
    part = await answer(head(range="bytes=2-4"))
    assert (part.status, b"".join(part.writes), part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    nothing = await answer(head(range="bytes=10-"))
    assert (nothing.status, nothing.writes, nothing.headers["content-range"]) == (416, [], "bytes */10")
    same = await answer(head(if_none_match='"a"'), BOTH)
    assert (same.status, same.writes, same.headers["etag"], same.is_whole) == (304, [], '"a"', True)
