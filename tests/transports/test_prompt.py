"""Carriers that can tell without waiting whether they take bytes."""

from __future__ import annotations

import trio
import trio.testing

from tests.transports.carrier_checks import open_socket_pair
from trio_streams.carrier import PromptCarrier
from trio_streams.transports.bytes import ByteCarrier, takes_bytes
from trio_streams.transports.output import Output


async def test_a_socket_says_whether_it_takes_bytes() -> None:
    """`is_writable` is true for a socket with room, false while the kernel is full, and false once it is closed."""
    async with open_socket_pair() as (left, _):
        carrier = ByteCarrier(left)
        assert isinstance(carrier, PromptCarrier)
        assert carrier.is_writable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, bytes(1 << 24))
            await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.cancel_scope.cancel()
        assert not carrier.is_writable()
        await carrier.aclose()
        assert not carrier.is_writable()


async def test_who_cannot_be_asked_is_waited_for() -> None:
    """A stream without a socket answers no, so that the driver asks by waiting."""
    left, right = trio.testing.memory_stream_pair()
    assert not takes_bytes(left)
    await trio.aclose_forcefully(left)
    await trio.aclose_forcefully(right)


async def test_a_socket_that_was_closed_under_its_driver_says_no() -> None:
    """A drain closes sockets that others use; who asks then is told by the send that follows, not by the question."""
    async with open_socket_pair() as (left, _):
        left.socket.close()
        assert not takes_bytes(left)


async def test_what_is_owed_comes_first() -> None:
    """An output that owes an answer, or whose turn is taken, is not free to be written at once."""
    async with open_socket_pair() as (left, _):
        output = Output(left, peer="peer", patience=1)
        assert output.is_writable
        output.owe(b"pong")
        assert not output.is_writable
        await output.flush()
        assert output.is_writable
        await output.take_turn()
        assert not output.is_writable
        output.end_turn()
