"""`logs.tail`: the lines of one file that the operator has named, filtered; a client never names a file."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from trio_streams.codes import Code
from trio_streams.demo.follow import follow
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router
from trio_streams.service.context import Context

__all__ = ["LineFormatter", "LogLine", "LogQuery", "add_logs", "parse_line"]

LEVELS: Final = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_ALIASES: Final = {"warn": "warning", "err": "error", "fatal": "critical", "notice": "info", "crit": "critical"}
_WORDS: Final = re.compile(rf"\b({'|'.join([*LEVELS, *_ALIASES])})\b", re.IGNORECASE)
_HEAD_CHARACTERS: Final = 120
"""Where a line's level is looked for: further on it is a word like any other."""
MAX_LINES: Final = 10_000


@attrs.frozen
class LogQuery:
    """What a client may ask for.

    Attributes:
      level: this level and the more severe ones; every line if it is left out.
      contains: only lines with this text, whatever its case.
      limit: how many of the lines that are there already come first, 0 to 10,000.
    """

    level: str | None = None
    contains: str = ""
    limit: int = 100

    def checked(self) -> int:
        """The number of the level asked for.

        Raises:
          RpcError: INVALID_ARGUMENT; it names the field and its limits.
        """
        if not 0 <= self.limit <= MAX_LINES:
            details = {"field": "limit", "minimum": 0, "maximum": MAX_LINES}
            raise RpcError(Code.INVALID_ARGUMENT, f"limit is 0 to {MAX_LINES} lines, not {self.limit}", details)
        if self.level is None:
            return 0
        word = self.level.lower()
        number = LEVELS.get(_ALIASES.get(word, word))
        if number is None:
            names = ", ".join(LEVELS)
            details = {"field": "level", "allowed": list(LEVELS)}
            raise RpcError(Code.INVALID_ARGUMENT, f"level is one of {names}, not {self.level[:40]!r}", details)
        return number


@attrs.frozen(kw_only=True)
class LogLine:
    """One line.

    Attributes:
      timestamp: as the line gives it; None where it gives none that we can read.
      level: in lower case; empty where the line names none.
      message: the line, without the time and level if those stand at its beginning.
    """

    timestamp: datetime | None
    level: str
    message: str


class LineFormatter(logging.Formatter):
    """Writes what `parse_line` reads: `2026-01-31T12:00:00.123Z INFO text`, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, without its traceback: line by line it would be no log of events."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = " ".join(record.getMessage().split())
        return f"{moment.replace('+00:00', 'Z')} {record.levelname} {message}"


def parse_line(line: str) -> LogLine:
    """Find the time and the level of a line of any log."""
    first, _, rest = line.partition(" ")
    timestamp = _parse_time(first)
    message = line if timestamp is None else rest
    head, _, after = message.partition(" ")
    match = _WORDS.search(message, 0, _HEAD_CHARACTERS)
    if match is None:
        return LogLine(timestamp=timestamp, level="", message=message)
    word = match.group().lower()
    if head.strip("[]:<>").lower() == word:
        message = after
    return LogLine(timestamp=timestamp, level=_ALIASES.get(word, word), message=message)


def _parse_time(word: str) -> datetime | None:
    if len(word) < 10 or not word[:1].isdigit():
        return None
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.astimezone()


def add_logs(router: Router, path: Path, note: Callable[[str], None]) -> None:
    """Enter `logs.tail` into a router.

    Args:
      router: gets the procedure.
      path: the one file that it shows.
      note: told, for the log, when a stream begins and ends.
    """

    @router.stream("logs.tail")
    async def tail(query: LogQuery, ctx: Context) -> AsyncIterator[LogLine]:
        """The last lines of the server's log, and those that are added to it."""
        level = query.checked()
        text = query.contains.casefold()
        note(f"logs.tail: starts for {ctx.peer}")
        try:
            async with aclosing(follow(path)) as runs:
                is_first = True
                async for lines in runs:
                    wanted = _select(lines, level, text)
                    for line in deque(wanted, query.limit) if is_first else wanted:
                        yield line
                    is_first = False
        finally:
            note(f"logs.tail: ends for {ctx.peer}")


def _select(lines: list[str], level: int, text: str) -> list[LogLine]:
    found: list[LogLine] = []
    for line in lines:
        if text and text not in line.casefold():
            continue
        parsed = parse_line(line)
        if LEVELS.get(parsed.level, 0) >= level:
            found.append(parsed)
    return found
