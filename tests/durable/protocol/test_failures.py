"""What a client raises for an answer that refuses."""

from __future__ import annotations

import pytest

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
from trio_streams.durable.protocol.failures import MAX_DETAILS_CHARACTERS, Operation, find_refusal, is_true, public_url

URL = "http://127.0.0.1/v1/stream/orders"


@pytest.mark.parametrize(
    ("operation", "status", "headers", "error", "code"),
    [
        ("read", 400, {}, DurableStreamError, "BAD_REQUEST"),
        ("read", 401, {}, FetchError, "UNAUTHORIZED"),
        ("read", 403, {}, FetchError, "FORBIDDEN"),
        ("append", 403, {"producer-epoch": "x"}, FetchError, "FORBIDDEN"),
        ("append", 403, {"producer-epoch": "7"}, StaleEpochError, "STALE_EPOCH"),
        ("head", 404, {}, StreamNotFoundError, "NOT_FOUND"),
        ("delete", 405, {}, DurableStreamError, "NOT_SUPPORTED"),
        ("create", 409, {"stream-closed": "true"}, StreamExistsError, "CONFLICT_EXISTS"),
        ("append", 409, {"stream-closed": "TRUE"}, StreamClosedError, "STREAM_CLOSED"),
        ("append", 409, {"producer-expected-seq": "3"}, SequenceGapError, "SEQUENCE_GAP"),
        ("append", 409, {}, SeqConflictError, "CONFLICT_SEQ"),
        ("close", 409, {"stream-closed": "no"}, SeqConflictError, "CONFLICT_SEQ"),
        ("delete", 409, {}, DurableStreamError, "CONFLICT"),
        ("read", 410, {}, RetentionGoneError, "RETENTION_GONE"),
        ("append", 412, {}, DurableStreamError, "PRECONDITION_FAILED"),
        ("append", 413, {}, DurableStreamError, "MESSAGE_TOO_LARGE"),
        ("read", 418, {}, FetchError, "UNEXPECTED_STATUS"),
        ("read", 301, {}, FetchError, "UNEXPECTED_STATUS"),
        ("read", 429, {}, DurableStreamError, "RATE_LIMITED"),
        ("read", 500, {}, FetchError, "SERVER_ERROR"),
        ("append", 501, {}, DurableStreamError, "NOT_SUPPORTED"),
        ("read", 503, {}, FetchError, "BUSY"),
    ],
)
def test_each_status_has_its_error(
    operation: Operation, status: int, headers: dict[str, str], error: type[Exception], code: str
) -> None:
    """Status, operation and headers decide the error's type and code; it names the stream, and keeps what the server said."""
    found = find_refusal(operation, URL, status, headers, "because")
    assert type(found) is error
    assert (found.status, found.code, found.details) == (status, code, "because")
    assert operation in found.message
    assert "/v1/stream/orders" in found.message


def test_a_closed_stream_names_its_end() -> None:
    """The final offset is kept, where the server gave it."""
    found = find_refusal("append", URL, 409, {"stream-closed": "true", "stream-next-offset": "7"}, "")
    assert isinstance(found, StreamClosedError)
    assert found.final_offset == "7"
    assert found.details is None


def test_a_fenced_producer_learns_the_epoch() -> None:
    """A stale epoch names the current one."""
    found = find_refusal("append", URL, 403, {"producer-epoch": "12"}, "")
    assert isinstance(found, StaleEpochError)
    assert found.current_epoch == 12


@pytest.mark.parametrize(("received", "number"), [({"producer-received-seq": "9"}, 9), ({}, 0)])
def test_a_gap_names_both_numbers(received: dict[str, str], number: int) -> None:
    """A gap names what the server waits for and what it got."""
    found = find_refusal("append", URL, 409, {"producer-expected-seq": "5"} | received, "")
    assert isinstance(found, SequenceGapError)
    assert (found.expected_seq, found.received_seq) == (5, number)


@pytest.mark.parametrize("digits", ["-1", "1.0", "9" * 17, "٣", ""])
def test_a_number_that_is_none_does_not_count(digits: str) -> None:
    """A number that the protocol does not allow is treated as absent, not converted."""
    assert type(find_refusal("append", URL, 409, {"producer-expected-seq": digits}, "")) is SeqConflictError


def test_a_long_explanation_is_cut() -> None:
    """An error does not keep a server's whole page."""
    found = find_refusal("read", URL, 400, {}, "x" * 10_000)
    assert found.details == "x" * MAX_DETAILS_CHARACTERS
    assert len(found.message) < 500


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:secret@example.com/a/b@c?token=secret", "https://example.com/a/b@c"),
        ("https://example.com", "https://example.com"),
        ("https://example.com/a?x=http://ann:secret@b/", "https://example.com/a"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    """Credentials and the query stay out of messages."""
    assert public_url(url) == shown
    assert "secret" not in find_refusal("read", url, 404, {}, "").message


@pytest.mark.parametrize(("value", "truth"), [("true", True), ("TRUE", True), ("1", False), ("", False), (None, False)])
def test_true_in_letters_of_any_case(value: str | None, truth: bool) -> None:
    """Only `true` counts, whatever its case."""
    assert is_true(value) is truth
