"""What the asyncio libraries have in common: queues of what comes, functions side by side, and how a program says it serves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar

from tests.interop.webtransport.face import SessionOver, Stream

__all__ = ["Foreign", "Queue", "QueuedSession", "free_port", "run", "say_serving"]

T = TypeVar("T")

Foreign: TypeAlias = Any
"""An object of a package that may not be installed here, so that there are no types of it."""


class Queue(Generic[T]):
    """A queue that ends, for one or several that wait."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_over = False

    def put(self, item: T) -> None:
        self._items.append(item)
        self._wake()

    def end(self) -> None:
        self._is_over = True
        while self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def get(self) -> T:
        """The next item; raises `SessionOver` behind the last."""
        while not self._items:
            if self._is_over:
                raise SessionOver
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        return self._items.popleft()


class QueuedSession:
    """The parts of a session that no library makes for us."""

    def __init__(self) -> None:
        self.bidirectional: Queue[Stream] = Queue()
        self.unidirectional: Queue[Stream] = Queue()
        self.datagrams: Queue[bytes] = Queue()
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def over(self, code: int, reason: str) -> None:
        """Note the end."""
        if not self.closed.done():
            self.closed.set_result((code, reason))
        for queue in (self.bidirectional, self.unidirectional, self.datagrams):
            queue.end()

    async def accept_bidirectional(self) -> Stream:
        return await self.bidirectional.get()

    async def accept_unidirectional(self) -> Stream:
        return await self.unidirectional.get()

    async def receive_datagram(self) -> bytes:
        return await self.datagrams.get()

    async def wait_closed(self) -> tuple[int, str]:
        return await asyncio.shield(self.closed)

    async def how_ended(self) -> tuple[int, str] | None:
        return self.closed.result() if self.closed.done() else None

    async def together(self, *functions: Callable[[], Awaitable[object]]) -> None:
        async def run(function: Callable[[], Awaitable[object]]) -> None:
            await function()

        try:
            async with asyncio.TaskGroup() as group:
                for function in functions:
                    group.create_task(run(function))
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from None

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await function()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()


def free_port() -> int:
    """A port that is free for now, for libraries that refuse to choose one themselves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(main: Callable[[], Awaitable[None]], timeout: float | None = None) -> None:
    """Run a program, for so many seconds at most."""

    async def run_main() -> None:
        async with asyncio.timeout(timeout):
            await main()

    asyncio.run(run_main())


async def say_serving(port: int, ended: Callable[[], object]) -> None:
    """Say where a server is, and wait until nobody wants it any more."""
    sys.stdout.write(json.dumps({"url": f"https://127.0.0.1:{port}", "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, ended)
