"""Settings of a command: one table says what the flags are, which environment variables stand behind them, and the help.

A flag comes before its variable, and that before the default. What can't be used is named by the place it came from.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from trio_streams.cli.process import UsageError

__all__ = [
    "PREFIX",
    "Setting",
    "add_settings",
    "choice",
    "count",
    "names",
    "path",
    "read_bind",
    "read_settings",
    "seconds",
    "text",
]

PREFIX: Final = "TRIO_STREAMS_"
NOTHING: Final = "none"
"""What turns a setting off that has an off."""

Read = Callable[[str], Any]
"""Makes a value of a text; raises ValueError with what it should have been: `a number of seconds`."""


@attrs.frozen
class Setting:
    """One setting.

    Attributes:
      name: as in its flag, without dashes before it.
      read: makes its value of a text.
      help: for people.
      metavar: what stands for the text in the help.
      is_list: whether the flag may come several times; each text may also hold several, with commas.
    """

    name: str
    read: Read
    help: str
    metavar: str
    is_list: bool = False

    @property
    def flag(self) -> str:
        """Its flag."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.field.upper()

    @property
    def field(self) -> str:
        """Its name in Python."""
        return self.name.replace("-", "_")


def add_settings(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    """Declare a flag for each setting."""
    for one in settings:
        action = "append" if one.is_list else "store"
        parser.add_argument(
            one.flag, dest=one.field, metavar=one.metavar, action=action, help=f"{one.help} [{one.variable}]"
        )


def read_settings(
    settings: Iterable[Setting], arguments: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The values of those settings that were given, by flag or by variable; an empty variable counts as none.

    Raises:
      UsageError: a text can't be used; one line that names the flag or the variable.
    """
    values: dict[str, Any] = {}
    for one in settings:
        flagged: str | list[str] | None = getattr(arguments, one.field)
        given = ",".join(flagged) if isinstance(flagged, list) else flagged
        place = one.flag
        if given is None:
            given, place = environment.get(one.variable) or None, one.variable
        if given is not None:
            try:
                values[one.field] = one.read(given)
            except ValueError as exc:
                raise UsageError(f"{place} is {exc}, not {given!r}") from exc
    return values


def read_bind(text: str) -> tuple[str, int]:
    """The host and the port of `--bind`; an address of IPv6 stands in brackets.

    Raises:
      UsageError: it is no such pair.
    """
    host, mark, port = text.rpartition(":")
    if not (mark and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise UsageError(f"--bind is HOST:PORT, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def count(minimum: int = 1, *, has_none: bool = False) -> Read:
    """Whole numbers from a minimum on."""

    def read(text: str) -> int | None:
        if has_none and text == NOTHING:
            return None
        digits = text.replace("_", "")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 16 and int(digits) >= minimum):
            raise ValueError(f"a whole number from {minimum} on{_OR_NONE if has_none else ''}")
        return int(digits)

    return read


def seconds(*, has_none: bool = False) -> Read:
    """Times."""

    def read(text: str) -> float | None:
        if has_none and text == NOTHING:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise ValueError(f"a number of seconds{_OR_NONE if has_none else ''}")
        return value

    return read


def choice(*words: str) -> Read:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return read


def names(text: str) -> tuple[str, ...]:
    """Several words, with commas between them."""
    return tuple(one for one in (part.strip() for part in text.split(",")) if one)


def text(value: str) -> str:
    """Any text."""
    return value


def path(value: str) -> str | None:
    """The path of a URL, or none."""
    if value == NOTHING:
        return None
    if not value.startswith("/"):
        raise ValueError("a path that starts with '/', or none")
    return value


_OR_NONE: Final = f", or {NOTHING}"
