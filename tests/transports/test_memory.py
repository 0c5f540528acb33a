"""The in-process link."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.transports.carrier_checks import CHECKS, Check, Link
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams.errors import ConnectionLost
from trio_streams.transports.memory import memory_carrier_pair


@asynccontextmanager
async def memory_link() -> AsyncGenerator[Link, None]:
    left, right = memory_carrier_pair()

    async def lose() -> None:
        await trio.lowlevel.checkpoint()
        left.lose()

    yield Link(left, right, lose)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_checks(check: Check) -> None:
    """A memory link keeps every carrier's claims."""
    await check(memory_link)


@given(chunks=st.lists(st.binary(max_size=50), max_size=20), bound=st.integers(1, 64))
def test_any_bound_keeps_every_byte(chunks: list[bytes], bound: int) -> None:
    """Whatever is sent through whatever bound arrives in order, and the buffer never passes its bound."""

    async def main() -> None:
        left, right = memory_carrier_pair(bound)
        received = bytearray()

        async def send() -> None:
            for chunk in chunks:
                await left.send(chunk)
            await left.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while data := await right.receive():
                assert len(data) <= bound
                received += data
                assert right.statistics().receivable_bytes <= bound
        assert bytes(received) == b"".join(chunks)

    trio.run(main)


async def test_send_waits_at_the_bound() -> None:
    """A sender waits with the buffer exactly full, and statistics say so."""
    left, right = memory_carrier_pair(max_buffered_bytes=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send, b"x" * 25)
        await trio.testing.wait_all_tasks_blocked()
        statistics = left.statistics()
        assert (statistics.unsent_bytes, statistics.tasks_waiting_send) == (10, 1)
        assert right.statistics().receivable_bytes == 10
        assert await right.receive() == b"x" * 10
        assert await right.receive() == b"x" * 10
        assert await right.receive() == b"x" * 5


async def test_wait_writable_waits_for_room() -> None:
    """`wait_writable` returns when one byte fits, and no sooner."""
    left, right = memory_carrier_pair(max_buffered_bytes=4)
    await left.send(b"abcd")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        assert left.statistics().tasks_waiting_send == 1
        await right.receive()


@pytest.mark.parametrize("how", ["lost", "refused", "closed"])
async def test_a_waiting_sender_is_woken(how: str) -> None:
    """A sender that waits for room learns of loss, of the receiver's leaving and of its own side's close."""
    left, right = memory_carrier_pair(max_buffered_bytes=1)
    expected = trio.ClosedResourceError if how == "closed" else ConnectionLost

    async def send() -> None:
        with pytest.raises(expected):
            await left.send(b"xx")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        if how == "lost":
            right.lose("unplugged")
        else:
            await (right if how == "refused" else left).aclose()


async def test_loss_says_why() -> None:
    """The reason given to `lose` is what both sides see."""
    left, right = memory_carrier_pair()
    left.lose("the cat did it")
    for carrier in (left, right):
        with pytest.raises(ConnectionLost, match="the cat did it"):
            await carrier.receive()


def test_a_bound_must_be_positive() -> None:
    """A link that can hold nothing could never carry anything."""
    with pytest.raises(ValueError, match="at least 1, not 0"):
        memory_carrier_pair(0)


async def test_trio_checks_one_way() -> None:
    """Through a thin view, the link keeps Trio's own contract for one-way streams, clogged ones included."""

    async def make() -> tuple[SendView, ReceiveView]:
        await trio.lowlevel.checkpoint()
        left, right = memory_carrier_pair(1)
        return SendView(left), ReceiveView(right)

    async def make_clogged() -> tuple[SendView, ReceiveView]:
        sender, receiver = await make()
        await sender.send_all(b"x")
        return sender, receiver

    await trio.testing.check_one_way_stream(make, make_clogged)
