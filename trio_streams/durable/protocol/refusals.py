"""What a request is refused with, in the protocol's statuses and in words for programs.

Spec: Durable Streams §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trio_streams.core.errors import StreamsError
from trio_streams.durable import headers
from trio_streams.durable.protocol.offsets import format_offset

__all__ = [
    "Refused",
    "bad_request",
    "closed",
    "content_type_mismatch",
    "gone",
    "not_found",
    "precondition_failed",
    "retention_gone",
    "seq_conflict",
    "sequence_gap",
    "stale_epoch",
    "stream_exists",
    "too_many",
    "unavailable",
]


class Refused(StreamsError):
    """A request that is not done, and why.

    Attributes:
      status: of the answer.
      code: for programs, in upper case.
      message: for people.
      headers: of the answer, beside those that every answer has.
      details: field, size and limit where a limit is passed, and the like.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Sequence[tuple[str, str]] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: int = status
        self.code: str = code
        self.message: str = message
        self.headers: tuple[tuple[str, str], ...] = tuple(headers)
        self.details: Mapping[str, object] | None = details


def bad_request(field: str, message: str) -> Refused:
    """What was asked is malformed, in the header, parameter or part that `field` names."""
    return Refused(400, "INVALID_ARGUMENT", message, details={"field": field})


def not_found(path: str) -> Refused:
    """There is no such stream."""
    return Refused(404, "NOT_FOUND", f"there is no stream at {path!r}")


def gone(path: str) -> Refused:
    """The stream is deleted, while forks still read from it."""
    return Refused(410, "GONE", f"the stream at {path!r} is deleted")


def retention_gone(path: str, start: int) -> Refused:
    """What is asked for is not kept any more. Names the earliest offset that is."""
    return Refused(
        410,
        "RETENTION_GONE",
        f"the stream at {path!r} is kept from offset {format_offset(start)} on",
        [(headers.STREAM_EARLIEST_OFFSET.lower(), format_offset(start))],
    )


def stream_exists(message: str) -> Refused:
    """There is such a stream, with another configuration."""
    return Refused(409, "STREAM_EXISTS", message)


def closed(tail: int) -> Refused:
    """The stream takes nothing more."""
    return Refused(
        409,
        "STREAM_CLOSED",
        "the stream is closed",
        [("stream-closed", "true"), ("stream-next-offset", format_offset(tail))],
    )


def content_type_mismatch(ours: str, theirs: str) -> Refused:
    """The content type is another one than the stream's."""
    return Refused(409, "CONTENT_TYPE_MISMATCH", f"the stream's content type is {ours}, not {theirs}")


def seq_conflict(last: str, received: str) -> Refused:
    """`Stream-Seq` does not grow."""
    return Refused(409, "SEQ_CONFLICT", f"Stream-Seq {received!r} is not greater than the last one, {last!r}")


def stale_epoch(current: int) -> Refused:
    """Another producer has taken over."""
    message = f"the producer's epoch is over: the current one is {current}"
    return Refused(403, "STALE_EPOCH", message, [("producer-epoch", str(current))])


def sequence_gap(expected: int, received: int) -> Refused:
    """A batch of the producer's is missing before this one."""
    return Refused(
        409,
        "SEQUENCE_GAP",
        f"the producer's next sequence number is {expected}, not {received}",
        [("producer-expected-seq", str(expected)), ("producer-received-seq", str(received))],
    )


def precondition_failed(tail: int) -> Refused:
    """`If-Match` names another state of the stream."""
    message = "If-Match names another state of the stream than the current one"
    return Refused(412, "PRECONDITION_FAILED", message, [("stream-next-offset", format_offset(tail))])


def too_many(field: str, limit: int, message: str, *, retry_after: int = 1) -> Refused:
    """A limit of the server is reached, for now."""
    return Refused(
        429, "RESOURCE_EXHAUSTED", message, [("retry-after", str(retry_after))], {"field": field, "limit": limit}
    )


def unavailable() -> Refused:
    """The store can't keep anything, or give what it has."""
    return Refused(503, "UNAVAILABLE", "the server can't reach what it keeps streams in", [("retry-after", "1")])
