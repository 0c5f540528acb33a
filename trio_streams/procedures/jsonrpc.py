"""JSON-RPC 2.0: calls and events, alone or in batches, at `POST /rpc` and as texts on a WebSocket of envelopes.

A notification is run and not answered. The calls of a batch run at the same time, a few at once; their answers are in the
order of the calls. Streams can't travel so: who asks for one is told where it can.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import trio

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import RpcError, as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.dispatch import Found, find, not_found, run_call, run_event
from trio_streams.procedures.procedure import Kind
from trio_streams.procedures.router import Router
from trio_streams.service.access import OnAccess, StreamRecord
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.exchange import Exchange, respond
from trio_streams.wire.json_rpc import JsonRpcCall, JsonRpcExchange, JsonRpcLimits

__all__ = ["JsonRpcEndpoint", "JsonRpcRunner", "MakeContext"]

MakeContext: TypeAlias = Callable[[Found, Exchange], Context]
"""Makes the context of one call of an exchange."""

_MAX_RUNNING: Final = 16


class JsonRpcRunner:
    """Runs the calls of a text.

    Args:
      router: the application's procedures.
      find_urls: where else the application is served, to name to those who ask for a stream.
      background: runs events; None runs them before the answer.
      limits: of texts and batches.
      max_running: calls of one batch at once.
      on_access: told of each call when it is over; None for no log.
    """

    def __init__(
        self,
        router: Router,
        find_urls: Callable[[], Sequence[str]] = tuple,
        *,
        background: Background | None = None,
        limits: JsonRpcLimits | None = None,
        max_running: int = _MAX_RUNNING,
        on_access: OnAccess | None = None,
    ) -> None:
        self.limits: JsonRpcLimits = limits or JsonRpcLimits()
        self._router = router
        self._find_urls = find_urls
        self._background = background
        self._max_running = max_running
        self._on_access = on_access

    async def run(
        self, text: bytes, make_context: Callable[[Found], Context], *, peer: str = "", transport: str = ""
    ) -> bytes:
        """Run a text's calls.

        Args:
          text: as it came.
          make_context: of each call, for what its name stands for.
          peer: who asks, for the access log.
          transport: what carried the text, likewise.

        Returns:
          The answer's text; empty where none is owed.

        Cancellation: the calls are cancelled.
        """
        rpc = JsonRpcExchange(text, self.limits)
        run = self._run if self._on_access is None else partial(self._run_recorded, self._on_access, peer, transport)
        if len(rpc.calls) == 1:
            await run(make_context, rpc, rpc.calls[0])
        else:
            room = trio.CapacityLimiter(self._max_running)
            async with open_bare_nursery() as nursery:
                for call in rpc.calls:
                    nursery.start_soon(_run_in_turn, room, partial(run, make_context, rpc, call))
        return rpc.text()

    async def _run_recorded(
        self,
        on_access: OnAccess,
        peer: str,
        transport: str,
        make_context: Callable[[Found], Context],
        rpc: JsonRpcExchange,
        call: JsonRpcCall,
    ) -> None:
        started = trio.current_time()
        code, size = Code.CANCELLED.name, 0
        try:
            code, size = await self._run(make_context, rpc, call)
        finally:
            on_access(
                StreamRecord(
                    procedure=call.method,
                    transport=transport,
                    peer=peer,
                    code=code,
                    items_received=1,
                    items_sent=int(size > 0),
                    received_bytes=len(call.params or b""),
                    sent_bytes=size,
                    duration=trio.current_time() - started,
                )
            )

    async def _run(
        self, make_context: Callable[[Found], Context], rpc: JsonRpcExchange, call: JsonRpcCall
    ) -> tuple[str, int]:
        """How the call ended, and the bytes of its result."""
        try:
            result = await self._result(make_context, call)
            rpc.respond(call.number, result)
        except Exception as exc:  # noqa: BLE001 - a call is the boundary: its failure is its answer
            error = as_rpc_error(exc)
            rpc.fail(call.number, Status(error.code, error.message, error.details))
            return error.code, 0
        return Code.OK.name, 0 if call.is_notification else len(result)

    async def _result(self, make_context: Callable[[Found], Context], call: JsonRpcCall) -> bytes:
        found = find(self._router, call.method)
        if found is None:
            raise not_found(call.method)
        context = make_context(found)
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


async def _run_in_turn(room: trio.CapacityLimiter, run: Callable[[], Awaitable[object]]) -> None:
    async with room:
        await run()


class JsonRpcEndpoint:
    """The handler of `POST /rpc`.

    Args:
      runner: runs the calls.
      make_context: of each call.
    """

    def __init__(self, runner: JsonRpcRunner, make_context: MakeContext) -> None:
        self._runner = runner
        self._make_context = make_context

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a text of calls: 200 with what is owed, 204 where nothing is."""
        body = await exchange.receive_body(max_bytes=self._runner.limits.max_text_bytes)
        request = exchange.request
        text = await self._runner.run(
            body, partial(self._context, exchange), peer=request.peer, transport=request.scheme
        )
        await respond(exchange, 200 if text else 204, text, [("content-type", "application/json")] if text else [])

    def _context(self, exchange: Exchange, found: Found) -> Context:
        return self._make_context(found, exchange)
