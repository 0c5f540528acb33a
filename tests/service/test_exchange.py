"""Routes, and what handlers answer with."""

from __future__ import annotations

import pytest

from tests.transports.exchange_host import drive
from trio_streams.errors import (
    CodecError,
)
from trio_streams.service.exchange import (
    Exchange,
    ExchangeHandler,
    RequestHead,
    Routes,
    respond_json,
)


def naming(name: str) -> ExchangeHandler:
    async def handler(exchange: Exchange) -> None:
        await respond_json(exchange, name)

    return handler


def routes() -> Routes:
    table = Routes()
    table.add("GET", "/", naming("root"))
    table.add(["GET", "POST"], "/streams/one", naming("one"))
    table.add("GET", "/streams/*", naming("streams"))
    table.add("GET", "/streams/deep/*", naming("deep"))
    table.add("POST", "/*", naming("call"))
    return table


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", b'"root"'),
        ("GET", "/streams/one", b'"one"'),
        ("POST", "/streams/one", b'"one"'),
        ("GET", "/streams/two", b'"streams"'),
        ("GET", "/streams/", b'"streams"'),
        ("GET", "/streams/deep", b'"streams"'),
        ("GET", "/streams/deep/a/b/c", b'"deep"'),
        ("POST", "/anything", b'"call"'),
        ("POST", "/streams", b'"call"'),
        ("HEAD", "/", b""),
    ],
)
async def test_routes_find_the_closest_path(method: str, path: str, expected: bytes) -> None:
    """Exact before prefix, longer before shorter, HEAD as GET."""
    answer = await drive(routes(), RequestHead(method=method, path=path))
    assert (answer.status, b"".join(answer.writes)) == (200, expected)


async def test_unknown_paths_and_methods() -> None:
    """404 for a path nobody has, 405 with `allow` for a method that a known path does not take."""
    table = Routes()
    table.add("GET", "/a", naming("a"))
    missing = await drive(table, RequestHead(method="GET", path="/b"))
    assert (missing.status, missing.error["code"]) == (404, "NOT_FOUND")
    refused = await drive(table, RequestHead(method="DELETE", path="/a"))
    assert (refused.status, refused.error["code"], refused.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "GET, HEAD")


def test_routes_refuse_what_could_not_be_reached() -> None:
    """A relative path, or a place that is taken, fails where it is written."""
    table = routes()
    with pytest.raises(ValueError, match="starts with"):
        table.add("GET", "streams", naming("x"))
    with pytest.raises(ValueError, match="GET /streams/\\* has a handler"):
        table.add("GET", "/streams/*", naming("x"))


async def test_json_that_is_none_is_refused_before_anything_is_sent() -> None:
    """A value that JSON can't say is the handler's mistake, reported in time."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(CodecError, match="can't answer with JSON"):
            await respond_json(exchange, {1j})
        assert not exchange.has_head
        await respond_json(exchange, [1], status=201)

    answer = await drive(handler)
    assert (answer.status, answer.writes) == (201, [b"[1]"])
