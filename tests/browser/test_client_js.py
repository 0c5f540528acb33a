"""`client.js` in Node, against servers of ours on every host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.application import HOSTS, serving
from tests.browser.node import run_node
from trio_streams import ConnectionConfig

EVERYWHERE = [
    ("calls", "inputs, results, text of all planes and metadata travel"),
    ("errors", "a status comes with code, message and details; what can't be sent costs only its call"),
    ("lateError", "an error comes behind the items before it"),
    ("slowReader", "a handler makes no more than the window for a reader that does not read"),
    ("readable", "a ReadableStream has the same backpressure, and its cancel reaches the handler"),
    ("leaveByBreak", "leaving the loop reaches the handler's finally"),
    ("leaveBySignal", "so does an AbortSignal, whose reason is what the caller sees"),
    ("uploads", "an upload takes any source, and no more of it than the handler takes"),
    ("earlyAnswer", "an answer before the end of an upload lets go of its source; a source that breaks cancels"),
    ("bidi", "items travel both ways at once; leaving, resetting and piping do what they say"),
    ("refused", "a handler that has answered refuses what is sent to it"),
    ("many", "a hundred streams at once keep their items apart, and leave nothing behind"),
    ("large", "items of a megabyte are cut and put together; one beyond the limit is refused"),
    ("raw", "bytes come and go as they are"),
    ("deadlines", "a timeout travels, and ends what takes longer"),
    ("goneAway", "after GOAWAY no stream is opened, and those that are open go on"),
    ("closing", "closing ends everything once; a signal gives up connecting, or closes"),
    ("buffered", "nothing is written while the WebSocket holds more than its mark"),
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scenario", [name for name, _ in EVERYWHERE])
async def test_a_scenario_holds(scenario: str, host: str) -> None:
    """What `EVERYWHERE` says of each scenario; the claims themselves are in `js/scenarios.mjs`."""
    async with serving(host) as url:
        await run_node("scenarios.mjs", scenario, url)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_hundred_thousand_items_come_in_order(host: str) -> None:
    """One by one and in runs, none is lost, doubled or moved."""
    async with serving(host) as url:
        await run_node("scenarios.mjs", "order", url, 100_000, seconds=120)


async def test_streams_beyond_the_servers_limit_wait() -> None:
    """They are opened in turn; one that is given up before is never opened."""
    async with serving(config=ConnectionConfig(max_streams=4)) as url:
        await run_node("scenarios.mjs", "limited", url)


async def test_its_speed_can_be_measured() -> None:
    """Items per second from and to our server; the figures are for people."""
    async with serving() as url:
        print(await run_node("scenarios.mjs", "speed", url, 50_000))  # noqa: T201


SERVER = """
import trio
from tests.browser.application import serving

async def main():
    async with serving() as url:
        print(url, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def server_process() -> Iterator[tuple[str, int]]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


async def test_a_server_that_dies_is_a_lost_connection() -> None:
    """In the middle of a stream: what had arrived is read, then everything ends with ConnectionLost; so does connecting."""
    with server_process() as (url, pid):
        await run_node("scenarios.mjs", "killed", url, pid)
