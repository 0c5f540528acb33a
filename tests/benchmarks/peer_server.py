"""The other side of bench_peer: a peer on TCP and on WebSockets, in a process of its own."""

from __future__ import annotations

import json
import sys

import trio

from trio_streams.peer import RpcPeer
from trio_streams.urls import serve_peers


async def serve_one(peer: RpcPeer) -> None:
    async def echo(data: object) -> object:
        return data

    peer.match(echo)

    @peer.method("items")
    async def items(count: int) -> str:
        return peer.start_stream(range(count))


async def main() -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve_peers, serve_one, "tcp://127.0.0.1:0", "ws://127.0.0.1:0")
        print(json.dumps(dict(zip(("tcp", "ws"), urls, strict=True))), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
