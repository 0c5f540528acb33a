"""The access log: what a record says, and what it never does."""

from __future__ import annotations

import json
import logging

import pytest

from trio_streams.service.access import AccessRecord, StreamRecord, log_json, log_text, redact_query

EXCHANGE = AccessRecord("GET", "/a?token=secret&bare", 200, 5, 0.25, "127.0.0.1:9", "1.1")
STREAM = StreamRecord(
    procedure='logs "x"\nfake',
    transport="tcp",
    peer="127.0.0.1:9",
    code="OK",
    items_received=1,
    items_sent=2,
    received_bytes=3,
    sent_bytes=4,
    duration=0.123456789,
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?x=1&y=2", "/a?x=…&y=…"),
        ("/a?x=1=2&x=", "/a?x=…&x=…"),
        ("/a?secret", "/a?…"),
        ("/a?x=1;y=2", "/a?x=…"),
        ("/a?b?c=1", "/a?b?c=…"),
        ("", ""),
    ],
)
def test_a_query_without_its_values(target: str, expected: str) -> None:
    """Names stay, values go; a part without a name is a value."""
    assert redact_query(target) == expected


def test_lines_for_people(caplog: pytest.LogCaptureFixture) -> None:
    """One line each, whatever a stranger calls things; the fields are the log record's, too."""
    with caplog.at_level(logging.INFO, logger="trio_streams.access"):
        log_text(EXCHANGE)
        log_text(STREAM)
    assert [record.getMessage() for record in caplog.records] == [
        '127.0.0.1:9 http "GET /a?token=…&…" 200 5 0.250000',
        r'127.0.0.1:9 tcp "logs \"x\"\nfake" OK 1/3 2/4 0.123457',
    ]
    assert vars(caplog.records[0])["access"]["path"] == "/a?token=…&…"


def test_lines_for_programs(caplog: pytest.LogCaptureFixture) -> None:
    """A JSON document each, with all fields of the record and its kind."""
    with caplog.at_level(logging.INFO, logger="trio_streams.access"):
        log_json(EXCHANGE)
        log_json(STREAM)
    exchange, stream = (json.loads(record.getMessage()) for record in caplog.records)
    assert exchange == {
        "kind": "exchange",
        "method": "GET",
        "path": "/a?token=…&…",
        "status": 200,
        "sent_bytes": 5,
        "duration": 0.25,
        "peer": "127.0.0.1:9",
        "http_version": "1.1",
    }
    assert (stream["kind"], stream["procedure"], stream["duration"]) == ("stream", 'logs "x"\nfake', 0.123457)
    assert "\n" not in caplog.records[1].getMessage()


def test_a_long_target_is_cut() -> None:
    """A line has a limit."""
    assert len(redact_query("/" + "x" * 100_000)) == 2_048
