"""`python -m tests.browser.client_child HOST`: the scenarios' procedures and files, until standard input ends."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.browser.application import Application
from trio_streams.browser import serve_client_js
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_server
from trio_streams.procedures.server import prepare
from trio_streams.service.exchange import Exchange, Routes, respond
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean

FILES: Final = Path(__file__).parent / "js"
PAGE: Final = b"""<!doctype html><link rel="icon" href="data:,"><script type="importmap">
{"imports": {"node:assert/strict": "/tests/browser/js/assert.mjs"}}
</script>"""


async def _page(exchange: Exchange) -> None:
    await respond(exchange, 200, PAGE, [("content-type", "text/html")])


async def _file(exchange: Exchange) -> None:
    name = exchange.request.path.rpartition("/")[2]
    await respond(exchange, 200, (FILES / name).read_bytes(), [("content-type", "text/javascript")])


def add_pages(routes: Routes) -> None:
    """Add an empty page, the scenarios and the client."""
    routes.add("GET", "/", _page)
    routes.add("GET", "/tests/browser/js/*", _file)
    routes.add("GET", "/trio_streams/browser/client.js", serve_client_js)


async def main(host: str) -> None:
    """Serve, for no longer than whoever started this lives."""
    application = Application()
    routes = Routes()
    add_pages(routes)

    async def run(carrier: Carrier) -> None:
        await run_server(
            carrier,
            partial(prepare, application.router),
            config=ConnectionConfig(),
            on_connection=application.connections.append,
        )

    async with trio.open_nursery() as nursery:
        start = serve_lean if host == "lean" else serve_hypercorn
        url = await nursery.start(partial(start, routes, "127.0.0.1", 0, websocket=run))
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
