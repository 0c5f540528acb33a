"""Structured fields, as far as anybody here reads them: the grammar, and dictionaries.

Spec: RFC 9651 §3, §4.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["COMMA", "PARAMETERS", "STRING", "parse_dictionary"]

STRING: Final = r'"(?P<text>(?:[ !#-\[\]-~]|\\["\\])*+)"'
"""A String; its text in a group, with its escapes."""

_BARE: Final = (
    r"(?:-?[0-9]{1,15}(?![0-9.])|-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])"  # an integer, a decimal
    r'|"(?:[ !#-\[\]-~]|\\["\\])*+"'
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"  # a token
    r"|:[A-Za-z0-9+/=]*+:|\?[01]|@-?[0-9]{1,15}(?![0-9.])"  # bytes, a boolean, a date
    r'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*+")'
)
_KEY: Final = r"[a-z*][a-z0-9_\-.*]*+"

PARAMETERS: Final = rf"(?:;\ *+{_KEY}(?:={_BARE})?)*+"
"""What may follow an item; it means nothing to those who do not know it."""

_INNER: Final = rf"\(\ *+(?:{_BARE}{PARAMETERS}(?:\ ++(?!\))|\ *+(?=\))))*+\)"
_MEMBER: Final = re.compile(rf"(?P<key>{_KEY})(?:=(?P<value>{_BARE}|{_INNER}))?{PARAMETERS}", re.ASCII)

COMMA: Final = re.compile(r"[\t ]*+,[\t ]*+")
"""What stands between two members."""


def parse_dictionary(lines: Sequence[str]) -> dict[str, str] | None:
    """The members of a dictionary, each as it is written and without its parameters; `?1` for one that is only a key.

    Args:
      lines: the values of all fields of that name.

    Returns:
      The members, of several with one key the last; None where the field is malformed.
    """
    text = ", ".join(lines).strip(" ")
    found: dict[str, str] = {}
    position = 0
    while member := _MEMBER.match(text, position):
        found[member["key"]] = member["value"] or "?1"
        if member.end() == len(text):
            return found
        comma = COMMA.match(text, member.end())
        if comma is None:
            return None
        position = comma.end()
    return None if text else {}
