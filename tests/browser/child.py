"""`python -m tests.browser.child KIND HOST PORT`: serves until it is killed or its standard input ends."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio

from tests.browser import tried
from trio_streams import Router, serve
from trio_streams.demo import sampling
from trio_streams.demo.run import DemoOptions, run_demo
from trio_streams.urls.server import HostName

plain = Router()


@plain.stream("ticks")
async def ticks() -> AsyncIterator[int]:
    """A number ten times a second."""
    for number in itertools.count():
        yield number
        await trio.sleep(0.1)


async def _write(text: str) -> None:
    """Of the demo's lines only the page's URL matters."""
    await trio.lowlevel.checkpoint()
    for line in text.splitlines():
        if line.startswith("http://"):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


async def _serve_demo(host: HostName, port: int) -> None:
    ports = {"tcp": 0, "ws": 0, "http": port, "wt": 0}
    await run_demo(DemoOptions(duration=3600, plain=True, ports=ports, host=host), sampling.find_source(), _write)


async def _serve_app(app: Router, host: HostName, port: int) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(serve, app, f"http://127.0.0.1:{port}", host=host, dashboard=True)
        urls: list[str] = await nursery.start(start)
        await _write("\n".join(urls))


async def main(kind: str, host: HostName, port: int) -> None:
    """Serve, for no longer than whoever started this lives."""
    async with trio.open_nursery() as nursery:
        if kind == "demo":
            nursery.start_soon(_serve_demo, host, port)
        else:
            nursery.start_soon(_serve_app, tried.app if kind == "try" else plain, host, port)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], "lean" if sys.argv[2] == "lean" else "hypercorn", int(sys.argv[3]))
