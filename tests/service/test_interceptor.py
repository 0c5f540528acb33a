"""Interceptors by themselves: order, items, results, and what must not happen twice."""

from __future__ import annotations

import pytest
import trio

from trio_streams.errors import LocalProtocolError
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, Proceed, intercept


def make_invocation() -> Invocation:
    context = Context(procedure="p", peer="", metadata={}, deadline=0, cancel_scope=trio.CancelScope(), request_id="1")
    return Invocation(name="p", kind="call", context=context)


def noting(log: list[str], name: str) -> Interceptor:
    async def note(invocation: Invocation, proceed: Proceed) -> object:
        log.append(f"{name} before")
        try:
            return await proceed()
        finally:
            log.append(f"{name} after")

    return note


async def innermost() -> object:
    await trio.lowlevel.checkpoint()
    return 5


async def test_one_runs_inside_the_other() -> None:
    """The first is outermost, and sees the end last."""
    log: list[str] = []
    assert await intercept([noting(log, "a"), noting(log, "b")], make_invocation(), innermost) == 5
    assert log == ["a before", "b before", "b after", "a after"]


async def test_without_any_the_handler_just_runs() -> None:
    """No interceptors, no difference."""
    assert await intercept([], make_invocation(), innermost) == 5


async def test_what_an_interceptor_returns_is_the_result() -> None:
    """It may change what came from inside, or answer without proceeding."""

    async def double(invocation: Invocation, proceed: Proceed) -> object:
        value = await proceed()
        assert isinstance(value, int)
        return 2 * value

    async def answer(invocation: Invocation, proceed: Proceed) -> object:
        return 7

    assert await intercept([double], make_invocation(), innermost) == 10
    assert await intercept([double, answer], make_invocation(), innermost) == 14


async def test_proceeding_twice_is_refused() -> None:
    """A handler runs once for each call."""

    async def twice(invocation: Invocation, proceed: Proceed) -> object:
        await proceed()
        return await proceed()

    with pytest.raises(LocalProtocolError, match="'p' can't proceed twice"):
        await intercept([twice], make_invocation(), innermost)


async def test_errors_and_cancellation_pass_through() -> None:
    """What the handler raises reaches each interceptor, and then the caller; so does a cancellation."""
    log: list[str] = []

    async def fail() -> object:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await intercept([noting(log, "a")], make_invocation(), fail)
    with trio.CancelScope() as scope:
        scope.cancel()
        await intercept([noting(log, "b")], make_invocation(), innermost)
    assert scope.cancelled_caught
    assert log == ["a before", "a after", "b before", "b after"]


def test_items_pass_the_interceptors_in_the_order_they_meet_them() -> None:
    """What is received comes from the outside in, what is sent from the inside out; observers change nothing."""
    invocation = make_invocation()
    seen: list[object] = []
    for name in ("outer", "inner"):
        invocation.map_received(lambda item, name=name: f"{item} {name}")  # type: ignore[misc]
        invocation.map_sent(lambda item, name=name: f"{item} {name}")  # type: ignore[misc]
    invocation.on_received(seen.append)
    invocation.on_sent(seen.append)
    assert invocation.received("x") == "x outer inner"
    assert invocation.sent("y") == "y inner outer"
    assert seen == ["x outer inner", "y"]


def test_codecs_are_left_alone_where_nobody_asked() -> None:
    """A handler without interceptors pays nothing for its items; with them, decoding comes first and encoding last."""
    invocation = make_invocation()
    assert invocation.decoding(int) is int
    assert invocation.encoding(repr) is repr
    invocation.map_received(lambda item: [item])
    invocation.map_sent(lambda item: [item])
    assert invocation.decoding(int)("5") == [5]
    assert invocation.encoding(repr)(5) == "[5]"
