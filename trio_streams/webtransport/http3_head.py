"""The heads of plain requests: what QPACK has, as handlers of exchanges know it, and back.

`protocol.http3` has looked at the grammar. Here is what an exchange's host has to see to besides: a handler finds one `host`
and one `cookie`, whatever HTTP it is asked over, and an answer does not carry what belongs to HTTP/1.1's connections.

Spec: RFC 9114 §4.2, §4.3; RFC 9110 §8.6.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import attrs

from trio_streams.transports.exchange import RequestHead, ResponseHead
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.wire.http1_fields import Fields

__all__ = ["HeadRefusal", "answer_fields", "refusal_of", "request_head", "target_of"]

_OF_CONNECTIONS: Final = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


@attrs.frozen
class HeadRefusal:
    """Why a request is not for the handler.

    Attributes:
      status: of the answer.
      code: its name.
      text: one line, for whoever asked.
    """

    status: int
    code: str
    text: str


def refusal_of(headers: RawHeaders) -> HeadRefusal | None:
    """Why a request that is well formed is none for a handler of exchanges; None for one that is.

    Sessions of WebTransport are not asked about here. WebSockets over HTTP/3 (RFC 9220) are not served, nor are tunnels.
    """
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    if pseudo.get(b":method") == b"CONNECT":
        protocol = pseudo.get(b":protocol", b"").decode("latin-1")
        what = f"{protocol[:100]!r} over HTTP/3" if protocol else "tunnels"
        return HeadRefusal(501, "NOT_IMPLEMENTED", f"this server does not do {what}")
    if pseudo.get(b":scheme") != b"https":
        return HeadRefusal(421, "MISDIRECTED_REQUEST", "this server answers https alone over HTTP/3")
    return None


def request_head(headers: RawHeaders, peer: str) -> RequestHead:
    """What a handler is told of a request.

    Args:
      headers: as they came, pseudo-header fields first.
      peer: who asks, for people.

    Raises:
      Http3Error: the request does not say whom it asks, or says two things; its stream is to be reset.
    """
    pseudo: dict[str, str] = {}
    fields: list[tuple[str, str]] = []
    cookies: list[str] = []
    hosts: list[str] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.startswith(":"):
            pseudo[name] = value
        elif name == "cookie":
            cookies.append(value)
        elif name == "host":
            hosts.append(value)
        else:
            fields.append((name, value))
    authority = _authority(pseudo.get(":authority"), hosts)
    if cookies:
        # Cut into several to be compressed better; whoever reads cookies expects one.
        fields.append(("cookie", "; ".join(cookies)))
    path, _, query = pseudo.get(":path", "").partition("?")
    return RequestHead(
        method=pseudo.get(":method", ""),
        path=unquote(path) if "%" in path else path,
        query_string=query,
        headers=(("host", authority), *fields),
        peer=peer,
        scheme=pseudo.get(":scheme", "https"),
        http_version="3",
    )


def _authority(authority: str | None, hosts: list[str]) -> str:
    """Whom a request asks, which is said in one way or in both alike."""
    said = set(hosts if authority is None else [authority, *hosts])
    if len(said) != 1 or len(hosts) > 1:
        raise Http3Error(
            "a request names no host, or several", Http3Code.H3_MESSAGE_ERROR, field="authority", size=len(said)
        )
    one = said.pop()
    if not one or "@" in one:
        raise Http3Error("a request's authority is not a host", Http3Code.H3_MESSAGE_ERROR, field="authority")
    return one


def target_of(headers: RawHeaders) -> str:
    """The path with its query, as it came; for CONNECT, to where."""
    pseudo = dict(headers)
    return pseudo.get(b":path", pseudo.get(b":authority", b"")).decode("latin-1")


def answer_fields(head: ResponseHead, date: Fields) -> RawHeaders:
    """An answer's head for QPACK, with the time of day unless it says one.

    Args:
      head: checked already.
      date: the time of day.
    """
    # A length in an answer that never has a body would be a lie.
    dropped = _OF_CONNECTIONS | {"content-length"} if head.status == 204 else _OF_CONNECTIONS
    fields = [field for field in head.headers if field[0] not in dropped]
    if head.fields.value("date") is None:
        fields += date.special
    return [
        (b":status", b"%d" % head.status),
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in fields),
    ]
