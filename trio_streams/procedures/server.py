"""Serves a router's procedures on streams: which handler, with which input, and what becomes of its answer.

On our dialect OPEN names the procedure. A call and a server stream take no item or one, the input; client and
bidirectional streams take a run. The answer is a run of items, one for calls and client streams, then END with the
status; how an exception ends the stream is the owner's exit policy (`Connection.own`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from trio_streams.codes import Code
from trio_streams.driver import Handler
from trio_streams.errors import RpcError
from trio_streams.procedures.procedure import Kind, Procedure
from trio_streams.procedures.router import Router
from trio_streams.service.context import Context
from trio_streams.service.runner import pump
from trio_streams.streams.wire import StopPolicy, WireStream

__all__ = ["not_found", "prepare"]

_POLICIES: Final[Mapping[Kind, StopPolicy]] = {
    Kind.CALL: StopPolicy.ALWAYS,
    Kind.SERVER: StopPolicy.ALWAYS,
    Kind.CLIENT: StopPolicy.ON_ERROR,
    Kind.BIDIRECTIONAL: StopPolicy.WHEN_ENDED,
}


def not_found(name: str) -> RpcError:
    """The error for a name that no procedure has; a long name is cut, for it comes from a stranger."""
    shown = name if len(name) <= 100 else f"{name[:100]}… ({len(name)} characters)"
    return RpcError(Code.NOT_FOUND, f"there is no procedure {shown!r}")


def prepare(router: Router, stream: WireStream[bytes, bytes]) -> Handler:
    """Choose what serves a stream that a peer has just opened; the name is looked up once, here.

    Args:
      router: the application's procedures.
      stream: as it was opened.

    Returns:
      The handler to run in the stream's scope.
    """
    procedure = router.get(stream.name)
    if procedure is None:
        return _refuse
    stream.stop_policy = _POLICIES[procedure.kind]

    async def serve(stream: WireStream[bytes, bytes]) -> None:
        await _serve(procedure, stream)

    return serve


async def _refuse(stream: WireStream[bytes, bytes]) -> None:
    raise not_found(stream.name)


async def _serve(procedure: Procedure, stream: WireStream[bytes, bytes]) -> None:
    context = Context(
        procedure=procedure.name,
        peer=stream.peer,
        metadata=stream.metadata,
        deadline=stream.deadline,
        cancel_scope=stream.cancel_scope,
        request_id=str(stream.id),
        find_reason=lambda: stream.cancel_reason,
    )
    value: object
    if procedure.kind.takes_items:
        value = stream.typed(None, procedure.decode_item)
    else:
        value = procedure.decode_input(await _receive_input(stream))
    answer = procedure.invoke(value, context)
    if procedure.kind.gives_items:
        await pump(answer, stream.typed(procedure.encode_output, None))
    else:
        await stream.send_last(procedure.encode_output(await answer))


async def _receive_input(stream: WireStream[bytes, bytes]) -> bytes | None:
    try:
        return await stream.receive()
    except trio.EndOfChannel:
        return None
