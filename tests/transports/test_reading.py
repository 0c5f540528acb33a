"""Reading a socket by its descriptor, as Trio's own stream would."""

from __future__ import annotations

import sys

import pytest
import trio
import trio.testing

from tests.transports.carrier_checks import open_socket_pair, reset
from trio_streams.transports.reading import receive_some


async def test_what_is_there_and_what_comes() -> None:
    """What has arrived comes at once, at most as much as was asked for; then it waits; nothing is the end."""
    async with open_socket_pair() as (left, right), trio.open_nursery() as nursery:
        await right.send_all(b"abc")
        assert await receive_some(left, 2) == b"ab"
        assert await receive_some(left, 2) == b"c"
        received: list[bytes] = []

        async def receive() -> None:
            received.append(bytes(await receive_some(left, 10)))

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        await right.send_all(b"later")
        await trio.testing.wait_all_tasks_blocked(0.01)
        while not received:
            await trio.lowlevel.checkpoint()
        assert received == [b"later"]
        await right.send_eof()
        assert await receive_some(left, 10) == b""


async def test_it_is_a_checkpoint_and_loses_nothing() -> None:
    """Whether bytes are here or not; a cancelled call takes none of them."""
    async with open_socket_pair() as (left, right):
        await right.send_all(b"abc")
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive_some(left, 10)
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            assert await receive_some(left, 10) == b"abc"
        with trio.move_on_after(0.01) as waiting:
            await receive_some(left, 10)
        assert waiting.cancelled_caught
        await right.send_all(b"d")
        assert await receive_some(left, 10) == b"d"


@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_a_socket_that_was_closed_here(when: str) -> None:
    """It is said as Trio says it."""
    async with open_socket_pair() as (left, _), trio.open_nursery() as nursery:
        if when == "before":
            await left.aclose()
        else:

            async def close() -> None:
                await trio.testing.wait_all_tasks_blocked()
                left.socket.close()

            nursery.start_soon(close)
        with pytest.raises(trio.ClosedResourceError):
            await receive_some(left, 10)


async def test_a_connection_that_broke() -> None:
    """The cause is the kernel's word."""
    async with open_socket_pair() as (left, right):
        await reset(right)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await receive_some(left, 10)
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_what_is_no_socket_reads_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does every stream where descriptors are no files."""
    left, right = trio.testing.memory_stream_pair()
    await right.send_all(b"abc")
    assert await receive_some(left, 10) == b"abc"
    monkeypatch.setattr(sys, "platform", "win32")
    async with open_socket_pair() as (near, far):
        await far.send_all(b"abc")
        assert await receive_some(near, 10) == b"abc"
