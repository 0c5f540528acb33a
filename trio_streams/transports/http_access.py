"""The access log of a host: a record for each exchange, and a logger for those who want lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

from trio_streams.wire.http1_records import Request

__all__ = ["AccessRecord", "log_access", "report_access"]

_ACCESS: Final = logging.getLogger("trio_streams.access")


@attrs.frozen
class AccessRecord:
    """One line of an access log.

    Attributes:
      method: of the request; empty where its head was refused.
      path: with its query, as it came; likewise.
      status: of the answer; 0 where there was none.
      sent_bytes: of the answer's body, without its coding; of one that comes from a source (`send_from`), with it.
      duration: seconds from the request's head to the end of the answer.
      peer: who asked, for people.
      http_version: `1.1`, `2`, `3`; empty where the head was refused.
    """

    method: str
    path: str
    status: int
    sent_bytes: int
    duration: float
    peer: str
    http_version: str = ""


def report_access(
    on_access: Callable[[AccessRecord], None],
    request: Request,
    started: float,
    status: int,
    sent_bytes: int,
    peer: str,
) -> None:
    """Tell of an exchange that is over."""
    duration = trio.current_time() - started
    on_access(AccessRecord(request.method, request.target, status, sent_bytes, duration, peer, request.version))


def log_access(record: AccessRecord) -> None:
    """An `on_access` that writes to the logger `trio_streams.access`; the record's fields are the log record's, too."""
    fields = attrs.asdict(record)
    _ACCESS.info(
        '%s "%s %s" %d %d %.6f',
        record.peer,
        record.method,
        record.path,
        record.status,
        record.sent_bytes,
        record.duration,
        extra={"access": fields},
    )
