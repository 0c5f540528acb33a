"""How many connections may be open at once, over any number of listeners."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing

from trio_streams.transports.admission import ADMISSION, Admission, guard_listeners
from trio_streams.transports.bytes import open_tcp_listeners
from trio_streams.transports.gate import Gate


@asynccontextmanager
async def gated(
    *limits: int | None, refusal: bytes = b""
) -> AsyncGenerator[tuple[Gate, trio.SocketListener, trio.Nursery], None]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            total, per_host = limits
            gate = Gate(nursery, max_connections=total, max_connections_per_host=per_host)
            (listener,) = await open_tcp_listeners("127.0.0.1", 0)
            guarded = gate.guard(listener, refusal)
            async with guarded, trio.open_nursery() as users:
                yield gate, guarded, users
                users.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def reach(listener: trio.SocketListener) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    with suppress(trio.BrokenResourceError):
        while chunk := await stream.receive_some():
            data += chunk
    return data


@pytest.mark.parametrize("limits", [(2, None), (None, 2)], ids=["total", "per host"])
async def test_the_limit(limits: tuple[int | None, int | None]) -> None:
    """So many are accepted, the next one is told and closed, and a closed one makes room."""
    async with gated(*limits, refusal=b"full") as (gate, listener, nursery):
        accepted: list[trio.SocketStream] = []

        async def accept() -> None:
            while True:
                accepted.append(await listener.accept())

        nursery.start_soon(accept)
        clients = [await reach(listener) for _ in range(3)]
        assert await read_all(clients[2]) == b"full"
        assert gate.connections == len(accepted) == 2
        await accepted[0].aclose()
        assert gate.connections == 1
        clients.append(await reach(listener))
        await accepted[1].send_all(b"hello")
        assert await clients[1].receive_some() == b"hello"
        while len(accepted) < 3:
            await trio.lowlevel.checkpoint()
        for stream in (*accepted, *clients):
            await stream.aclose()
        assert gate.connections == 0


async def test_those_without_an_answer_are_just_closed() -> None:
    """Where a protocol has no words for it, the end of the connection is all that is said."""
    async with (
        gated(1, None) as (_, listener, nursery),
        await reach(listener),
        await listener.accept(),
        await reach(listener) as second,
    ):
        nursery.start_soon(listener.accept)
        assert await read_all(second) == b""


async def test_refusals_are_few_at_a_time() -> None:
    """Telling those who are too many is bounded: the others are closed unheard."""
    async with gated(None, None) as (gate, listener, _):
        clients = [await reach(listener) for _ in range(60)]
        streams = [await listener.accept() for _ in clients]
        for stream in streams:
            gate.refuse(stream, b"full")  # in one go: nobody is done before the last one comes
        answers = [await read_all(client) for client in clients]
        assert sorted(answers) == [b""] * 28 + [b"full"] * 32
        for client in clients:
            await client.aclose()


async def test_what_is_closed_is_forgotten() -> None:
    """A gate without a limit does not grow with all that ever passed it."""
    async with gated(None, None) as (gate, listener, _):
        for _ in range(600):
            client = await reach(listener)
            await (await listener.accept()).aclose()
            await client.aclose()
        assert len(gate._open) <= 512
        assert gate.connections == 0
        assert not gate._hosts


async def test_accepting_can_be_cancelled() -> None:
    """A cancelled `accept` takes nothing."""
    async with gated(1, None) as (gate, listener, _):
        with trio.move_on_after(0) as scope:
            await listener.accept()
        assert scope.cancelled_caught
        async with await reach(listener), await listener.accept():
            assert gate.connections == 1


async def test_admission_reaches_all_that_is_started_below() -> None:
    """A server's guard is that of every task it starts, and of nobody else's."""
    seen: list[trio.SocketListener] = []

    def guard(listener: trio.SocketListener) -> trio.SocketListener:
        seen.append(listener)
        return listener

    async def below(*, task_status: trio.TaskStatus[None]) -> None:
        ADMISSION.set(Admission(guard))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, lambda: None))
            listeners = await open_tcp_listeners("127.0.0.1", 0)
            assert guard_listeners(listeners) == listeners
            for listener in listeners:
                await listener.aclose()
        task_status.started()

    async with trio.open_nursery() as nursery:
        await nursery.start(below)
    assert len(seen) == 1
    assert ADMISSION.get() is None


async def test_a_place_without_a_socket_is_given_back_once() -> None:
    """A connection of QUIC takes one if there is one, in all and of its address."""
    for limits in ((2, None), (None, 2)):
        async with gated(*limits) as (gate, _, _):
            first, second = gate.take_place("192.0.2.1"), gate.take_place("192.0.2.1")
            assert first is not None
            assert second is not None
            assert (gate.connections, gate.take_place("192.0.2.1")) == (2, None)
            first()
            first()
            assert gate.connections == 1
            assert gate.take_place("192.0.2.1") is not None
            assert gate.is_full("192.0.2.1")


async def test_what_has_no_socket_counts_for_as_long_as_its_block() -> None:
    """A session on a connection of QUIC takes its place among the others, in all and of its address."""
    async with gated(2, None) as (gate, _, _):
        with gate.hold("192.0.2.1"):
            assert (gate.connections, gate.is_full("192.0.2.1")) == (1, False)
            with gate.hold("192.0.2.2"):
                assert gate.is_full("192.0.2.1")
        assert (gate.connections, gate.is_full("192.0.2.1")) == (0, False)
    async with gated(None, 1) as (gate, listener, _):
        with gate.hold("127.0.0.1"):
            assert (gate.is_full("127.0.0.1"), gate.is_full("192.0.2.1")) == (True, False)
            async with await reach(listener):
                with trio.move_on_after(0.1):
                    await listener.accept()
                    raise AssertionError("never")
        assert not gate.is_full("127.0.0.1")
