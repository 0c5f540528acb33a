"""What handlers of HTTP exchanges are written with: the exchange itself, routes, and answers.

The exchange is defined beside its hosts (`transports.exchange`), since imports run one way; this is the place to
import it from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError
from trio_streams.transports.answer import answer_error as answer_error
from trio_streams.transports.answer import as_rpc_error as as_rpc_error
from trio_streams.transports.answer import error_fields as error_fields
from trio_streams.transports.answer import respond as respond
from trio_streams.transports.exchange import BodyEncoder as BodyEncoder
from trio_streams.transports.exchange import BodySource as BodySource
from trio_streams.transports.exchange import Exchange as Exchange
from trio_streams.transports.exchange import ExchangeConfig as ExchangeConfig
from trio_streams.transports.exchange import ExchangeHandler as ExchangeHandler
from trio_streams.transports.exchange import Headers as Headers
from trio_streams.transports.exchange import RequestHead as RequestHead
from trio_streams.transports.exchange import ResponseHead as ResponseHead

__all__ = [
    "BodyEncoder",
    "BodySource",
    "Exchange",
    "ExchangeConfig",
    "ExchangeHandler",
    "Headers",
    "RequestHead",
    "ResponseHead",
    "Routes",
    "answer_error",
    "as_rpc_error",
    "error_fields",
    "respond",
    "respond_json",
]

_ANYTHING: Final = "*"


async def respond_json(exchange: Exchange, value: object, *, status: int = 200, headers: Headers = ()) -> None:
    """Answer with a value as JSON.

    Raises:
      CodecError: JSON has no form for the value; nothing has been sent.
    """
    try:
        body = msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError) as exc:
        raise CodecError(f"can't answer with JSON: {exc}") from exc
    await respond(exchange, status, body, [("content-type", "application/json"), *headers])


class Routes:
    """A table of handlers by method and path; itself a handler.

    A path ending in `/*` takes everything below it; an exact path comes before those, and a longer one before a
    shorter one. Unknown paths are answered 404, known ones with another method 405 with `allow`. HEAD goes where GET
    goes: hosts leave the body out.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, ExchangeHandler]] = {}
        self._below: dict[str, dict[str, ExchangeHandler]] = {}

    def add(self, methods: str | Iterable[str], path: str, handler: ExchangeHandler) -> None:
        """Add a handler.

        Args:
          methods: one or several, in upper case.
          path: absolute; `/*` at its end stands for everything below, `/` excluded.
          handler: finds the rest of the path in `exchange.request.path`.

        Raises:
          ValueError: the path is not absolute, or the place is taken.
        """
        if not path.startswith("/"):
            raise ValueError(f"a path starts with '/', and {path!r} doesn't")
        is_prefix = path.endswith("/" + _ANYTHING)
        table = self._below if is_prefix else self._exact
        handlers = table.setdefault(path.removesuffix(_ANYTHING) if is_prefix else path, {})
        for method in [methods] if isinstance(methods, str) else methods:
            if method in handlers:
                raise ValueError(f"{method} {path} has a handler already")
            handlers[method] = handler

    def find(self, path: str) -> dict[str, ExchangeHandler] | None:
        """The handlers of a path by method; None for an unknown path. Its cost grows with the path's depth alone."""
        if (handlers := self._exact.get(path)) is not None:
            return handlers
        end = len(path)
        while (end := path.rfind("/", 0, end)) >= 0:
            if (handlers := self._below.get(path[: end + 1])) is not None:
                return handlers
        return None

    async def __call__(self, exchange: Exchange) -> None:
        """Handle an exchange by its method and path."""
        request = exchange.request
        handlers = self.find(request.path)
        if handlers is None:
            raise RpcError(Code.NOT_FOUND, f"there is nothing at {request.path}")
        handler = handlers.get(request.method)
        if handler is None and request.method == "HEAD":
            handler = handlers.get("GET")
        if handler is not None:
            return await handler(exchange)
        allowed = sorted(handlers.keys() | ({"HEAD"} if "GET" in handlers else set()))
        error = RpcError("METHOD_NOT_ALLOWED", f"{request.path} takes {', '.join(allowed)}, not {request.method}")
        return await answer_error(exchange, error, status=405, headers=[("allow", ", ".join(allowed))])
