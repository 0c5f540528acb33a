"""Sessions over a real network whose every connection is cut somewhere else: by an end, by a reset, or without a word."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Final

import pytest
import trio

from tests.faults.proxy import open_proxy
from tests.faults.storm import Storm
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.procedures.client import Client
from trio_streams.procedures.router import Router
from trio_streams.transports import open_tcp_listeners
from trio_streams.urls import connect, serve

_CONFIG: Final = ConnectionConfig(idle_timeout=2, handshake_timeout=2, close_timeout=1)
_ITEMS: Final = 300
_RUNS: Final = 24
_AT_ONCE: Final = 6


def _application() -> Router:
    router = Router()

    @router.stream("next", direction="bidi")
    async def add_one(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield number + 1

    @router.stream("count")
    async def count(most: int) -> AsyncIterator[str]:
        for number in range(most):
            yield f"{number}" * (number % 50)

    return router


async def _talk(client: Client) -> None:
    """Items both ways and many down, all in order and none twice."""

    async def chat() -> None:
        async with client.bidi("next", returns=int) as stream:
            for number in range(_ITEMS):
                await stream.send(number)
                assert await stream.receive() == number + 1

    async def download() -> None:
        async with client.stream("count", _ITEMS * 5, returns=str) as texts:
            assert [text async for text in texts] == [f"{number}" * (number % 50) for number in range(_ITEMS * 5)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat)
        nursery.start_soon(download)


async def _run(scheme: str, port: int, seed: int, limiter: trio.CapacityLimiter) -> None:
    weather = Storm(seed, max_chunk=[None, 100, 2_000][seed % 3], latency=(0.0, 0.001 * (seed % 2)))
    async with limiter:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
        back = ReconnectOptions(initial_delay=0.02, seed=seed)
        connecting = connect(url, config=_CONFIG, resume=ResumeOptions(max_session_age=50), reconnect=back)
        there = partial(trio.open_tcp_stream, "127.0.0.1", port)
        async with open_proxy(listener, there, weather), connecting as client:
            await _talk(client)


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_every_item_arrives_once_and_in_order(scheme: str) -> None:
    """In every storm everything that was said arrives, once and in order, over as many connections as it takes."""
    connections: list[Connection] = []
    limiter = trio.CapacityLimiter(_AT_ONCE)
    with trio.fail_after(240):
        async with trio.open_nursery() as serving:
            start = partial(serve, config=_CONFIG, resume=True, on_connection=connections.append)
            (url,) = await serving.start(start, _application(), f"{scheme}://127.0.0.1:0")
            async with trio.open_nursery() as nursery:
                for seed in range(_RUNS):
                    nursery.start_soon(_run, scheme, int(url.rpartition(":")[2]), seed, limiter)
            serving.cancel_scope.cancel()
    assert sum(connection.statistics().resumes for connection in connections) > _RUNS
