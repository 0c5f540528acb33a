"""The sending half of a stream on a connection."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.streams.wire_pair import Raw, settle, wire_pair
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core.records import Status
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError, StreamReset, StreamStopped
from trio_streams.streams.wire_send import WireSendHalf


async def drain(stream: Raw) -> list[bytes]:
    return [item async for item in stream]


def fill(stream: Raw) -> int:
    """Send until the window is full."""
    count = 0
    while True:
        try:
            stream.send_nowait(b"fill")
        except trio.WouldBlock:
            return count
        count += 1


async def test_send_nowait_until_the_window_is_full() -> None:
    """`send_nowait` takes a window of items, then raises WouldBlock, and takes more once items were received."""
    async with wire_pair() as pair:
        assert fill(pair.near) == 8
        await settle()
        assert await pair.far.receive_many(4) == [b"fill"] * 4
        await settle()
        pair.near.send_nowait(b"more")
        assert pair.near.statistics().items_sent == 9


async def test_senders_are_served_first_come_first_served() -> None:
    """Three tasks that wait to send are served in order, and their items arrive in it."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        for item in (b"1", b"2", b"3"):
            nursery.start_soon(pair.near.send, item)
            await settle()
        assert pair.near.statistics().tasks_waiting_send == 3
        with pytest.raises(trio.WouldBlock):
            pair.near.send_nowait(b"4")
        received = [await pair.far.receive() for _ in range(11)]
        assert received[-3:] == [b"1", b"2", b"3"]


async def test_nobody_overtakes_waiting_senders() -> None:
    """A send that comes when credit is back, but before the senders that wait have run, queues behind them."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        nursery.start_soon(pair.near.send, b"1")
        await settle()
        nursery.start_soon(pair.near.send_many, [b"2", b"3"])
        await settle()
        received = [await pair.far.receive() for _ in range(8)]
        await pair.near.send(b"4")
        received += [await pair.far.receive() for _ in range(4)]
        assert received[8:] == [b"1", b"2", b"3", b"4"]


async def test_end_queues_behind_waiting_senders() -> None:
    """END goes out after the items of senders that already wait; new senders are refused at once."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        nursery.start_soon(pair.near.send, b"1")
        nursery.start_soon(pair.near.send_many, [b"2"] * 20)
        await settle()
        pair.near.end(Status("DONE", "well"))
        pair.near.end()
        with pytest.raises(trio.ClosedResourceError, match=r"stream 1 \('s'\): it was ended here, state open"):
            await pair.near.send(b"no")
        received: list[bytes] = []
        with pytest.raises(RpcError, match="DONE: well"):
            while True:
                received.append(await pair.far.receive())
        assert received[8:] == [b"1", *[b"2"] * 20] or received[8:] == [*[b"2"] * 20, b"1"]


async def test_end_behind_a_sender_that_is_cancelled() -> None:
    """When the last sender that END waited for is cancelled, END goes out."""
    async with wire_pair() as pair:
        fill(pair.near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.near.send, b"never")
            await settle()
            pair.near.end()
            nursery.cancel_scope.cancel()
        assert await drain(pair.far) == [b"fill"] * 8


async def test_a_waiting_end_that_does_not_travel() -> None:
    """A status that proves too large when its turn comes is cut, and harms no sender."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        nursery.start_soon(pair.near.send, b"1")
        await settle()
        pair.near.end(Status("DONE", "x" * 20_000))
        with pytest.raises(RpcError, match=r"UNKNOWN: x+ \(END of \d+ bytes does not fit"):
            while True:
                await pair.far.receive()


async def test_an_end_that_does_not_travel_changes_nothing() -> None:
    """`end` with a status that fits into no frame raises, and the half is as open as before."""
    async with wire_pair() as pair:
        with pytest.raises(LocalProtocolError, match="does not fit"):
            pair.near.end(Status("DONE", "x" * 20_000))
        await pair.near.send(b"still open")
        pair.near.end()
        assert await drain(pair.far) == [b"still open"]


async def test_reset_wakes_waiting_senders() -> None:
    """`reset` drops what is queued, wakes senders with ClosedResourceError, and forgets a waiting END."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError, match="it was reset here"):
                await pair.near.send(b"1")

        nursery.start_soon(send)
        nursery.start_soon(send)
        await settle()
        pair.near.end()
        pair.near.reset(Code.ABORTED, "why")
        pair.near.reset(Code.INTERNAL, "again")
        await settle()
        with pytest.raises(StreamReset, match="ABORTED: why"):
            await pair.far.receive()


async def test_reset_after_the_end_was_sent_is_too_late() -> None:
    """A half whose END has left is finished: `reset` does nothing."""
    async with wire_pair() as pair:
        await pair.near.send(b"x")
        pair.near.end()
        await settle()
        pair.near.reset()
        assert await drain(pair.far) == [b"x"]


async def test_stop_wakes_waiting_senders() -> None:
    """The receiver's STOP wakes every sender with StreamStopped, which carries its code and words, also later ones."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)

        async def send() -> None:
            with pytest.raises(StreamStopped, match="RESOURCE_EXHAUSTED: enough"):
                await pair.near.send(b"1")

        nursery.start_soon(send)
        nursery.start_soon(send)
        await settle()
        pair.near.end()
        pair.far.stop(Code.RESOURCE_EXHAUSTED, "enough")
        await settle()
        with pytest.raises(StreamStopped):
            pair.near.send_nowait(b"2")
        with pytest.raises(StreamStopped):
            await pair.near.send_many([b"3"])
        assert pair.near.is_refused


async def test_a_cancelled_send_sends_nothing() -> None:
    """A send that is cancelled while it waits leaves nothing behind; the next one takes its place."""
    async with wire_pair() as pair:
        fill(pair.near)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.near.send, b"cancelled")
                await settle()
                scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.near.send(b"cancelled before")
        assert pair.near.statistics().tasks_waiting_send == 0
        await pair.far.receive_many(8)
        await pair.near.send(b"next")
        assert await pair.far.receive() == b"next"


async def test_wait_writable() -> None:
    """It returns at once where there is room, waits where there is none, and is a checkpoint always."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        with trio.testing.assert_checkpoints():
            await pair.near.wait_writable()
        fill(pair.near)
        done = trio.Event()

        async def wait() -> None:
            await pair.near.wait_writable()
            pair.near.send_nowait(b"room")
            done.set()

        nursery.start_soon(wait)
        await settle()
        assert not done.is_set()
        await pair.far.receive_many()
        await done.wait()


@pytest.mark.parametrize("how", ["served", "cancelled"])
async def test_wait_writable_behind_waiting_senders(how: str) -> None:
    """A task that waits until it can write while others wait to send is woken when those are done or gone."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        scope = trio.CancelScope()
        order: list[str] = []

        async def wait() -> None:
            await pair.near.wait_writable()
            order.append("writable")

        async def send() -> None:
            with scope:
                await pair.near.send(b"1")
            order.append("sent")

        nursery.start_soon(wait)
        await settle()
        nursery.start_soon(send)
        await settle()
        if how == "cancelled":
            scope.cancel()
        await pair.far.receive_many()
        await settle()
        assert order == ["sent", "writable"]


@pytest.mark.parametrize("how", ["end", "reset", "stop", "lose"])
async def test_wait_writable_ends_with_the_half(how: str) -> None:
    """A task that waits until it can write is woken by whatever finishes the half."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)
        nursery.start_soon(pair.near.wait_writable)
        await settle()
        if how == "lose":
            pair.carrier.lose()
        elif how == "stop":
            pair.far.stop()
        elif how == "reset":
            pair.near.reset()
        else:
            pair.near.end()
            pair.near.reset()
        await settle()
        assert not nursery.child_tasks


async def test_send_header() -> None:
    """The head travels before the items; after the first item, or twice, it is refused."""
    async with wire_pair() as pair:
        await pair.far.send_header({"a": "1"})
        await pair.far.send(b"x")
        with pytest.raises(LocalProtocolError, match="header"):
            await pair.far.send_header({"b": "2"})
        assert await pair.near.header() == {"a": "1"}
        with pytest.raises(LocalProtocolError, match="does not fit"):
            await pair.near.send_header({"a": "x" * 20_000})
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.near.send_header({"never": "sent"})
        pair.near.end()
        with pytest.raises(trio.ClosedResourceError):
            await pair.near.send_header({})


async def test_a_lost_connection_reaches_senders() -> None:
    """Waiting senders and later ones get ConnectionLost, an object of their own each."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        fill(pair.near)

        async def send() -> None:
            with pytest.raises(ConnectionLost):
                await pair.near.send(b"1")

        nursery.start_soon(send)
        await settle()
        pair.carrier.lose("cut")
        await settle()
        errors = []
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="cut") as caught:
                pair.near.send_nowait(b"2")
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        pair.near.end()
        pair.near.reset()


@pytest.mark.parametrize("batch", [False, True])
async def test_other_tasks_run_while_sending(batch: bool) -> None:
    """A task that sends without ever waiting lets others run at least every 64 items."""
    config = ConnectionConfig(stream=StreamLimits(window_items=100_000), idle_timeout=None)
    async with wire_pair(config) as pair, trio.open_nursery() as nursery:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(other)
        if batch:
            await pair.near.send_many([b"x"] * 640)
        else:
            for _ in range(640):
                await pair.near.send(b"x")
        assert turns >= 9
        nursery.cancel_scope.cancel()


def test_the_half_alone_is_abstract() -> None:
    """The half says nothing about how it was closed: the stream does."""
    with pytest.raises(NotImplementedError):
        WireSendHalf._closed_here(None, "x")  # type: ignore[arg-type]


async def test_a_loss_after_the_end_changes_nothing() -> None:
    """A half that was ended here stays so, whatever becomes of the connection."""
    async with wire_pair() as pair:
        pair.near.end()
        pair.carrier.lose("cut")
        await settle()
        with pytest.raises(trio.ClosedResourceError, match="it was ended here"):
            await pair.near.send(b"x")


async def test_end_of_a_half_that_the_machine_has_finished() -> None:
    """Where the machine has abandoned the half already, `end` only says so here."""
    async with wire_pair() as pair:
        pair.connection.machine.reset(pair.near.id)
        pair.near.end()
        with pytest.raises(trio.ClosedResourceError):
            pair.near.send_nowait(b"x")


async def test_send_last() -> None:
    """`send_last` sends like `send`, waits where there is no credit, and is cancelled before anything was sent."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.near.send_last(b"cancelled")
        fill(pair.near)
        nursery.start_soon(pair.near.send_last, b"waits")
        await settle()
        assert pair.near.statistics().tasks_waiting_send == 1
        await pair.far.receive_many(8)
        await settle()
        await pair.near.send_last(b"last")
        pair.near.end()
        assert await drain(pair.far) == [b"waits", b"last"]
        with pytest.raises(trio.ClosedResourceError):
            await pair.near.send_last(b"late")
