"""Results as HTTP says them: status, headers, body.

Spec: Durable Streams §5, §10.1, §12.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from trio_streams.durable.protocol.decisions import Appended
from trio_streams.durable.protocol.events import is_text
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.machine import Chunk, Created
from trio_streams.durable.protocol.offsets import format_offset
from trio_streams.durable.protocol.operations import Append, List, Read, Start
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.store.base import StreamRecord
from trio_streams.transports.exchange_head import RequestHead
from trio_streams.wire.entity_tags import matches_weakly
from trio_streams.wire.sse import CONTENT_TYPE

__all__ = [
    "SAFE",
    "Answer",
    "appended",
    "created",
    "deleted",
    "following",
    "format_time",
    "found",
    "listed",
    "options",
    "read",
    "refused",
]

_Headers = tuple[tuple[str, str], ...]

SAFE: Final[_Headers] = (("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "cross-origin"))
"""What every answer begins with."""

_NO_STORE: Final = ("cache-control", "no-store")
_CLOSED: Final = ("stream-closed", "true")
_UP_TO_DATE: Final = ("stream-up-to-date", "true")
_JSON: Final = ("content-type", "application/json")


class Answer(NamedTuple):
    """A whole answer.

    Attributes:
      status: of HTTP.
      headers: all but the length.
      body: empty where there is none.
    """

    status: int
    headers: _Headers
    body: bytes = b""


def created(result: Created, head: RequestHead) -> Answer:
    """To PUT."""
    record = result.record
    headers = (
        *SAFE,
        ("content-type", record.content_type),
        ("stream-next-offset", format_offset(record.tail)),
        *((_CLOSED,) if record.is_closed else ()),
    )
    if not result.is_new:
        return Answer(200, headers)
    location = f"{head.scheme}://{head.header('host') or 'localhost'}{quote(head.path)}"
    return Answer(201, (*headers, ("location", location)))


def appended(result: Appended, operation: Append) -> Answer:
    """To POST: 200 for a producer's new data, 204 for anything else."""
    headers = (*SAFE, ("stream-next-offset", format_offset(result.tail)))
    if result.is_closed:
        headers = (*headers, _CLOSED)
    if result.producer is None:
        return Answer(204, headers)
    epoch, seq = result.producer
    headers = (*headers, ("producer-epoch", str(epoch)), ("producer-seq", str(seq)))
    is_close_only = result.is_closed and operation.content_type is None
    return Answer(204 if result.is_duplicate or is_close_only else 200, headers)


def found(record: StreamRecord) -> Answer:
    """To HEAD."""
    headers = [
        *SAFE,
        ("content-type", record.content_type),
        ("stream-next-offset", format_offset(record.tail)),
        _NO_STORE,
        ("etag", _etag(record, -1, record.tail, is_closed=record.is_closed)),
    ]
    if record.is_closed:
        headers.append(_CLOSED)
    if record.ttl_seconds is not None:
        headers.append(("stream-ttl", str(record.ttl_seconds)))
    if record.expires_at is not None:
        headers.append(("stream-expires-at", format_time(record.expires_at)))
    return Answer(200, tuple(headers))


def read(chunk: Chunk, operation: Read, cursor: str, cache_control: str) -> Answer:
    """To GET, at once or by long-poll.

    Args:
      chunk: what was read.
      operation: what was asked.
      cursor: for the next question by long-poll.
      cache_control: where the answer may be kept.
    """
    record = chunk.state.durable
    headers = (*SAFE, ("stream-next-offset", format_offset(chunk.end)))
    if chunk.is_up_to_date:
        headers = (*headers, _UP_TO_DATE)
    if chunk.is_closed:
        headers = (*headers, _CLOSED)
    if operation.live is not None and not chunk.is_closed:
        headers = (*headers, ("stream-cursor", cursor))
    if operation.live is not None and not chunk.pieces:
        return Answer(204, (*headers, _NO_STORE))
    body = to_array(chunk.pieces) if chunk.state.is_json else b"".join(chunk.pieces)
    content_type = ("content-type", record.content_type)
    if operation.start is Start.NOW:
        return Answer(200, (*headers, content_type, _NO_STORE), body)
    etag = _etag(record, chunk.start, chunk.end, is_closed=chunk.is_closed)
    headers = (*headers, ("etag", etag), ("cache-control", cache_control))
    if operation.if_none_match is not None and matches_weakly(operation.if_none_match, etag):
        return Answer(304, headers)
    return Answer(200, (*headers, content_type), body)


def _etag(record: StreamRecord, start: int, end: int, *, is_closed: bool) -> str:
    first = "-1" if start < 0 else format_offset(start)
    return f'"{record.stream_id}:{first}:{format_offset(end)}{":c" if is_closed else ""}"'


def following(record: StreamRecord) -> Answer:
    """To GET as events: the head."""
    encoding = () if is_text(record.content_type) else (("stream-sse-data-encoding", "base64"),)
    # nginx and others hold an answer back until a buffer is full, unless told not to.
    own = (("content-type", CONTENT_TYPE), ("cache-control", "no-cache"), ("x-accel-buffering", "no"))
    return Answer(200, (*SAFE, *own, *encoding))


def deleted() -> Answer:
    """To DELETE."""
    return Answer(204, SAFE)


def options(allowed: str) -> Answer:
    """To OPTIONS."""
    return Answer(204, (*SAFE, ("allow", allowed)))


def listed(records: Sequence[StreamRecord], operation: List) -> Answer:
    """To GET of the root: the streams, and where to go on."""
    streams = [
        {
            "path": record.path,
            "contentType": record.content_type,
            "nextOffset": format_offset(record.tail),
            "closed": record.is_closed,
        }
        for record in records
    ]
    following_path = records[-1].path if len(records) == operation.limit else None
    body = msgspec.json.encode({"streams": streams, "next": following_path})
    return Answer(200, (*SAFE, _JSON, _NO_STORE), body)


def refused(error: Refused) -> Answer:
    """To whatever is not done."""
    fields: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details is not None:
        fields["details"] = dict(error.details)
    body = msgspec.json.encode({"error": fields})
    return Answer(error.status, (*SAFE, *error.headers, _JSON, _NO_STORE), body)


def format_time(seconds: float) -> str:
    """Unix seconds as RFC 3339, to the millisecond."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
