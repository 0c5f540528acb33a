"""A router's procedures over HTTP.

::

    GET  /streams/<name>?k=v   a server stream: `data:` events, then `event: end` or `event: error`; 204 to who has
                               seen the end; or a line of JSON for each item, where those are asked for
    POST /streams/<name>       a client stream: the items as lines of JSON, or bytes as they come; the result as JSON
    POST /<name>               a call: the input as JSON, the result as JSON
    POST /events/<name>        an event: 202 as soon as it has begun
    POST /rpc                  JSON-RPC 2.0, batches too
    GET  /docs/…               documents, where the application has enabled them

The exchange's host does the I/O, and answers what a handler raises.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Final

import trio

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.procedures.dispatch import Found, cancelled, find, not_found, run_call, run_event
from trio_streams.procedures.documents.routes import add_documents
from trio_streams.procedures.durable.place import PLACE_KEY
from trio_streams.procedures.durable.runs import DurableRuns, need_runs
from trio_streams.procedures.http_query import check_utf8, query_input
from trio_streams.procedures.http_upload import receive_items
from trio_streams.procedures.interceptors.authentication import TICKET_KEY
from trio_streams.procedures.jsonrpc import JsonRpcEndpoint, JsonRpcRunner
from trio_streams.procedures.procedure import Kind
from trio_streams.procedures.router import Router
from trio_streams.service.access import OnAccess
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.exchange import Exchange, ExchangeHandler, Routes, respond
from trio_streams.service.interceptor import Invocation, intercept
from trio_streams.service.ndjson import prefers_ndjson, respond_ndjson
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

_TICKET_PARAMETER: Final = "ticket"

_OWN_PARAMETERS: Final = frozenset({"events", LAST_EVENT_ID_PARAMETER, _TICKET_PARAMETER})
"""Of the dialect itself, not of the procedure."""

_JSON_HEADERS: Final = (("content-type", "application/json"),)


def http_handler(
    router: Router,
    find_urls: Callable[[], Sequence[str]] = tuple,
    *,
    sse_config: SseConfig | None = None,
    background: Background | None = None,
    runs: DurableRuns | None = None,
    on_access: OnAccess | None = None,
) -> ExchangeHandler:
    """The handler of all requests to a router.

    Args:
      router: the application's procedures.
      find_urls: where else the application is served, to name in errors about what HTTP can't carry.
      sse_config: heartbeats and the like; None for the defaults.
      background: runs events; None runs each before it is answered.
      runs: of durable procedures; None refuses those.
      on_access: told of each JSON-RPC call, of which one request may have many; exchanges are for the host to tell of.
    """
    face = _Face(router, find_urls, sse_config or SseConfig(), background, runs)
    routes = Routes()
    routes.add("GET", "/streams/*", face.stream)
    routes.add("POST", "/streams/*", face.upload)
    routes.add("POST", "/events/*", face.event)
    runner = JsonRpcRunner(router, find_urls, background=background, on_access=on_access)
    routes.add("POST", "/rpc", JsonRpcEndpoint(runner, face.context))
    routes.add("POST", "/*", face.call)
    add_documents(routes, router, find_urls)
    return routes


class _Face:
    def __init__(
        self,
        router: Router,
        find_urls: Callable[[], Sequence[str]],
        sse_config: SseConfig,
        background: Background | None,
        runs: DurableRuns | None,
    ) -> None:
        self._sse_config = sse_config
        self._router = router
        self._find_urls = find_urls
        self._background = background
        self._runs = runs
        self._numbers = count(1)

    def _find(self, name: str, kind: Kind) -> Found:
        found = find(self._router, name)
        if found is None:
            raise not_found(name)
        its = found.procedure.kind
        if its is kind:
            return found
        if its is not Kind.BIDIRECTIONAL:
            what, where = {
                Kind.CALL: ("a call", f"POST /{name}"),
                Kind.EVENT: ("an event", f"POST /events/{name}"),
                Kind.SERVER: ("a server stream", f"GET /streams/{name}"),
                Kind.CLIENT: ("a client stream", f"POST /streams/{name}"),
            }[its]
            raise RpcError(Code.FAILED_PRECONDITION, f"{name!r} is {what}: {where}")
        others = " or ".join(url for url in self._find_urls() if not url.startswith("http"))
        raise RpcError(
            Code.UNIMPLEMENTED,
            f"{name!r} is a {its.value} stream, which HTTP can't carry; "
            f"use {others or 'a tcp:// or ws:// URL, where this application is served on one'}",
        )

    def context(self, found: Found, exchange: Exchange) -> Context:
        """What a handler knows of an exchange."""
        request = exchange.request
        deadline = _deadline(request.header(TIMEOUT_HEADER))
        metadata = dict(request.headers)
        if (tickets := request.query.get(_TICKET_PARAMETER)) is not None:
            metadata[TICKET_KEY] = tickets[-1]
        return Context(
            procedure=found.procedure.name,
            peer=request.peer,
            metadata=metadata,
            deadline=deadline,
            # Inside the exchange's own scope, so that a deadline still leaves the exchange to answer with.
            cancel_scope=trio.CancelScope(deadline=deadline),
            request_id=request.header("x-request-id") or f"http-{next(self._numbers)}",
            last_event_id=last_event_id(request),
            params=found.params,
            find_reason=lambda: _gone(exchange),
        )

    async def stream(self, exchange: Exchange) -> None:
        """`GET /streams/<name>`."""
        found = self._find(exchange.request.path.removeprefix("/streams/"), Kind.SERVER)
        if await refuse_ended(exchange):
            return
        procedure = found.procedure
        context = self.context(found, exchange)
        invocation = found.invocation(context)
        is_lines = prefers_ndjson(exchange.request, procedure.content_type)

        async def run() -> None:
            check_utf8(exchange.request.query_string)
            query = {key: values for key, values in exchange.request.query.items() if key not in _OWN_PARAMETERS}
            value = invocation.received(query_input(procedure, query))
            if procedure.durable is not None:
                await self._stream_durable(exchange, found, invocation, value, is_lines=is_lines)
                return
            answer = procedure.invoke(value, invocation.context)
            payloads = _payloads(found, invocation, answer)
            if is_lines:
                await respond_ndjson(exchange, payloads)
            else:
                await respond_sse(exchange, payloads, config=self._sse_config)

        with context.cancel_scope as scope:
            await intercept(found.interceptors, invocation, run)
            if not exchange.has_head:  # answered by an interceptor, with nothing
                await respond_sse(exchange, _nothing(), config=self._sse_config)
        if scope.cancelled_caught:
            if is_lines or not exchange.has_head:
                raise cancelled(context)
            await send_error(exchange, cancelled(context))

    async def _stream_durable(
        self, exchange: Exchange, found: Found, invocation: Invocation, value: object, *, is_lines: bool
    ) -> None:
        runs = need_runs(self._runs, found.procedure)
        if exchange.request.method == "HEAD":
            return  # a look starts nothing
        async with runs.reading(found, invocation, value) as reading:
            if is_lines:
                await respond_ndjson(exchange, reading.events())
            else:
                place = str(reading.place)
                headers = [(PLACE_KEY, place)]
                config = self._sse_config
                await respond_sse(exchange, reading.events(), config=config, headers=headers, first_id=place)

    async def upload(self, exchange: Exchange) -> None:
        """`POST /streams/<name>`."""
        found = self._find(exchange.request.path.removeprefix("/streams/"), Kind.CLIENT)
        procedure = found.procedure
        context = self.context(found, exchange)
        invocation = found.invocation(context)

        async def run() -> object:
            async with receive_items(exchange, procedure, invocation) as items:
                return invocation.sent(await procedure.invoke(items, invocation.context))

        with context.cancel_scope as scope:
            payload = procedure.encode_output(await intercept(found.interceptors, invocation, run))
            await respond(exchange, 200, payload, _JSON_HEADERS)
        if scope.cancelled_caught:
            raise cancelled(context)

    async def call(self, exchange: Exchange) -> None:
        """`POST /<name>`."""
        found = self._find(exchange.request.path.removeprefix("/"), Kind.CALL)
        payload = await exchange.receive_body() or None
        await respond(exchange, 200, await run_call(found, self.context(found, exchange), payload), _JSON_HEADERS)

    async def event(self, exchange: Exchange) -> None:
        """`POST /events/<name>`."""
        found = self._find(exchange.request.path.removeprefix("/events/"), Kind.EVENT)
        payload = await exchange.receive_body() or None
        context = self.context(found, exchange)
        with context.cancel_scope as scope:
            await run_event(found, context, payload, self._background)
        if scope.cancelled_caught:
            raise cancelled(context)
        await respond(exchange, 202, b"")


def _gone(exchange: Exchange) -> Exception | None:
    if exchange.cancel_scope.cancel_called:
        return ConnectionLost(f"{exchange.request.peer} is gone")
    return None


async def _payloads(
    found: Found, invocation: Invocation, answer: AsyncGenerator[Any, None]
) -> AsyncGenerator[bytes | Event, None]:
    encode, id_of = invocation.encoding(found.procedure.encode_output), found.procedure.id_of
    async with aclosing(answer):
        async for item in answer:
            yield encode(item) if id_of is None else Event(encode(item), id=_id(id_of(item)))


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield  # pragma: no cover - makes this a generator


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
