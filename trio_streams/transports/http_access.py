"""The access log of a host: a record for each exchange, and a logger for those who want lines."""

from __future__ import annotations

import logging
from typing import Final

import attrs

__all__ = ["AccessRecord", "log_access"]

_ACCESS: Final = logging.getLogger("trio_streams.access")


@attrs.frozen
class AccessRecord:
    """One line of an access log.

    Attributes:
      method: of the request; empty where its head was refused.
      path: with its query, as it came; likewise.
      status: of the answer; 0 where there was none.
      sent_bytes: of the answer's body, without its coding.
      duration: seconds from the request's head to the end of the answer.
      peer: who asked, for people.
    """

    method: str
    path: str
    status: int
    sent_bytes: int
    duration: float
    peer: str


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
