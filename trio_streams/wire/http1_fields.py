"""An answer's head, on its way out: its headers as lines, checked, and what in them says how the message is framed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from trio_streams.core.errors import LocalProtocolError

__all__ = ["Fields", "check_fields", "parse_length", "status_line"]

_FIELDS: Final = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9a-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+", re.ASCII)
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]++", re.ASCII)

_checked_names: Final[set[str]] = set()
_MAX_CHECKED_NAMES: Final = 1_024

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

_SPECIAL: Final = frozenset({"content-length", "transfer-encoding", "connection", "date"})


class Fields:
    """An answer's headers, checked once for all who have to know something of them.

    Attributes:
      lines: as they are written.
      special: those that say how the message is framed, and `date`; others pass as they are.

    Args:
      headers: names in lower case.

    Raises:
      LocalProtocolError: as `check_fields`.
    """

    __slots__ = ("lines", "special")

    def __init__(self, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.lines: str = check_fields(headers)
        self.special: list[tuple[str, str]] = []
        if not _SPECIAL.isdisjoint([name for name, _ in headers]):
            self.special = [field for field in headers if field[0] in _SPECIAL]

    def value(self, name: str) -> str | None:
        """The first value of one of the special headers; None where there is none."""
        for key, value in self.special:
            if key == name:
                return value
        return None

    def joined(self, other: Fields) -> Fields:
        """These headers, and then others."""
        both = Fields.__new__(Fields)
        both.lines = self.lines + other.lines
        both.special = self.special + other.special
        return both


def check_fields(headers: Sequence[tuple[str, str]]) -> str:
    """Headers as lines, if no part of one can be taken for something else.

    Raises:
      LocalProtocolError: a name is not a token in lower case, or a value holds a control character or what ISO 8859-1
        lacks.
    """
    for name, _ in headers:
        if name not in _checked_names:
            _check_name(name)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    # A line end within a value would make another line that is well formed; its count gives it away.
    if _FIELDS.fullmatch(lines) and lines.count("\n") == len(headers):
        return lines
    for name, value in headers:
        if any(character in value for character in "\r\n\0"):
            raise LocalProtocolError(f"can't send the header {name}: its value holds a line end or NUL", field=name)
        if max(value, default="") > "\xff":
            raise LocalProtocolError(f"can't send the header {name}: not ISO 8859-1", field=name)
    raise LocalProtocolError("can't send the headers: a value holds a control character", field="headers")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LocalProtocolError(f"can't send a header named {name!r}: not a token in lower case", field=name)
    if len(_checked_names) < _MAX_CHECKED_NAMES:
        _checked_names.add(name)


def parse_length(value: str) -> int:
    """An answer's `content-length`.

    Raises:
      LocalProtocolError: it is not a number.
    """
    if not value.isdigit() or not value.isascii():
        raise LocalProtocolError("can't send the head: content-length is not a number", field="content-length")
    return int(value)


def status_line(status: int) -> str:
    """The first line of an answer, with its end; without a phrase for a status that has none."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
