"""The documents where a browser finds them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import yaml

from tests.transports.exchange_host import drive
from trio_streams.procedures import Router
from trio_streams.procedures.documents import DocumentInfo, openapi_document, usd_document
from trio_streams.procedures.documents.routes import add_documents
from trio_streams.service.exchange import RequestHead, Routes

URLS = ["http://127.0.0.1:1"]


def make() -> tuple[Router, Routes]:
    app, routes = Router(), Routes()

    @app.stream("one")
    async def one() -> AsyncIterator[int]:
        yield 1

    app.enable_usd(title="T")
    add_documents(routes, app, lambda: URLS)
    return app, routes


async def test_they_are_what_is_made_of_the_declarations() -> None:
    """JSON and YAML say the same; a validator makes the second answer short."""
    app, routes = make()
    answer = await drive(routes, RequestHead(method="GET", path="/docs/usd.json"))
    expected = usd_document(app, DocumentInfo(title="T"), servers=URLS)
    assert json.loads(b"".join(answer.writes)) == expected
    assert answer.headers["content-type"] == "application/json"
    in_yaml = await drive(routes, RequestHead(method="GET", path="/docs/usd.yaml"))
    assert yaml.safe_load(b"".join(in_yaml.writes)) == expected
    again = RequestHead(method="GET", path="/docs/usd.json", headers=(("if-none-match", answer.headers["etag"]),))
    assert (await drive(routes, again)).status == 304


async def test_a_changed_application_has_a_changed_document() -> None:
    """A procedure that is declared later is in it."""
    app, routes = make()
    path = RequestHead(method="GET", path="/docs/openapi.json")
    before = await drive(routes, path)

    @app.call("two")
    async def two() -> int:
        return 2

    after = await drive(routes, path)
    assert before.writes != after.writes
    assert json.loads(b"".join(after.writes)) == openapi_document(app, DocumentInfo(title="T"), servers=URLS)


@pytest.mark.parametrize("name", ["usd.json", "usd.yaml", "openapi.json", "asyncapi.json"])
async def test_each_has_its_place(name: str) -> None:
    """And nothing else does."""
    _, routes = make()
    assert (await drive(routes, RequestHead(method="GET", path=f"/docs/{name}"))).status == 200
    assert (await drive(routes, RequestHead(method="GET", path=f"/docs/{name}x"))).status == 404


async def test_nothing_is_told_unasked() -> None:
    """Until the application enables them there are no documents."""
    routes = Routes()
    add_documents(routes, Router(), lambda: URLS)
    assert (await drive(routes, RequestHead(method="GET", path="/docs/usd.json"))).status == 404
