"""The request that opens a session, and its answer: CONNECT heads, read and written.

Which resource there is, who may ask for it and how many sessions there may be is decided elsewhere: 404 for no resource
and 405 for one that takes no sessions, 403 for a wrong origin, 429 past a limit. Any 2xx accepts. Redirects are never
followed, and never sent.

Spec: draft-ietf-webtrans-http3 §3.2, §3.3; RFC 9220; RFC 9114 §4.1.2, §4.3; RFC 9297 §3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.settings import Draft
from trio_streams.webtransport.protocol.subprotocols import (
    check_choice,
    encode_choice,
    encode_offer,
    parse_choice,
    parse_offer,
)
from trio_streams.wire.http1_fields import check_fields

__all__ = [
    "Answer",
    "ConnectRequest",
    "RawHeaders",
    "encode_answer",
    "encode_request",
    "parse_answer",
    "parse_request",
]

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]
"""A head as QPACK has it."""

_TOKENS: Final = frozenset(draft.token for draft in Draft)
_PSEUDO: Final = frozenset({":method", ":protocol", ":scheme", ":authority", ":path"})
_CONTENT: Final = ("content-length", "content-type")
_PATH: Final = re.compile(r"/[!-~]*+", re.ASCII)
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]*+)?+", re.ASCII)
_STATUS: Final = re.compile(r"[1-5][0-9]{2}", re.ASCII)


@attrs.frozen(kw_only=True)
class ConnectRequest:
    """A request for a session.

    Attributes:
      authority: the host, and its port.
      path: the resource, with its query.
      origin: of the page that asks; None for a program.
      protocols: subprotocols on offer, the most wanted first.
      headers: all other fields, names in lower case.
    """

    authority: str
    path: str
    origin: str | None = None
    protocols: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Answer:
    """What became of a request.

    Attributes:
      status: the final one.
      protocol: the subprotocol that was chosen; None for none.
      headers: all fields, names in lower case.
    """

    status: int
    protocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether the session is open."""
        return 200 <= self.status <= 299


def encode_request(request: ConnectRequest, draft: Draft) -> RawHeaders:
    """The head of a request.

    Args:
      request: what is asked for.
      draft: the one that the server's settings chose.

    Raises:
      LocalProtocolError: the server would have to call it malformed.
    """
    if fault := _fault(request):
        raise LocalProtocolError(f"a request for a session was not sent: {fault}", field="request")
    fields = list(request.headers)
    if request.origin is not None:
        fields.append(("origin", request.origin))
    if request.protocols:
        fields.append(("wt-available-protocols", encode_offer(request.protocols)))
    if draft is Draft.DRAFT_02:
        fields.append(("sec-webtransport-http3-draft02", "1"))
    check_fields(fields)
    pseudo = [
        (":method", "CONNECT"),
        (":protocol", draft.token),
        (":scheme", "https"),
        (":authority", request.authority),
        (":path", request.path),
    ]
    return _encode([*pseudo, *fields])


def parse_request(headers: Iterable[tuple[bytes, bytes]]) -> ConnectRequest | None:
    """Read the head of a request.

    Returns:
      The request for a session; None for any other request, of which nothing else was looked at.

    Raises:
      Http3Error: it is malformed; its stream is to be reset.
    """
    decoded = _decode(headers)
    first = dict(reversed(decoded))
    if first.get(":method") != "CONNECT" or first.get(":protocol") not in _TOKENS:
        return None
    pseudo, fields = _split(decoded)
    if not _PSEUDO.issuperset(pseudo) or first.get(":scheme") != "https":
        raise _malformed("a request for a session has wrong pseudo-header fields")
    origins = [value for name, value in fields if name == "origin"]
    if len(origins) > 1:
        raise _malformed("a request for a session has several origins")
    request = ConnectRequest(
        authority=pseudo.get(":authority", ""),
        path=pseudo.get(":path", ""),
        origin=origins[0] if origins else None,
        protocols=parse_offer([value for name, value in fields if name == "wt-available-protocols"]),
        headers=tuple((name, value) for name, value in fields if name not in {"origin", "wt-available-protocols"}),
    )
    if fault := _fault(request):
        raise _malformed(f"the peer asked for a session: {fault}")
    return request


def encode_answer(answer: Answer, request: ConnectRequest, draft: Draft) -> RawHeaders:
    """The head of an answer.

    Raises:
      LocalProtocolError: the status is neither 2xx nor an error, or the subprotocol was not offered.
    """
    if not (answer.is_accepted or 400 <= answer.status <= 599):
        raise LocalProtocolError(
            f"a session cannot be answered with status {answer.status}", field="status", size=answer.status
        )
    fields = list(answer.headers)
    if answer.protocol is not None:
        if answer.protocol not in request.protocols or not answer.is_accepted:
            raise LocalProtocolError(
                f"the subprotocol {answer.protocol!r} was not offered, or the session is refused", field="protocol"
            )
        fields.append(("wt-protocol", encode_choice(answer.protocol)))
    if draft is Draft.DRAFT_02 and answer.is_accepted:
        fields.append(("sec-webtransport-http3-draft", "draft02"))
    check_fields(fields)
    return _encode([(":status", str(answer.status)), *fields])


def parse_answer(headers: Iterable[tuple[bytes, bytes]], offered: Sequence[str]) -> Answer | None:
    """Read the head of an answer.

    Args:
      headers: what arrived.
      offered: the subprotocols of the request.

    Returns:
      The answer; None for one that is not final (1xx).

    Raises:
      Http3Error: it is malformed, or the server chose a subprotocol that was not offered; its stream is to be reset.
    """
    pseudo, fields = _split(_decode(headers))
    status = pseudo.get(":status", "")
    if len(pseudo) != 1 or not _STATUS.fullmatch(status):
        raise _malformed("the answer to a request for a session has no status, or more than that")
    if status.startswith("1"):
        return None
    if not status.startswith("2"):
        return Answer(status=int(status), headers=tuple(fields))
    if any(name in _CONTENT for name, _ in fields):
        raise _malformed("the answer to a request for a session says that it has content")
    choice = parse_choice([value for name, value in fields if name == "wt-protocol"])
    if choice is not None:
        check_choice(choice, offered)
    return Answer(status=int(status), protocol=choice, headers=tuple(fields))


def _fault(request: ConnectRequest) -> str | None:
    """Why a request is malformed."""
    if not _AUTHORITY.fullmatch(request.authority):
        return f"{request.authority[:100]!r} is no authority"
    if not _PATH.fullmatch(request.path) or "#" in request.path:
        return f"{request.path[:100]!r} is no path"
    # RFC 9297 §3.2: a message that uses the Capsule Protocol has no content.
    if content := [name for name, _ in request.headers if name in _CONTENT]:
        return f"it has {content[0]}"
    return None


def _split(decoded: list[tuple[str, str]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Pseudo-header fields, each of them once and before all others, and the others."""
    pseudo: dict[str, str] = {}
    fields: list[tuple[str, str]] = []
    for name, value in decoded:
        if not name.startswith(":"):
            fields.append((name, value))
        elif fields or name in pseudo:
            raise _malformed(f"the pseudo-header field {name[:100]!r} is there twice, or behind others")
        else:
            pseudo[name] = value
    return pseudo, fields


def _decode(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _encode(fields: list[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def _malformed(message: str) -> Http3Error:
    return Http3Error(message, Http3Code.H3_MESSAGE_ERROR, field="headers")
