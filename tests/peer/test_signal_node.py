"""A bare JavaScript peer on Node's own WebSocket, written from the wire's description alone, against ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import trio

from tests.browser.node import command
from trio_streams.errors import RpcError
from trio_streams.peer import RpcPeer, current_caller
from trio_streams.urls import open_peer, serve_peers, serve_relay

SCRIPT: Final = Path(__file__).parent / "js" / "signal_peer.mjs"
PATIENCE: Final = 60

EXPECTED: Final[dict[str, Any]] = {
    "welcome": ["string", "string", False],
    "pong": True,
    "add": 3,
    "failure": {"code": "OUT_OF_STOCK", "message": "none left", "details": {"left": 0}},
    "unknown": "UNIMPLEMENTED",
    "who": ["me", "bare"],
    "counted": [1000, True, "StreamEnd"],
    "failed": {"found": [0, 1], "end": "no more"},
    "endless": 10,
    "stopped": "StreamError",
    "sum": 499_500,
    "broken": {"code": "UNKNOWN", "message": "Something went wrong"},
    "calledBack": "hello ours",
    "early": [0, 1, 2, 3, 4],
    "isStopped": True,
    "still": 7,
}
"""What the script finds, whatever is between; but for the errors that it is told of."""

REFUSED: Final = ["a stream", "Unknown category 'nonsense'", "Invalid JSON: Input data was truncated"]


def declare(peer: RpcPeer) -> None:
    """What ours answers."""
    _declare_calls(peer)
    _declare_streams(peer)


def _declare_calls(peer: RpcPeer) -> None:
    @peer.method("add")
    async def add(a: int, b: int) -> int:
        return a + b

    @peer.method("fail")
    async def fail() -> None:
        raise RpcError("OUT_OF_STOCK", "none left", {"left": 0})

    @peer.method("who")
    async def who() -> list[str | None]:
        caller = current_caller()
        return [caller.client_id, caller.name]

    @peer.method("call_back")
    async def call_back() -> object:
        return (await peer.request({"method": "greet", "name": "ours"})).data


def _declare_streams(peer: RpcPeer) -> None:
    @peer.method("count")
    async def count(number: int) -> AsyncIterator[int]:
        for each in range(number):
            yield each

    @peer.method("fail_later")
    async def fail_later() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise RpcError("ABORTED", "no more")

    @peer.method("sum")
    async def sum_up(stream_id: str) -> int:
        _, stream = peer.receive_stream(stream_id, int)
        return sum([number async for number in stream])

    @peer.method("take_five")
    async def take_five(stream_id: str) -> list[int]:
        _, stream = peer.receive_stream(stream_id, int)
        await peer.request({"method": "endless", "streamId": stream_id})
        async with stream:
            return [await stream.receive() for _ in range(5)]


async def run_script(url: str) -> dict[str, Any]:
    """What the script says."""
    done = await trio.run_process(command(str(SCRIPT), url), capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_a_bare_javascript_peer_and_ours() -> None:
    """Calls, errors, streams and their early ends, both ways, and a ping from either side, over a WebSocket."""
    pinged: list[float] = []

    async def serve_one(peer: RpcPeer) -> None:
        declare(peer)
        pinged.append(await peer.ping())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve_peers, serve_one, "ws://127.0.0.1:0")
            found = await run_script(url)
            nursery.cancel_scope.cancel()
    assert found.pop("errors") == REFUSED
    assert found == EXPECTED
    assert len(pinged) == 1


async def test_a_bare_javascript_peer_through_the_relay() -> None:
    """The same with a relay between; it is the relay that answers pings, and refuses what is no message."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve_relay, "ws://127.0.0.1:0")
            async with open_peer(f"{url}/room", dialect="signal", relayed=True, name="ours") as peer:
                declare(peer)
                found = await run_script(f"{url}/room")
                assert await peer.ping() > 0
            nursery.cancel_scope.cancel()
    assert found.pop("errors") == REFUSED
    assert found == EXPECTED
