"""Running a call or an event whose input is here: what HTTP, JSON-RPC and our own dialect have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.procedure import Procedure
from trio_streams.procedures.router import Router
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, intercept

__all__ = ["Found", "cancelled", "find", "not_found", "run_call", "run_event"]


@attrs.frozen
class Found:
    """What a caller's name stands for.

    Attributes:
      procedure: of that name.
      params: what is in the place of the name's parameters.
      interceptors: all that stand around it, the outermost first.
    """

    procedure: Procedure
    params: Mapping[str, str]
    interceptors: Sequence[Interceptor]

    def invocation(self, context: Context) -> Invocation:
        """What interceptors are told of a use of it."""
        procedure = self.procedure
        return Invocation(name=procedure.name, kind=procedure.kind.value, context=context, declared=procedure.metadata)


def find(router: Router, name: str) -> Found | None:
    """Look a name up; None for one that no procedure has."""
    found = router.find(name)
    if found is None:
        return None
    procedure, params = found
    return Found(procedure, params, (*router.interceptors, *procedure.interceptors))


def not_found(name: str) -> RpcError:
    """The error for a name that no procedure has; a long name is cut, for it comes from a stranger."""
    shown = name if len(name) <= 100 else f"{name[:100]}… ({len(name)} characters)"
    return RpcError(Code.NOT_FOUND, f"there is no procedure {shown!r}")


def cancelled(context: Context) -> RpcError:
    """Why a handler's own scope was cancelled: by its caller's deadline, or by itself."""
    if trio.current_time() >= context.deadline:
        return RpcError(Code.DEADLINE_EXCEEDED, "the deadline passed")
    return RpcError(Code.CANCELLED, "the handler cancelled itself")


async def run_call(found: Found, context: Context, payload: bytes | None) -> bytes:
    """Run a call inside its interceptors and its own cancel scope.

    Args:
      found: a call.
      context: of this use of it.
      payload: the input; None for none.

    Returns:
      The payload of the result.

    Raises:
      Exception: what came out of the interceptors; CodecError for a wrong input.
      RpcError: DEADLINE_EXCEEDED or CANCELLED: the context's scope was cancelled.
    """
    procedure = found.procedure
    invocation = found.invocation(context)

    async def run() -> object:
        value = invocation.received(procedure.decode_input(payload))
        return invocation.sent(await procedure.invoke(value, invocation.context))

    with context.cancel_scope:
        return procedure.encode_output(await intercept(found.interceptors, invocation, run))
    raise cancelled(context)


async def run_event(
    found: Found, context: Context, payload: bytes | None, background: Background | None = None
) -> None:
    """Run an event: returns when its handler has begun in the background, or where there is none, when it is over.

    Args:
      found: an event.
      context: of this use of it, in whose scope the caller is already; in the background it gets a scope of its own, and
        no deadline.
      payload: the input; None for none.
      background: owns its task; None runs it here.

    Raises:
      Exception: as `run_call`; in the background, what was raised before the handler had begun, such as a refusal.
    """
    procedure = found.procedure
    if background is not None:
        context = attrs.evolve(context, cancel_scope=trio.CancelScope(), deadline=math.inf, find_reason=lambda: None)
    invocation = found.invocation(context)

    async def run(begin: Callable[[], None]) -> object:
        value = invocation.received(procedure.decode_input(payload))
        begin()
        return await procedure.invoke(value, invocation.context)

    async def run_alone(begin: Callable[[], None]) -> None:
        with context.cancel_scope:
            await intercept(found.interceptors, invocation, partial(run, begin))

    if background is None:
        await intercept(found.interceptors, invocation, partial(run, lambda: None))
    else:
        await background.start(f"event {procedure.name!r} from {context.peer}", run_alone)
