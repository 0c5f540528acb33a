"""What a client raises for an answer that refuses.

Spec: Durable Streams §5.1 to §5.8 (response codes), §5.2.1 (producers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from trio_streams.durable.errors import (
    DurableStreamError,
    FetchError,
    RetentionGoneError,
    SeqConflictError,
    SequenceGapError,
    StaleEpochError,
    StreamClosedError,
    StreamExistsError,
    StreamNotFoundError,
)
from trio_streams.durable.headers import (
    PRODUCER_EPOCH,
    PRODUCER_EXPECTED_SEQ,
    PRODUCER_RECEIVED_SEQ,
    STREAM_CLOSED,
    STREAM_NEXT_OFFSET,
)

__all__ = ["MAX_DETAILS_CHARACTERS", "Operation", "find_refusal", "is_true", "public_url"]

Operation: TypeAlias = Literal["create", "append", "close", "delete", "head", "read"]
"""What was asked for, as a message names it."""

MAX_DETAILS_CHARACTERS: Final = 1_000
"""As much of an answer's text as an error keeps."""

_MAX_DIGITS: Final = 16
"""Epochs and sequence numbers go up to 2^53 - 1."""

_REFUSALS: Final = {
    400: ("BAD_REQUEST", "the request is wrong"),
    405: ("NOT_SUPPORTED", "the server does not support this"),
    412: ("PRECONDITION_FAILED", "the stream is not what the request depends on"),
    413: ("MESSAGE_TOO_LARGE", "it is larger than the server takes"),
    429: ("RATE_LIMITED", "too many requests"),
    501: ("NOT_SUPPORTED", "the server does not support this"),
}
_FAULTS: Final = {
    401: ("UNAUTHORIZED", "not authenticated"),
    403: ("FORBIDDEN", "not allowed"),
    503: ("BUSY", "the server is busy"),
}


def public_url(url: str) -> str:
    """A URL as messages show it: without credentials and without its query, which may hold a token."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def is_true(value: str | None) -> bool:
    """Whether a header says `true`, in letters of any case; anything else counts as its absence."""
    return value is not None and value.lower() == "true"


def find_refusal(
    operation: Operation, url: str, status: int, headers: Mapping[str, str], text: str
) -> DurableStreamError | FetchError:
    """The error for an answer that is no success.

    Args:
      operation: what was asked for.
      url: of the stream.
      status: as a number.
      headers: names in lower case.
      text: the beginning of the answer's body.
    """
    details = text[:MAX_DETAILS_CHARACTERS] or None
    where = f"can't {operation} {public_url(url)}"
    if status == 409:
        return _find_conflict(operation, where, headers, details)
    if status == 403 and (epoch := _number(headers, PRODUCER_EPOCH)) is not None:
        stale = StaleEpochError(
            f"{where}: another producer has epoch {epoch}", status=status, code="STALE_EPOCH", details=details
        )
        stale.current_epoch = epoch
        return stale
    if status == 404:
        return StreamNotFoundError(f"{where}: no such stream", status=status, code="NOT_FOUND", details=details)
    if status == 410:
        what = f"{where}: it is gone, or what was asked for is not kept any more"
        return RetentionGoneError(what, status=status, code="RETENTION_GONE", details=details)
    if status in _REFUSALS:
        code, why = _REFUSALS[status]
        return DurableStreamError(_explained(f"{where}: {why}", details), status=status, code=code, details=details)
    other = (
        ("SERVER_ERROR", "the server has failed") if status >= 500 else ("UNEXPECTED_STATUS", "an unexpected answer")
    )
    code, why = _FAULTS.get(status, other)
    return FetchError(f"{where}: {why} (status {status})", status=status, code=code, details=details)


def _find_conflict(
    operation: Operation, where: str, headers: Mapping[str, str], details: str | None
) -> DurableStreamError:
    if operation == "create":
        what = f"{where}: there is one, with another configuration"
        return StreamExistsError(what, status=409, code="CONFLICT_EXISTS", details=details)
    if is_true(headers.get(STREAM_CLOSED.lower())):
        closed = StreamClosedError(f"{where}: it is closed", status=409, code="STREAM_CLOSED", details=details)
        closed.final_offset = headers.get(STREAM_NEXT_OFFSET.lower())
        return closed
    expected = _number(headers, PRODUCER_EXPECTED_SEQ)
    if expected is not None:
        received = _number(headers, PRODUCER_RECEIVED_SEQ)
        what = f"{where}: the server waits for sequence number {expected}, not {received}"
        gap = SequenceGapError(what, status=409, code="SEQUENCE_GAP", details=details)
        gap.expected_seq = expected
        gap.received_seq = 0 if received is None else received
        return gap
    if operation in {"append", "close"}:
        what = _explained(f"{where}: its sequence is further on, or its content type is another one", details)
        return SeqConflictError(what, status=409, code="CONFLICT_SEQ", details=details)
    return DurableStreamError(_explained(f"{where}: conflict", details), status=409, code="CONFLICT", details=details)


def _explained(message: str, details: str | None) -> str:
    return f"{message}: {details[:200]}" if details else message


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name.lower(), "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS else None
