"""Calls and messages between peers: answers, errors, deadlines, cancellation, loss."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.rig import raw_pair
from trio_streams.config import ConnectionConfig
from trio_streams.errors import (
    CodecError,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    StreamError,
    StreamStopped,
)
from trio_streams.peer import Methods, Response, RpcPeer, open_peer_pair
from trio_streams.testing.cancelling import cancel_everywhere


async def test_either_side_calls(autojump_clock: MockClock) -> None:
    """Both sides answer and call, also from within an answer."""
    async with open_peer_pair() as (left, right):

        @left.method("double")
        async def double(n: int) -> int:
            return 2 * n

        @right.method("quadruple")
        async def quadruple(n: int) -> object:
            half = await right.request({"method": "double", "params": [n]})
            return (await right.request({"method": "double", "params": {"n": half.data}})).data

        assert await left.request({"method": "quadruple", "params": [4]}) == Response(16)


async def test_a_handler_that_raises_answers(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """An `RpcError` arrives with code, message and details; anything else as INTERNAL, and its text stays here."""
    async with open_peer_pair() as (left, right):

        async def handle(data: str) -> None:
            if data == "known":
                raise RpcError("OUT_OF_STOCK", "none left", {"left": 0})
            raise RuntimeError("secret")

        right.match(handle)
        with pytest.raises(RpcError, match="OUT_OF_STOCK: none left") as caught:
            await left.request("known")
        assert caught.value.details == {"left": 0}
        with caplog.at_level(logging.ERROR), pytest.raises(RpcError, match="INTERNAL: internal error"):
            await left.request("other")
        assert "secret" in caplog.text
        with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
            await left.request(7)


async def test_without_a_handler_calls_are_answered(autojump_clock: MockClock) -> None:
    """Nobody waits for an answer that never comes: UNIMPLEMENTED."""
    async with open_peer_pair() as (left, _):
        with pytest.raises(RpcError, match="UNIMPLEMENTED: there is no method 'x'"):
            await left.request({"method": "x"})


async def test_calls_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    """Sixty-four calls of a second each take a second."""
    async with open_peer_pair() as (left, right):

        async def handle(data: int) -> int:
            await trio.sleep(1)
            return -data

        right.match(handle)
        found: dict[int, object] = {}

        async def call(number: int) -> None:
            found[number] = (await left.request(number)).data

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(call, number)
        assert found == {number: -number for number in range(64)}
        assert trio.current_time() - started == pytest.approx(1)


async def test_a_deadline_travels(autojump_clock: MockClock) -> None:
    """The caller's scope is the handler's deadline."""
    async with open_peer_pair() as (left, right):
        seen: list[float] = []

        async def handle(data: object) -> None:
            seen.append(trio.current_effective_deadline() - trio.current_time())
            await trio.sleep(math.inf)

        right.match(handle)
        with trio.move_on_after(3) as scope:
            await left.request(1)
        assert scope.cancelled_caught
        assert seen == [pytest.approx(3, abs=0.01)]


async def test_a_cancelled_call_cancels_its_handler(autojump_clock: MockClock) -> None:
    """The handler's scope is cancelled, and its `finally` runs, when the caller gives up."""
    async with open_peer_pair() as (left, right):
        ended = trio.Event()

        async def handle(data: object) -> None:
            try:
                await trio.sleep(math.inf)
            finally:
                ended.set()

        right.match(handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.request, 1)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await ended.wait()


async def test_send_tells_and_does_not_wait(autojump_clock: MockClock) -> None:
    """A message returns at once, its handler runs to its end, and what it raises stays there."""
    async with open_peer_pair() as (left, right):
        told: list[object] = []

        async def handle(data: object) -> None:
            await trio.sleep(1)
            told.append(data)
            raise RpcError("ABORTED")

        right.match(handle)
        for number in range(3):
            await left.send(number)
        assert told == []
        await trio.sleep(2)
        assert sorted(told, key=str) == [0, 1, 2]


async def test_pending_calls_fail_at_once_on_a_close(autojump_clock: MockClock) -> None:
    """The original left them for ever: here all that wait, and all that come later, hear of it without a timeout."""
    async with raw_pair() as (peer, _, link):
        failures: list[ConnectionLost] = []

        async def call() -> None:
            with pytest.raises(ConnectionLost, match="^Connection closed: ") as caught:
                await peer.request(1)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call)
            await wait_all_tasks_blocked()
            started = trio.current_time()
            link.lose()
        assert len(failures) == 3
        await peer.wait_closed()
        for call_again in (peer.request, peer.send):
            with pytest.raises(ConnectionLost, match="Connection closed"):
                await call_again(1)
        assert trio.current_time() == started


async def test_answers_that_are_none(autojump_clock: MockClock) -> None:
    """END without data and two answers are the other side's fault; text that is no JSON is told as such."""
    async with raw_pair() as (peer, connection, _), trio.open_nursery() as nursery:

        async def answer(*payloads: bytes) -> None:
            stream = await connection.accept_stream()
            with connection.own(stream):
                for payload in payloads:
                    await stream.send(payload)

        for payloads, error, message in [
            ((), RemoteProtocolError, "without data"),
            ((b"1", b"2"), RemoteProtocolError, "twice"),
            ((b"{",), CodecError, r"\$"),
        ]:
            nursery.start_soon(answer, *payloads)
            with pytest.raises(error, match=message):
                await peer.request(1)


async def test_requests_that_are_none(autojump_clock: MockClock) -> None:
    """A call without data, data that is no JSON, and a stream that peers don't open end by themselves."""
    async with raw_pair() as (peer, connection, _):
        peer.match(lambda data: data)
        for name, payload, error, message in [
            ("peer.request", None, RpcError, "INVALID_ARGUMENT: peer.request came without data"),
            ("peer.request", b"{", RpcError, "INVALID_ARGUMENT"),
            ("files.read", None, Exception, r"UNIMPLEMENTED: peers open no stream 'files.read'"),
        ]:
            async with connection.open_stream(name) as stream:
                if payload is not None:
                    await stream.send(payload)
                stream.end()
                with pytest.raises(error, match=message):
                    await stream.receive()
        async with connection.open_stream("peer.request") as stream:
            await stream.send(b"[1]")
            assert await stream.receive() == b"[1]"


async def test_a_ping_measures_the_round_trip(autojump_clock: MockClock) -> None:
    """`ping` waits for its answer, those who ask meanwhile share it, and `round_trip` keeps it."""
    async with open_peer_pair() as (left, right):
        assert left.round_trip is None
        found: list[float] = []

        async def ping() -> None:
            found.append(await left.ping())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ping)
        assert len(found) == 3
        assert found == [left.round_trip] * 3
        assert await right.ping() == right.round_trip


async def test_a_ping_into_a_lost_connection(autojump_clock: MockClock) -> None:
    """Whoever waits for a ping hears of the loss, and so does who asks later."""
    async with raw_pair() as (peer, _, link):
        async with trio.open_nursery() as nursery:

            async def ping() -> None:
                with pytest.raises(ConnectionLost, match="Connection closed"):
                    await peer.ping()

            nursery.start_soon(ping)
            await trio.lowlevel.checkpoint()
            link.lose()
        with pytest.raises(ConnectionLost, match="Connection closed"):
            await peer.ping()


async def test_keepalive_measures_too(autojump_clock: MockClock) -> None:
    """A silent connection stays alive by pings, and they measure."""
    async with open_peer_pair(config=ConnectionConfig(idle_timeout=10)) as (left, right):
        await trio.sleep(100)
        assert left.connection.lost is None
        assert left.round_trip == pytest.approx(0)
        assert right.round_trip == pytest.approx(0)


async def test_a_drain_lets_what_is_under_way_finish(autojump_clock: MockClock) -> None:
    """Nothing new is taken from either side; calls both ways and streams both ways finish; then it returns."""
    async with open_peer_pair() as (left, right):

        async def slowly(data: object) -> object:
            await trio.sleep(3)
            return data

        async def slow_items() -> AsyncIterator[int]:
            yield 1
            await trio.sleep(5)
            yield 2

        left.match(slowly)
        right.match(slowly)
        answers: list[object] = []

        async def call(peer: RpcPeer) -> None:
            answers.append((await peer.request(1)).data)

        async with trio.open_nursery() as nursery:
            for peer in (left, right):
                nursery.start_soon(call, peer)
            left.start_stream(slow_items(), "out")
            right.start_stream(slow_items(), "in")
            (_, into), (_, out) = left.receive_stream("in"), right.receive_stream("out")
            await trio.sleep(1)
            started = trio.current_time()
            nursery.start_soon(left.drain)
            await trio.sleep(0.1)
            for refused in (left.request, left.send, left.send_stream):
                with pytest.raises(LocalProtocolError, match="the peer is draining"):
                    await refused([1])
            with pytest.raises(ConnectionLost, match="takes no new streams"):
                await right.request(1)
            assert [item async for item in into] == [1, 2]
            assert [item async for item in out] == [1, 2]
        assert answers == [1, 1]
        assert trio.current_time() - started == pytest.approx(4, abs=0.2)


async def test_outside_of_its_block_a_peer_does_nothing(autojump_clock: MockClock) -> None:
    """Before and after, every use is a clear error; a connection that has a peer takes no second one."""
    async with raw_pair() as (peer, connection, _):
        with pytest.raises(LocalProtocolError, match="somebody else serves them"):
            async with RpcPeer(peer.connection):
                raise AssertionError("entered")
        other = RpcPeer(connection)
        with pytest.raises(LocalProtocolError, match="the peer's block is not open"):
            await other.request(1)
    with pytest.raises(LocalProtocolError, match="the peer's block is not open"):
        await peer.send(1)
    assert "RpcPeer with" in repr(peer)


async def test_a_peer_that_has_left_refuses(autojump_clock: MockClock) -> None:
    """A connection that outlives its peer's block answers what comes: nobody hangs."""
    async with raw_pair() as (left, connection, _):
        async with RpcPeer(connection):
            pass
        with pytest.raises(StreamError, match="UNAVAILABLE: the peer has left"):
            await left.request(1)
        with pytest.raises(StreamStopped, match="UNAVAILABLE: the peer has left"):
            await left.send_stream(range(100_000))


async def test_methods_may_be_shared(autojump_clock: MockClock) -> None:
    """One table of methods answers for several peers."""
    methods = Methods()

    async def hello() -> str:
        return "hello"

    methods.add("hello", hello)
    async with raw_pair() as (left, connection, _), RpcPeer(connection, methods=methods):
        assert (await left.request({"method": "hello"})).decode(str) == "hello"
        with pytest.raises(CodecError, match="integer"):
            Response("x").decode(int)


async def test_a_call_cancelled_at_each_of_its_awaits(autojump_clock: MockClock) -> None:
    """Wherever a call or a message is cancelled, the next one works, and no handler and no stream is left."""
    async with open_peer_pair() as (left, right):

        async def handle(data: object) -> object:
            await trio.sleep(1)
            return data

        right.match(handle)

        @asynccontextmanager
        async def around() -> AsyncIterator[RpcPeer]:
            yield left
            assert (await left.request("next")).data == "next"
            await trio.sleep(5)
            assert (left.connection.streams, right.connection.streams) == ((), ())

        async def call(peer: RpcPeer) -> None:
            await peer.request(1)
            await peer.send(2)
            await peer.ping()

        assert await cancel_everywhere(call, around) >= 2
