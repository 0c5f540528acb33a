"""`client.js`: our dialect for browsers and Node, one ES module without dependencies, and the routes that serve it.

The module is written by hand; `client.d.ts` is what TypeScript's compiler makes of its comments
(`tests/browser/test_client_types.py` compares).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from trio_streams.service.conditional import Validators, make_etag, respond_content
from trio_streams.service.exchange import Exchange, ExchangeHandler, Routes

__all__ = ["add_client_routes", "client_file", "serve_client_js", "serve_client_types", "with_client"]

_TYPES: Final = {"client.js": "text/javascript; charset=utf-8", "client.d.ts": "text/plain; charset=utf-8"}
_HEADERS: Final = [
    ("cache-control", "no-cache"),  # kept, but never used without asking: it has to fit the server's version
    ("x-content-type-options", "nosniff"),
]


@cache
def client_file(name: str = "client.js") -> bytes:
    """The bytes of the module, for servers of your own.

    Args:
      name: `client.js`, or `client.d.ts` for its types.

    Raises:
      ValueError: there is no such file.
    """
    if name not in _TYPES:
        raise ValueError(f"the client's files are {' and '.join(_TYPES)}, not {name!r}")
    return resources.files(__name__).joinpath(name).read_bytes()


@cache
def _validators(name: str) -> Validators:
    return Validators(etag=make_etag(client_file(name)))


async def serve_client_js(exchange: Exchange) -> None:
    """Answer `GET /client.js`, or 304 to a browser that has it already.

    Cancellation: the answer stays unfinished.
    """
    await _serve(exchange, "client.js")


async def serve_client_types(exchange: Exchange) -> None:
    """Answer `GET /client.d.ts`, as `serve_client_js` does.

    Cancellation: the answer stays unfinished.
    """
    await _serve(exchange, "client.d.ts")


async def _serve(exchange: Exchange, name: str) -> None:
    await respond_content(
        exchange, client_file(name), content_type=_TYPES[name], validators=_validators(name), headers=_HEADERS
    )


def add_client_routes(routes: Routes) -> None:
    """Add both files to a table of routes, under `/client.js` and `/client.d.ts`."""
    routes.add("GET", "/client.js", serve_client_js)
    routes.add("GET", "/client.d.ts", serve_client_types)


def with_client(handler: ExchangeHandler) -> ExchangeHandler:
    """A handler that gives the client's two files to who asks for them, and leaves everything else to another one.

    Args:
      handler: of all other requests, those with other methods included.
    """
    routes = Routes()
    add_client_routes(routes)

    async def handle(exchange: Exchange) -> None:
        request = exchange.request
        is_ours = request.method in {"GET", "HEAD"} and routes.find(request.path) is not None
        await (routes if is_ours else handler)(exchange)

    return handle
