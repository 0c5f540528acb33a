"""Answers that a client may have already, or wants a part of: validators and ranges. RFC 9110 §8.8, §13, §14.

`respond_content` is the whole of it for a body that is at hand; the parts are for handlers that stream theirs.
"""

from __future__ import annotations

import re
from calendar import timegm
from email.utils import formatdate, parsedate
from hashlib import blake2b
from typing import Final

import attrs

from trio_streams.service.exchange import Exchange, Headers, RequestHead, respond
from trio_streams.wire.entity_tags import ETAG, matches_weakly

__all__ = ["ByteRange", "Validators", "http_date", "is_not_modified", "make_etag", "requested_range", "respond_content"]

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


def _check_etag(_: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not ETAG.fullmatch(value):
        raise ValueError(f'an {attribute.name} is quoted, as in "1a2b", and {value!r} is not')


@attrs.frozen(kw_only=True)
class Validators:
    """What tells one state of a resource from another.

    Attributes:
      etag: quoted, `W/` before it where two bodies may share it; None where there is none.
      last_modified: seconds since 1970; None where nobody knows.
    """

    etag: str | None = attrs.field(default=None, validator=_check_etag)
    last_modified: float | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """`etag` and `last-modified`, those that there are."""
        etag = () if self.etag is None else (("etag", self.etag),)
        return etag if self.last_modified is None else (*etag, ("last-modified", http_date(self.last_modified)))


@attrs.frozen
class ByteRange:
    """A part of a body.

    Attributes:
      start: its first byte.
      end: behind its last byte.
    """

    start: int
    end: int


def make_etag(data: bytes) -> str:
    """A strong validator made of the content."""
    return f'"{blake2b(data, digest_size=12).hexdigest()}"'


def http_date(seconds: float) -> str:
    """A time as HTTP says it, such as `Sun, 06 Nov 1994 08:49:37 GMT`."""
    return formatdate(int(seconds), usegmt=True)


def is_not_modified(request: RequestHead, validators: Validators) -> bool:
    """Whether GET or HEAD is to be answered 304: the client has this state already.

    `if-none-match` is compared weakly and overrules `if-modified-since`. RFC 9110 §13.1.2, §13.1.3.
    """
    if request.method not in {"GET", "HEAD"}:
        return False
    wanted = request.header("if-none-match")
    if wanted is not None:
        return validators.etag is not None and matches_weakly(wanted, validators.etag)
    since = _parse_date(request.header("if-modified-since"))
    return since is not None and validators.last_modified is not None and int(validators.last_modified) <= since


def requested_range(request: RequestHead, size: int, validators: Validators | None = None) -> ByteRange | None:
    """The single range that GET asks for.

    Several ranges, other units, malformed ones, and those whose `if-range` names another state, count for nothing, as
    RFC 9110 §14.2 lets them.

    Args:
      request: the request's head.
      size: of the whole body.
      validators: of its state, for `if-range`.

    Returns:
      The range; an empty one (`start == end == size`) if it lies behind the end, which is 416; None for the whole body.
    """
    match = _RANGE.fullmatch(request.header("range") or "")
    if match is None or request.method != "GET" or not _range_applies(request.header("if-range"), validators):
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
        return ByteRange(start, end) if start < size else ByteRange(size, size)
    if not last:
        return None
    return ByteRange(max(0, size - int(last)), size)


def _range_applies(condition: str | None, validators: Validators | None) -> bool:
    if condition is None:
        return True
    if validators is None:
        return False
    if ETAG.fullmatch(condition):
        # Compared strongly: a part can only be joined to bytes that are the same.
        return condition == validators.etag and not condition.startswith("W/")
    since = _parse_date(condition)
    return since is not None and validators.last_modified is not None and int(validators.last_modified) == since


def _parse_date(text: str | None) -> int | None:
    parts = parsedate(text) if text else None
    if parts is None:
        return None
    try:
        return timegm(parts)
    except (ValueError, OverflowError):
        return None


async def respond_content(
    exchange: Exchange,
    body: bytes,
    *,
    content_type: str,
    validators: Validators | None = None,
    headers: Headers = (),
) -> None:
    """Answer GET or HEAD with a body, the part of it that is asked for (206, 416), or 304.

    Args:
      exchange: one without a head yet.
      body: the whole content.
      content_type: of the content.
      validators: of its state; None for one made of the content.
      headers: added to the answer's own.

    Cancellation: the answer stays unfinished.
    """
    validators = Validators(etag=make_etag(body)) if validators is None else validators
    own = [*validators.headers, ("accept-ranges", "bytes"), *headers]
    if is_not_modified(exchange.request, validators):
        await exchange.send_head(304, own)
        exchange.end()
        return
    part = requested_range(exchange.request, len(body), validators)
    if part is None:
        await respond(exchange, 200, body, [("content-type", content_type), *own])
    elif part.start == part.end:
        await respond(exchange, 416, b"", [("content-range", f"bytes */{len(body)}"), *own])
    else:
        where = ("content-range", f"bytes {part.start}-{part.end - 1}/{len(body)}")
        await respond(exchange, 206, body[part.start : part.end], [("content-type", content_type), where, *own])
