"""Answers in gzip."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import pytest

from tests.transports.exchange_host import Answer, drive
from trio_streams.service.compression import Compression, accepts_gzip, compressed, is_compressible
from trio_streams.service.exchange import Exchange, ExchangeHandler, RequestHead, respond
from trio_streams.service.sse import respond_sse

TEXT = b"a text that says the same again and again. " * 100


def request(accept: str | None = "gzip", *, method: str = "GET") -> RequestHead:
    return RequestHead(method=method, path="/", headers=() if accept is None else (("accept-encoding", accept),))


def responding(body: bytes = TEXT, status: int = 200, **headers: str) -> ExchangeHandler:
    async def handler(exchange: Exchange) -> None:
        assert not exchange.has_head
        assert exchange.cancel_scope is not None
        assert await exchange.receive_some() == await exchange.receive_body() == b""
        assert [chunk async for chunk in exchange.iter_body()] == []
        await respond(exchange, status, body, [(name.replace("_", "-"), value) for name, value in headers.items()])

    return handler


def unzip(answer: Answer) -> bytes:
    return zlib.decompress(b"".join(answer.writes), 31)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip; q=0.000", False),
        ("gzip;q=2", False),
        ("deflate, br", False),
    ],
)
def test_who_takes_gzip(accept: str | None, expected: bool) -> None:
    """Named, or by the star, with a quality above 0."""
    assert accepts_gzip(request(accept)) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain; charset=utf-8", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("image/svg+xml", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("text/event-stream", False),
        ("", False),
    ],
)
def test_what_shrinks(content_type: str, expected: bool) -> None:
    """Text and its like; not what is compressed already, and not events."""
    assert is_compressible(content_type) is expected


async def test_a_large_text_is_compressed() -> None:
    """Smaller, without the length and ranges that were the text's, its etag weak, and marked for caches."""
    handler = compressed(responding(content_type="text/plain", etag='"a"', accept_ranges="bytes"))
    answer = await drive(handler, request())
    assert unzip(answer) == TEXT
    assert len(b"".join(answer.writes)) < len(TEXT) / 5
    assert answer.headers == {
        "content-type": "text/plain",
        "etag": 'W/"a"',
        "vary": "accept-encoding",
        "content-encoding": "gzip",
    }
    assert answer.is_whole


@pytest.mark.parametrize(
    ("handler", "accept", "varies"),
    [
        (responding(content_type="text/plain"), None, True),
        (responding(b"short", content_type="text/plain"), "gzip", False),
        (responding(content_type="image/png"), "gzip", False),
        (responding(content_type="text/plain", content_encoding="br"), "gzip", False),
        (responding(content_type="text/plain", cache_control="no-transform"), "gzip", False),
        (responding(TEXT, 206, content_type="text/plain"), "gzip", False),
    ],
)
async def test_what_is_left_alone(handler: ExchangeHandler, accept: str | None, varies: bool) -> None:
    """Clients that don't take it, small bodies, other types, coded and partial ones."""
    answer = await drive(compressed(handler), request(accept))
    assert answer.headers["content-length"] == str(len(b"".join(answer.writes)))
    assert ("vary" in answer.headers) is varies


async def test_head_says_what_get_would() -> None:
    """The same headers, and no body."""
    answer = await drive(compressed(responding(content_type="text/plain")), request(method="HEAD"))
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.writes == []


async def test_a_live_body_is_flushed() -> None:
    """Without a length, each write can be read at once."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-type", "application/x-ndjson")])
        await exchange.send(b'{"n":1}\n')
        await exchange.send(b'{"n":2}\n')
        exchange.end()

    answer = await drive(compressed(handler), request())
    coder = zlib.decompressobj(31)
    assert b"".join(coder.decompress(part) for part in answer.writes) == b'{"n":1}\n{"n":2}\n'
    assert coder.eof


@pytest.mark.parametrize("events", [False, True])
async def test_events_only_if_asked(events: bool) -> None:
    """Server-sent events stay as they are by default."""

    async def items() -> AsyncIterator[bytes]:
        yield b"x"

    async def handler(exchange: Exchange) -> None:
        await respond_sse(exchange, items())

    answer = await drive(compressed(handler, Compression(events=events)), request())
    assert ("content-encoding" in answer.headers) is events
    assert (unzip(answer) if events else b"".join(answer.writes)).startswith(b"data: x\n\n")


async def test_codings_may_be_nested() -> None:
    """The outer exchange hands an inner coding on."""
    answer = await drive(compressed(compressed(responding(content_type="text/plain"))), request())
    assert answer.headers["content-encoding"] == "gzip"
    assert unzip(answer) == TEXT
