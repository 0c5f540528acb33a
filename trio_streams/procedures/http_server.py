"""A router's procedures over HTTP: server streams as server-sent events, calls as JSON.

    GET  /streams/<name>?k=v   `data:` events, then `event: end` or `event: error`; 204 to who has seen the end
    POST /<name>               the input as JSON, the result as JSON

The exchange's host does the I/O, and answers what a handler raises.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Final

import trio

from trio_streams.codecs import decode_query
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.procedures.procedure import Kind, Procedure
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import not_found
from trio_streams.service.context import Context
from trio_streams.service.exchange import Exchange, ExchangeHandler, Routes, respond
from trio_streams.service.sse import (
    LAST_EVENT_ID_PARAMETER,
    SseConfig,
    last_event_id,
    refuse_ended,
    respond_sse,
    send_error,
)
from trio_streams.wire.sse import Event

__all__ = ["LONGEST_MS", "TIMEOUT_HEADER", "http_handler"]

TIMEOUT_HEADER: Final = "x-timeout-ms"
"""What is left of the caller's deadline, in milliseconds."""

LONGEST_MS: Final = 10**15 - 1
"""The longest deadline that travels in it: 30,000 years."""

_OWN_PARAMETERS: Final = frozenset({"events", LAST_EVENT_ID_PARAMETER})
"""Of the SSE dialect itself, not of the procedure."""


def http_handler(
    router: Router, find_urls: Callable[[], Sequence[str]] = tuple, *, sse_config: SseConfig | None = None
) -> ExchangeHandler:
    """The handler of all requests to a router.

    Args:
      router: the application's procedures.
      find_urls: where else the application is served, to name in errors about what HTTP can't carry.
      sse_config: heartbeats and the like; None for the defaults.
    """
    face = _Face(router, find_urls, sse_config or SseConfig())
    routes = Routes()
    routes.add("GET", "/streams/*", face.stream)
    routes.add("POST", "/*", face.call)
    return routes


class _Face:
    def __init__(self, router: Router, find_urls: Callable[[], Sequence[str]], sse_config: SseConfig) -> None:
        self._sse_config = sse_config
        self._router = router
        self._find_urls = find_urls
        self._numbers = count(1)

    def _find(self, name: str, kind: Kind) -> Procedure:
        procedure = self._router.get(name)
        if procedure is None:
            raise not_found(name)
        if procedure.kind is kind:
            return procedure
        if procedure.kind is Kind.CALL:
            raise RpcError(Code.FAILED_PRECONDITION, f"{name!r} is a call: POST /{name}")
        if procedure.kind is Kind.SERVER:
            raise RpcError(Code.FAILED_PRECONDITION, f"{name!r} is a server stream: GET /streams/{name}")
        others = " or ".join(url for url in self._find_urls() if not url.startswith("http"))
        raise RpcError(
            Code.UNIMPLEMENTED,
            f"{name!r} is a {procedure.kind.value} stream, which HTTP can't carry; "
            f"use {others or 'a tcp:// or ws:// URL, where this application is served on one'}",
        )

    def _context(self, procedure: Procedure, exchange: Exchange) -> Context:
        request = exchange.request
        deadline = _deadline(request.header(TIMEOUT_HEADER))
        return Context(
            procedure=procedure.name,
            peer=request.peer,
            metadata=dict(request.headers),
            deadline=deadline,
            # Inside the exchange's own scope, so that a deadline still leaves the exchange to answer with.
            cancel_scope=trio.CancelScope(deadline=deadline),
            request_id=request.header("x-request-id") or f"http-{next(self._numbers)}",
            last_event_id=last_event_id(request),
            find_reason=lambda: _gone(exchange),
        )

    async def stream(self, exchange: Exchange) -> None:
        """`GET /streams/<name>`."""
        procedure = self._find(exchange.request.path.removeprefix("/streams/"), Kind.SERVER)
        if await refuse_ended(exchange):
            return
        query = {key: values for key, values in exchange.request.query.items() if key not in _OWN_PARAMETERS}
        value = decode_query(procedure.input_type, query) if query else procedure.decode_input(None)
        context = self._context(procedure, exchange)
        answer = procedure.invoke(value, context)
        with context.cancel_scope as scope:
            await respond_sse(exchange, _payloads(procedure, answer), config=self._sse_config)
        if scope.cancelled_caught:
            await send_error(exchange, _cancelled(context))

    async def call(self, exchange: Exchange) -> None:
        """`POST /<name>`."""
        procedure = self._find(exchange.request.path.removeprefix("/"), Kind.CALL)
        value = procedure.decode_input(await exchange.receive_body() or None)
        context = self._context(procedure, exchange)
        with context.cancel_scope as scope:
            result = await procedure.invoke(value, context)
            await respond(exchange, 200, procedure.encode_output(result), [("content-type", "application/json")])
        if scope.cancelled_caught:
            raise _cancelled(context)


def _gone(exchange: Exchange) -> Exception | None:
    if exchange.cancel_scope.cancel_called:
        return ConnectionLost(f"{exchange.request.peer} is gone")
    return None


def _cancelled(context: Context) -> RpcError:
    """Why a handler's own scope was cancelled: by its caller's deadline, or by itself."""
    if trio.current_time() >= context.deadline:
        return RpcError(Code.DEADLINE_EXCEEDED, "the deadline passed")
    return RpcError(Code.CANCELLED, "the handler cancelled itself")


async def _payloads(procedure: Procedure, answer: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes | Event, None]:
    encode, id_of = procedure.encode_output, procedure.id_of
    async with aclosing(answer):
        async for item in answer:
            yield encode(item) if id_of is None else Event(encode(item), id=_id(id_of(item)))


def _id(value: object) -> str:
    return "" if value is None else str(value)


def _deadline(header: str | None) -> float:
    if header is None:
        return math.inf
    if not header.isascii() or not header.isdigit() or len(header) > len(str(LONGEST_MS)):
        raise RpcError(
            Code.INVALID_ARGUMENT, f"{TIMEOUT_HEADER} is a number of milliseconds, not {len(header)} characters of text"
        )
    return trio.current_time() + int(header) / 1000
