"""JSON-RPC 2.0 over HTTP: calls and events, alone or in batches, at `POST /rpc`.

A notification is run and not answered. The calls of a batch run at the same time, a few at once; their answers are in the
order of the calls. Streams can't travel so: who asks for one is told where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import trio

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import RpcError, as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.dispatch import Found, find, not_found, run_call, run_event
from trio_streams.procedures.procedure import Kind
from trio_streams.procedures.router import Router
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.exchange import Exchange, respond
from trio_streams.wire.json_rpc import JsonRpcCall, JsonRpcExchange, JsonRpcLimits

__all__ = ["JsonRpcEndpoint", "MakeContext"]

MakeContext: TypeAlias = Callable[[Found, Exchange], Context]
"""Makes the context of one call of an exchange."""

_MAX_RUNNING: Final = 16


class JsonRpcEndpoint:
    """The handler of `POST /rpc`.

    Args:
      router: the application's procedures.
      make_context: of each call.
      find_urls: where else the application is served, to name to those who ask for a stream.
      background: runs events; None runs them before the answer.
      limits: of texts and batches.
      max_running: calls of one batch at once.
    """

    def __init__(
        self,
        router: Router,
        make_context: MakeContext,
        find_urls: Callable[[], Sequence[str]] = tuple,
        *,
        background: Background | None = None,
        limits: JsonRpcLimits | None = None,
        max_running: int = _MAX_RUNNING,
    ) -> None:
        self._router = router
        self._make_context = make_context
        self._find_urls = find_urls
        self._background = background
        self._limits = limits or JsonRpcLimits()
        self._max_running = max_running

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a text of calls: 200 with what is owed, 204 where nothing is."""
        rpc = JsonRpcExchange(await exchange.receive_body(max_bytes=self._limits.max_text_bytes), self._limits)
        if len(rpc.calls) == 1:
            await self._run(exchange, rpc, rpc.calls[0])
        else:
            room = trio.CapacityLimiter(self._max_running)
            async with open_bare_nursery() as nursery:
                for call in rpc.calls:
                    nursery.start_soon(self._run_in_turn, room, exchange, rpc, call)
        text = rpc.text()
        await respond(exchange, 200 if text else 204, text, [("content-type", "application/json")] if text else [])

    async def _run_in_turn(
        self, room: trio.CapacityLimiter, exchange: Exchange, rpc: JsonRpcExchange, call: JsonRpcCall
    ) -> None:
        async with room:
            await self._run(exchange, rpc, call)

    async def _run(self, exchange: Exchange, rpc: JsonRpcExchange, call: JsonRpcCall) -> None:
        try:
            rpc.respond(call.number, await self._result(exchange, call))
        except Exception as exc:  # noqa: BLE001 - a call is the boundary: its failure is its answer
            error = as_rpc_error(exc)
            rpc.fail(call.number, Status(error.code, error.message, error.details))

    async def _result(self, exchange: Exchange, call: JsonRpcCall) -> bytes:
        found = find(self._router, call.method)
        if found is None:
            raise not_found(call.method)
        context = self._make_context(found, exchange)
        match found.procedure.kind:
            case Kind.CALL:
                return await run_call(found, context, call.params)
            case Kind.EVENT:
                await run_event(found, context, call.params, self._background)
                return b"null"
            case kind:
                others = " or ".join(url for url in self._find_urls() if not url.startswith("http"))
                where = f"GET /streams/{call.method}" if kind is Kind.SERVER else others or "a tcp:// or ws:// URL"
                raise RpcError(
                    Code.UNIMPLEMENTED,
                    f"{call.method!r} is a {kind.value} stream, which JSON-RPC can't carry; use {where}",
                )
