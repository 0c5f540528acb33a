"""Raw HTTP/1.1 for any server: what a client may send, well or badly, and where our answer may differ from others'.

An accepted difference states what RFC 9110 or RFC 9112 makes of the input, which our host has to do whatever the others
do. Where a case has none, all servers have to agree.
"""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["CASES", "PROBE", "Case"]

PROBE: Final = b"GET /probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Sent behind a case: its answer tells a connection that goes on from one that is closed."""


@attrs.frozen
class Case:
    """One client.

    Attributes:
      name: what is special about it.
      data: what it sends at once.
      waits_for: sends no more until the server has said this.
      rest: what it sends then.
      leaves: ends its side behind it all, and sends no probe.
      ours: what our host answers; empty where all have to agree. `200+ 400` is an answer on a connection that would go
        on and a refusal on one that ends there.
      why: the reason of the difference, with its section.
    """

    name: str
    data: bytes
    waits_for: bytes = b""
    rest: bytes = b""
    leaves: bool = False
    ours: str = ""
    why: str = ""

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """What is sent at once, and what after `waits_for`."""
        probe = b"" if self.leaves else PROBE
        return (self.data, self.rest + probe) if self.waits_for else (self.data + self.rest + probe, b"")


def _get(*fields: str, line: str = "GET /a HTTP/1.1", host: str = "Host: x") -> bytes:
    return "\r\n".join([line, *filter(None, [host]), *fields, "", ""]).encode("latin-1")


def _post(*fields: str, body: str = "", line: str = "POST /a HTTP/1.1") -> bytes:
    return _get(*fields, line=line) + body.encode("latin-1")


_CHUNKED: Final = "Transfer-Encoding: chunked"


def _chunks(body: str, *fields: str) -> bytes:
    return _post(_CHUNKED, *fields, body=body)


_WELL_FORMED: Final = (
    Case("the smallest request", _get()),
    Case("a query", _get(line="GET /a?b=c&d=%20 HTTP/1.1")),
    Case("an empty query", _get(line="GET /a? HTTP/1.1")),
    Case("a percent-encoded path", _get(line="GET /%61%20b HTTP/1.1")),
    Case("two slashes", _get(line="GET //a//b HTTP/1.1")),
    Case("dot segments", _get(line="GET /a/../b HTTP/1.1")),
    Case("another method", _get(line="DELETE /a HTTP/1.1")),
    Case("a method nobody knows", _get(line="BREW /a HTTP/1.1"), ours="200+", why="methods are open: RFC 9110 §9.1"),
    Case(
        "a method in lower case",
        _get(line="get /a HTTP/1.1"),
        ours="200+",
        why="methods are case-sensitive tokens, so this is another one: RFC 9110 §9.1",
    ),
    Case("HEAD", _get(line="HEAD /a HTTP/1.1")),
    Case("HEAD of a stream", _get(line="HEAD /stream HTTP/1.1")),
    Case("a streamed answer", _get(line="GET /stream HTTP/1.1")),
    Case("an answer without a body", _get(line="GET /empty HTTP/1.1")),
    Case("names in upper case", b"GET /a HTTP/1.1\r\nHOST: x\r\nACCEPT: */*\r\n\r\n"),
    Case("no space behind a colon", b"GET /a HTTP/1.1\r\nHost:x\r\n\r\n"),
    Case("spaces around a value", b"GET /a HTTP/1.1\r\nHost: \t x \t\r\n\r\n"),
    Case("an empty value", _get("X-Empty:")),
    Case("a value beyond ASCII", _get("X-Name: J\xf6rg")),
    Case(
        "an empty line first",
        b"\r\n" + _get(),
        ours="200+",
        why="one empty line before a request is passed over: RFC 9112 §2.2",
    ),
    Case("a Host with a port", _get(host="Host: example.org:8080")),
    Case("a Host that is an IPv6 address", _get(host="Host: [::1]:80")),
    Case("fifty headers", _get(*(f"X-{n}: {n}" for n in range(50)))),
    Case(
        "a later minor version",
        _get(line="GET /a HTTP/1.2"),
        ours="200+",
        why="read as the highest minor version known: RFC 9110 §2.5",
    ),
)

_PERSISTENCE: Final = (
    Case("Connection: keep-alive", _get("Connection: keep-alive")),
    Case("Connection: close", _get("Connection: close")),
    Case("Connection: CLOSE", _get("Connection: CLOSE")),
    Case("Connection: close in a list", _get("Connection: foo, close")),
    Case("HTTP/1.0", _get(line="GET /a HTTP/1.0")),
    Case("HTTP/1.0 without Host", b"GET /a HTTP/1.0\r\n\r\n"),
    Case(
        "HTTP/1.0 and keep-alive",
        _get("Connection: keep-alive", line="GET /a HTTP/1.0"),
        ours="200+",
        why="the option may be honoured: RFC 9112 §9.3",
    ),
    Case(
        "HTTP/1.0 and a streamed answer",
        _get(line="GET /stream HTTP/1.0"),
        ours="200",
        why="no transfer coding to HTTP/1.0: RFC 9112 §6.1",
    ),
    Case("HTTP/1.0 and a body", _post("Content-Length: 3", body="abc", line="POST /a HTTP/1.0")),
    Case("two pipelined", _get() + _get(line="GET /b HTTP/1.1")),
    Case("two pipelined, the first with a body", _post("Content-Length: 3", body="abc") + _get()),
    Case("three pipelined, the second closes", _get() + _get("Connection: close") + _get()),
    Case("twenty pipelined", b"".join(_get(line=f"GET /{n} HTTP/1.1") for n in range(20))),
    Case("pipelined HEAD, GET and stream", _get(line="HEAD /a HTTP/1.1") + _get() + _get(line="GET /stream HTTP/1.1")),
    Case(
        "garbage behind a request",
        _get() + b"\x16\x03\x01\r\n\r\n",
        ours="200 400",
        why="what was well asked is answered first, in order: RFC 9112 §9.3.2",
    ),
)

_BODIES: Final = (
    Case("a body with a length", _post("Content-Length: 5", body="hello")),
    Case("a body of nothing", _post("Content-Length: 0")),
    Case("a length with leading zeroes", _post("Content-Length: 0005", body="hello")),
    Case("a GET with a body", _get("Content-Length: 5") + b"hello"),
    Case("chunks", _chunks("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")),
    Case("no chunk but the last", _chunks("0\r\n\r\n")),
    Case("CHUNKED", _post("Transfer-Encoding: CHUNKED", body="1\r\na\r\n0\r\n\r\n")),
    Case("chunk sizes in both cases", _chunks("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n")),
    Case("leading zeroes of a chunk size", _chunks("0005\r\nhello\r\n000\r\n\r\n")),
    Case("chunk extensions", _chunks('5;a=b;c="d";e\r\nhello\r\n0;last\r\n\r\n')),
    Case("trailers", _chunks("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n", "Trailer: X-Sum")),
    Case(
        "trailers that look like framing",
        _chunks("1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n"),
        ours="200+",
        why="a trailer says nothing about framing, and may be dropped: RFC 9110 §6.5.1",
    ),
    Case("a long chunk", _chunks(f"{30_000:x}\r\n{'x' * 30_000}\r\n0\r\n\r\n")),
    Case(
        "100-continue",
        _post("Content-Length: 5", "Expect: 100-continue"),
        waits_for=b"HTTP/1.1 100 Continue\r\n\r\n",
        rest=b"hello",
    ),
    Case(
        "100-continue before chunks",
        _post(_CHUNKED, "Expect: 100-Continue"),
        waits_for=b"HTTP/1.1 100 Continue\r\n\r\n",
        rest=b"5\r\nhello\r\n0\r\n\r\n",
    ),
    Case(
        "100-continue without a body",
        _get("Expect: 100-continue"),
        ours="200+",
        why="nothing to wait for, so none is sent: RFC 9110 §10.1.1",
    ),
    Case(
        "HTTP/1.0 and 100-continue",
        _post("Content-Length: 1", "Expect: 100-continue", line="POST /a HTTP/1.0") + b"a",
        ours="200",
        why="must be ignored from HTTP/1.0: RFC 9110 §10.1.1",
    ),
    Case(
        "an expectation nobody knows",
        _get("Expect: a-miracle"),
        ours="417",
        why="what cannot be met is refused: RFC 9110 §10.1.1",
    ),
    Case("two Transfer-Encodings that are one", _post(_CHUNKED, "Transfer-Encoding:", body="1\r\na\r\n0\r\n\r\n")),
    Case("a body that nobody reads", _post("Content-Length: 5", body="hello", line="POST /unread HTTP/1.1")),
)

_TARGETS: Final = (
    Case(
        "absolute form",
        _get(line="GET http://x/a?b HTTP/1.1"),
        ours="200+",
        why="accepted, and its path is the target's: RFC 9112 §3.2.2",
    ),
    Case(
        "absolute form without a path",
        _get(line="GET http://x HTTP/1.1"),
        ours="200+",
        why="an empty path is `/`: RFC 9110 §4.2.3",
    ),
    Case(
        "absolute form of another host",
        _get(line="GET http://y/a HTTP/1.1"),
        ours="200+",
        why="the target's authority replaces Host: RFC 9112 §3.2.2",
    ),
    Case(
        "absolute form without a host",
        _get(line="GET http:///a HTTP/1.1"),
        ours="400",
        why="an http URI without a host is invalid: RFC 9110 §4.2.1",
    ),
    Case(
        "absolute form of another scheme",
        _get(line="GET ftp://x/a HTTP/1.1"),
        ours="400",
        why="no such resource is served here: RFC 9110 §7.4",
    ),
    Case("OPTIONS *", _get(line="OPTIONS * HTTP/1.1")),
    Case("GET *", _get(line="GET * HTTP/1.1"), ours="400", why="the asterisk is for OPTIONS alone: RFC 9112 §3.2.4"),
    Case(
        "CONNECT",
        _get(line="CONNECT x:443 HTTP/1.1") + PROBE,
        leaves=True,
        ours="501",
        why="not a proxy, and nothing behind is looked at: RFC 9110 §9.3.6",
    ),
    Case(
        "a path without its slash",
        _get(line="GET a HTTP/1.1"),
        ours="400",
        why="an invalid request line: RFC 9112 §3, §3.2.1",
    ),
    Case(
        "a fragment",
        _get(line="GET /a#b HTTP/1.1"),
        ours="400",
        why="an invalid request line, whose path could be read in two ways: RFC 9112 §3, §3.2.1",
    ),
    Case("a space in the target", _get(line="GET /a b HTTP/1.1")),
    Case("a target beyond ASCII", _get(line="GET /\xe4 HTTP/1.1")),
)

_AMBIGUOUS: Final = (
    Case(
        "both lengths",
        _post("Content-Length: 5", _CHUNKED, body="0\r\n\r\n"),
        ours="400",
        why="may be refused, and the connection must end: RFC 9112 §6.1",
    ),
    Case(
        "both lengths, the other way round",
        _post(_CHUNKED, "Content-Length: 5", body="0\r\n\r\n"),
        ours="400",
        why="may be refused, and the connection must end: RFC 9112 §6.1",
    ),
    Case("two lengths", _post("Content-Length: 5", "Content-Length: 6", body="hello")),
    Case(
        "the same length twice",
        _post("Content-Length: 5", "Content-Length: 5", body="hello"),
        ours="400",
        why="may be refused: RFC 9110 §8.6",
    ),
    Case("two lengths in a list", _post("Content-Length: 5, 6", body="hello")),
    Case("a signed length", _post("Content-Length: +5", body="hello")),
    Case("a negative length", _post("Content-Length: -1", body="hello")),
    Case("a hexadecimal length", _post("Content-Length: 0x5", body="hello")),
    Case("an empty length", _post("Content-Length:", body="hello")),
    Case("an enormous length", _post(f"Content-Length: {10**30}")),
    Case(
        "the same length in a list",
        _post("Content-Length: 5, 5", body="hello"),
        ours="400",
        why="may be refused: RFC 9110 §8.6",
    ),
    Case("a length with a space", _post("Content-Length: 5 5", body="hello")),
    Case("a space before a chunk size", _chunks(" 5\r\nhello\r\n0\r\n\r\n")),
    Case(
        "a space behind a chunk size",
        _chunks("5 \r\nhello\r\n0\r\n\r\n"),
        ours="400",
        why="the grammar has none: RFC 9112 §7.1",
    ),
    Case(
        "a CR in a chunk extension",
        _chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ours="400",
        why="the grammar has none, and a bare CR is refused: RFC 9112 §2.2, §7.1.1",
    ),
    Case("chunked twice", _post("Transfer-Encoding: chunked, chunked", body="0\r\n\r\n")),
    Case("chunked, then something", _post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n")),
    Case(
        "gzip, then chunked",
        _post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
        ours="501",
        why="a coding that is not understood: RFC 9112 §6.1",
    ),
    Case("a coding that is not chunked", _post("Transfer-Encoding: gzip")),
    Case("a coding that starts like chunked", _post("Transfer-Encoding: chunkedfoo", body="0\r\n\r\n")),
    Case("a vertical tab before chunked", _post("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n")),
    Case(
        "HTTP/1.0 and chunks",
        _post(_CHUNKED, body="0\r\n\r\n", line="POST /a HTTP/1.0"),
        ours="400",
        why="its framing is faulty: RFC 9112 §6.1",
    ),
    Case("a chunk size with 0x", _chunks("0x5\r\nhello\r\n0\r\n\r\n")),
    Case("a signed chunk size", _chunks("+5\r\nhello\r\n0\r\n\r\n")),
    Case("an empty chunk size", _chunks("\r\nhello\r\n0\r\n\r\n")),
    Case(
        "an enormous chunk size",
        _chunks("fffffffffffffffff\r\nhello\r\n0\r\n\r\n") + PROBE,
        leaves=True,
        ours="400",
        why="a size beyond what is kept is an error: RFC 9112 §7.1",
    ),
    Case("a chunk longer than it says", _chunks("4\r\nhello\r\n0\r\n\r\n")),
    Case("a chunk line ended by LF", _chunks("5\nhello\r\n0\r\n\r\n")),
    Case("LF in a chunk extension", _chunks("5;a\nb\r\nhello\r\n0\r\n\r\n")),
    Case("a malformed trailer", _chunks("0\r\nno colon\r\n\r\n")),
)

_MALFORMED: Final = (
    Case("no Host", b"GET /a HTTP/1.1\r\n\r\n", ours="400", why="must be refused: RFC 9112 §3.2"),
    Case("two Hosts", _get("Host: y"), ours="400", why="must be refused: RFC 9112 §3.2"),
    Case("the same Host twice", _get("Host: x"), ours="400", why="must be refused: RFC 9112 §3.2"),
    Case(
        "a Host with a path", _get(host="Host: x/y"), ours="400", why="an invalid Host must be refused: RFC 9112 §3.2"
    ),
    Case(
        "a Host with a space", _get(host="Host: x y"), ours="400", why="an invalid Host must be refused: RFC 9112 §3.2"
    ),
    Case("a space before the colon", _get("X-A : b")),
    Case("a space before a length's colon", _post("Content-Length : 5", body="hello")),
    Case(
        "a folded header", _get("X-A: b", " c"), ours="400", why="a folded line is refused, or unfolded: RFC 9112 §5.2"
    ),
    Case("a folded first header", b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n"),
    Case("a tab before the colon", _get("X-A\t: b")),
    Case("NUL in a name", _get("X\0A: b")),
    Case("NUL in the target", _get(line="GET /a\0b HTTP/1.1")),
    Case("a bare CR behind the request line", b"GET /a HTTP/1.1\rHost: x\r\n\r\n"),
    Case("a header without a colon", _get("X-A")),
    Case("a header without a name", _get(": b")),
    Case("a name with a slash", _get("X/A: b")),
    Case("NUL in a value", _get("X-A: b\0c")),
    Case("a bare CR in a value", _get("X-A: b\rc")),
    Case(
        "another control character in a value",
        _get("X-A: b\x01c"),
        ours="400",
        why="no such character is in the grammar of a value: RFC 9110 §5.5",
    ),
    Case(
        "lines ended by LF",
        b"GET /a HTTP/1.1\nHost: x\n\n",
        ours="400",
        why="a bare LF may be taken for a line's end, but smuggles: RFC 9112 §2.2, §11.2",
    ),
    Case(
        "one line ended by LF",
        b"GET /a HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
        ours="400",
        why="as above: RFC 9112 §2.2, §11.2",
    ),
    Case("no version", b"GET /a\r\n\r\n", ours="400", why="HTTP/0.9 is no version of this grammar: RFC 9112 §2.3, §3"),
    Case("HTTP/2.0", _get(line="GET /a HTTP/2.0"), ours="505", why="another major version: RFC 9110 §2.5, §15.6.6"),
    Case("HTTP/0.9", _get(line="GET /a HTTP/0.9"), ours="505", why="another major version: RFC 9110 §2.5, §15.6.6"),
    Case("a version in lower case", _get(line="GET /a http/1.1")),
    Case("a version of three digits", _get(line="GET /a HTTP/1.10")),
    Case(
        "two spaces in the request line",
        _get(line="GET  /a HTTP/1.1"),
        ours="400",
        why="one space each, since lenient readings smuggle: RFC 9112 §3, §11.2",
    ),
    Case("a tab in the request line", _get(line="GET\t/a HTTP/1.1")),
    Case("a space behind the version", _get(line="GET /a HTTP/1.1 ")),
    Case("a method that is no token", _get(line="G(T /a HTTP/1.1")),
    Case(
        "the preface of HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ours="505",
        why="another major version: RFC 9110 §2.5, §15.6.6",
    ),
    Case(
        "an overlong request line",
        _get(line=f"GET /{'a' * 100_000} HTTP/1.1"),
        ours="414",
        why="as far as it was read, it is too long: RFC 9112 §3, RFC 9110 §15.5.15",
    ),
    Case(
        "an overlong header",
        _get(f"X-A: {'a' * 300_000}"),
        ours="431",
        why="more than a server wishes to take must be refused: RFC 9110 §5.4, RFC 6585 §5",
    ),
    Case(
        "too many headers",
        _get(*(f"X-{n}: {'a' * 100}" for n in range(3_000))),
        ours="431",
        why="as above: RFC 9110 §5.4, RFC 6585 §5",
    ),
)

_CUT: Final = (
    Case("nothing at all", b"", leaves=True),
    Case("half a request line", b"GET /a HT", leaves=True),
    Case("half a head", b"GET /a HTTP/1.1\r\nHost: x\r\n", leaves=True),
    Case(
        "half a body",
        _post("Content-Length: 5", body="he"),
        leaves=True,
        ours="400",
        why="an incomplete request may be answered before the close: RFC 9112 §8",
    ),
    Case("half a chunk", _chunks("5\r\nhe"), leaves=True, ours="400", why="as above: RFC 9112 §8"),
    Case("no last chunk", _chunks("5\r\nhello\r\n"), leaves=True, ours="400", why="as above: RFC 9112 §8"),
    Case("a whole request, then the end", _get(), leaves=True),
)

CASES: Final = (*_WELL_FORMED, *_PERSISTENCE, *_BODIES, *_TARGETS, *_AMBIGUOUS, *_MALFORMED, *_CUT)
