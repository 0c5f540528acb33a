"""`python -m tests.interop.durable.child HOST STORE LONG_POLL_SECONDS`: our server, until its standard input ends.

STORE is `memory`, or the directory that the default store keeps its streams in.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from functools import partial

import trio

from trio_streams.durable import DurableConfig, DurableServer, open_sqlite_store
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean


async def main(host: str, store: str, long_poll_timeout: float) -> None:
    """Serve, for no longer than whoever started this lives."""
    config = DurableConfig(long_poll_timeout=long_poll_timeout)
    async with AsyncExitStack() as stack:
        opened = None if store == "memory" else await stack.enter_async_context(open_sqlite_store(store))
        server = await stack.enter_async_context(DurableServer(opened, config))
        nursery = await stack.enter_async_context(trio.open_nursery())
        # Alone on the lean host, appends are answered without an exchange, as `serve_durable` has it.
        lean = partial(serve_lean, answer_nowait=server.answer_nowait)
        url: str = await nursery.start(partial(lean if host == "lean" else serve_hypercorn, server.handle, port=0))
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]))
