"""The heads of HTTP/1.1 messages: the grammar of RFC 9110 and 9112, and what a request's head says about its framing.

One possessive regular expression is the whole grammar of a head, so it is matched in C, in time linear in its length,
and what it does not admit does not exist: no folded line, no space before a colon, no bare CR or LF, no NUL or other
control character. For a head of a hundred bytes that costs the same as llhttp's callbacks do, and a microsecond more
for a browser's; in return limits and message boundaries are exact, however the bytes were split on their way.

Leniency is where requests are smuggled: two parsers that read one message differently. So whatever the RFCs let a
server refuse about a message's length is refused: both lengths, a repeated one, any coding but `chunked`.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

__all__ = ["HeadFault", "Request", "find_head", "parse_head"]

_TCHARS: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT: Final = r"[\t\x20-\x7e\x80-\xff]*+"

# RFC 9112 §2.1, §3, §5. The target is visible ASCII; what it means is the handler's business.
_HEAD: Final = re.compile(
    rf"({_TCHARS}) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n((?:{_TCHARS}:{_TEXT}\r\n)*+)\r\n", re.ASCII
)
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*+)(?::[0-9]*)?", re.ASCII)
_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?#]*)([^#]*)")

_MAX_LENGTH_DIGITS: Final = 18
"""More digits than any body has bytes, and few enough that the number fits where other programs keep it."""

_SPECIAL: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"})


class HeadFault(Exception):
    """A head that is refused.

    Attributes:
      status: what to answer.
      text: why, in one line without anything the peer sent.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@attrs.define(frozen=True, slots=False)
class Request:
    """A request's head, checked.

    Attributes:
      method: as it came; methods are case-sensitive.
      target: `/path?query`, or `*`; an absolute one without its authority, which stands as `host` among the headers.
      version: `1.0` or `1.1`, the latter also for later minor versions.
      headers: names in lower case; values without the spaces around them.
      length: bytes of the body; None where it is chunked.
      is_persistent: whether the client lets the connection go on after the answer.
      expects_continue: whether the client waits for `100 Continue` before it sends the body.
      upgrade: the protocol asked for, in lower case; empty where there is none.
    """

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    length: int | None
    is_persistent: bool
    expects_continue: bool
    upgrade: str


def find_head(data: bytes, start: int, *, max_line_bytes: int, max_head_bytes: int) -> int:
    """Look for the end of a head.

    Whatever comes first decides: the end, a bare LF, or a limit. So the answer does not depend on how much of the
    input is there, beyond its being enough.

    Args:
      data: from the head's first byte on.
      start: how much of it was looked at before.
      max_line_bytes: the most that the request line may have, without its end.
      max_head_bytes: the most that the head may have, with the empty line.

    Returns:
      The index behind the head; 0 while it is not all there.

    Raises:
      HeadFault: there will be none.
    """
    back = max(0, start - 3)
    found = data.find(b"\r\n\r\n", back)
    end = found + 4 if found >= 0 else len(data)
    is_short = found >= 0 and end <= max_line_bytes and end <= max_head_bytes
    if is_short and data.count(b"\n", 0, end) == data.count(b"\r\n", 0, end):
        return end  # nearly every head: all here, and within the limits whatever its lines are
    bare = _BARE_LF.search(data, max(0, start - 1), end)
    first_bad = bare.start() if bare is not None else end
    if first_bad > max_line_bytes and data.find(b"\r\n", 0, max_line_bytes + 2) < 0:
        if found >= 0 or bare is not None or len(data) > max_line_bytes + 1:
            raise HeadFault(414, f"the request line has more than {max_line_bytes} bytes")
        return 0
    if first_bad > max_head_bytes:
        raise HeadFault(431, f"the head has more than {max_head_bytes} bytes")
    if bare is not None:
        raise HeadFault(400, "a line ends without CR")
    return end if found >= 0 else 0


def parse_head(data: bytes, *, max_headers: int) -> Request:
    """A request's head from its bytes, the empty line included.

    Raises:
      HeadFault: it is malformed, ambiguous or asks for what is not served.
    """
    match = _HEAD.fullmatch(data.decode("latin-1"))
    if match is None:
        raise HeadFault(400, "the request's head is malformed")
    method, target, major, minor, block = match.groups()
    if major != "1":
        raise HeadFault(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    headers: list[tuple[str, str]] = []
    special: dict[str, list[str]] = {}
    for line in block.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        headers.append((name, value))
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
    if len(headers) > max_headers:
        raise HeadFault(431, f"there are more than {max_headers} headers")
    is_modern = minor != "0"
    target = _check_target(method, target, headers, special, is_modern=is_modern)
    length = _body_length(special, is_modern=is_modern)
    tokens = _tokens(special["connection"]) if "connection" in special else []
    expects_continue = is_modern and "expect" in special
    if expects_continue and _tokens(special["expect"]) != ["100-continue"]:
        raise HeadFault(417, "no other expectation than 100-continue can be met")
    return Request(
        method,
        target,
        "1.1" if is_modern else "1.0",
        tuple(headers),
        length,
        "close" not in tokens if is_modern else "keep-alive" in tokens and "close" not in tokens,
        expects_continue and length != 0,
        special["upgrade"][-1].lower() if is_modern and "upgrade" in special and "upgrade" in tokens else "",
    )


def _tokens(values: list[str]) -> list[str]:
    return [token.strip(" \t").lower() for value in values for token in value.split(",")]


def _check_target(
    method: str, target: str, headers: list[tuple[str, str]], special: dict[str, list[str]], *, is_modern: bool
) -> str:
    """The target in origin form, and `host` made sure of. RFC 9112 §3.2."""
    hosts = special.get("host", [])
    # "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host
    # header field and to any request message that contains more than one Host header field line or [...] an invalid".
    if len(hosts) > 1 or (is_modern and not hosts) or (hosts and not _HOST.fullmatch(hosts[0])):
        raise HeadFault(400, "there is not exactly one valid Host")
    if "#" in target:
        # RFC 9112 §3.2: a fragment is no part of any form.
        raise HeadFault(400, "the request's target has a fragment")
    if target[0] == "/":
        return target
    if method == "OPTIONS" and target == "*":
        return target
    match = _ABSOLUTE.fullmatch(target) if method != "CONNECT" else None
    # "A recipient [...] MUST reject" an http URI with an empty host: RFC 9110 §4.2.1.
    if match is None or match[1][:1] in {"", ":"} or not _HOST.fullmatch(match[1]):
        if method == "CONNECT":
            raise HeadFault(501, "this is not a proxy")
        raise HeadFault(400, "the request's target is malformed")
    # "a server [...] MUST ignore the received Host header field (if any) and replace it with the host information of
    # the request-target".
    headers[:] = [("host", match[1]), *((name, value) for name, value in headers if name != "host")]
    path = match[2]
    return path if path.startswith("/") else f"/{path}"


def _body_length(special: dict[str, list[str]], *, is_modern: bool) -> int | None:
    """How long the body is; None where it is chunked. RFC 9112 §6."""
    lengths = special.get("content-length")
    codings = special.get("transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise HeadFault(400, "both Content-Length and Transfer-Encoding are given")
        if not is_modern:
            raise HeadFault(400, "HTTP/1.0 has no Transfer-Encoding")
        names = _tokens(codings)
        if names == ["chunked"]:
            return None
        if names[-1] == "chunked" and names.count("chunked") == 1 and all(names):
            raise HeadFault(501, "no other transfer coding than chunked is understood")
        raise HeadFault(400, "the body's end cannot be told from its Transfer-Encoding")
    if lengths is None:
        return 0
    value = lengths[0]
    if len(lengths) > 1 or not value.isdigit() or not value.isascii() or len(value) > _MAX_LENGTH_DIGITS:
        raise HeadFault(400, "the Content-Length is not one number")
    return int(value)
