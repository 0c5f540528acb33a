"""The server's process of `bench_raffel`: the procedures that `raffel_server.mjs` has, and those that Raffel cannot have."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any, Final

import attrs
import trio

from trio_streams import Router, serve

FIELDS: Final = {"n": 1, "level": "info", "message": "something has happened"}
_LONG: Final = {"text": "x" * 1_024}
_TICK_SECONDS: Final = 0.002


@attrs.frozen
class Line:
    """A typed item."""

    n: int
    level: str
    message: str


@attrs.frozen
class Work:
    """How many items are asked for."""

    count: int


@attrs.frozen
class Number:
    """What a call says back."""

    number: int


class Application:
    """A router, and how many items its last stream has made."""

    def __init__(self) -> None:
        self.router = Router()
        self.made = 0
        self._add_raw("raw", FIELDS)
        self._add_raw("long", _LONG)
        self._add_typed()
        self._add_small()

    def _add_raw(self, name: str, item: dict[str, Any]) -> None:
        @self.router.stream(name)
        async def raw(work: Work) -> AsyncIterator[dict[str, Any]]:
            self.made = 0
            for _ in range(work.count):
                self.made += 1
                yield item

    def _add_typed(self) -> None:
        @self.router.stream("typed")
        async def typed(work: Work) -> AsyncIterator[Line]:
            line = Line(1, "info", "something has happened")
            for _ in range(work.count):
                yield line

        @self.router.stream("upload", direction="client")
        async def upload(items: AsyncIterable[Line]) -> int:
            number = 0
            async for _ in items:
                number += 1
            return number

        @self.router.stream("echo", direction="bidi")
        async def echo(items: AsyncIterable[Line]) -> AsyncIterator[Line]:
            async for item in items:
                yield item

    def _add_small(self) -> None:
        @self.router.stream("ticks")
        async def ticks(work: Work) -> AsyncIterator[dict[str, int]]:
            for _ in range(work.count):
                await trio.sleep(_TICK_SECONDS)
                yield {"at": time.monotonic_ns()}

        @self.router.call("ping")
        async def ping(number: Number) -> int:
            return number.number

        @self.router.call("made")
        async def made() -> int:
            return self.made


async def main() -> None:
    """Serve, for no longer than whoever started this lives."""
    router = Application().router
    async with trio.open_nursery() as nursery:
        start = partial(serve, router, "tcp://127.0.0.1:0", "ws://127.0.0.1:0", "http://127.0.0.1:0")
        tcp, ws, http = await nursery.start(start)
        (lean,) = await nursery.start(partial(serve, router, "http://127.0.0.1:0", host="lean"))
        urls = {"tcp": tcp, "ws": ws, "http": http, "lean": lean, "pid": str(os.getpid())}
        sys.stdout.write(json.dumps(urls) + "\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
