"""Requests: method, path, query and headers become an operation, or are refused.

Spec: Durable Streams §4.1, §5, §8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from trio_streams.durable.headers import BEGINNING, NOW
from trio_streams.durable.protocol.offsets import parse_offset
from trio_streams.durable.protocol.operations import (
    Append,
    Create,
    Delete,
    Fork,
    Head,
    List,
    Live,
    Operation,
    Read,
    Start,
)
from trio_streams.durable.protocol.refusals import Refused, bad_request, not_found
from trio_streams.transports.exchange_head import RequestHead

__all__ = ["MAX_INTEGER", "METHODS", "parse_request", "parse_start", "parse_time", "stream_path"]

MAX_INTEGER: Final = 2**53 - 1
"""The largest number that every JavaScript reader keeps exact."""

METHODS: Final = ("DELETE", "GET", "HEAD", "POST", "PUT")

_RESERVED: Final = "__ds"
_MAX_PATH_CHARACTERS: Final = 1024
_MAX_NAME_CHARACTERS: Final = 256
_MAX_LIST: Final = 1000
_STRICT_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_CONTENT_TYPE: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+[ \t]*(?:;.*)?", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60))(?:\.(\d{1,9}))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_LAST_TIME: Final = 253_402_300_799.9995
"""The last millisecond of the year 9999: what is behind it has no name."""
_Fields = Mapping[str, str]


def parse_request(head: RequestHead, root: str) -> Operation:
    """What a request asks for.

    Args:
      head: the request's head.
      root: below which the streams are; `/` at both ends.

    Raises:
      Refused: 400: malformed; 404: nothing can be there; 405: no such method.
    """
    path = stream_path(head.path, root)
    parse = _PARSERS.get(head.method)
    if parse is None or (not path and head.method not in {"GET", "HEAD"}):
        allowed = ", ".join(METHODS if path else ("GET", "HEAD"))
        message = f"a stream takes {allowed}, not {head.method}"
        raise Refused(405, "METHOD_NOT_ALLOWED", message, [("allow", allowed)])
    if not path:
        return _parse_list(head)
    fields = dict(head.headers)
    if len(fields) != len(head.headers):
        fields = {name: head.header(name) or "" for name in fields}
    return parse(path, fields, head, root)


def stream_path(path: str, root: str) -> str:
    """A stream's path below the root; empty for the root itself.

    Raises:
      Refused: 404: the path is elsewhere, or reserved; 400: it is too long, or holds what no path should.
    """
    if not path.startswith(root):
        raise not_found(path)
    below = path[len(root) :]
    if below.startswith(_RESERVED) and below[len(_RESERVED) :][:1] in {"", "/"}:
        raise not_found(path)
    if len(below) > _MAX_PATH_CHARACTERS:
        size = len(below)
        raise Refused(
            400,
            "INVALID_ARGUMENT",
            f"the path has {size} characters, the limit is {_MAX_PATH_CHARACTERS}",
            details={"field": "path", "size": size, "limit": _MAX_PATH_CHARACTERS},
        )
    if not below.isprintable():
        raise bad_request("path", "the path holds a control character")
    if "\ufffd" in below:
        # What bytes that are no text were decoded to: two such paths must not be one stream.
        raise bad_request("path", "the path is not UTF-8")
    if "." in below and not {".", ".."}.isdisjoint(below.split("/")):
        raise bad_request("path", "the path holds a segment '.' or '..'")
    return below


def _parse_create(path: str, fields: _Fields, _: RequestHead, root: str) -> Create:
    ttl, expires = fields.get("stream-ttl"), fields.get("stream-expires-at")
    if ttl is not None and expires is not None:
        raise bad_request("Stream-TTL", "Stream-TTL and Stream-Expires-At exclude each other")
    _check_encoding(fields)
    fork = _parse_fork(fields, root)
    return Create(
        path,
        _parse_content_type(fields),
        None if ttl is None else _integer("Stream-TTL", ttl, _STRICT_DIGITS),
        None if expires is None else parse_time("Stream-Expires-At", expires),
        _is_closed(fields),
        fork,
    )


def _parse_content_type(fields: _Fields) -> str | None:
    value = fields.get("content-type", "").strip()
    if not value:
        return None
    if len(value) > _MAX_NAME_CHARACTERS or not _CONTENT_TYPE.fullmatch(value):
        raise bad_request("Content-Type", f"{value[:_MAX_NAME_CHARACTERS]!r} is not a content type")
    return value


def _check_encoding(fields: _Fields) -> None:
    """A body that is stored as it came would be read without what says how it was encoded."""
    encoding = fields.get("content-encoding")
    if encoding is not None and encoding.strip().lower() not in {"", "identity"}:
        message = f"a body comes without Content-Encoding, not as {encoding[:64]!r}"
        raise Refused(
            415, "INVALID_ARGUMENT", message, [("accept-encoding", "identity")], {"field": "Content-Encoding"}
        )


def _parse_fork(fields: _Fields, root: str) -> Fork | None:
    source, offset = fields.get("stream-forked-from"), fields.get("stream-fork-offset")
    sub_offset = fields.get("stream-fork-sub-offset")
    if source is None:
        if sub_offset is not None:
            raise bad_request("Stream-Fork-Sub-Offset", "Stream-Fork-Sub-Offset needs Stream-Forked-From")
        if offset is not None:
            raise bad_request("Stream-Fork-Offset", "Stream-Fork-Offset needs Stream-Forked-From")
        return None
    if offset is not None and offset != BEGINNING and parse_offset(offset) is None:
        raise bad_request("Stream-Fork-Offset", f"{offset[:64]!r} is not an offset of this server")
    behind = 0 if sub_offset is None else _integer("Stream-Fork-Sub-Offset", sub_offset, _STRICT_DIGITS)
    # Mounted below another application, the client's path has more before the root than ours has.
    _, found, below = unquote(source).partition(root)
    return Fork(stream_path(root + below if found else source, root), offset, behind)


def _parse_append(path: str, fields: _Fields, _: RequestHead, __: str) -> Append:
    _check_encoding(fields)
    seq = fields.get("stream-seq")
    if seq is not None and (not seq or len(seq) > _MAX_NAME_CHARACTERS):
        raise _bad_length("Stream-Seq", len(seq))
    return Append(
        path,
        fields.get("content-type"),
        _is_closed(fields),
        _parse_producer(fields)
        if "producer-id" in fields or "producer-epoch" in fields or "producer-seq" in fields
        else None,
        seq,
        fields.get("if-match"),
    )


def _parse_producer(fields: _Fields) -> tuple[str, int, int]:
    name, epoch, seq = fields.get("producer-id"), fields.get("producer-epoch"), fields.get("producer-seq")
    if name is None or epoch is None or seq is None:
        raise bad_request("Producer-Id", "Producer-Id, Producer-Epoch and Producer-Seq come together or not at all")
    if not name.strip() or len(name) > _MAX_NAME_CHARACTERS:
        raise _bad_length("Producer-Id", len(name))
    return name, _integer("Producer-Epoch", epoch, _DIGITS), _integer("Producer-Seq", seq, _DIGITS)


def _bad_length(field: str, size: int) -> Refused:
    return Refused(
        400,
        "INVALID_ARGUMENT",
        f"{field} has {size} characters; it takes 1 to {_MAX_NAME_CHARACTERS}",
        details={"field": field, "size": size, "limit": _MAX_NAME_CHARACTERS},
    )


def _integer(field: str, text: str, form: re.Pattern[str]) -> int:
    if form.fullmatch(text) is None or (value := int(text)) > MAX_INTEGER:
        raise bad_request(field, f"{field} is digits alone, up to {MAX_INTEGER}, and not {text[:64]!r}")
    return value


def _is_closed(fields: _Fields) -> bool:
    value = fields.get("stream-closed")
    return value is not None and value.lower() == "true"


def parse_time(field: str, text: str) -> float:
    """A time of RFC 3339 as Unix seconds.

    Raises:
      Refused: 400: it is none; the message names `field`.
    """
    match = _TIME.fullmatch(text)
    if match is not None:
        day, time, fraction, zone = match.groups()
        zone = "+00:00" if zone in "Zz" else zone
        try:
            # A leap second is the last one before it: nothing here counts them.
            seconds = datetime.fromisoformat(f"{day}T{time.removesuffix(':60')}{':59' * time.endswith(':60')}{zone}")
            whole = seconds.astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            pass
        else:
            return min(whole + float(f"0.{fraction or 0}"), _LAST_TIME)
    raise bad_request(field, f"{field} is a time of RFC 3339, and not {text[:64]!r}")


def _parse_read(path: str, fields: _Fields, head: RequestHead, _: str) -> Read:
    if not head.query_string:
        return Read(path, if_none_match=fields.get("if-none-match"))
    query = head.query
    offsets = query.get("offset", [])
    if len(offsets) > 1:
        raise bad_request("offset", f"offset is given {len(offsets)} times")
    live = _parse_live(query.get("live"))
    if live is not None and not offsets:
        raise bad_request("offset", f"live={live} needs an offset")
    start = parse_start(offsets[0]) if offsets else Start.BEGINNING
    cursor = query.get("cursor", [None])[-1]
    return Read(path, start, live, cursor, fields.get("if-none-match"))


def _parse_live(values: list[str] | None) -> Live | None:
    match values:
        case None | [""]:
            return None
        case ["long-poll"]:
            return "long-poll"
        case ["sse"]:
            return "sse"
        case _:
            raise bad_request("live", f"live is long-poll or sse, and not {', '.join(values)[:64]!r}")


def parse_start(text: str) -> int | Start:
    """An offset as a client names it. Raises `Refused` for what is none of this server's."""
    if text == BEGINNING:
        return Start.BEGINNING
    if text == NOW:
        return Start.NOW
    position = parse_offset(text)
    if position is None:
        raise bad_request("offset", f"{text[:64]!r} is not an offset of this server")
    return position


def _parse_list(head: RequestHead) -> List:
    query = head.query
    values = {
        name: query.get(name, [default])[-1] for name, default in (("prefix", ""), ("after", ""), ("limit", "100"))
    }
    limit = _integer("limit", values["limit"], _STRICT_DIGITS)
    if not 1 <= limit <= _MAX_LIST:
        raise bad_request("limit", f"limit is 1 to {_MAX_LIST}, and not {limit}")
    return List(values["prefix"], values["after"], limit)


def _parse_head(path: str, _: _Fields, __: RequestHead, ___: str) -> Head:
    return Head(path)


def _parse_delete(path: str, _: _Fields, __: RequestHead, ___: str) -> Delete:
    return Delete(path)


_PARSERS: Final[dict[str, Callable[[str, _Fields, RequestHead, str], Operation]]] = {
    "PUT": _parse_create,
    "POST": _parse_append,
    "GET": _parse_read,
    "HEAD": _parse_head,
    "DELETE": _parse_delete,
}
