"""`Dashboard`: the pages of a server, before whatever else the server answers over HTTP.

    GET /dashboard/             the live page; its scripts and style beside it
    GET /dashboard/about        what there is to look at: the procedures
    GET /dashboard/events       snapshots as server-sent events, a few a second
    GET /dashboard/procedures   the page to read and try the procedures
    GET /dashboard/catalogue    what it shows: schemas, examples, metadata, documents

All who look get the same snapshots, made by whoever is the first to ask in an interval; while nobody looks, nothing is
sampled. The dashboard's own exchanges are no rows of its page: only the number of viewers is.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import trio

from trio_streams.connection import Connection
from trio_streams.dashboard.assets import SECURITY_HEADERS, Assets
from trio_streams.dashboard.catalogue import catalogue
from trio_streams.dashboard.config import DashboardConfig
from trio_streams.dashboard.exchanges import Exchanges
from trio_streams.dashboard.meter import Connections
from trio_streams.dashboard.snapshot import Sampler
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import Exchange, ExchangeHandler, Headers, answer_error, respond, respond_json
from trio_streams.service.sse import respond_sse

__all__ = ["Dashboard"]

_ROOT: Final = "/dashboard"
_LINKED: Final = frozenset({"", "/", "/procedures"})
_FRESH: Final[Headers] = (("cache-control", "no-store"), *SECURITY_HEADERS)
_EMPTY: Final = Router()


class Dashboard:
    """The live page of one server.

    `serve(app, "http://…", dashboard=Dashboard(app))` tells it of every connection and puts it before the application;
    another host does the same with `connected` and `wrap`.

    Args:
      app: the procedures that the page names; panels for those of the demo appear where it has them.
      config: how often the page is told, and how much.
      title: shown on the page.
      connects_to: origins of other servers that scripts of the page may connect to, such as `https://127.0.0.1:7103`; else
        its policy keeps it to its own.
    """

    def __init__(
        self,
        app: Router = _EMPTY,
        *,
        config: DashboardConfig | None = None,
        title: str = "trio_streams",
        connects_to: Sequence[str] = (),
    ) -> None:
        config = config or DashboardConfig()
        self._app = app
        self._title = title
        self._config = config
        self._connections = Connections()
        self._exchanges = Exchanges(config)
        self._sampler = Sampler(self._connections, self._exchanges, config)
        self._assets = Assets(connects_to)

    def connected(self, connection: Connection) -> None:
        """Show a connection for as long as it lives; made for `serve(…, on_connection=…)`."""
        self._connections.add(connection)

    def wrap(self, handler: ExchangeHandler) -> ExchangeHandler:
        """A handler that answers for the page, and passes on, and counts, everything else.

        Args:
          handler: the application's.
        """
        counted = self._exchanges.wrap(handler)

        async def handle(exchange: Exchange) -> None:
            request = exchange.request
            path = request.path
            is_ours = path == _ROOT or path.startswith(f"{_ROOT}/")
            # A procedure may have a name below ours: those are called with POST.
            if is_ours and request.method in {"GET", "HEAD"}:
                await self._respond(exchange, path.removeprefix(_ROOT))
            else:
                await counted(exchange)

        return handle

    async def _respond(self, exchange: Exchange, rest: str) -> None:
        if exchange.request.header("sec-fetch-site") in {"cross-site", "same-site"} and rest not in _LINKED:
            # A link to a page may stand anywhere; what is on it is for the page alone.
            error = RpcError("PERMISSION_DENIED", "the dashboard's data is for its own page")
            await answer_error(exchange, error, status=403, headers=SECURITY_HEADERS)
        elif not rest:
            await respond(exchange, 308, b"", [("location", f"{_ROOT[1:]}/"), *SECURITY_HEADERS])
        elif rest == "/about":
            await respond_json(exchange, self._about(), headers=_FRESH)
        elif rest == "/catalogue":
            await respond_json(exchange, {"title": self._title, **catalogue(self._app)}, headers=_FRESH)
        elif rest == "/events":
            await respond_sse(exchange, self._snapshots(), named=False, headers=SECURITY_HEADERS)
        elif self._assets.find(rest[1:]):
            await self._assets.respond(exchange, rest[1:])
        else:
            error = RpcError("NOT_FOUND", f"there is nothing at {exchange.request.path[:200]}")
            await answer_error(exchange, error, status=404, headers=SECURITY_HEADERS)

    def _about(self) -> dict[str, object]:
        return {
            "title": self._title,
            "version": _version(),
            "interval": self._config.interval,
            "procedures": [{"name": it.name, "kind": it.kind.value, "description": it.description} for it in self._app],
        }

    async def _snapshots(self) -> AsyncGenerator[bytes, None]:
        sampler = self._sampler
        sampler.viewers += 1
        try:
            while True:
                yield sampler.payload(trio.current_time())
                # Behind a reader who is slow, the next picture is a new one: none is kept for him.
                await trio.sleep_until(sampler.next_turn(trio.current_time()))
        finally:
            sampler.viewers -= 1


def _version() -> str:
    try:
        return importlib.metadata.version("trio_streams")
    except importlib.metadata.PackageNotFoundError:
        return ""
