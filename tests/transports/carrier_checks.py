"""One set of claims that every carrier must keep, whatever it is made of."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import attrs
import pytest
import trio
import trio.testing

from trio_streams.errors import ConnectionLost
from trio_streams.transports.carrier import Carrier

__all__ = ["CHECKS", "Check", "Link", "Maker", "open_socket_pair", "reset", "two"]

T = TypeVar("T")


@attrs.frozen
class Link:
    """Two carriers that are connected, and a way to break what connects them, seen from the right one."""

    left: Carrier
    right: Carrier
    lose: Callable[[], Awaitable[None]]


Maker = Callable[[], AbstractAsyncContextManager[Link]]
Check = Callable[[Maker], Awaitable[None]]


async def two(first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[T]]) -> tuple[T, T]:
    """Run both at once; what they return."""
    results: dict[int, T] = {}

    async def run(index: int, fn: Callable[[], Awaitable[T]]) -> None:
        results[index] = await fn()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, 0, first)
        nursery.start_soon(run, 1, second)
    return results[0], results[1]


@asynccontextmanager
async def open_socket_pair() -> AsyncGenerator[tuple[trio.SocketStream, trio.SocketStream], None]:
    """Two connected TCP sockets on loopback."""
    async with AsyncExitStack() as stack:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            left = await trio.testing.open_stream_to_socket_listener(listener)
            await stack.enter_async_context(left)
            right = await listener.accept()
            await stack.enter_async_context(right)
        yield left, right


async def reset(stream: trio.SocketStream) -> None:
    """Close so that the peer gets RST, as when a machine vanishes and comes back."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def _receive_all(carrier: Carrier) -> bytes:
    received = bytearray()
    while data := await carrier.receive():
        assert isinstance(data, bytes)
        received += data
    return bytes(received)


def _chunks(seed: int, count: int = 60, largest: int = 40_000) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice((1, 2, 100, 4_096, rng.randint(1, largest)))) for _ in range(count)]


async def check_order(make: Maker) -> None:
    """Bytes arrive whole and in order, both ways at once, and a clean end follows them."""
    async with make() as link:
        there, back = _chunks(1), _chunks(2)
        expected = {link.left: b"".join(back), link.right: b"".join(there)}

        async def send(carrier: Carrier, chunks: list[bytes]) -> None:
            for chunk in chunks:
                await carrier.send(chunk)

        async def receive(carrier: Carrier) -> None:
            received = bytearray()
            while len(received) < len(expected[carrier]):
                received += await carrier.receive()
            assert bytes(received) == expected[carrier]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, link.left, there)
            nursery.start_soon(send, link.right, back)
            nursery.start_soon(receive, link.left)
            nursery.start_soon(receive, link.right)


async def check_clean_end(make: Maker) -> None:
    """What was sent before a close arrives; then `b""`, again and again; sending there is refused."""
    async with make() as link:
        data = b"x" * 10_000

        async def close() -> bytes:
            await link.left.send(data)
            await link.left.aclose()
            return b""

        async def receive() -> bytes:
            received = await _receive_all(link.right)
            assert await link.right.receive() == b""
            await link.right.aclose()
            return received

        assert (await two(close, receive))[1] == data
        for carrier in (link.left, link.right):
            with pytest.raises(trio.ClosedResourceError):
                await carrier.receive()
            with pytest.raises(trio.ClosedResourceError):
                await carrier.send(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await carrier.wait_writable()


async def check_loss(make: Maker) -> None:
    """A broken link wakes a waiting receiver with ConnectionLost, and sending fails the same way."""
    async with make() as link:

        async def receive() -> None:
            with pytest.raises(ConnectionLost):
                await _receive_all(link.right)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            await link.lose()
        with pytest.raises(ConnectionLost):
            for _ in range(100):
                await link.right.send(b"x" * 65_536)
        await link.right.aclose()
        await link.right.aclose()


async def check_cancelled_receive(make: Maker) -> None:
    """Receivers that are cancelled at every kind of moment lose no byte."""
    async with make() as link:
        chunks = _chunks(3, largest=5_000)
        total = sum(map(len, chunks))
        received = bytearray()
        rng = random.Random(4)

        async def send() -> None:
            for chunk in chunks:
                await link.left.send(chunk)
                for _ in range(rng.randint(0, 3)):
                    await trio.lowlevel.checkpoint()

        async def receive_once(scope: trio.CancelScope) -> None:
            with scope:
                received.extend(await link.right.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < total:
                scope = trio.CancelScope()
                async with trio.open_nursery() as attempt:
                    attempt.start_soon(receive_once, scope)
                    for _ in range(rng.randint(0, 6)):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        assert bytes(received) == b"".join(chunks)


async def check_backpressure(make: Maker) -> None:
    """A sender that nobody reads stops within 24 MiB, and goes on when somebody reads; nothing is lost."""
    async with make() as link:
        chunk, count, sent = b"y" * 65_536, 1_000, 0

        async def send() -> None:
            nonlocal sent
            for _ in range(count):
                await link.left.wait_writable()
                await link.left.send(chunk)
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert sent * len(chunk) < 24 * 2**20
            received = 0
            while received < count * len(chunk):
                received += len(await link.right.receive())
        assert sent == count


async def check_forceful_close(make: Maker) -> None:
    """A cancelled close closes at once, although the peer reads nothing; it wakes who waits; twice is fine."""
    async with make() as link:
        woken: list[str] = []

        async def receive() -> None:
            with pytest.raises((trio.ClosedResourceError, ConnectionLost)):
                await link.left.receive()
            woken.append("receiver")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await link.left.aclose()
        assert woken == ["receiver"]
        await link.left.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await link.left.send(b"x")


async def check_checkpoints(make: Maker) -> None:
    """Every call is a checkpoint, ready or not, and one that is cancelled at its beginning has done nothing."""
    async with make() as link:
        with trio.testing.assert_checkpoints():
            await link.left.send(b"abc")
        with trio.testing.assert_checkpoints():
            await link.left.send(b"")
        with trio.testing.assert_checkpoints():
            await link.left.wait_writable()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.right.receive()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            assert await link.right.receive() == b"abc"
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.left.wait_writable()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            with trio.move_on_after(5):
                await two(link.left.aclose, link.right.aclose)
        with trio.testing.assert_checkpoints():
            await link.left.aclose()


async def check_is_carrier(make: Maker) -> None:
    """It has the Carrier's shape, and tells people who the peer is."""
    async with make() as link:
        assert isinstance(link.left, Carrier)
        assert link.left.peer
        assert "\n" not in link.left.peer


CHECKS: list[Check] = [
    check_order,
    check_clean_end,
    check_loss,
    check_cancelled_receive,
    check_backpressure,
    check_forceful_close,
    check_checkpoints,
    check_is_carrier,
]
