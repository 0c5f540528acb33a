"""The server's operations in its own process."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.durable.errors import (
    DurableStreamError,
    RetentionGoneError,
    SeqConflictError,
    SequenceGapError,
    StaleEpochError,
    StreamClosedError,
    StreamExistsError,
    StreamNotFoundError,
)
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.types import AppendResult, HeadResult


async def test_operations() -> None:
    """Everything that HTTP can do is a method."""
    async with DurableServer() as server:
        head = await server.create("a", content_type="application/json", ttl_seconds=60)
        assert head == HeadResult(content_type="application/json", offset="0000000000000000", ttl_seconds=60)
        assert await server.append("a", b"[1, 2]") == AppendResult("0000000000000004")
        assert await server.append("a", b"3", producer=("p", 0, 0)) == AppendResult("0000000000000006")
        assert await server.append("a", b"3", producer=("p", 0, 0)) == AppendResult("0000000000000006", duplicate=True)
        chunk = await server.read("a")
        assert (chunk.data, chunk.next_offset, chunk.is_up_to_date) == (b"[1,2,3]", "0000000000000006", True)
        assert (await server.read("a", "now")).data == b"[]"
        fork = await server.fork("a", "f", offset="0000000000000000", sub_offset=1, body=b"9")
        assert fork.offset == "0000000000000004"
        assert (await server.read("f")).data == b"[1,9]"
        assert (await server.append("f", b"10", seq="b")).next_offset == "0000000000000007"
        assert not (await server.close("a")).duplicate
        assert (await server.close("a")).duplicate
        assert (await server.head("a")).is_closed
        assert list(await server.list()) == ["a", "f"]
        await server.delete("f")
        assert list(await server.list("a", after="", limit=1)) == ["a"]
        dated = await server.create("d", expires_at=4_000_000_000.0)
        assert dated.expires_at == "2096-10-02T07:06:40.000Z"


@pytest.mark.parametrize(
    ("operation", "kind", "fields"),
    [
        (lambda server: server.read("x"), StreamNotFoundError, {"status": 404, "code": "NOT_FOUND"}),
        (lambda server: server.create("a"), StreamExistsError, {"status": 409}),
        (lambda server: server.read("a", "x"), DurableStreamError, {"status": 400}),
        (lambda server: server.append("a", b"x", seq="a"), SeqConflictError, {"code": "SEQ_CONFLICT"}),
        (lambda server: server.append("a", b"x", producer=("p", 1, 0)), StaleEpochError, {"current_epoch": 5}),
        (
            lambda server: server.append("a", b"x", producer=("p", 5, 3)),
            SequenceGapError,
            {"expected_seq": 1, "received_seq": 3},
        ),
        (lambda server: server.append("c", b"x"), StreamClosedError, {"final_offset": "0000000000000001"}),
        (lambda server: server.read("gone"), RetentionGoneError, {"status": 410, "code": "GONE"}),
    ],
)
async def test_errors(operation: Any, kind: type[DurableStreamError], fields: dict[str, object]) -> None:  # noqa: ANN401
    """What is refused is the error that a client would raise."""
    async with DurableServer() as server:
        await server.create("a", content_type="text/plain")
        await server.append("a", b"x", seq="a", producer=("p", 5, 0))
        await server.create("c", body=b"x", is_closed=True)
        await server.create("gone")
        await server.fork("gone", "f")
        await server.delete("gone")
        with pytest.raises(kind) as caught:
            await operation(server)
        assert {name: getattr(caught.value, name) for name in fields} == fields


async def test_waiting(autojump_clock: MockClock) -> None:
    """Somebody who waits hears of data, of the closure and of the deletion, or of nothing in time."""
    async with DurableServer() as server, trio.open_nursery() as nursery:
        await server.create("a", content_type="text/plain", body=b"x")
        assert await server.wait("a", "-1")
        assert not await server.wait("a", "now", timeout=5)
        for act in (lambda: server.append("a", b"y"), lambda: server.close("a")):
            nursery.start_soon(_after, 1, act)
            assert await server.wait("a", (await server.head("a")).offset or "", timeout=60)
        await server.create("b")
        nursery.start_soon(_after, 1, lambda: server.delete("b"))
        with pytest.raises(StreamNotFoundError):
            await server.wait("b", "now")


async def _after(seconds: float, act: Any) -> None:  # noqa: ANN401 - any function
    await trio.sleep(seconds)
    await act()


async def test_waiting_can_be_cancelled() -> None:
    """Who stops waiting leaves nothing behind."""
    async with DurableServer() as server, trio.open_nursery() as nursery:
        await server.create("a")
        nursery.start_soon(server.wait, "a", "now")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        state = server._machine.registry.get_nowait("a")
    assert state is not None
    assert not state.listeners


async def test_operations_are_checkpoints() -> None:
    """A cancelled caller does nothing."""
    async with DurableServer() as server:
        with trio.CancelScope() as scope:
            scope.cancel()
            await server.create("a")
        assert scope.cancelled_caught
        assert list(await server.list()) == []
