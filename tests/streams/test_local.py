"""The in-process stream: its block, its endings, and what a cancelled call leaves behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.core.states import HalfState
from trio_streams.errors import RpcError, StreamError, StreamReset, StreamStopped
from trio_streams.streams import LocalStream, open_stream


async def test_leaving_the_block_drained() -> None:
    """A block left normally with nothing unread is a clean end, for those who still hold the stream."""
    async with open_stream[int]() as stream:
        await stream.send(1)
        await stream.receive()
    assert stream.closed
    with pytest.raises(trio.EndOfChannel):
        await stream.receive()
    assert [item async for item in stream] == []
    with pytest.raises(trio.ClosedResourceError, match="is closed"):
        await stream.send(2)


async def test_leaving_the_block_with_items_unread(nursery: trio.Nursery) -> None:
    """What nobody reads is dropped, and neither a sender nor a receiver takes that for a clean end."""
    failures: list[Code] = []
    async with open_stream[int](high_water_mark=1) as stream:

        async def send() -> None:
            try:
                await stream.send_many(range(10))
            except StreamStopped as exc:
                failures.append(exc.code)

        nursery.start_soon(send)
        async for _ in stream:
            break
    await wait_all_tasks_blocked()
    assert failures == [Code.OK]
    assert stream.buffered_amount == 0
    with pytest.raises(trio.ClosedResourceError, match="is errored"):
        stream.receive_nowait()


async def test_leaving_the_block_wakes_a_waiting_receiver(nursery: trio.Nursery) -> None:
    """A receiver elsewhere gets the end of a stream whose block was left."""
    ended: list[bool] = []
    async with open_stream[int]() as stream:

        async def receive() -> None:
            async for _ in stream:
                pass
            ended.append(True)

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert ended == [True]


async def test_leaving_the_block_cancelled() -> None:
    """A cancelled block abandons the stream with CANCELLED; its own scope ends it quietly."""
    async with open_stream[int]() as stream:
        stream.cancel_scope.cancel()
        await trio.sleep_forever()
    with pytest.raises(StreamReset) as caught:
        await stream.receive()
    assert caught.value.code is Code.CANCELLED
    with pytest.raises(StreamStopped):
        await stream.send(1)


async def test_leaving_the_block_cancelled_through_a_nursery() -> None:
    """A cancellation that arrives as a group is a cancellation."""
    with trio.CancelScope() as scope:
        async with open_stream[int]() as stream, trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()
    assert isinstance(stream.errored, StreamReset)
    assert stream.errored.code is Code.CANCELLED


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (KeyError("x"), Code.INTERNAL, "KeyError: 'x'"),
        (RpcError("NOT_FOUND", "no such log"), Code.NOT_FOUND, "RpcError: NOT_FOUND: no such log"),
    ],
)
async def test_leaving_the_block_by_an_exception(failure: Exception, code: Code, reason: str) -> None:
    """An exception passes bare, and others see its code and its text."""
    with pytest.raises(type(failure)):
        async with open_stream[int]() as stream:
            raise failure
    with pytest.raises(StreamReset, match=reason) as caught:
        await stream.receive()
    assert caught.value.code is code


async def test_end_with_a_status() -> None:
    """Three items and then the error, which every later receive raises."""
    async with open_stream[int]() as stream:
        await stream.send_many(range(3))
        stream.end(Status("RESOURCE_EXHAUSTED", "too much", {"limit": 3}))
        stream.end()
        assert await stream.receive_many() == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(RpcError, match="too much") as caught:
                await stream.receive()
            assert caught.value.details == {"limit": 3}
        with pytest.raises(RpcError):
            await stream.__anext__()
        assert stream.errored is None
        assert stream.closed


async def test_end_lets_waiting_senders_drain(nursery: trio.Nursery) -> None:
    """END queues behind senders that already wait; later ones are refused by name of the state."""
    async with open_stream[int](id="s", high_water_mark=1) as stream:
        stream.send_nowait(0)
        nursery.start_soon(stream.send, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(stream.send, 2)
        await wait_all_tasks_blocked()
        stream.end()
        with pytest.raises(trio.ClosedResourceError, match="'s' is closing"):
            stream.send_nowait(3)
        assert [item async for item in stream] == [0, 1, 2]


async def test_end_after_the_last_sender_gave_up(nursery: trio.Nursery) -> None:
    """A sender that the end waited for may give up, and then the stream is drained."""
    scope = trio.CancelScope()
    async with open_stream[int](high_water_mark=0) as stream:

        async def send() -> None:
            with scope:
                await stream.send(1)

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        stream.end()
        assert stream.state is HalfState.CLOSING
        scope.cancel()
        await wait_all_tasks_blocked()
        assert stream.closed


async def test_resume_of_a_closing_stream(nursery: trio.Nursery) -> None:
    """Of two receivers that wait on a paused stream, one gets the last item and the other the end."""
    results: list[object] = []
    async with open_stream[int]() as stream:

        async def read() -> None:
            results.append((await stream.read()).value)

        stream.pause()
        assert stream.is_paused
        assert "paused" in repr(stream)
        stream.send_nowait(1)
        for _ in range(2):
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
        stream.end()
        stream.resume()
        await wait_all_tasks_blocked()
        assert sorted(results, key=str) == [1, None]
        assert stream.closed
        stream.resume()


ENDINGS: list[tuple[Callable[[LocalStream[int]], None], type[Exception], type[Exception]]] = [
    (lambda s: s.reset(Code.ABORTED, "why"), StreamReset, trio.ClosedResourceError),
    (lambda s: s.stop(Code.ABORTED, "why"), trio.ClosedResourceError, StreamStopped),
    (lambda s: s.cancel("why"), StreamReset, StreamStopped),
    (lambda s: s.error(ZeroDivisionError("why")), ZeroDivisionError, trio.ClosedResourceError),
]


@pytest.mark.parametrize(("ending", "on_receive", "on_send"), ENDINGS)
async def test_first_ending_wins(
    ending: Callable[[LocalStream[int]], None], on_receive: type[Exception], on_send: type[Exception]
) -> None:
    """An abandoned stream fails in the same way for ever; later endings change nothing."""
    async with open_stream[int]() as stream:
        stream.send_nowait(1)
        ending(stream)
        for later in ("end", "cancel", "stop", "reset"):
            getattr(stream, later)()
        for _ in range(2):
            with pytest.raises(on_receive):
                await stream.receive()
            with pytest.raises(on_receive):
                stream.receive_nowait()
            with pytest.raises(on_send):
                await stream.send(1)
            with pytest.raises(on_send):
                await stream.send_many([1])
        assert stream.errored is not None
        assert "why" in str(stream.errored)
        assert stream.statistics().items_sent == 1
        await stream.wait_writable()


async def test_error_keeps_its_traceback() -> None:
    """An exception given to `error` is raised as it is, and does not gather a traceback at each read."""
    failure = OSError("disk")
    async with open_stream[int]() as stream:
        stream.error(failure)
        depths = []
        for _ in range(3):
            with pytest.raises(OSError, match="disk") as caught:
                await stream.receive()
            assert caught.value is failure
            depths.append(len(caught.traceback))
        assert len(set(depths)) == 1
        with pytest.raises(trio.ClosedResourceError) as refused:
            stream.send_nowait(1)
        assert refused.value.__cause__ is failure


async def test_cancel_leaves_the_body_alone() -> None:
    """`cancel` ends the stream, not the block."""
    async with open_stream[int]() as stream:
        stream.cancel("enough")
        await trio.lowlevel.checkpoint()
    assert isinstance(stream.errored, StreamError)
    assert not stream.cancel_scope.cancelled_caught


async def test_aclose() -> None:
    """Closing is idempotent, a checkpoint, and happens even when cancelled."""
    async with open_stream[int]() as stream:
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()
        assert stream.closed
        with trio.testing.assert_checkpoints():
            await stream.aclose()


CALLS: list[tuple[str, Callable[[LocalStream[int]], Awaitable[object]]]] = [
    ("send", lambda s: s.send(99)),
    ("send_many", lambda s: s.send_many([99])),
    ("receive", lambda s: s.receive()),
    ("receive_many", lambda s: s.receive_many()),
    ("anext", lambda s: aiter(s).__anext__()),
    ("wait_writable", lambda s: s.wait_writable()),
]


@pytest.mark.parametrize(("name", "call"), CALLS)
async def test_cancelled_before(name: str, call: Callable[[LocalStream[int]], Awaitable[object]]) -> None:
    """A call in a cancelled scope raises at once and has moved nothing, even in the middle of a batch."""
    async with open_stream[int](high_water_mark=4) as stream:
        await stream.send_many([1, 2, 3])
        assert await stream.receive() == 1
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(stream)
        assert scope.cancelled_caught, name
        assert await stream.receive_many() == [2, 3]


@pytest.mark.parametrize(("name", "call"), CALLS)
async def test_cancelled_while_waiting(name: str, call: Callable[[LocalStream[int]], Awaitable[object]]) -> None:
    """A call that gives up while it waits has moved nothing, and others go on."""
    async with open_stream[int](high_water_mark=1) as stream, trio.open_nursery() as nursery:
        waits_for_room = "send" in name or name == "wait_writable"
        if waits_for_room:
            stream.send_nowait(1)
        nursery.start_soon(call, stream)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert stream.statistics().items_received == 0
    assert stream.statistics().items_sent == int(waits_for_room)


@pytest.mark.parametrize("mark", [0, 1, 2])
async def test_wait_writable(mark: int, nursery: trio.Nursery) -> None:
    """`wait_writable` returns when there is room; at a mark of 0 a waiting receiver is the room."""
    returned: list[bool] = []
    async with open_stream[int](high_water_mark=mark) as stream:

        async def wait() -> None:
            await stream.wait_writable()
            stream.send_nowait(9)
            returned.append(True)

        for number in range(mark):
            stream.send_nowait(number)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert returned == []
        with pytest.raises(trio.WouldBlock):
            stream.send_nowait(5)
        assert await stream.receive() == (0 if mark else 9)
        await wait_all_tasks_blocked()
        assert returned == [True]


async def test_first_come_first_served(nursery: trio.Nursery) -> None:
    """Several senders and several receivers are served in the order in which they came."""
    received: list[tuple[int, int]] = []
    async with open_stream[int](high_water_mark=1) as stream:

        async def receive(receiver: int) -> None:
            received.append((receiver, await stream.receive()))

        for receiver in range(3):
            nursery.start_soon(receive, receiver)
            await wait_all_tasks_blocked()
        assert stream.statistics().tasks_waiting_receive == 3
        await stream.send_many(range(3))
        await wait_all_tasks_blocked()
        assert sorted(received) == [(0, 0), (1, 1), (2, 2)]
        for number in range(4):
            nursery.start_soon(stream.send, number)
            await wait_all_tasks_blocked()
        assert stream.statistics().tasks_waiting_send == 3
        assert [await stream.receive() for _ in range(4)] == [0, 1, 2, 3]


async def test_a_negative_mark_is_refused() -> None:
    """A buffer can't have less than no room."""
    with pytest.raises(ValueError, match="high_water_mark"):
        open_stream[int](high_water_mark=-1)


async def test_receive_many_is_bounded() -> None:
    """At least one item is asked for, and no more are given."""
    async with open_stream[int]() as stream:
        await stream.send_many(range(5))
        assert await stream.receive_many(2) == [0, 1]
        assert await stream.receive_many() == [2, 3, 4]
        with pytest.raises(ValueError, match="max_items"):
            await stream.receive_many(0)


async def test_repr() -> None:
    """A stream shows its name, state and filling."""
    async with open_stream[int](id="log", high_water_mark=2) as stream:
        stream.send_nowait(1)
        assert repr(stream) == "<LocalStream 'log': open, 1/2 items>"
