"""A server of durable streams in memory, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from tests.procedures.durable_site import Ask, Site
from tests.procedures.fake_replay_log import FakeReplayLog
from trio_streams.driver import run_client, run_server
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures import ConnectionClient
from trio_streams.procedures.durable.runs import DurableRuns
from trio_streams.procedures.server import prepare
from trio_streams.service.background import Background
from trio_streams.service.replay_log import RunConfig
from trio_streams.transports.memory import memory_carrier_pair

__all__ = ["Server", "jobs", "served"]


class Server:
    """A site with its runs, and clients of it, all in memory."""

    def __init__(
        self, nursery: trio.Nursery, site: Site, log: FakeReplayLog, config: RunConfig | None, max_running: int
    ) -> None:
        self.site = site
        self.log = log
        self.nursery = nursery
        self.runs = DurableRuns(log, Background(nursery, max_running=max_running), config)

    @asynccontextmanager
    async def client(self, content_type: str = "application/json") -> AsyncGenerator[ConnectionClient, None]:
        left, right = memory_carrier_pair()
        async with open_bare_nursery() as nursery:
            nursery.start_soon(run_server, right, lambda stream: prepare(self.site.router, stream, runs=self.runs))
            async with run_client(left) as connection:
                yield ConnectionClient(connection, content_type=content_type)

    async def read(self, name: str, ask: Ask, **options: Any) -> list[str]:
        async with self.client() as client, client.durable_stream(name, ask, returns=str, **options) as items:
            return [item async for item in items]


@asynccontextmanager
async def served(
    config: RunConfig | None = None,
    site: Site | None = None,
    log: FakeReplayLog | None = None,
    max_running: int = 100,
) -> AsyncGenerator[Server, None]:
    async with open_bare_nursery() as nursery:
        yield Server(nursery, site or Site(), log or FakeReplayLog(), config, max_running)
        nursery.cancel_scope.cancel()


def jobs(job: str, first: int, behind: int) -> list[str]:
    return [f"{job} {number}" for number in range(first, behind)]
