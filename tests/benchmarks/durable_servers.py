"""Our contestants of `bench_durable`, each in a process of its own: `python -m tests.benchmarks.durable_servers KIND [DIR]`.

`memory` and `sqlite` are the server of durable streams on the lean host; `lean` and `hypercorn` answer every request with
nothing, which is what our hosts alone can do. With `--profile FILE` cProfile watches the run and writes what it saw.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from tests.benchmarks.rlimit import raise_file_limit
from trio_streams.durable.server.serving import serve_durable
from trio_streams.durable.store.sqlite import open_sqlite_store
from trio_streams.service.exchange import Exchange, respond
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean

FLOORS: Final[dict[str, Callable[..., Awaitable[None]]]] = {"lean": serve_lean, "hypercorn": serve_hypercorn}


async def answer_nothing(exchange: Exchange) -> None:
    """Take the body, and answer."""
    await exchange.receive_body()
    await respond(exchange, 200, b"")


async def serve(kind: str, directory: str, task_status: trio.TaskStatus[str]) -> None:
    """Serve the contestant."""
    if kind in FLOORS:
        await FLOORS[kind](answer_nothing, task_status=task_status)
    elif kind == "memory":
        await serve_durable(port=0, task_status=task_status)
    else:
        async with open_sqlite_store(directory) as store:
            await serve_durable(store, port=0, task_status=task_status)


async def main(kind: str, directory: str) -> None:
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[str]) -> None:
            await serve(kind, directory, task_status)

        url: str = await nursery.start(start)
        print(json.dumps({"url": f"{url}/v1/stream", "pid": str(os.getpid())}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("directory", nargs="?", default="")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    raise_file_limit()
    if options.profile is None:
        trio.run(main, options.kind, options.directory)
    else:
        with cProfile.Profile() as profile:
            trio.run(main, options.kind, options.directory)
        profile.dump_stats(options.profile)
