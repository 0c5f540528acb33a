"""`logs.tail` and the lines of logs."""

from __future__ import annotations

import logging
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from trio.testing import MockClock

from tests.demo.links import context
from trio_streams.demo.logs import LineFormatter, LogLine, LogQuery, add_logs, parse_line
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router

MOMENT = datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC)
LOG = """\
2026-01-31T12:00:00.123Z INFO starts
2026-01-31T12:00:00.123Z WARNING Disk is nearly full
2026-01-31T12:00:00.123Z DEBUG detail of the disk
2026-01-31T12:00:00.123Z ERROR disk is full
"""


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("2026-01-31T12:00:00.123Z INFO a b", LogLine(timestamp=MOMENT, level="info", message="a b")),
        ("2026-01-31T12:00:00.123Z [warn] a", LogLine(timestamp=MOMENT, level="warning", message="a")),
        ("ERROR: a", LogLine(timestamp=None, level="error", message="a")),
        ("Jan 31 12:00:00 host app: fatal a", LogLine(timestamp=None, level="critical", message="...")),
        ("no level here", LogLine(timestamp=None, level="", message="no level here")),
        ("12345678901 information", LogLine(timestamp=None, level="", message="12345678901 information")),
        ("", LogLine(timestamp=None, level="", message="")),
    ],
)
def test_lines_of_many_logs_are_understood(line: str, parsed: LogLine) -> None:
    """A time and a level at the beginning are taken apart; a level further on is found, and the line left whole."""
    found = parse_line(line)
    assert found == (attrs.evolve(parsed, message=line) if parsed.message == "..." else parsed)


def test_what_is_written_can_be_read() -> None:
    """The demo's own format keeps time and level, and an event stays one line."""
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "two\nlines of %s", ("text",), None)
    parsed = parse_line(LineFormatter().format(record))
    assert parsed.timestamp is not None
    assert parsed.timestamp.timestamp() == pytest.approx(record.created, abs=0.002)
    assert (parsed.level, parsed.message) == ("error", "two lines of text")


async def _tail(path: Path, query: LogQuery, count: int, add: str = "") -> list[str]:
    router = Router()
    notes: list[str] = []
    add_logs(router, path, notes.append)
    procedure = router.get("logs.tail")
    assert procedure is not None
    found = []
    async with aclosing(procedure.invoke(query, context("logs.tail"))) as lines:
        for number in range(count):
            found.append((await anext(lines)).message)
            if number == 0:
                with path.open("a", encoding="utf-8") as file:
                    file.write(add)
    assert notes == ["logs.tail: starts for here", "logs.tail: ends for here"]
    return found


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        (LogQuery(), ["starts", "Disk is nearly full", "detail of the disk", "disk is full"]),
        (LogQuery(limit=1), ["disk is full"]),
        (LogQuery(level="WARN"), ["Disk is nearly full", "disk is full"]),
        (LogQuery(contains="DISK", limit=2), ["detail of the disk", "disk is full"]),
        (LogQuery(contains="nearly", level="error", limit=9), []),
    ],
)
async def test_filters_choose_lines(
    query: LogQuery, messages: list[str], tmp_path: Path, autojump_clock: MockClock
) -> None:
    """`limit` counts the lines that the filters leave, and does not bound those that are added later."""
    path = tmp_path / "log"
    path.write_text(LOG, encoding="utf-8")
    if messages:
        later = "CRITICAL nearly no disk any more\nCRITICAL quiet\nCRITICAL disk nearly gone\n"
        found = await _tail(path, query, len(messages) + 2, later)
        assert found[: len(messages)] == messages
        expected = ["nearly no disk any more", "disk nearly gone" if query.contains else "quiet"]
        assert found[len(messages) :] == expected
    else:
        path.write_text(LOG + "FATAL nearly\n", encoding="utf-8")
        assert await _tail(path, query, 1) == ["nearly"]


@pytest.mark.parametrize(
    ("query", "field", "text"),
    [
        (LogQuery(limit=-1), "limit", "limit is 0 to 10000 lines, not -1"),
        (LogQuery(limit=10_001), "limit", "limit is 0 to 10000 lines, not 10001"),
        (LogQuery(level="loud"), "level", "level is one of trace, debug, info, warning, error, critical, not 'loud'"),
    ],
)
def test_a_wrong_query_is_refused(query: LogQuery, field: str, text: str) -> None:
    """The error names the field and what it allows."""
    with pytest.raises(RpcError, match=text) as caught:
        query.checked()
    assert caught.value.code == "INVALID_ARGUMENT"
    assert isinstance(caught.value.details, dict)
    assert caught.value.details["field"] == field
