"""Interceptors around procedures on a connection, and events."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.driver import run_client, run_server
from trio_streams.errors import RpcError
from trio_streams.procedures import ConnectionClient, Router
from trio_streams.procedures.server import prepare
from trio_streams.service.background import Background
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, Proceed
from trio_streams.transports.memory import memory_carrier_pair

Connect: TypeAlias = Callable[[Router], AbstractAsyncContextManager[ConnectionClient]]


@asynccontextmanager
async def connected(router: Router, background: Background | None = None) -> AsyncIterator[ConnectionClient]:
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, router, background=background))
        async with run_client(left) as connection:
            yield ConnectionClient(connection)


def noting(log: list[object], name: str) -> Interceptor:
    async def note(invocation: Invocation, proceed: Proceed) -> object:
        invocation.on_received(lambda item: log.append((name, "received", item)))
        invocation.on_sent(lambda item: log.append((name, "sent", item)))
        log.append((name, "begins", invocation.kind))
        try:
            return await proceed()
        except RpcError as exc:
            log.append((name, "failed", exc.code))
            raise
        finally:
            log.append((name, "ends"))

    return note


async def test_the_order_is_global_mounted_module_handler() -> None:
    """Each stands around the next, whenever it was added."""
    log: list[object] = []
    module = Router()
    module.use(noting(log, "module"))

    async def answer() -> int:
        return 1

    module.call("answer").use(noting(log, "handler")).handler(answer)
    app = Router()
    app.mount("m", module, use=[noting(log, "mounted")])
    app.use(noting(log, "global"))
    async with connected(app) as client:
        assert await client.call("m.answer") == 1
    begins = [entry[0] for entry in log if isinstance(entry, tuple) and entry[1] == "begins"]
    assert begins == ["global", "mounted", "module", "handler"]


async def test_a_call_is_seen_whole() -> None:
    """Its start, its input, its result and its end."""
    log: list[object] = []
    app = Router()
    app.use(noting(log, "i"))

    @app.call("double")
    async def double(input: int) -> int:  # noqa: A002
        return 2 * input

    async with connected(app) as client:
        assert await client.call("double", 4) == 8
    assert log == [("i", "begins", "call"), ("i", "received", 4), ("i", "sent", 8), ("i", "ends")]


async def test_a_bidirectional_stream_is_seen_whole() -> None:
    """Every item in both directions, and the error that it ends with."""
    log: list[object] = []
    app = Router()

    @app.stream("double", direction="bidi").use(noting(log, "i"))
    async def double(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            if item < 0:
                raise RpcError("OUT_OF_RANGE", "no negatives")
            yield 2 * item

    async with connected(app) as client, client.bidi("double") as stream:
        for number in (1, 2):
            await stream.send(number)
            assert await stream.receive() == 2 * number
        await stream.send(-1)
        with pytest.raises(RpcError, match="no negatives"):
            await stream.receive()
    assert log == [
        ("i", "begins", "bidirectional"),
        *[("i", what, n) for pair in ((1, 2), (2, 4)) for what, n in zip(("received", "sent"), pair, strict=True)],
        ("i", "received", -1),
        ("i", "failed", "OUT_OF_RANGE"),
        ("i", "ends"),
    ]


async def test_an_interceptor_may_refuse_answer_and_change_the_context() -> None:
    """Raising ends the call before its input is looked at; not proceeding answers; a new context reaches the handler."""
    app = Router()

    async def guard(invocation: Invocation, proceed: Proceed) -> object:
        user = invocation.context.metadata.get("user")
        if user is None:
            raise RpcError("UNAUTHENTICATED", "who are you?")
        if user == "cached":
            return "from the cache"
        invocation.context = attrs.evolve(invocation.context, request_id=user)
        return await proceed()

    app.use(guard)

    @app.call("who")
    async def who(input: int, ctx: Context) -> str:  # noqa: A002
        return ctx.request_id

    async with connected(app) as client:
        with pytest.raises(RpcError, match="who are you"):
            await client.call("who", "not even a number")
        assert await client.call("who", 1, metadata={"user": "cached"}) == "from the cache"
        assert await client.call("who", 1, metadata={"user": "ann"}) == "ann"


async def test_a_timeout_in_an_interceptor_closes_the_handler(autojump_clock: MockClock) -> None:
    """It runs in the handler's task, so its scopes are the handler's."""
    closed: list[float] = []
    app = Router()

    async def limit(invocation: Invocation, proceed: Proceed) -> object:
        with trio.move_on_after(5):
            return await proceed()
        raise RpcError("DEADLINE_EXCEEDED", "too slow")

    @app.stream("slow").use(limit)
    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            closed.append(trio.current_time())

    async with connected(app) as client, client.stream("slow") as items:
        assert await items.receive() == 1
        with pytest.raises(RpcError, match="too slow"):
            await items.receive()
    assert closed == [5.0]


async def test_an_event_outlives_its_caller_and_ends_with_its_server() -> None:
    """The caller goes on as soon as it has begun; a connection that is gone does not cancel it, its owner does."""
    seen: list[object] = []
    gate = trio.Event()
    app = Router()

    @app.event("signup")
    async def signup(name: str) -> None:
        try:
            await gate.wait()
            seen.append(name)
            await trio.sleep_forever()
        finally:
            seen.append("over")

    async with trio.open_nursery() as nursery:
        async with connected(app, Background(nursery)) as client:
            await client.event("signup", "ann")
        await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == ["ann"]
        nursery.cancel_scope.cancel()
    assert seen == ["ann", "over"]


async def test_an_event_without_a_background_ends_with_its_connection() -> None:
    """The caller then waits for the handler."""
    seen: list[object] = []
    app = Router()

    @app.event("note")
    async def note(text: str, ctx: Context) -> None:
        seen.append((text, ctx.procedure))

    async with connected(app) as client:
        await client.event("note", "hello")
        assert seen == [("hello", "note")]
        with pytest.raises(RpcError, match="there is no procedure 'other'"):
            await client.event("other", "hello")


async def test_a_call_is_no_event() -> None:
    """Asking for the wrong kind is told, instead of dropping an answer."""
    app = Router()

    @app.call("one")
    async def one() -> int:
        return 1

    async with connected(app) as client:
        with pytest.raises(RpcError, match="'one' is no event"):
            await client.event("one")
