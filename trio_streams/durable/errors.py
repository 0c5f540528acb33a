"""What a client of durable streams raises: the protocol's refusals, and requests that brought no answer of the protocol.

`DurableStreamError` and `FetchError` are siblings, as in the client that the names are from: the first says that the
server understood and refused, the second that there was no answer, or one that is not the protocol's (401, 502).
"""

from __future__ import annotations

from trio_streams.core.errors import StreamsError

__all__ = [
    "DurableStreamError",
    "FetchError",
    "ProducerClosedError",
    "RetentionGoneError",
    "SeqConflictError",
    "SequenceGapError",
    "StaleEpochError",
    "StreamClosedError",
    "StreamConsumedError",
    "StreamExistsError",
    "StreamNotFoundError",
]


class _StatusError(StreamsError):
    """A message with an HTTP status and a word for programs.

    Attributes:
      message: for people.
      status: of the answer; None where none came.
      code: for programs, in upper case, such as `NOT_FOUND`.
      details: the beginning of the answer's body as text, for people; None where there is none.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, details: str | None = None
    ) -> None:
        super().__init__(message)
        self.message: str = message
        self.status: int | None = status
        self.code: str | None = code
        self.details: str | None = details


class DurableStreamError(_StatusError):
    """The server refused what was asked, in the protocol's words; or the answer breaks the protocol."""


class FetchError(_StatusError):
    """No answer came, or one that is not the protocol's: `status` is None, or 401, 500 and the like."""


class StreamNotFoundError(DurableStreamError):
    """There is no such stream (404)."""


class StreamExistsError(DurableStreamError):
    """There is such a stream, with another configuration (409 to a creation)."""


class SeqConflictError(DurableStreamError):
    """The append's `Stream-Seq` is not greater than the last one, or its content type is another one (409)."""


class StreamClosedError(DurableStreamError):
    """The stream is closed and takes nothing more (409 with `Stream-Closed`).

    Attributes:
      final_offset: the closed stream's last offset; None where the server did not say.
    """

    final_offset: str | None = None


class RetentionGoneError(DurableStreamError):
    """What was asked for is not kept any more, or the stream is deleted while forks still read it (410)."""


class StreamConsumedError(DurableStreamError):
    """A response was consumed twice: each can be read once, in one way."""


class StaleEpochError(DurableStreamError):
    """Another producer has taken over this id with a higher epoch (403 with `Producer-Epoch`).

    Attributes:
      current_epoch: the epoch that the server knows.
    """

    current_epoch: int = 0


class SequenceGapError(DurableStreamError):
    """The server misses a batch before this one (409 with `Producer-Expected-Seq`).

    Attributes:
      expected_seq: the sequence number that the server waits for.
      received_seq: the one that it got.
    """

    expected_seq: int = 0
    received_seq: int = 0


class ProducerClosedError(DurableStreamError):
    """The producer was closed, or failed before; it takes nothing more."""
