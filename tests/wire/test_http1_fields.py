"""Answers' heads on their way out."""

from __future__ import annotations

import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire import http1_fields
from trio_streams.wire.http1_fields import Fields, check_fields, parse_length, status_line


def test_fields_as_lines() -> None:
    """Each header is one line."""
    assert check_fields([("a", "b\xff"), ("c", "")]) == "a: b\xff\r\nc: \r\n"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (("A", "b"), "token"),
        (("", "b"), "token"),
        (("a:b", "c"), "token"),
        (("a\r\nb", "c"), "token"),
        (("a", "b\r\nc: d"), "line end"),
        (("a", "b\nc"), "line end"),
        (("a", "b\0"), "line end"),
        (("a", "\u20ac"), "8859-1"),
        (("a", "b\x1b"), "control character"),
    ],
)
def test_no_header_can_become_another_one(field: tuple[str, str], text: str) -> None:
    """Names are tokens in lower case; values hold no control character and nothing outside ISO 8859-1."""
    with pytest.raises(LocalProtocolError, match=text):
        check_fields([("x", "y"), field])


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up names costs no memory."""
    monkeypatch.setattr(http1_fields, "_MAX_CHECKED_NAMES", 0)
    check_fields([("x-never-seen-before", "")])
    assert "x-never-seen-before" not in http1_fields._checked_names


@pytest.mark.parametrize("value", ["", "x", "-1", "1 ", "\xb2", "1,1"])
def test_an_answers_length_is_a_number(value: str) -> None:
    """Digits, and nothing else."""
    assert parse_length("012") == 12
    with pytest.raises(LocalProtocolError, match="not a number"):
        parse_length(value)


def test_status_lines() -> None:
    """With the phrases of registered statuses; others have none."""
    assert (status_line(404), status_line(299)) == ("HTTP/1.1 404 Not Found\r\n", "HTTP/1.1 299 \r\n")


def test_special_fields_are_picked_out() -> None:
    """What frames a message is at hand, each as often as it stands there; other headers are only lines."""
    fields = Fields([("content-length", "1"), ("etag", "x"), ("content-length", "2"), ("connection", "close")])
    assert fields.special == [("content-length", "1"), ("content-length", "2"), ("connection", "close")]
    assert (fields.value("content-length"), fields.value("date"), fields.value("etag")) == ("1", None, None)
    assert Fields([("etag", "x")]).special == []


def test_joined_fields() -> None:
    """One behind the other, and neither changes."""
    first, second = Fields([("a", "b"), ("connection", "close")]), Fields([("date", "now")])
    both = first.joined(second)
    assert both.lines == "a: b\r\nconnection: close\r\ndate: now\r\n"
    assert (both.value("connection"), both.value("date"), first.value("date")) == ("close", "now", None)
