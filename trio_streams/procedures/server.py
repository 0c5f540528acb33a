"""Serves a router's procedures on streams: which handler, with which input, and what becomes of its answer.

On our dialect OPEN names the procedure. A call and a server stream take no item or one, the input; client and
bidirectional streams take a run. The answer is a run of items, one for calls and client streams, then END with the
status; how an exception ends the stream is the owner's exit policy (`Connection.own`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.driver import Handler
from trio_streams.errors import RpcError
from trio_streams.procedures.coding import asked_for
from trio_streams.procedures.procedure import Kind, Procedure
from trio_streams.procedures.router import Router
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, intercept
from trio_streams.service.runner import pump
from trio_streams.streams.wire import StopPolicy, WireStream

__all__ = ["not_found", "prepare"]

_POLICIES: Final[Mapping[Kind, StopPolicy]] = {
    Kind.CALL: StopPolicy.ALWAYS,
    Kind.EVENT: StopPolicy.ON_ERROR,
    Kind.SERVER: StopPolicy.ALWAYS,
    Kind.CLIENT: StopPolicy.ON_ERROR,
    Kind.BIDIRECTIONAL: StopPolicy.WHEN_ENDED,
}


def not_found(name: str) -> RpcError:
    """The error for a name that no procedure has; a long name is cut, for it comes from a stranger."""
    shown = name if len(name) <= 100 else f"{name[:100]}… ({len(name)} characters)"
    return RpcError(Code.NOT_FOUND, f"there is no procedure {shown!r}")


def prepare(router: Router, stream: WireStream[bytes, bytes], *, background: Background | None = None) -> Handler:
    """Choose what serves a stream that a peer has just opened; the name is looked up once, here.

    Args:
      router: the application's procedures.
      stream: as it was opened.
      background: runs events; None runs them in the stream, so that they end with their connection.

    Returns:
      The handler to run in the stream's scope.
    """
    found = router.find(stream.name)
    if found is None:
        return _refuse
    procedure, params = found
    stream.stop_policy = _POLICIES[procedure.kind]
    interceptors = (*router.interceptors, *procedure.interceptors)

    async def serve(stream: WireStream[bytes, bytes]) -> None:
        invocation = _invocation(procedure, params, stream)
        if procedure.kind is Kind.EVENT and background is not None:
            await _start_event(procedure, interceptors, invocation, stream, background)
        else:
            await _serve(procedure, interceptors, invocation, stream)

    return serve


async def _refuse(stream: WireStream[bytes, bytes]) -> None:
    raise not_found(stream.name)


def _invocation(procedure: Procedure, params: Mapping[str, str], stream: WireStream[bytes, bytes]) -> Invocation:
    context = Context(
        procedure=procedure.name,
        peer=stream.peer,
        metadata=stream.metadata,
        deadline=stream.deadline,
        cancel_scope=stream.cancel_scope,
        request_id=str(stream.id),
        params=params,
        find_reason=lambda: stream.cancel_reason,
    )
    return Invocation(name=procedure.name, kind=procedure.kind.value, context=context, declared=procedure.metadata)


async def _serve(
    procedure: Procedure, interceptors: Sequence[Interceptor], invocation: Invocation, stream: WireStream[bytes, bytes]
) -> None:
    procedure = procedure.coded(*asked_for(stream.metadata))

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

    result = await intercept(interceptors, invocation, run)
    if procedure.kind.gives_result:
        await stream.send_last(procedure.encode_output(result))


async def _start_event(
    procedure: Procedure,
    interceptors: Sequence[Interceptor],
    invocation: Invocation,
    stream: WireStream[bytes, bytes],
    background: Background,
) -> None:
    """The stream ends when its event has begun: its caller waits for nothing, and may be gone before it is done."""
    procedure = procedure.coded(*asked_for(stream.metadata))
    payload = await _receive_input(stream)
    scope = trio.CancelScope()
    invocation.context = attrs.evolve(
        invocation.context, cancel_scope=scope, deadline=math.inf, find_reason=lambda: None
    )

    async def run() -> object:
        value = invocation.received(procedure.decode_input(payload))
        return await procedure.invoke(value, invocation.context)

    async def run_event() -> None:
        with scope:
            await intercept(interceptors, invocation, run)

    await background.start(f"event {procedure.name!r} from {stream.peer}", run_event)


async def _receive_input(stream: WireStream[bytes, bytes]) -> bytes | None:
    try:
        return await stream.receive()
    except trio.EndOfChannel:
        return None
