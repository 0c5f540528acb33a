"""How blocks are left and connections end, seen from the other side. Each check's first line is its claim."""

# A checker can't need pytest, and blocks read as users write them.
# ruff: noqa: PT017, SIM117

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from trio_streams.codes import Code
from trio_streams.connection import Connection
from trio_streams.errors import ConnectionLost, RpcError, StreamReset, StreamStopped
from trio_streams.streams.wire import StopPolicy
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.testing.end_checks import Witness, catch
from trio_streams.testing.peers import (
    PATIENCE_SECONDS,
    ByteItems,
    End,
    MakeCarriers,
    Peers,
    as_end,
    live_tasks,
    open_peers,
    send_until_refused,
    until,
)

__all__ = ["EXIT_CHECKS"]


class _Fault(Exception):
    """What a user's code raises."""


class _Listener:
    """A handler that notes how the client's half and its interest end, without being cancelled for a STOP(OK)."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.received: BaseException | None = None
        self.sent: Exception | None = None
        self.reason: Exception | None = None
        self.is_ready = trio.Event()
        self.is_finished = trio.Event()

    async def serve(self, stream: ByteItems) -> None:
        """Handle a stream."""
        stream.stop_policy = StopPolicy.ON_ERROR
        try:
            self.items.append(await stream.receive())
            self.is_ready.set()
            self.received = await catch(stream)
            await send_until_refused(stream, b"more")
        except trio.BrokenResourceError as exc:
            self.sent = exc
        finally:
            self.reason = stream.cancel_reason
            self.is_finished.set()


async def check_leaving_ends_and_stops(make: MakeCarriers) -> None:
    """A client that leaves its block normally ends its half, after its items, and stops the other without an error."""
    listener = _Listener()
    async with open_peers(make, {"listen": listener.serve}) as peers:
        async with peers.client.open_stream("listen") as stream:
            await stream.send(b"1")
            await listener.is_ready.wait()
        await listener.is_finished.wait()
        assert isinstance(listener.received, trio.EndOfChannel)
        assert isinstance(listener.sent, StreamStopped)
        assert listener.sent.code is Code.OK
        await peers.check_alive()


async def check_leaving_cancelled_resets(make: MakeCarriers) -> None:
    """A client cancelled out of its block, alone or through a nursery of its own, resets and stops as CANCELLED."""

    async def through_nursery(stream: ByteItems, scope: trio.CancelScope) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await stream.receive()

    async def alone(stream: ByteItems, scope: trio.CancelScope) -> None:
        scope.cancel()
        await stream.receive()

    for body in (alone, through_nursery):
        listener = _Listener()
        async with open_peers(make, {"listen": listener.serve}) as peers:
            with trio.CancelScope() as scope:
                async with peers.client.open_stream("listen") as stream:
                    await stream.send(b"1")
                    await listener.is_ready.wait()
                    await body(stream, scope)
            await listener.is_finished.wait()
            assert isinstance(listener.reason, StreamReset | StreamStopped)
            assert listener.reason.code is Code.CANCELLED
            await peers.check_alive()


async def check_leaving_by_an_exception_resets(make: MakeCarriers) -> None:
    """A client that fails resets its half, and its own exception leaves the block bare."""
    listener = _Listener()
    fault = _Fault("mine")
    async with open_peers(make, {"listen": listener.serve}) as peers:
        try:
            async with peers.client.open_stream("listen") as stream:
                await stream.send(b"1")
                await listener.is_ready.wait()
                raise fault
        except _Fault as exc:
            assert exc is fault
        await listener.is_finished.wait()
        # On streams of their own two such words may overtake each other.
        assert isinstance(listener.reason, StreamReset if peers.carries_reasons else StreamReset | StreamStopped)
        assert peers.said("_Fault") in listener.reason.reason
        assert "mine" not in listener.reason.reason
        await peers.check_alive()


async def check_a_handler_that_returns_ends(make: MakeCarriers) -> None:
    """A handler that returns without reading ends its half, and the client's sends raise StreamStopped without an error."""

    async def leave(stream: ByteItems) -> None:
        await stream.send(b"bye")

    async with open_peers(make, {"leave": leave}) as peers:
        async with peers.client.open_stream("leave") as stream:
            try:
                await send_until_refused(stream, b"x")
            except StreamStopped as exc:
                assert exc.code is Code.OK
            assert await stream.receive() == b"bye"
            assert isinstance(await catch(stream), trio.EndOfChannel)
        await peers.check_alive()


async def check_a_crash_ends_one_stream(make: MakeCarriers) -> None:
    """A handler that crashes ends its stream with INTERNAL and no word of what happened; others go on."""

    async def crash(stream: ByteItems) -> None:
        await stream.receive()
        raise _Fault("a secret")

    async with open_peers(make, {"crash": crash}) as peers:
        async with peers.client.open_stream("echo") as other, peers.client.open_stream("crash") as stream:
            await stream.send(b"go")
            error = await catch(stream)
            assert isinstance(error, RpcError)
            assert error.code == "INTERNAL"
            assert "secret" not in str(error)
            assert "_Fault" not in str(error)
            await other.send(b"1")
            assert await other.receive() == b"1"


async def check_a_server_that_ends_resets(make: MakeCarriers) -> None:
    """Cancelling a server cancels its handlers; clients learn it from a reset, and then that the connection is over."""
    witness = Witness()
    async with open_peers(make, {"wait": witness.serve}) as peers:
        async with peers.client.open_stream("wait") as stream:
            await witness.is_running.wait()
            peers.stop_server()
            error = await catch(stream)
            assert isinstance(error, StreamReset)
            assert error.code is Code.CANCELLED
        assert witness.was_cancelled
        await until(lambda: peers.client.lost is not None)
        await _check_is_dead(peers.client)


async def _check_is_dead(connection: Connection) -> None:
    try:
        async with connection.open_stream("echo"):
            raise AssertionError("a stream was opened on a lost connection")
    except ConnectionLost:
        pass


async def check_a_lost_connection_ends_each_stream_once(make: MakeCarriers) -> None:
    """When either end breaks, each stream ends with ConnectionLost, after what had arrived; handlers' `finally` run."""
    for lose in (lambda peers: peers.lose_client(), lambda peers: peers.lose_server()):
        await _check_loss(make, lose)


async def _check_loss(make: MakeCarriers, lose: Callable[[Peers], None]) -> None:
    finished: list[str] = []
    caught: list[Exception] = []

    async def three(stream: ByteItems) -> None:
        try:
            await stream.send_many([b"0", b"1", b"2"])
            await trio.sleep_forever()
        finally:
            finished.append(type(stream.cancel_reason).__name__)

    async with open_peers(make, {"three": three}) as peers, trio.open_nursery() as nursery:

        async def use(task_status: trio.TaskStatus[ByteItems]) -> None:
            async with peers.client.open_stream("three") as stream:
                task_status.started(stream)
                await until(lambda: peers.client.lost is not None)
                # What had arrived can still be read.
                assert await stream.receive_many() == [b"0", b"1", b"2"]
                caught.append(await catch(stream))
                caught.append(await catch(stream))
                try:
                    await stream.send(b"into the void")
                except ConnectionLost as exc:
                    caught.append(exc)

        streams = [await nursery.start(use) for _ in range(5)]
        await until(lambda: all(stream.statistics().buffered_items == 3 for stream in streams))
        lose(peers)
        await until(lambda: len(finished) == 5)
    assert finished == ["ConnectionLost"] * 5
    assert [type(error) for error in caught] == [ConnectionLost] * 15
    await _check_is_dead(peers.client)


async def check_waiting_tasks_learn_of_a_loss(make: MakeCarriers) -> None:
    """Tasks that wait to send, to receive, for a head or to open a stream are woken by the loss of the connection."""
    witness = Witness()
    caught: list[type[BaseException]] = []

    async def note(wait: Callable[[], Awaitable[object]]) -> None:
        try:
            await wait()
        except ConnectionLost as exc:
            caught.append(type(exc))

    async with open_peers(make, {"wait": witness.serve}) as peers, trio.open_nursery() as nursery:
        async with peers.client.open_stream("wait") as stream:
            for wait in (
                partial(send_until_refused, stream, b"x" * 1_000),
                stream.receive,
                stream.receive,
                stream.header,
            ):
                nursery.start_soon(note, wait)
            await until(lambda: stream.statistics().tasks_waiting_send == 1)
            peers.lose_client()
            await until(lambda: len(caught) == 4)
    assert caught == [ConnectionLost] * 4


async def check_faults_arrive_bare(make: MakeCarriers) -> None:
    """One exception passes the blocks of stream and connection as itself; a group only where two things failed."""
    one, two = _Fault("one"), _Fault("two")
    for body, expected in ((_raiser(one), one), (_raiser(one, two), None)):
        try:
            async with open_peers(make) as peers, peers.client.open_stream("echo") as stream:
                await stream.send(b"x")
                await body()
        except _Fault as exc:
            assert exc is expected
            assert exc.__context__ is None
        except ExceptionGroup as group:
            assert expected is None
            assert set(group.exceptions) == {one, two}
        else:
            raise AssertionError("the fault was swallowed")


def _raiser(*faults: _Fault) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        if len(faults) == 1:
            raise faults[0]
        raise ExceptionGroup("both", faults)

    return fail


async def check_cancellation_anywhere(make: MakeCarriers) -> None:
    """A user's task may be cancelled at each of its awaits: the connection goes on to work, and no handler is left."""

    async def scenario(peers: Peers) -> None:
        async with peers.client.open_stream("echo", high_water_mark=2) as stream:
            await stream.send_header({"a": "b"})
            await stream.send_many([b"1", b"2", b"3"])
            await stream.send(b"4" * 40_000)
            assert await stream.receive() == b"1"
            assert await stream.receive_many(2)
            stream.end()
            async for _ in stream:
                pass
            await stream.header()
        async with peers.client.open_stream("echo") as stream:
            await stream.wait_writable()
            await stream.aclose()

    async with open_peers(make) as peers:

        @asynccontextmanager
        async def proven() -> AsyncIterator[Peers]:
            yield peers
            await peers.check_alive()
            await until(lambda: not peers.server.streams and not peers.client.streams)
            await until(lambda: peers.client.statistics().unread_bytes == 0)

        assert await cancel_everywhere(scenario, proven) >= 8


def _nobody(connection: Connection) -> None:
    """Nobody wants to hear of it."""


async def check_a_connection_cancelled_anywhere_ends(make: MakeCarriers) -> None:
    """A user's task may be cancelled at each await from the hello to the goodbye: both ends are cleanly over then."""

    async def echo(stream: ByteItems) -> None:
        async for item in stream:
            await stream.send(item)

    async def scenario(end: End) -> None:
        async with end.run_client(None) as client, client.open_stream("echo") as stream:
            await stream.send(b"1")
            assert await stream.receive() == b"1"

    @asynccontextmanager
    async def served() -> AsyncIterator[End]:
        before = live_tasks()
        with trio.fail_after(PATIENCE_SECONDS):
            async with make() as (left, right), trio.open_nursery() as nursery:
                nursery.start_soon(as_end(right).run_server, lambda stream: echo, None, _nobody)
                yield as_end(left)
        assert live_tasks() == before

    assert await cancel_everywhere(scenario, served) >= 4


EXIT_CHECKS: Final = (
    check_leaving_ends_and_stops,
    check_leaving_cancelled_resets,
    check_leaving_by_an_exception_resets,
    check_a_handler_that_returns_ends,
    check_a_crash_ends_one_stream,
    check_a_server_that_ends_resets,
    check_a_lost_connection_ends_each_stream_once,
    check_waiting_tasks_learn_of_a_loss,
    check_faults_arrive_bare,
    check_cancellation_anywhere,
    check_a_connection_cancelled_anywhere_ends,
)
