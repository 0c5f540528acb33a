"""The byte view."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    check_half_closeable_stream,
    check_one_way_stream,
    check_two_way_stream,
    wait_all_tasks_blocked,
)

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.streams import ByteStream, LocalStream, open_stream


class Pairs:
    """Makes pairs of byte streams over in-process streams that live as long as the block."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def halves(self, mark: int = 2) -> tuple[LocalStream[bytes], LocalStream[bytes]]:
        there = await self._stack.enter_async_context(open_stream[bytes](high_water_mark=mark))
        back = await self._stack.enter_async_context(open_stream[bytes](high_water_mark=mark))
        return there, back

    async def pair(self) -> tuple[ByteStream, ByteStream]:
        there, back = await self.halves()
        return ByteStream(there, back, max_item_bytes=4096), ByteStream(back, there, max_item_bytes=4096)

    async def clogged_pair(self) -> tuple[ByteStream, ByteStream]:
        there, back = await self.halves(1)
        there.send_nowait(b"x")
        back.send_nowait(b"x")
        return ByteStream(there, back, max_item_bytes=4096), ByteStream(back, there, max_item_bytes=4096)


@pytest.mark.parametrize("check", [check_one_way_stream, check_two_way_stream])
@pytest.mark.parametrize("is_clogged", [False, True])
async def test_trio_checks(check: object, is_clogged: bool) -> None:
    """The view is a byte stream as Trio's own checkers understand it."""
    checker = check_one_way_stream if check is check_one_way_stream else check_two_way_stream
    async with AsyncExitStack() as stack:
        pairs = Pairs(stack)
        await checker(pairs.pair, pairs.clogged_pair if is_clogged else None)


@pytest.mark.parametrize("is_clogged", [False, True])
async def test_trio_checks_half_closing(is_clogged: bool) -> None:
    """Each direction ends on its own, as Trio's own checker understands it."""
    async with AsyncExitStack() as stack:
        pairs = Pairs(stack)
        await check_half_closeable_stream(pairs.pair, pairs.clogged_pair if is_clogged else None)


async def test_large_data_is_cut() -> None:
    """What is sent travels in items of at most 16 KiB and comes out whole."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves(100)
        sender, receiver = ByteStream(there, back), ByteStream(back, there)
        data = bytearray(range(256)) * 200
        await sender.send_all(data)
        assert there.buffered_amount == 4
        assert len(await receiver.receive_some()) == 16_384
        await sender.send_eof()
        rest = b"".join([part async for part in receiver])
        assert rest == data[16_384:]


async def test_wide_views_are_counted_in_bytes() -> None:
    """A memoryview of wider elements is sent byte by byte."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves(100)
        await ByteStream(there, back, max_item_bytes=3).send_all(memoryview(b"abcdefgh").cast("I"))
        assert await there.receive_many() == [b"abc", b"def", b"gh"]


async def test_empty_items_are_no_end() -> None:
    """An empty item is skipped, and only the end reads as empty bytes, again and again."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves(4)
        receiver = ByteStream(back, there)
        await there.send_many([b"", b"ab", b""])
        there.end()
        assert await receiver.receive_some(1) == b"a"
        assert await receiver.receive_some(9) == b"b"
        with assert_checkpoints():
            assert await receiver.receive_some() == b""
        assert await receiver.receive_some() == b""


async def test_empty_data_sends_nothing() -> None:
    """Sending no bytes is a checkpoint and makes no item."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves()
        with assert_checkpoints():
            await ByteStream(there, back).send_all(b"")
        assert there.buffered_amount == 0


async def test_failures_read_as_broken() -> None:
    """A reset, an end with an error and a stop are all `BrokenResourceError` to a user of bytes."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves()
        stream = ByteStream(there, back)
        there.stop(Code.OK, "enough")
        with pytest.raises(trio.BrokenResourceError, match="enough"):
            await stream.send_all(b"x")
        back.end(Status("NOT_FOUND", "no such file"))
        with pytest.raises(trio.BrokenResourceError, match="NOT_FOUND: no such file"):
            await stream.receive_some()


async def test_closing_delivers_what_was_sent(nursery: trio.Nursery) -> None:
    """`aclose` wakes a sender that waits, and the peer still reads what was sent before."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves(2)
        sender, receiver = ByteStream(there, back, max_item_bytes=2), ByteStream(back, there)

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError, match="another task"):
                await sender.send_all(b"abcdef")

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await sender.send_eof()
        await sender.aclose()
        assert b"".join([part async for part in receiver]) == b"abcd"
        with pytest.raises(trio.ClosedResourceError, match="can't end it"):
            await sender.send_eof()


async def test_cancelled_receive_takes_nothing() -> None:
    """A cancelled call leaves the bytes where they are."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves()
        receiver = ByteStream(back, there)
        await there.send(b"abc")
        with trio.CancelScope() as scope:
            scope.cancel()
            await receiver.receive_some()
        assert scope.cancelled_caught
        assert await receiver.receive_some() == b"abc"


@pytest.mark.parametrize("size", [0, -1])
async def test_sizes_are_checked(size: int) -> None:
    """Sizes below one are refused, where items are made and where bytes are read."""
    async with AsyncExitStack() as stack:
        there, back = await Pairs(stack).halves()
        with pytest.raises(ValueError, match="max_item_bytes"):
            ByteStream(there, back, max_item_bytes=size)
        with pytest.raises(ValueError, match="max_bytes"):
            await ByteStream(there, back).receive_some(size)
