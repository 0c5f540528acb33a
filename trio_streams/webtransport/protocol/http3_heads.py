"""Heads and trailers: what makes one malformed, and what one says of its message.

The same rules hold for what arrives and for what we send; only whose fault it is differs.

Spec: RFC 9114 §4.1.2, §4.2, §4.3, §4.4, §10.3; RFC 9110 §5.5, §8.6; RFC 9220 §3; RFC 8441 §4.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["AnswerHead", "RequestHead", "check_answer", "check_request", "check_trailers", "join_cookies"]

_NAMES: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++(?:\n[!#$%&'*+\-.^_`|~0-9a-z]++)*+")
_WRONG_IN_VALUES: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|(?:\A|\n)[\t ]|[\t ](?:\n|\Z)")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*+")
_PATH: Final = re.compile(rb"/[!\"$-~]*+")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_SPECIAL: Final = _CONNECTION | {b"te", b"content-length", b"host"}
_REQUEST: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_CONNECT: Final = frozenset({b":method", b":authority"})
_ANSWER: Final = frozenset({b":status"})


@attrs.frozen
class RequestHead:
    """What a request's head says of its message.

    Attributes:
      method: as it is.
      content_bytes: what `content-length` says; None where nothing does.
    """

    method: bytes
    content_bytes: int | None

    @property
    def is_tunnel(self) -> bool:
        """Whether the stream is a tunnel once the request is granted: nothing but DATA follows (RFC 9114 §4.4)."""
        return self.method == b"CONNECT"


@attrs.frozen
class AnswerHead:
    """What an answer's head says of its message.

    Attributes:
      status: three digits.
      content_bytes: what `content-length` says; None where nothing does.
    """

    status: int
    content_bytes: int | None

    @property
    def is_final(self) -> bool:
        """Whether it is the answer, and not news of it."""
        return self.status >= 200

    def is_tunnel(self, method: bytes) -> bool:
        """Whether the stream is a tunnel from now on, for a request of that method."""
        return method == b"CONNECT" and 200 <= self.status <= 299

    def has_no_content(self, method: bytes) -> bool:
        """Whether there is none by definition, whatever `content-length` says."""
        return method == b"HEAD" or self.status in {204, 304}


def check_request(headers: RawHeaders, *, allows_protocol: bool) -> RequestHead:
    """Look at the head of a request.

    Args:
      headers: as QPACK has it.
      allows_protocol: whether the server said ENABLE_CONNECT_PROTOCOL.

    Raises:
      Http3Error: it is malformed, which is the end of its stream.
    """
    pseudo, special = _split(headers, _REQUEST)
    method = pseudo.get(b":method", b"")
    if not _TOKEN.fullmatch(method):
        raise _malformed("a request has no method")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if pseudo.keys() != _CONNECT or not pseudo[b":authority"]:
            raise _malformed("a CONNECT request has an authority, and no other target")
    else:
        _check_target(pseudo, special)
    if b":protocol" in pseudo and not (
        allows_protocol and method == b"CONNECT" and _TOKEN.fullmatch(pseudo[b":protocol"])
    ):
        raise _malformed("a request names a protocol where it may not")
    return RequestHead(method, _content_bytes(special))


def _check_target(pseudo: dict[bytes, bytes], special: RawHeaders) -> None:
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    if not _SCHEME.fullmatch(scheme):
        raise _malformed("a request has no scheme")
    hosts = [value for name, value in special if name == b"host"]
    authority = pseudo.get(b":authority", hosts[0] if hosts else None)
    if any(host != authority for host in hosts) or len(hosts) > 1:
        raise _malformed("a request has two authorities")
    if scheme.lower() not in {b"http", b"https"}:
        if b":path" not in pseudo:
            raise _malformed("a request has no path")
        return
    if not authority or b"@" in authority:
        raise _malformed("a request has no authority, or one with a user")
    if not _PATH.fullmatch(path) and not (path == b"*" and pseudo[b":method"] == b"OPTIONS"):
        raise _malformed("a request has no path")
    if b":protocol" in pseudo and b":authority" not in pseudo:
        raise _malformed("an extended CONNECT request has no authority")


def check_answer(headers: RawHeaders) -> AnswerHead:
    """Look at the head of an answer.

    Raises:
      Http3Error: it is malformed, which is the end of its stream.
    """
    pseudo, special = _split(headers, _ANSWER)
    status = pseudo.get(b":status", b"")
    if not _STATUS.fullmatch(status) or status == b"101":
        raise _malformed("an answer has no status, or one that HTTP/3 has not")
    if any(name == b"te" for name, _ in special):
        raise _malformed("an answer has a field of a connection")
    return AnswerHead(int(status), _content_bytes(special))


def check_trailers(headers: RawHeaders) -> None:
    """Look at trailers.

    Raises:
      Http3Error: they are malformed, which is the end of their stream.
    """
    _split(headers, frozenset())


def join_cookies(headers: RawHeaders) -> RawHeaders:
    """A head whose cookies are one field, as everybody but HTTP/2 and HTTP/3 wants it (RFC 9114 §4.2.1)."""
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) < 2:
        return headers
    joined: RawHeaders = [field for field in headers if field[0] != b"cookie"]
    joined.append((b"cookie", b"; ".join(cookies)))
    return joined


def _split(headers: RawHeaders, allowed: frozenset[bytes]) -> tuple[dict[bytes, bytes], RawHeaders]:
    """The pseudo-header fields, and those others that anybody here looks at."""
    count = 0
    for name, _ in headers:
        if not name.startswith(b":"):
            break
        count += 1
    pseudo = dict(headers[:count])
    if len(pseudo) != count or not allowed.issuperset(pseudo):
        raise _malformed("a pseudo-header field is unknown here, or there twice")
    # All at once: a look at each would cost more than all the rest. A line end makes two of one, and the count shows it.
    values = b"\n".join([value for _, value in headers])
    if _WRONG_IN_VALUES.search(values) or values.count(b"\n") != max(0, len(headers) - 1):
        raise _malformed("the value of a field has a character that none may have, or begins or ends with a space")
    if count == len(headers):
        return pseudo, []
    names = [name for name, _ in headers[count:]]
    joined = b"\n".join(names)
    if not _NAMES.fullmatch(joined) or joined.count(b"\n") != len(names) - 1:
        raise _malformed("the name of a field is no token in lower case, or a pseudo-header field is behind others")
    return pseudo, [] if _SPECIAL.isdisjoint(names) else _special(headers[count:])


def _special(fields: RawHeaders) -> RawHeaders:
    special = [field for field in fields if field[0] in _SPECIAL]
    for name, value in special:
        if name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise _malformed(f"the field {name.decode()} is one of a connection")
    return special


def _content_bytes(special: RawHeaders) -> int | None:
    lengths = {value for name, value in special if name == b"content-length"}
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(length := lengths.pop()):
        raise _malformed("content-length is not one number")
    return int(length)


def _malformed(message: str) -> Http3Error:
    return Http3Error(message, Http3Code.H3_MESSAGE_ERROR, field="headers")
