"""Refusals: statuses, codes and headers as the protocol has them."""

from __future__ import annotations

import pytest

from trio_streams.durable.protocol import refusals
from trio_streams.durable.protocol.refusals import Refused


@pytest.mark.parametrize(
    ("refused", "status", "code", "headers"),
    [
        (refusals.bad_request("offset", "bad"), 400, "INVALID_ARGUMENT", {}),
        (refusals.not_found("a"), 404, "NOT_FOUND", {}),
        (refusals.gone("a"), 410, "GONE", {}),
        (refusals.retention_gone("a", 7), 410, "RETENTION_GONE", {"stream-earliest-offset": "0000000000000007"}),
        (refusals.stream_exists("other"), 409, "STREAM_EXISTS", {}),
        (refusals.closed(7), 409, "STREAM_CLOSED", {"stream-closed": "true", "stream-next-offset": "0000000000000007"}),
        (refusals.content_type_mismatch("a/b", "c/d"), 409, "CONTENT_TYPE_MISMATCH", {}),
        (refusals.seq_conflict("b", "a"), 409, "SEQ_CONFLICT", {}),
        (refusals.stale_epoch(5), 403, "STALE_EPOCH", {"producer-epoch": "5"}),
        (
            refusals.sequence_gap(5, 7),
            409,
            "SEQUENCE_GAP",
            {"producer-expected-seq": "5", "producer-received-seq": "7"},
        ),
        (refusals.precondition_failed(7), 412, "PRECONDITION_FAILED", {"stream-next-offset": "0000000000000007"}),
        (refusals.too_many("f", 3, "full", retry_after=9), 429, "RESOURCE_EXHAUSTED", {"retry-after": "9"}),
        (refusals.unavailable(), 503, "UNAVAILABLE", {"retry-after": "1"}),
    ],
)
def test_refusals(refused: Refused, status: int, code: str, headers: dict[str, str]) -> None:
    """Each refusal has the protocol's status and headers, and words for people."""
    assert (refused.status, refused.code, dict(refused.headers)) == (status, code, headers)
    assert str(refused) == refused.message != ""


def test_limits_are_named() -> None:
    """What passes a limit says which, and how large it is."""
    assert refusals.too_many("max_streams", 3, "full").details == {"field": "max_streams", "limit": 3}
