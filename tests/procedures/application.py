"""An application with a procedure of each kind and each way to misbehave, and ways to reach it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trio_streams.connection import Connection
from trio_streams.driver import run_client, run_server
from trio_streams.errors import RpcError
from trio_streams.procedures import ConnectionClient, Router
from trio_streams.procedures.server import prepare
from trio_streams.service.context import Context
from trio_streams.transports.memory import memory_carrier_pair

__all__ = ["Application", "Line", "Query", "connected"]


@attrs.frozen
class Query:
    level: str = "info"
    limit: int = 3
    tags: list[str] = attrs.field(factory=list)


@attrs.frozen
class Line:
    level: str
    number: int


class Application:
    """Its router, and what its handlers saw."""

    def __init__(self) -> None:
        self.router = Router()
        self.contexts: list[Context] = []
        self.seen: list[object] = []
        self.tasks: list[trio.lowlevel.Task] = []
        for declare in (self._calls, self._streams, self._uploads, self._chats):
            declare()

    def _calls(self) -> None:
        @self.router.call("add")
        async def add(input: list[int]) -> int:  # noqa: A002
            return sum(input)

        @self.router.call("about")
        async def about(input: Query, ctx: Context) -> Query:  # noqa: A002
            self.contexts.append(ctx)
            return input

        @self.router.call("nothing")
        async def nothing() -> None:
            return None

        @self.router.call("wrong")
        async def wrong() -> Line:
            return 5  # type: ignore[return-value]

        @self.router.call("fail")
        async def fail(input: str) -> None:  # noqa: A002
            raise RpcError(input, "as asked", {"a": 1}) if input else ValueError("a secret")

        @self.router.call("give-up")
        async def give_up(ctx: Context) -> None:
            ctx.cancel_scope.cancel()
            await trio.sleep_forever()

        @self.router.call("times")
        async def times(factor: int = 3) -> int:
            return 2 * factor

        @self.router.call("hang")
        async def hang() -> None:
            try:
                await trio.sleep_forever()
            finally:
                self.seen.append("hang cancelled")

    def _streams(self) -> None:
        @self.router.stream("lines")
        async def lines(input: Query, ctx: Context) -> AsyncIterator[Line]:  # noqa: A002
            self.contexts.append(ctx)
            self.tasks.append(trio.lowlevel.current_task())
            try:
                for number in range(input.limit):
                    yield Line(input.level, number)
                if input.level == "fail":
                    raise RpcError("NOT_FOUND", "no more", [1])
                if input.level == "hang":
                    await trio.sleep_forever()
            finally:
                self.tasks.append(trio.lowlevel.current_task())
                self.seen.append("lines closed")

    def _uploads(self) -> None:
        @self.router.stream("total", direction="client")
        async def total(numbers: AsyncIterable[int]) -> int:
            return sum([number async for number in numbers])

        @self.router.stream("first", direction="client")
        async def first(numbers: AsyncIterable[int]) -> int:
            async for number in numbers:
                return number
            return -1

        @self.router.stream("refuse", direction="client")
        async def refuse(numbers: AsyncIterable[int]) -> int:
            raise RpcError("PERMISSION_DENIED", "no uploads today")

        @self.router.stream("endless", direction="client")
        async def endless(numbers: AsyncIterable[int]) -> int:
            try:
                async for number in numbers:
                    self.seen.append(number)
                await trio.sleep_forever()
            finally:
                self.seen.append("endless closed")
            return 0

    def _chats(self) -> None:
        @self.router.stream("double", direction="bidi")
        async def double(numbers: AsyncIterable[int], ctx: Context) -> AsyncIterator[int]:
            try:
                async for number in numbers:
                    yield 2 * number
            finally:
                self.seen.append("double closed")


@asynccontextmanager
async def connected(application: Application) -> AsyncGenerator[tuple[ConnectionClient, Connection], None]:
    """A client of an application, over a memory link."""
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, application.router))
        async with run_client(left) as connection:
            yield ConnectionClient(connection), connection
