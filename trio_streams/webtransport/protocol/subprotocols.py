"""Which protocol a session's application speaks: structured fields that hold nothing but Strings.

Spec: draft-ietf-webtrans-http3 §3.3; RFC 9651 §3.1, §3.3, §4.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.structured_fields import COMMA, PARAMETERS, STRING

__all__ = ["check_choice", "encode_choice", "encode_offer", "parse_choice", "parse_offer"]

_ITEM: Final = re.compile(STRING + PARAMETERS, re.ASCII)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_PLAIN: Final = re.compile(r"[ -~]*+", re.ASCII)


def encode_offer(protocols: Sequence[str]) -> str:
    """The value of `wt-available-protocols`, the most wanted first.

    Raises:
      LocalProtocolError: one of them is not of printable ASCII.
    """
    return ", ".join(map(encode_choice, protocols))


def encode_choice(protocol: str) -> str:
    """The value of `wt-protocol`.

    Raises:
      LocalProtocolError: it is not of printable ASCII.
    """
    if not _PLAIN.fullmatch(protocol):
        raise LocalProtocolError(f"the subprotocol {protocol!r} is not of printable ASCII", field="subprotocol")
    return '"' + protocol.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_offer(lines: Sequence[str]) -> tuple[str, ...]:
    """What a client speaks, the most wanted first.

    Args:
      lines: the values of all fields of that name.

    Returns:
      The protocols; none where the field is malformed, or a member is anything but a String: it is void as a whole.
    """
    text = ", ".join(lines).strip(" ")
    found: list[str] = []
    position = 0
    while item := _ITEM.match(text, position):
        found.append(_text(item))
        if item.end() == len(text):
            return tuple(found)
        comma = COMMA.match(text, item.end())
        if comma is None:
            break
        position = comma.end()
    return ()


def parse_choice(lines: Sequence[str]) -> str | None:
    """What a server chose; None where it chose nothing, or the field is void."""
    item = _ITEM.fullmatch(lines[0].strip(" ")) if len(lines) == 1 else None
    return None if item is None else _text(item)


def _text(item: re.Match[str]) -> str:
    return _ESCAPED.sub(r"\1", item["text"])


def check_choice(choice: str, offered: Sequence[str]) -> None:
    """A server may only choose what was offered.

    Raises:
      Http3Error: it was not; the session is over.
    """
    if choice not in offered:
        raise Http3Error(
            f"the server chose the subprotocol {choice[:100]!r}, which was not offered",
            Http3Code.WT_ALPN_ERROR,
            field="wt-protocol",
        )
