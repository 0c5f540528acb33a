"""What a caller can get wrong in a call: one row each, over every wire that a call can come by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

import attrs
import pytest
import trio

from tests.conformance.callers import WIRES, Answer, Wire, open_caller, serving
from tests.serving import ask
from trio_streams import Router
from trio_streams.procedures.interceptors import BearerAuthentication, Principal
from trio_streams.transports.messages import SUBPROTOCOL

SOON: Final = 1_000.0
"""Seconds that a token is good for."""


@attrs.frozen
class Reading:
    """A typed input."""

    level: int
    factor: float = 1.0
    label: str = ""


async def verify(token: str) -> Principal | None:
    """Tokens are `NAME:EXPIRY:SCOPES`, which nobody should take for safe."""
    name, _, rest = token.partition(":")
    expiry, _, scopes = rest.partition(":")
    is_good = name == "ann" and expiry.isdigit() and trio.current_time() < int(expiry)
    return Principal(name, frozenset(scopes.split(","))) if is_good else None


def make_router() -> Router:
    """A call, the same as a stream of one item for event streams, and the same for those who may."""
    app = Router()
    auth = BearerAuthentication(verify)

    async def typed(reading: Reading) -> float:
        return reading.level * reading.factor

    async def one(reading: Reading) -> AsyncIterator[float]:
        yield reading.level * reading.factor

    app.call("typed")(typed)
    app.stream("typed-stream")(one)
    app.call("secret").use(auth).metadata({"scopes": ["write"]})(typed)
    app.stream("secret-stream").use(auth).metadata({"scopes": ["write"]})(one)
    return app


@attrs.frozen
class Row:
    """A payload, and what it is answered.

    Attributes:
      name: as tests show it.
      payload: JSON, or what is none.
      code: of the error; empty for a result.
      words: in the error.
      query: the same for an event stream; None where a query can't say it.
      is_broken: whether the payload breaks the text around it, so that a whole envelope is refused, or a JSON-RPC text.
    """

    name: str
    payload: bytes
    code: str = "INVALID_ARGUMENT"
    words: tuple[str, ...] = ()
    query: str | None = None
    is_broken: bool = False

    def __str__(self) -> str:
        return self.name


def deep(levels: int, opening: bytes, closing: bytes) -> bytes:
    """An unknown field, and levels of something in it."""
    return b'{"level":2,"extra":%s1%s}' % (opening * levels, closing * levels)


ROWS: Final = (
    Row("right", b'{"level":2,"factor":1.5}', "", query="level=2&factor=1.5"),
    Row("wrong type", b'{"level":"high"}', words=("level",), query="level=high"),
    Row("wrong type inside", b'{"level":2,"label":["a"]}', words=("label",), query="level=2&label=a&label=b"),
    Row("missing field", b"{}", words=("level",), query="factor=1"),
    Row("another shape", b"5", query="5"),
    Row("a list of it", b'[{"level":2}]'),
    Row("unknown field", b'{"level":2,"factor":1.5,"extra":{"a":[1]}}', ""),
    # JSON from a newer caller may say more; in a query a name that is not known is a name that was mistyped.
    Row("unknown field of a query", b'{"level":"x"}', words=("level",), query="level=2&factor=1.5&levels=1"),
    Row(
        "unknown fields by the thousand",
        b'{"level":2,"factor":1.5%s}' % b"".join(b',"x%d":1' % n for n in range(1_500)),
        "",
    ),
    Row("repeated field", b'{"level":1,"level":2,"factor":1.5}', ""),
    Row("repeated value", b'{"level":1,"level":"x"}', query="level=1&level=2", words=("level",)),
    Row("65 levels", deep(65, b"[", b"]"), words=("64",)),
    Row("500 levels", deep(500, b'{"a":', b"}"), words=("64",)),
    Row("7,000 levels, open", b'{"level":2,"extra":' + b"[" * 7_000, is_broken=True),
    Row("no finite number", b'{"level":1,"factor":1e999}', words=("factor",), query="level=1&factor=1e999"),
    Row("a negative one", b'{"level":1,"factor":-1e999}', words=("factor",), query="level=1&factor=-1e999"),
    Row("no number", b'{"level":1,"factor":NaN}', query="level=1&factor=NaN", is_broken=True),
    Row("an integer of 5,000 digits", b'{"level":1%s}' % (b"0" * 5_000), query="level=1" + "0" * 5_000),
    Row("a float of 400 digits", b'{"level":1,"factor":1%s}' % (b"0" * 400), query="level=1&factor=1" + "0" * 400),
    Row("a fraction", b'{"level":1.5}', words=("level",), query="level=1.5"),
    Row("no UTF-8", b'{"level":1,"label":"\xff"}', is_broken=True, query="level=1&label=%ff"),
    Row("half a character", b'{"level":1,"label":"\\ud800"}', is_broken=True),
    Row("half an object", b'{"level":', is_broken=True),
    Row("two objects", b'{"level":1}{"level":2}', is_broken=True),
)


def expected(row: Row, wire: Wire) -> str:
    """The code that a row has on a wire."""
    if wire.dialect == "envelopes" and row.is_broken:
        return "PARSE_ERROR"
    if wire.dialect == "rpc" and row.code:
        if row.is_broken:
            return "PARSE_ERROR" if wire.scheme == "ws" else "-32700"
        return "-32602"
    return row.code


def check(answer: Answer, code: str, words: tuple[str, ...]) -> None:
    """An error has its code, its words and a bounded text; a result is the right one."""
    assert answer.code == code, answer
    if not code:
        assert answer.result == 3.0
    assert all(word in answer.text for word in words), answer
    assert len(answer.text) < 2_000


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_what_is_wrong_with_a_payload(wire: Wire) -> None:
    """Each row has its answer by code and words, and the connection goes on to serve the next one."""
    name = "typed-stream" if wire.dialect == "sse" else "typed"
    right = b"level=2&factor=1.5" if wire.dialect == "sse" else ROWS[0].payload
    async with serving(wire, make_router()) as url, open_caller(wire, url) as call:
        for row in ROWS:
            payload = row.payload
            if wire.dialect == "sse":
                if row.query is None:
                    continue
                payload = row.query.encode()
            answer = await call(name, payload, {})
            is_whole = row.is_broken and wire.dialect in {"envelopes", "rpc"}
            check(answer, expected(row, wire), () if is_whole else row.words)
            check(await call(name, right, {}), "", ())


NAMES: Final = (
    "nope",
    "typed.",
    "../typed",
    "typed/typed",
    "[id]",
    "n" * 900,
    "\u4f60\u597d",
    "nul\0nul",
    "",
    "n" * 5_000,
)


def expected_of_name(name: str, wire: Wire) -> str:
    """Envelopes and JSON-RPC know empty and long names before they look for them."""
    if wire.dialect == "envelopes":
        return "NOT_FOUND" if 0 < len(name) < 1_024 else "MESSAGE_TOO_LARGE" if name else "INVALID_ENVELOPE"
    if wire.dialect == "rpc":
        return "-32601" if 0 < len(name) < 1_024 else "-32600"
    return "NOT_FOUND"


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_names_that_nothing_has(wire: Wire) -> None:
    """They are not found, or too long to be looked for; what is shown of them is cut, and the connection goes on."""
    async with serving(wire, make_router()) as url, open_caller(wire, url) as call:
        for name in NAMES:
            asked = quote(name) if wire.dialect in {"http", "sse"} else name
            answer = await call(asked, b"" if wire.dialect == "sse" else b"{}", {})
            assert answer.code == expected_of_name(name, wire), (name, answer)
            assert len(answer.text) < 400


@attrs.frozen
class Shown:
    """What a caller shows of itself, and what it is answered: by a code, or 3.0."""

    name: str
    code: str
    token: str | None = None
    more: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.name


RPC_TEXTS: Final = WIRES[-1]

SHOWN: Final = (
    Shown("a good token", "", "ann:99999999999:write"),
    Shown("nothing", "UNAUTHENTICATED"),
    Shown("a wrong token", "UNAUTHENTICATED", "bob:99999999999:write"),
    Shown("an expired token", "UNAUTHENTICATED", "ann:0:write"),
    Shown("a missing scope", "PERMISSION_DENIED", "ann:99999999999:read"),
    Shown("an endless token", "UNAUTHENTICATED", "ann:99999999999:write," + "x" * 9_000),
    Shown("a ticket", "UNAUTHENTICATED", None, {"x-ticket": "made-up"}),
)


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_what_a_caller_shows(wire: Wire) -> None:
    """Wrong, expired and made up are refused alike, and tell nothing of the token; a scope that is missing is named.

    A JSON-RPC text on a WebSocket has no place for a token, so that nobody is let in by one.
    """
    payload = b"level=2&factor=1.5" if wire.dialect == "sse" else b'{"level":2,"factor":1.5}'
    async with serving(wire, make_router()) as url, open_caller(wire, url) as call:
        for row in SHOWN:
            token = {} if row.token is None else {"authorization": f"Bearer {row.token}"}
            answer = await call("secret-stream" if wire.dialect == "sse" else "secret", payload, {**row.more, **token})
            if wire == RPC_TEXTS:
                assert (answer.code, "wants a token" in answer.text) == ("-32001", True)
                continue
            code = "-32001" if row.code and wire.dialect == "rpc" else row.code
            check(answer, code, ("write",) if row.code == "PERMISSION_DENIED" else ())
            assert row.token is None or row.token not in answer.text


UPGRADE: Final = (
    "GET / HTTP/1.1\nupgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\n"
    "sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg=="
)
REQUESTS: Final = {
    "own": f"{UPGRADE}\nsec-websocket-protocol: {SUBPROTOCOL}",
    "envelopes": UPGRADE,
    "http": "POST /typed HTTP/1.1\ncontent-length: 2",
    "sse": "GET /streams/typed-stream?level=1 HTTP/1.1",
    "rpc": "POST /rpc HTTP/1.1\ncontent-length: 2",
}


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.scheme != "tcp"], ids=str)
async def test_pages_of_others(wire: Wire) -> None:
    """A page of another origin is answered 403, a name that is not the server's 421, before anything is looked at."""
    said = REQUESTS[wire.dialect] if wire.is_http or wire.dialect != "rpc" else UPGRADE
    body = b"[]" if "content-length" in said else b""
    async with serving(wire, make_router()) as url:
        port = urlsplit(url).port or 0
        for host, origin, status in (
            ("localhost", "https://evil.example", 403),
            ("localhost", "null", 403),
            ("evil.example", "http://evil.example", 421),
        ):
            head = f"{said}\nhost: {host}\norigin: {origin}"
            assert (await ask(port, head, body=body))[0] == status
