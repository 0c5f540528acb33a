"""The receiving half of a stream on a connection."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.streams.wire_pair import Raw, settle, wire_pair
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core.records import Status
from trio_streams.errors import CodecError, ConnectionLost, RpcError, StreamReset
from trio_streams.streams.wire import WireStream
from trio_streams.streams.wire_receive import WireReceiveHalf

WIDE = ConnectionConfig(stream=StreamLimits(window_items=10_000, window_bytes=10_000_000), idle_timeout=None)


async def test_receive_in_order_then_the_end() -> None:
    """Items come in order, then EndOfChannel, again and again."""
    async with wire_pair() as pair:
        await pair.far.send_many([b"1", b"2", b"3"])
        pair.far.end()
        assert [await pair.near.receive() for _ in range(3)] == [b"1", b"2", b"3"]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await pair.near.receive()
        with pytest.raises(trio.EndOfChannel):
            pair.near.receive_nowait()
        with pytest.raises(trio.EndOfChannel):
            await pair.near.receive_many()
        assert [item async for item in pair.near] == []


async def test_a_status_comes_after_all_data() -> None:
    """Three items and then the status as an RpcError, every time."""
    async with wire_pair() as pair:
        await pair.far.send_many([b"1", b"2", b"3"])
        pair.far.end(Status("NOT_FOUND", "gone", [1]))
        await settle()
        received = []
        with pytest.raises(RpcError, match="NOT_FOUND: gone") as caught:
            async for item in pair.near:
                received.append(item)  # noqa: PERF401 - the loop fails
        assert received == [b"1", b"2", b"3"]
        assert caught.value.details == [1]
        with pytest.raises(RpcError):
            await pair.near.receive()


async def test_receive_nowait() -> None:
    """`receive_nowait` takes what is there, or raises WouldBlock."""
    async with wire_pair() as pair:
        with pytest.raises(trio.WouldBlock):
            pair.near.receive_nowait()
        await pair.far.send(b"x")
        await settle()
        assert pair.near.receive_nowait() == b"x"


async def test_several_receivers() -> None:
    """Several tasks receive; each item goes to one, in the order in which they came, and the end to all."""
    async with wire_pair() as pair:
        received: list[tuple[int, bytes]] = []

        async def take(number: int) -> None:
            received.append((number, await pair.near.receive()))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(take, number)
                await settle()
            assert pair.near.statistics().tasks_waiting_receive == 3
            await pair.far.send_many([b"a", b"b", b"c"])
        assert sorted(item for _, item in received) == [b"a", b"b", b"c"]

        async def meet_end() -> None:
            with pytest.raises(trio.EndOfChannel):
                await pair.near.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(meet_end)
            nursery.start_soon(meet_end)
            await settle()
            pair.far.end()


async def test_a_woken_receiver_whose_item_was_taken_waits_again() -> None:
    """A receiver that is woken for an item which somebody else takes first gets the next one."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def take() -> None:
            received.append(await pair.near.receive())

        async def iterate() -> None:
            async for item in pair.near:
                received.append(item)
                break

        nursery.start_soon(take)
        nursery.start_soon(iterate)
        await settle()
        pair.near.on_received([b"1", b"2"])
        assert [pair.near.receive_nowait(), pair.near.receive_nowait()] == [b"1", b"2"]
        await settle()
        assert received == []
        await pair.far.send_many([b"3", b"4"])
        await settle()
        assert sorted(received) == [b"3", b"4"]


async def test_receive_many() -> None:
    """`receive_many` gives one to `max_items` items, waiting for the first only; an end behind them stays."""
    async with wire_pair() as pair:
        with pytest.raises(ValueError, match="at least 1"):
            await pair.near.receive_many(0)
        await pair.far.send_many([b"1", b"2", b"3", b"4"])
        pair.far.end()
        await settle()
        assert await pair.near.receive_many(3) == [b"1", b"2", b"3"]
        assert await pair.near.receive_many(3) == [b"4"]
        with pytest.raises(trio.EndOfChannel):
            await pair.near.receive_many(3)


def _decode(payload: bytes) -> str:
    if payload == b"bad":
        raise CodecError("not a word", path="$.x")
    return payload.decode()


async def test_a_payload_that_cannot_be_decoded() -> None:
    """A bad payload raises where it is taken; it is gone then, and the stream goes on."""
    async with wire_pair() as pair:
        words: WireStream[bytes, str] = pair.near.typed(None, _decode)
        await pair.far.send_many([b"a", b"bad", b"b", b"bad", b"c"])
        assert await words.receive() == "a"
        with pytest.raises(CodecError, match="not a word"):
            await words.receive()
        assert words.receive_nowait() == "b"
        with pytest.raises(CodecError):
            async for _ in words:
                pass
        assert await words.receive() == "c"


async def test_receive_many_loses_neither_items_nor_faults() -> None:
    """A bad payload behind good ones stays for the next call, which raises; nothing is lost."""
    async with wire_pair() as pair:
        words: WireStream[bytes, str] = pair.near.typed(None, _decode)
        await pair.far.send_many([b"a", b"b", b"bad", b"c"])
        await settle()
        assert await words.receive_many() == ["a", "b"]
        with pytest.raises(CodecError):
            await words.receive_many()
        assert await words.receive_many() == ["c"]
        assert words.statistics().items_received == 4


@pytest.mark.parametrize("wait", [True, False])
async def test_a_cancelled_receiver_takes_nothing(wait: bool) -> None:
    """A receive, an iteration or a batch that is cancelled leaves every item for the next one."""
    async with wire_pair() as pair:
        if not wait:
            await pair.far.send_many([b"1", b"2"])
            await settle()
        for method in (pair.near.receive, pair.near.receive_many, pair.near.header, aiter(pair.near).__anext__):
            if not wait and method == pair.near.header:
                continue
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    if not wait:
                        scope.cancel()
                    nursery.start_soon(method)
                    await settle()
                    scope.cancel()
            assert scope.cancelled_caught
        assert pair.near.statistics().tasks_waiting_receive == 0
        if wait:
            await pair.far.send_many([b"1", b"2"])
        assert [await pair.near.receive(), await pair.near.receive()] == [b"1", b"2"]


@given(st.lists(st.sampled_from(["receive", "many", "next", "cancel", "nowait"]), max_size=30))
def test_consumption_restores_the_window(operations: list[str]) -> None:
    """However items are taken, with receivers cancelled in between, the sender gets its whole window back."""

    async def run() -> None:
        async with wire_pair() as pair:
            sent = taken = 0
            for operation in operations:
                with trio.CancelScope() as scope:
                    if operation == "cancel":
                        scope.cancel()
                        await pair.near.receive()
                    elif operation == "nowait" and sent == taken:
                        with pytest.raises(trio.WouldBlock):
                            pair.near.receive_nowait()
                    else:
                        await pair.far.send_many([b"x"] * 3)
                        sent += 3
                        await settle()
                        taken += await _take(pair.near, operation)
            while taken < sent:
                await pair.near.receive()
                taken += 1
            await settle()
            for _ in range(6):  # a grant comes after a quarter of the window
                pair.far.send_nowait(b"y")
            assert pair.near.statistics().items_received == taken

    trio.run(run)


async def _take(stream: Raw, operation: str) -> int:
    if operation == "many":
        return len(await stream.receive_many())
    for _ in range(3):
        if operation == "next":
            await anext(aiter(stream))
        elif operation == "nowait":
            stream.receive_nowait()
        else:
            await stream.receive()
    return 3


@pytest.mark.parametrize("ended", [False, True])
async def test_stop_drops_what_is_buffered(ended: bool) -> None:
    """`stop` drops what was not taken, keeps the count of what was, and gives the bytes back to the connection."""
    async with wire_pair() as pair:
        await pair.far.send_many([b"1", b"2", b"3"])
        if ended:
            pair.far.end()
        await settle()
        assert await pair.near.receive() == b"1"
        pair.near.stop(Code.OK, "enough")
        pair.near.stop(Code.INTERNAL, "again")
        for method in (pair.near.receive, pair.near.receive_many, pair.near.header):
            with pytest.raises(trio.ClosedResourceError, match="it was stopped here"):
                await method()
        statistics = pair.near.statistics()
        assert (statistics.items_received, statistics.buffered_items, statistics.buffered_bytes) == (1, 0, 0)
        assert pair.connection.statistics().unread_bytes == 0


async def test_stop_wakes_everybody() -> None:
    """`stop` wakes tasks that wait for an item and for the head, with ClosedResourceError."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:

        async def wait(header: bool) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await (pair.near.header() if header else pair.near.receive())

        nursery.start_soon(wait, True)
        nursery.start_soon(wait, False)
        await settle()
        pair.near.stop()


async def test_nothing_arrives_after_stop() -> None:
    """Items that cross our STOP are dropped."""
    async with wire_pair() as pair:
        pair.near.stop()
        pair.near.on_received([b"late"])
        assert pair.near.statistics().buffered_items == 0


async def test_reset_drops_what_was_not_taken() -> None:
    """A reset loses what is unread, keeps the count of what was taken, and wakes receivers with the code."""
    async with wire_pair() as pair:
        await pair.far.send_many([b"1", b"2"])
        await settle()
        assert await pair.near.receive() == b"1"
        pair.far.reset(Code.ABORTED, "no more")
        await settle()
        for method in (pair.near.receive, pair.near.receive_many, pair.near.header):
            with pytest.raises(StreamReset, match="ABORTED: no more"):
                await method()
        assert pair.near.statistics().items_received == 1


async def test_header() -> None:
    """`header` waits for the peer's head, keeps it, and is a checkpoint always."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        heads: list[object] = []

        async def wait() -> None:
            heads.append(await pair.near.header())

        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await settle()
        await pair.far.send_header({"k": "v"})
        await settle()
        assert heads == [{"k": "v"}, {"k": "v"}]
        pair.far.end()
        await settle()
        with trio.testing.assert_checkpoints():
            assert await pair.near.header() == {"k": "v"}


@pytest.mark.parametrize("answer", ["item", "end", "status"])
async def test_header_of_a_peer_that_sends_none(answer: str) -> None:
    """The first item or an end says that there is no head: it is empty then."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:
        heads: list[object] = []

        async def wait() -> None:
            heads.append(await pair.near.header())

        nursery.start_soon(wait)
        await settle()
        if answer == "item":
            await pair.far.send(b"x")
        else:
            pair.far.end(Status("NOT_FOUND") if answer == "status" else None)
        await settle()
        assert heads == [{}]
        assert await pair.near.header() == {}


async def test_a_lost_connection_leaves_what_had_arrived() -> None:
    """What had arrived can still be taken; then ConnectionLost, each time an object of its own."""
    async with wire_pair() as pair:
        await pair.far.send_many([b"1", b"2"])
        await settle()
        pair.carrier.lose("cut")
        await settle()
        assert [await pair.near.receive(), pair.near.receive_nowait()] == [b"1", b"2"]
        errors = []
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="cut") as caught:
                await pair.near.receive()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        with pytest.raises(ConnectionLost):
            await pair.near.header()


@pytest.mark.parametrize("iterate", [True, False])
async def test_other_tasks_run_while_receiving(iterate: bool) -> None:
    """A task that receives without ever waiting lets others run at least every 64 items."""
    async with wire_pair(WIDE) as pair, trio.open_nursery() as nursery:
        await pair.far.send_many([b"x"] * 640)
        pair.far.end()
        await settle()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(other)
        if iterate:
            assert len([item async for item in pair.near]) == 640
        else:
            for _ in range(640):
                await pair.near.receive()
        assert turns >= 9
        nursery.cancel_scope.cancel()


async def test_a_loop_that_never_waits_notices_cancellation() -> None:
    """An iteration over items that are all there is cancelled within 16 of them."""
    async with wire_pair(WIDE) as pair:
        await pair.far.send_many([b"x"] * 640)
        await settle()
        count = cancelled_at = 0
        with trio.CancelScope() as scope:
            async for _ in pair.near:
                count += 1
                if count == 100:
                    scope.cancel()
                    cancelled_at = count
        assert cancelled_at <= count <= cancelled_at + 16
        assert pair.near.statistics().items_received == count


def test_the_half_alone_is_abstract() -> None:
    """The half says nothing about how it was closed: the stream does."""
    with pytest.raises(NotImplementedError):
        WireReceiveHalf._closed_here(None, "x")  # type: ignore[arg-type]
