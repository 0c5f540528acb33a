"""An application of durable streams whose steps a test decides, and ways to reach it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from tests.procedures.fake_replay_log import FakeReplayLog
from trio_streams.errors import RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures import Router
from trio_streams.procedures.procedure import ResumePoint
from trio_streams.service.context import Context
from trio_streams.service.replay_log import ReplayLog
from trio_streams.service.server_config import ServerConfig
from trio_streams.urls import serve

__all__ = ["Ask", "Site", "serving"]


@attrs.frozen
class Ask:
    """What is asked for: which job, how many items, and how it ends."""

    job: str
    items: int = 5
    end: str = ""


class Site:
    """The procedures, and what their handlers saw.

    Attributes:
      steps: what each item of a handler waits for: a test hands in as many as it likes; None for none.
      started: the jobs whose handlers were started, in order.
      ended: those whose handlers were left.
      points: where resumable handlers began.
    """

    def __init__(self) -> None:
        self.router = Router()
        self.steps: trio.Semaphore | None = None
        self.started: list[str] = []
        self.ended: list[str] = []
        self.points: list[ResumePoint] = []
        self.contexts: list[Context] = []
        self._declare()

    def _declare(self) -> None:
        @self.router.stream("shared", durable="jobs/{job}")
        async def shared(ask: Ask, ctx: Context) -> AsyncIterator[str]:
            self.contexts.append(ctx)
            async with aclosing(self._items(ask, 0)) as items:
                async for item in items:
                    yield item

        @self.router.stream("own", durable="runs/{job}/{run}")
        async def own(ask: Ask) -> AsyncIterator[str]:
            async with aclosing(self._items(ask, 0)) as items:
                async for item in items:
                    yield item

        @self.router.stream("resumable", durable="resumable/{job}")
        async def resumable(ask: Ask, resume_from: ResumePoint) -> AsyncIterator[str]:
            self.points.append(resume_from)
            async with aclosing(self._items(ask, resume_from.items)) as items:
                async for item in items:
                    yield item

        @self.router.stream("plain")
        async def plain(ask: Ask) -> AsyncIterator[str]:
            async with aclosing(self._items(ask, 0)) as items:
                async for item in items:
                    yield item

    async def _items(self, ask: Ask, first: int) -> AsyncGenerator[str, None]:
        self.started.append(ask.job)
        try:
            for number in range(first, ask.items):
                if self.steps is not None:
                    await self.steps.acquire()
                yield f"{ask.job} {number}"
            if ask.end == "hang":
                await trio.sleep_forever()
            if ask.end:
                raise RpcError(ask.end, "as asked", {"job": ask.job})
        finally:
            self.ended.append(ask.job)


@asynccontextmanager
async def serving(
    site: Site, *urls: str, replay_log: ReplayLog | None = None, config: ServerConfig | None = None, **options: Any
) -> AsyncGenerator[list[str], None]:
    """The bound URLs, while they are served."""
    log = FakeReplayLog() if replay_log is None else replay_log
    async with open_bare_nursery() as nursery:
        start = partial(serve, site.router, *urls, replay_log=log, server=config, **options)
        yield await nursery.start(start)
        nursery.cancel_scope.cancel()
