"""Blocks that own a stream: how they are left, and that the peer can cancel them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.stream_talk import fill, talk
from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.webtransport.errors import SessionClosed, WebTransportStreamReset, WebTransportStreamStopped
from trio_streams.webtransport.streams import WebTransportStream


async def test_a_block_that_is_left_normally_ends_and_stops(autojump_clock: MockClock) -> None:
    """The peer reads what was written and the end, and its writer is stopped with code 0."""
    async with talk() as both:
        async with both.here as stream:
            await stream.write(b"all of it")
        assert await both.there.read_all() == b"all of it"
        with pytest.raises(WebTransportStreamStopped) as stopped:
            await fill(both.there)
        assert stopped.value.code is Code.OK


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ZeroDivisionError(), Code.INTERNAL),
        (RpcError(Code.NOT_FOUND, "no such thing"), Code.NOT_FOUND),
        (ExceptionGroup("", [RpcError(Code.ABORTED)]), Code.ABORTED),
    ],
)
async def test_a_block_that_fails_resets_and_stops(failure: Exception, code: Code, autojump_clock: MockClock) -> None:
    """The peer's reader and writer hear the code of the error table for what left the block."""
    async with talk() as both:
        with pytest.raises(type(failure)):
            async with both.here:
                raise failure
        assert await codes_of_end(both.there) == (code, code)


async def test_a_block_that_is_cancelled_resets_and_stops(autojump_clock: MockClock) -> None:
    """The peer's reader and writer hear CANCELLED, also where the cancellation came through a nursery."""
    async with talk() as both:
        with trio.move_on_after(1):
            async with both.here, trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        assert await codes_of_end(both.there) == (Code.CANCELLED, Code.CANCELLED)


async def codes_of_end(stream: WebTransportStream) -> tuple[Code, Code]:
    """With what codes a stream's reader and writer end."""
    with pytest.raises(WebTransportStreamReset) as reset:
        await stream.read()
    with pytest.raises(WebTransportStreamStopped) as stopped:
        await fill(stream)
    return reset.value.code, stopped.value.code


async def test_an_owned_block_is_cancelled_by_the_peer(autojump_clock: MockClock) -> None:
    """Whoever makes bytes slowly is cancelled by STOP_SENDING, RESET_STREAM and the end of the session, whatever it waits for,
    and learns which."""
    async with talk() as both:
        both.there.stop(4)
        with pytest.raises(WebTransportStreamStopped), both.here.own():
            await trio.sleep_forever()
        sending, receiving = await both.one_way()
        sending.reset(4)
        with pytest.raises(WebTransportStreamReset), receiving.own():
            await trio.sleep_forever()
        last = await both.client.create_bidirectional_stream()
        both.server.close(6)
        with pytest.raises(SessionClosed), last.own():
            await trio.sleep_forever()


async def test_an_owned_block_leaves_its_stream_as_any_block_does(autojump_clock: MockClock) -> None:
    """Left normally, by somebody else's cancellation and by an exception, it ends or resets the stream, and raises its own."""
    async with talk() as both:
        with both.here.own():
            await both.here.write(b"x")
        assert await both.there.read_all() == b"x"
        sending, receiving = await both.one_way()
        with trio.move_on_after(1), sending.own():
            await trio.sleep_forever()
        with pytest.raises(WebTransportStreamReset) as reset:
            await receiving.read()
        assert reset.value.code is Code.CANCELLED
        sending, _ = await both.one_way()
        with pytest.raises(ZeroDivisionError), sending.own() as scope:
            scope.deadline = trio.current_time() + 5
            raise ZeroDivisionError
