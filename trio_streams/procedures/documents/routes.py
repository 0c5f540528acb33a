"""The documents over HTTP: `/docs/usd.json`, `/docs/usd.yaml`, `/docs/openapi.json`, `/docs/asyncapi.json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.documents.asyncapi import asyncapi_document
from trio_streams.procedures.documents.openapi import openapi_document
from trio_streams.procedures.documents.usd import usd_document
from trio_streams.procedures.documents.yaml import to_yaml
from trio_streams.procedures.router import Router
from trio_streams.service.conditional import respond_content
from trio_streams.service.exchange import Exchange, ExchangeHandler, Routes

__all__ = ["PATHS", "add_documents"]

Make: TypeAlias = Callable[..., dict[str, Any]]

_JSON: Final = "application/json"
PATHS: Final[dict[str, tuple[Make, str]]] = {
    "/docs/usd.json": (usd_document, _JSON),
    "/docs/usd.yaml": (usd_document, "application/yaml"),
    "/docs/openapi.json": (openapi_document, _JSON),
    "/docs/asyncapi.json": (asyncapi_document, _JSON),
}
"""Where each is served, what makes it, and its media type."""


def add_documents(routes: Routes, router: Router, find_urls: Callable[[], Sequence[str]]) -> None:
    """Add the documents of an application to its routes; they are found where it has enabled them (`enable_usd`).

    Each is made when it is first asked for, and again when the procedures or the URLs have changed.

    Args:
      routes: where to add them.
      router: the application's procedures.
      find_urls: where the application is served.

    Raises:
      ValueError: a path is taken.
    """
    for path, (make, media_type) in PATHS.items():
        routes.add("GET", path, _serving(make, media_type, router, find_urls))


def _serving(make: Make, media_type: str, router: Router, find_urls: Callable[[], Sequence[str]]) -> ExchangeHandler:
    made: tuple[object, bytes] | None = None

    async def serve(exchange: Exchange) -> None:
        nonlocal made
        info = router.documents
        if info is None:
            raise RpcError(Code.NOT_FOUND, f"there is nothing at {exchange.request.path}")
        urls = tuple(find_urls())
        state = (info, tuple(map(id, router)), urls)
        if made is None or made[0] != state:
            document = make(router, info, servers=urls)
            is_yaml = media_type.endswith("yaml")
            made = (state, to_yaml(document).encode() if is_yaml else msgspec.json.encode(document))
        await respond_content(exchange, made[1], content_type=media_type)

    return serve
