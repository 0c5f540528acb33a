"""The procedures that the JavaScript scenarios use, and what the tests learn of their handlers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import trio

from trio_streams import Connection, ConnectionConfig, Context, Router, RpcError, serve

HOSTS: Final = ("ws", "hypercorn", "lean")


class Application:
    """A router; `happened` counts what its handlers report, and a call of that name waits for it."""

    def __init__(self) -> None:
        self.router = Router()
        self.made = 0
        self.connections: list[Connection] = []
        self._happened: defaultdict[str, trio.Semaphore] = defaultdict(lambda: trio.Semaphore(0))
        self._add_values()
        self._add_calls()
        self._add_streams()
        self._add_uploads()
        self._add_waits()

    def tell(self, what: str) -> None:
        self._happened[what].release()

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.tell(f"{name} closed")

    def _add_waits(self) -> None:
        for what in ("endless", "hang", "stall", "sum", "echo"):
            self._add_wait(f"{what} closed")
        self._add_wait("hanging")
        self._add_wait("stalled")

    def _add_wait(self, what: str) -> None:
        async def wait() -> None:
            await self._happened[what].acquire()

        self.router.call(what.replace(" ", "."))(wait)

    def _add_values(self) -> None:
        router = self.router

        @router.call("double")
        async def double(value: int) -> int:
            return 2 * value

        @router.call("length")
        async def length(value: str) -> int:
            return len(value)

        @router.call("same")
        async def same(value: object) -> object:
            return value

        @router.call("big")
        async def big(value: int) -> str:
            return "x" * value

        @router.call("huge")
        async def huge() -> int:
            return 2**80

        @router.call("nothing")
        async def nothing() -> None:
            pass

    def _add_calls(self) -> None:
        router = self.router

        @router.call("metadata")
        async def metadata(ctx: Context) -> object:
            return dict(ctx.metadata)

        @router.call("time.left")
        async def time_left(ctx: Context) -> float | None:
            return None if math.isinf(ctx.deadline) else ctx.deadline - trio.current_time()

        @router.call("refuse")
        async def refuse() -> None:
            raise RpcError("OUT_OF_STOCK", "none left", {"left": 0})

        @router.call("boom")
        async def boom() -> None:
            raise ValueError("a secret")

        @router.call("made")
        async def made() -> int:
            return self.made

        @router.call("hang")
        async def hang() -> None:
            with self._telling("hang"):
                self.tell("hanging")
                await trio.sleep_forever()

        @router.call("go.away")
        async def go_away() -> None:
            self.connections[-1].go_away("for lunch")

    def _add_streams(self) -> None:
        router = self.router

        @router.stream("count")
        async def count(value: int) -> AsyncIterator[int]:
            for number in range(value):
                yield number

        @router.stream("failing")
        async def failing(value: int) -> AsyncIterator[int]:
            for number in range(value):
                yield number
            raise RpcError("OUT_OF_STOCK", "none left")

        @router.stream("endless")
        async def endless() -> AsyncIterator[int]:
            self.made = 0
            with self._telling("endless"):
                while True:
                    self.made += 1
                    yield self.made - 1

    def _add_uploads(self) -> None:
        router = self.router

        @router.stream("sum", direction="client")
        async def total(items: AsyncIterator[int]) -> int:
            with self._telling("sum"):
                return sum([item async for item in items])

        @router.stream("lengths", direction="client")
        async def lengths(items: AsyncIterator[str]) -> int:
            return sum([len(item) async for item in items])

        @router.stream("first", direction="client")
        async def first(items: AsyncIterator[int]) -> int:
            return await anext(items)

        @router.stream("refusing", direction="client")
        async def refusing(items: AsyncIterator[int]) -> int:
            raise RpcError("OUT_OF_STOCK", "none left")

        @router.stream("stall", direction="client")
        async def stall(items: AsyncIterator[int]) -> int:
            with self._telling("stall"):
                await anext(items)
                self.tell("stalled")
                await trio.sleep_forever()
            return 0

        @router.stream("echo", direction="bidi")
        async def echo(items: AsyncIterator[object]) -> AsyncIterator[object]:
            with self._telling("echo"):
                async for item in items:
                    yield item

        @router.stream("one.and.out", direction="bidi")
        async def one_and_out(items: AsyncIterator[object]) -> AsyncIterator[object]:
            yield await anext(items)


@asynccontextmanager
async def serving(host: str = "ws", config: ConnectionConfig | None = None) -> AsyncGenerator[str, None]:
    """The application, served on one of `HOSTS` for the block; its WebSockets' URL."""
    application = Application()
    url = "ws://127.0.0.1:0" if host == "ws" else "http://127.0.0.1:0"
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(
            partial(
                serve,
                application.router,
                url,
                host="lean" if host == "lean" else "hypercorn",
                config=config,
                on_connection=application.connections.append,
            )
        )
        yield urls[0].replace("http", "ws", 1) + "/"
        nursery.cancel_scope.cancel()
