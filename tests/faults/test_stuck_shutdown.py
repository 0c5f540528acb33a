"""A reader that is stuck, its buffers and the kernel's full, delays the end of a server by no more than its timeout."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio
import trio.testing

from tests.conformance.http.hosts import HOSTS, stop_growing
from tests.conformance.raw import HELLO, RawPeer, frame, open_stream
from tests.faults.site import Site
from trio_streams import connect, serve
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_server
from trio_streams.procedures.http_server import http_handler
from trio_streams.procedures.server import prepare
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.testing.peers import live_tasks

CLOSE_TIMEOUT: Final = 0.5
GRACEFUL_TIMEOUT: Final = 1.0

ALLOWED_SECONDS: Final = 0.5
"""What a shutdown may take beyond the timeout; it is printed beside the figure."""

FAILSAFE_SECONDS: Final = 5.0
"""What fails a test beyond that: a busy machine's seconds are not the code's."""

CONFIG: Final = ConnectionConfig(close_timeout=CLOSE_TIMEOUT)

Start = Callable[[Site, trio.Event], Callable[..., Awaitable[None]]]


def _on_host(host: str) -> Start:
    def start(site: Site, trigger: trio.Event) -> Callable[..., Awaitable[None]]:
        app = site.router()

        async def websocket(carrier: Carrier) -> None:
            await run_server(carrier, partial(prepare, app), config=CONFIG)

        return partial(
            HOSTS[host],
            http_handler(app),
            config=ExchangeConfig(close_timeout=CLOSE_TIMEOUT),
            websocket=websocket,
            graceful_timeout=GRACEFUL_TIMEOUT,
            shutdown_trigger=trigger.wait,
        )

    return start


def _by_url(url: str) -> Start:
    def start(site: Site, _: trio.Event) -> Callable[..., Awaitable[None]]:
        return partial(serve, site.router(), url, config=CONFIG)

    return start


STARTS: Final[dict[str, Start]] = {
    "tcp": _by_url("tcp://127.0.0.1:0"),
    "ws": _by_url("ws://127.0.0.1:0"),
    **{f"{scheme}-{host}": _on_host(host) for host in HOSTS for scheme in ("ws", "http")},
}


@asynccontextmanager
async def _stuck_reader(url: str) -> AsyncIterator[None]:
    """A client that has asked for endless streams and reads none of them."""
    async with RawPeer.connect(url) as peer:
        if url.startswith("http"):
            await peer.stream.send_all(b"GET /streams/flood HTTP/1.1\r\nhost: stuck\r\n\r\n")
        else:
            await peer.send(HELLO + b"".join(open_stream(n, "flood") + frame(5, n, b"") for n in (1, 3, 5)))
        yield


async def _measure(name: str, how: str) -> float:
    """The seconds between asking a server to stop and its return, with a stuck reader."""
    site, trigger, is_stuck = Site(), trio.Event(), trio.Event()

    async def be_stuck(url: str) -> None:
        async with _stuck_reader(url.replace("http", name.partition("-")[0], 1)):
            await stop_growing(lambda: site.produced)
            is_stuck.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(STARTS[name](site, trigger))
            clients.start_soon(be_stuck, bound if isinstance(bound, str) else bound[0])
            await is_stuck.wait()
            asked = trio.current_time()
            if how == "cancel":
                nursery.cancel_scope.cancel()
            else:
                trigger.set()
        seconds = trio.current_time() - asked
        clients.cancel_scope.cancel()
    assert site.started
    assert not site.running
    return seconds


@pytest.mark.parametrize("host", HOSTS)
async def test_a_drain_lets_a_websocket_finish(host: str) -> None:
    """A call under way on a WebSocket is answered while its host drains, as one over HTTP is; no connection is cut."""
    site, trigger = Site(), trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(STARTS[f"ws-{host}"](site, trigger))
            async with connect(url.replace("http", "ws", 1)) as client, client.bidi("echo", returns=str) as echo:
                await echo.send("before")
                assert await echo.receive() == "before"
                trigger.set()
                await trio.testing.wait_all_tasks_blocked(0.05)
                await echo.send("during")
                assert await echo.receive() == "during"


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in STARTS for how in ("cancel", "drain") if "-" in name or how == "cancel"],
)
async def test_a_stuck_reader_delays_a_shutdown_by_the_timeout(name: str, how: str) -> None:
    """Cancelled, or asked to drain, a server has returned after its timeout; its handlers' `finally` blocks have run."""
    timeout = CLOSE_TIMEOUT if how == "cancel" else GRACEFUL_TIMEOUT
    before = live_tasks()
    seconds = await _measure(name, how)
    sys.stdout.write(
        f"shutdown of {name} by {how}: {seconds:.2f} s; timeout {timeout:g} s + {ALLOWED_SECONDS:g} s allowed\n"
    )
    assert seconds <= timeout + ALLOWED_SECONDS + FAILSAFE_SECONDS
    assert live_tasks() == before
