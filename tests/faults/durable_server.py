"""A server of durable streams in a directory, as a process: `python -m tests.faults.durable_server DIR`."""

from __future__ import annotations

import sys
from functools import partial

import trio

from tests.faults.children import answer_lines
from trio_streams.durable.server.serving import serve_durable
from trio_streams.durable.store.sqlite import SqliteConfig, open_sqlite_store


async def main(directory: str) -> None:
    """Serve until the input ends, or until killed. The log is small, so that a kill may come into a checkpoint."""
    config = SqliteConfig(checkpoint_bytes=262_144, max_wal_bytes=1_048_576)
    async with open_sqlite_store(directory, config) as store, trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_durable, store, port=0))
        await answer_lines({"url": url}, {})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
