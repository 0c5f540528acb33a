"""What a handler knows of its call."""

from __future__ import annotations

import attrs
import pytest
import trio

from trio_streams.codes import Code
from trio_streams.errors import StreamStopped
from trio_streams.service.context import Context


def make(scope: trio.CancelScope) -> Context:
    return Context(procedure="p", peer="peer", metadata={"k": "v"}, deadline=5.0, cancel_scope=scope, request_id="1")


async def test_cancelled_follows_the_scope() -> None:
    """`cancelled` says whether the scope was cancelled, by whomever."""
    scope = trio.CancelScope()
    context = make(scope)
    assert not context.cancelled
    scope.cancel()
    assert context.cancelled


async def test_cancel_reason() -> None:
    """Without a source of reasons there is none; with one it is asked each time."""
    context = make(trio.CancelScope())
    assert context.cancel_reason is None
    reasons = [None, StreamStopped(Code.ABORTED, "why")]
    asked = attrs.evolve(context, find_reason=lambda: reasons.pop(0))
    assert asked.cancel_reason is None
    assert isinstance(asked.cancel_reason, StreamStopped)


async def test_a_context_is_frozen_and_shows_itself() -> None:
    """A handler can't change its context; its repr names the procedure and the caller."""
    context = make(trio.CancelScope())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        context.peer = "other"  # type: ignore[misc]
    assert "procedure='p', peer='peer'" in repr(context)
