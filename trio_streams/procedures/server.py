"""Serves a router's procedures on streams: which handler, with which input, and what becomes of its answer.

On our dialect OPEN names the procedure. A call and a server stream take no item or one, the input; client and
bidirectional streams take a run. The answer is a run of items, one for calls and client streams, then END with the
status; how an exception ends the stream is the owner's exit policy (`Connection.own`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

import attrs
import trio

from trio_streams.driver import Handler
from trio_streams.procedures.coding import JSON, asked_for
from trio_streams.procedures.dispatch import Found, find, not_found, run_event
from trio_streams.procedures.durable.place import LAST_ID_KEY, PLACE_KEY
from trio_streams.procedures.durable.runs import DurableRuns, need_runs
from trio_streams.procedures.procedure import Kind
from trio_streams.procedures.router import Router
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.interceptor import intercept
from trio_streams.service.runner import pump
from trio_streams.streams.wire import StopPolicy, WireStream

__all__ = ["prepare"]

_POLICIES: Final[Mapping[Kind, StopPolicy]] = {
    Kind.CALL: StopPolicy.ALWAYS,
    Kind.EVENT: StopPolicy.ON_ERROR,
    Kind.SERVER: StopPolicy.ALWAYS,
    Kind.CLIENT: StopPolicy.ON_ERROR,
    Kind.BIDIRECTIONAL: StopPolicy.WHEN_ENDED,
}


def prepare(
    router: Router,
    stream: WireStream[bytes, bytes],
    *,
    background: Background | None = None,
    runs: DurableRuns | None = None,
    is_json: bool = False,
) -> Handler:
    """Choose what serves a stream that a peer has just opened; the name is looked up once, here.

    Args:
      router: the application's procedures.
      stream: as it was opened.
      background: runs events; None runs them in the stream, so that they end with their connection.
      runs: of durable procedures; None refuses those.
      is_json: whether the dialect has nothing but JSON, whatever the caller asks for.

    Returns:
      The handler to run in the stream's scope.
    """
    found = find(router, stream.name)
    if found is None:
        return _refuse
    stream.stop_policy = _POLICIES[found.procedure.kind]

    async def serve(stream: WireStream[bytes, bytes]) -> None:
        coded = found
        if not is_json and (types := asked_for(stream.metadata)) != (JSON, JSON):
            coded = attrs.evolve(found, procedure=found.procedure.coded(*types))
        context = _context(coded, stream)
        if coded.procedure.kind is Kind.EVENT:
            await run_event(coded, context, await _receive_input(stream), background)
        elif coded.procedure.durable is not None:
            await _serve_durable(found, coded, context, stream, need_runs(runs, found.procedure))
        else:
            await _serve(coded, context, stream)

    return serve


async def _refuse(stream: WireStream[bytes, bytes]) -> None:
    raise not_found(stream.name)


def _context(found: Found, stream: WireStream[bytes, bytes]) -> Context:
    return Context(
        procedure=found.procedure.name,
        peer=stream.peer,
        metadata=stream.metadata,
        deadline=stream.deadline,
        cancel_scope=stream.cancel_scope,
        request_id=str(stream.id),
        params=found.params,
        last_event_id=stream.metadata.get(LAST_ID_KEY),
        find_reason=lambda: stream.cancel_reason,
    )


async def _serve(found: Found, context: Context, stream: WireStream[bytes, bytes]) -> None:
    procedure = found.procedure
    invocation = found.invocation(context)

    async def run() -> object:
        value: object
        if procedure.kind.takes_items:
            value = stream.typed(None, invocation.decoding(procedure.decode_item))
        else:
            value = invocation.received(procedure.decode_input(await _receive_input(stream)))
        answer = procedure.invoke(value, invocation.context)
        if procedure.kind.gives_items:
            return await pump(answer, stream.typed(invocation.encoding(procedure.encode_output), None))
        return invocation.sent(await answer)

    result = await intercept(found.interceptors, invocation, run)
    if procedure.kind.gives_result:
        await stream.send_last(procedure.encode_output(result))


async def _serve_durable(
    found: Found, coded: Found, context: Context, stream: WireStream[bytes, bytes], runs: DurableRuns
) -> None:
    """Answer with a run's items; the answer's head says where in the run it begins, and an item more is one place later."""
    procedure, invocation = coded.procedure, coded.invocation(context)
    encode = None if coded is found else procedure.encode_output

    async def run() -> None:
        value = invocation.received(procedure.decode_input(await _receive_input(stream)))
        async with runs.reading(found, invocation, value, encode) as reading:
            await stream.send_header({PLACE_KEY: str(reading.place)})
            async with aclosing(reading.batches()) as batches:
                async for batch in batches:
                    await stream.send_many(batch.items)

    await intercept(found.interceptors, invocation, run)


async def _receive_input(stream: WireStream[bytes, bytes]) -> bytes | None:
    # It is nearly always here, and the handler's task has just begun, which was a schedule point.
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        return stream.receive_nowait()
    except trio.EndOfChannel:
        return None
    except trio.WouldBlock:
        pass
    try:
        return await stream.receive()
    except trio.EndOfChannel:
        return None
