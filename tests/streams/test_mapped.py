"""A receive half seen through a function."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import CodecError, ConnectionLost, RpcError, StreamStopped
from trio_streams.streams import LocalStream, open_stream
from trio_streams.streams.mapped import MappedReceiveStream


def decode(text: str) -> int:
    if not text.isdigit():
        raise CodecError(f"{text!r} is no number")
    return int(text)


def mapped(source: LocalStream[str], failure: Exception | None = None) -> MappedReceiveStream[str, int]:
    return MappedReceiveStream(source, decode, lambda: failure)


async def test_items_are_decoded_where_they_are_taken() -> None:
    """Each way of receiving gives decoded items, and the source's clean end."""
    async with open_stream[str]() as source:
        stream = MappedReceiveStream(source, decode)
        await source.send_many(["1", "2", "3", "4", "5"])
        source.end()
        assert await stream.receive() == 1
        assert stream.receive_nowait() == 2
        assert await stream.receive_many(2) == [3, 4]
        assert [item async for item in stream] == [5]
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
        with pytest.raises(trio.EndOfChannel):
            stream.receive_nowait()


async def test_what_cannot_be_decoded_is_gone() -> None:
    """An item that can't be decoded raises, once, and the next one can be taken."""
    async with open_stream[str]() as source:
        stream = mapped(source)
        await source.send_many(["x", "1", "y", "2"])
        with pytest.raises(CodecError, match="'x' is no number"):
            await stream.receive()
        assert await stream.receive() == 1
        with pytest.raises(CodecError, match="'y' is no number"):
            stream.receive_nowait()
        assert await stream.receive() == 2


@pytest.mark.parametrize("after", ["receive", "nowait", "many"])
async def test_receive_many_keeps_a_fault_for_the_next_call(after: str) -> None:
    """A batch ends before an item that can't be decoded; whatever call comes next raises, and nothing else is lost."""
    async with open_stream[str]() as source:
        stream = mapped(source)
        await source.send_many(["1", "2", "x", "3"])
        with pytest.raises(ValueError, match="at least 1"):
            await stream.receive_many(0)
        assert await stream.receive_many() == [1, 2]
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive()
        with pytest.raises(CodecError, match="'x' is no number"):
            if after == "receive":
                await stream.receive()
            elif after == "nowait":
                stream.receive_nowait()
            else:
                await stream.receive_many()
        assert await stream.receive_many() == [3]


async def test_a_failure_behind_a_clean_end() -> None:
    """Where something else ended the source, that is raised in place of its clean end."""
    async with open_stream[str]() as source:
        stream = mapped(source, ConnectionLost("cut"))
        await source.send("1")
        source.end()
        assert await stream.receive_many() == [1]
        with pytest.raises(ConnectionLost, match="cut"):
            await stream.receive()
        with pytest.raises(ConnectionLost, match="cut"):
            stream.receive_nowait()


async def test_a_status_passes_through() -> None:
    """An end with a status is the source's, as it is."""
    async with open_stream[str]() as source:
        source.end(Status("NOT_FOUND", "no"))
        with pytest.raises(RpcError, match="NOT_FOUND: no"):
            await mapped(source).receive()


async def test_stop_close_and_statistics_are_the_sources() -> None:
    """`stop`, `aclose` and `statistics` go to the source."""
    async with open_stream[str]() as source:
        stream = mapped(source)
        await source.send("1")
        assert stream.statistics() == source.statistics()
        stream.stop(Code.ABORTED, "why")
        with pytest.raises(StreamStopped, match="ABORTED: why"):
            await source.send("2")
    async with open_stream[str]() as source:
        with trio.testing.assert_checkpoints():
            await mapped(source).aclose()
        assert source.closed
