# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers see of a peer: checked by tests/typing/test_checkers.py, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, assert_type

from trio_streams.peer import PeerReceiveStream, RpcPeer


class Counter(Protocol):
    async def add(self, number: int) -> int: ...

    def count(self, limit: int) -> AsyncIterator[str]: ...


async def right_uses(peer: RpcPeer) -> None:
    counter = peer.proxy(Counter)
    assert_type(counter, Counter)
    assert_type(await counter.add(1), int)
    async for item in counter.count(3):
        assert_type(item, str)
    stream_id, stream = peer.receive_stream("x", int)
    assert_type(stream_id, str)
    assert_type(stream, PeerReceiveStream[int])
    assert_type(await stream.receive(), int)
    assert_type((await peer.request(1)).decode(float), float)


async def wrong_uses(peer: RpcPeer) -> None:
    counter = peer.proxy(Counter)
    await counter.add("1")  # type: ignore[arg-type]
    counter.subtract(1)  # type: ignore[attr-defined]
    await peer.send_stream(7)  # type: ignore[arg-type]
