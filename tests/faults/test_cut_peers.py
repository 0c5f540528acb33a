"""Peers over a real network whose every connection is cut somewhere else: by an end, by a reset, or without a word."""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest
import trio

from tests.faults.proxy import open_proxy
from tests.faults.storm import Storm
from tests.peer.cuts import Books, converse
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.peer import RpcPeer
from trio_streams.testing.peers import until
from trio_streams.transports import open_tcp_listeners
from trio_streams.urls import open_peer, serve_peers

_CONFIG: Final = ConnectionConfig(idle_timeout=2, handshake_timeout=2, close_timeout=1)
_CALLS: Final = 20
_ITEMS: Final = 400
_RUNS: Final = 24
_AT_ONCE: Final = 6


async def _run(scheme: str, seed: int, limiter: trio.CapacityLimiter, resumes: list[int]) -> None:
    """One server and one client, which both have a conversation."""
    near, far = Books(), Books()
    served: list[RpcPeer] = []

    async def handle(peer: RpcPeer) -> None:
        far.declare(peer)
        served.append(peer)
        await peer.wait_closed()

    weather = Storm(seed, max_chunk=[None, 100, 2_000][seed % 3], latency=(0.0, 0.001 * (seed % 2)))
    async with limiter, trio.open_nursery() as serving:
        start = partial(serve_peers, handle, config=_CONFIG, resume=ResumeOptions(max_session_age=50))
        (url,) = await serving.start(start, f"{scheme}://127.0.0.1:0")
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        there = partial(trio.open_tcp_stream, "127.0.0.1", int(url.rpartition(":")[2]))
        async with (
            open_proxy(listener, there, weather),
            open_peer(
                f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}",
                config=_CONFIG,
                resume=ResumeOptions(max_session_age=50),
                reconnect=ReconnectOptions(initial_delay=0.02, seed=seed),
            ) as peer,
        ):
            near.declare(peer)
            await until(lambda: bool(served))
            async with trio.open_nursery() as nursery:
                for one, other in ((peer, served[0]), (served[0], peer)):
                    nursery.start_soon(partial(converse, one, other, calls=_CALLS, items=_ITEMS))
            await until(lambda: len(near.told) == len(far.told) == _CALLS)
            resumes.append(peer.connection.statistics().resumes)
        serving.cancel_scope.cancel()
    assert len(served) == 1
    for books in (near, far):
        assert books.calls == list(range(_CALLS))
        assert sorted(books.told) == list(range(_CALLS))


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_both_sides_lose_nothing(scheme: str) -> None:
    """In every storm each call is made once and each item comes once and in order, in both directions."""
    resumes: list[int] = []
    limiter = trio.CapacityLimiter(_AT_ONCE)
    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            for seed in range(_RUNS):
                nursery.start_soon(_run, scheme, seed, limiter, resumes)
    assert len(resumes) == _RUNS
    assert sum(resumes) > _RUNS
