"""The server's process for the asyncio baseline: `websockets`, one message an item. See server.py."""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter_ns

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.work import REQUEST, Work


async def serve_one(ws: ServerConnection) -> None:
    request = await ws.recv()
    assert isinstance(request, bytes)
    work = Work(*REQUEST.unpack(request))
    try:
        if work.interval:
            pad = bytes(work.size - 8)
            for _ in range(work.count):
                await asyncio.sleep(work.interval)
                await ws.send(perf_counter_ns().to_bytes(8, "big") + pad)
        else:
            for payload in work.payloads():
                await ws.send(payload)
        await ws.wait_closed()
    except ConnectionClosed:
        pass


async def main() -> None:
    async with serve_websockets(serve_one, "127.0.0.1", 0, compression=None, max_size=None) as server:
        (socket,) = server.sockets
        print(json.dumps({"asyncio-ws": f"ws://127.0.0.1:{socket.getsockname()[1]}"}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
