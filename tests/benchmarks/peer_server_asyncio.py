"""The same for the baseline: `websockets` on asyncio, a JSON message for each call, answer and item."""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets


async def serve_one(ws: ServerConnection) -> None:
    async for text in ws:
        message = json.loads(text)
        if message["data"].get("method") == "items":
            for number in range(message["data"]["count"]):
                await ws.send(json.dumps({"streamId": "s", "payload": number}))
        else:
            await ws.send(json.dumps({"requestId": message["requestId"], "data": message["data"]}))


async def main() -> None:
    async with serve_websockets(serve_one, "127.0.0.1", 0, compression=None) as server:
        (socket,) = server.sockets
        print(json.dumps({"asyncio-ws": f"ws://127.0.0.1:{socket.getsockname()[1]}"}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
