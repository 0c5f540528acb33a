"""The access log of everything that is served: a record for each exchange and each stream, as lines or as JSON.

No record holds a payload. Values of a query, where tokens travel, are left out of what is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import msgspec

from trio_streams.transports.http_access import AccessRecord as AccessRecord

__all__ = ["AccessRecord", "OnAccess", "StreamRecord", "log_json", "log_text", "redact_query"]

_ACCESS: Final = logging.getLogger("trio_streams.access")

_SHOWN_CHARACTERS: Final = 2_048


@attrs.frozen(kw_only=True)
class StreamRecord:
    """One stream of our dialect or of JSON envelopes, or one call of JSON-RPC, when it is over.

    Attributes:
      procedure: what was asked for.
      transport: what carried it: `tcp`, `ws`, …
      peer: who asked, for people.
      code: how it ended: `OK`, or the name of an error's code.
      items_received: from the peer.
      items_sent: to the peer, queued at least.
      received_bytes: payloads of the former.
      sent_bytes: payloads of the latter.
      duration: seconds from its opening to the end of its handler.
    """

    procedure: str
    transport: str
    peer: str
    code: str
    items_received: int
    items_sent: int
    received_bytes: int
    sent_bytes: int
    duration: float


OnAccess: TypeAlias = Callable[[AccessRecord | StreamRecord], None]
"""Told of each exchange and each stream when it is over; must not block."""


def redact_query(target: str) -> str:
    """A request's target without the values of its query: `/a?token=…&limit=…`."""
    path, mark, query = target.partition("?")
    # Without a name the whole part is a value.
    parts = [f"{part.partition('=')[0]}=…" if "=" in part else "…" for part in query.split("&")] if query else []
    return f"{path}{mark}{'&'.join(parts)}"[:_SHOWN_CHARACTERS]


def log_text(record: AccessRecord | StreamRecord) -> None:
    """An `OnAccess` that writes a line to the logger `trio_streams.access`; its fields are the log record's `access`."""
    fields = _fields(record)
    if isinstance(record, AccessRecord):
        line = '%(peer)s http "%(method)s %(path)s" %(status)d %(sent_bytes)d %(duration).6f'
    else:
        line = (
            '%(peer)s %(transport)s "%(procedure)s" %(code)s %(items_received)d/%(received_bytes)d '
            "%(items_sent)d/%(sent_bytes)d %(duration).6f"
        )
    _ACCESS.info(line, {key: _one_line(value) for key, value in fields.items()}, extra={"access": fields})


def log_json(record: AccessRecord | StreamRecord) -> None:
    """An `OnAccess` that writes a JSON document to the logger `trio_streams.access`; `kind` is `exchange` or `stream`."""
    fields = _fields(record)
    kind = "exchange" if isinstance(record, AccessRecord) else "stream"
    _ACCESS.info("%s", msgspec.json.encode({"kind": kind, **fields}).decode(), extra={"access": fields})


def _fields(record: AccessRecord | StreamRecord) -> dict[str, object]:
    fields = attrs.asdict(record)
    if isinstance(record, AccessRecord):
        fields["path"] = redact_query(record.path)
    fields["duration"] = round(record.duration, 6)
    return fields


def _one_line(value: object) -> object:
    """What a stranger wrote, in one line and without quotes: a log is read line by line."""
    if not isinstance(value, str):
        return value
    return "".join(
        one if one.isprintable() and one not in '"\\' else repr(one)[1:-1].replace('"', r"\"") for one in value
    )[:_SHOWN_CHARACTERS]
