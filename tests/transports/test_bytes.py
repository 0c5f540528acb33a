"""Byte streams as carriers, and TCP sockets."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transports.carrier_checks import CHECKS, Check, Link, Maker, check_backpressure, open_socket_pair, reset, two
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams.carrier import GatheringCarrier
from trio_streams.config import ConnectionConfig
from trio_streams.core.errors import StreamsError
from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import (
    ByteCarrier,
    ListenError,
    connect_tcp,
    describe_fault,
    open_tcp_listeners,
    peer_name,
)


@asynccontextmanager
async def tcp_link() -> AsyncGenerator[Link, None]:
    async with open_socket_pair() as (left, right):
        yield Link(ByteCarrier(left), ByteCarrier(right), lambda: reset(left))


@asynccontextmanager
async def unix_link() -> AsyncGenerator[Link, None]:
    left, right = (trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair())
    right_carrier = ByteCarrier(right)

    async def lose() -> None:
        # A Unix socket that closes with unread bytes resets the other side.
        await right_carrier.send(b"unread")
        await trio.aclose_forcefully(left)

    async with left, right:
        yield Link(ByteCarrier(left), right_carrier, lose)


@asynccontextmanager
async def in_memory_link() -> AsyncGenerator[Link, None]:
    left, right = trio.testing.memory_stream_pair()

    async def lose() -> None:
        # What Trio's memory stream has for loss: the other side's writes fail, and its reads, as told here.
        async def broken() -> None:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("cut")

        right.send_stream.send_all_hook = broken
        right.receive_stream.receive_some_hook = broken
        right.receive_stream.put_data(b"wake up")

    yield Link(ByteCarrier(left, close_timeout=0.01), ByteCarrier(right, close_timeout=0.01), lose)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("link", [tcp_link, unix_link, in_memory_link])
async def test_checks(check: Check, link: Maker) -> None:
    """TCP, Unix sockets and Trio's memory streams keep every carrier's claims."""
    if link is in_memory_link and check is check_backpressure:
        return  # Trio's memory streams have no bound
    await check(link)


async def test_trio_checks_tcp() -> None:
    """Through a thin view, a TCP carrier keeps Trio's own contract for one-way streams."""

    async def make() -> tuple[SendView, ReceiveView]:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        async with listener:
            left = await trio.testing.open_stream_to_socket_listener(listener)
            right = await listener.accept()
        # No lingering: a checker's peer may never close.
        return SendView(ByteCarrier(left, close_timeout=0)), ReceiveView(ByteCarrier(right, close_timeout=0))

    await trio.testing.check_one_way_stream(make, None)


async def test_kernel_options() -> None:
    """A TCP socket has no Nagle delay, and hoards at most 16 KiB that a priority can no longer reorder."""
    async with open_socket_pair() as (left, _):
        left.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        ByteCarrier(left)
        assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        if sys.platform == "linux":
            assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16_384


async def test_wait_writable_asks_the_kernel() -> None:
    """`wait_writable` blocks while the kernel holds more than its mark unsent, and wakes when the peer reads."""
    async with open_socket_pair() as (left, right):
        sender, receiver = ByteCarrier(left), ByteCarrier(right)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, b"x" * 2**26)
                await trio.testing.wait_all_tasks_blocked(0.02)
                scope.cancel()
        woken = False

        async def wait() -> None:
            nonlocal woken
            await sender.wait_writable()
            woken = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert not woken
            while not woken:
                await receiver.receive()


async def test_receives_64_kib_at_once() -> None:
    """One read takes what has arrived, up to 64 KiB."""
    async with open_socket_pair() as (left, right):
        sender, receiver = ByteCarrier(left), ByteCarrier(right)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send, b"x" * 200_000)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert len(await receiver.receive()) == 65_536
            nursery.cancel_scope.cancel()


async def test_reads_grow_while_they_come_back_full() -> None:
    """After a full read the next asks for twice as much, up to 256 KiB, until one gets what 64 KiB would have held."""
    left, right = trio.testing.memory_stream_pair()
    sender, receiver = ByteCarrier(left, close_timeout=0), ByteCarrier(right, close_timeout=0)
    sizes = []
    for sent, reads in ((800_000, 5), (100_000, 1), (100_000, 1), (10, 1), (100_000, 2)):
        await sender.send(b"x" * sent)
        sizes.append([len(await receiver.receive()) for _ in range(reads)])
    assert sizes == [[65_536, 131_072, 262_144, 262_144, 79_104], [100_000], [100_000], [10], [65_536, 34_464]]


async def test_chunks_arrive_joined() -> None:
    """Chunks of any number and length arrive as their bytes in order, on a socket that takes them in parts and elsewhere."""
    sizes = [3, 1_000_000, *[40] * 2_000, 5_000_000, 1]
    chunks: list[bytes | memoryview] = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    chunks[1] = memoryview(chunks[1])
    whole = b"".join(chunks)
    memory = trio.testing.memory_stream_pair()
    async with open_socket_pair() as sockets:
        runs: list[list[bytes | memoryview]] = [chunks, [b"ab", b"c"], [b"d"]]
        for left, right in (sockets, memory):
            sender, receiver = ByteCarrier(left, close_timeout=0), ByteCarrier(right, close_timeout=0)
            assert isinstance(sender, GatheringCarrier)
            for run in runs:
                sent = list(run)
                expected = len(b"".join(sent))
                arrived = bytearray()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(sender.send_chunks, sent)
                    while len(arrived) < expected:
                        arrived += await receiver.receive()
                assert arrived in (whole, b"abc", b"d")
                assert len(arrived) == expected


async def test_chunks_into_a_broken_connection() -> None:
    """The world's fault is `ConnectionLost`, our own close is `ClosedResourceError`; a cancelled call only stops."""
    async with open_socket_pair() as (left, right):
        carrier = ByteCarrier(left, close_timeout=0)
        with trio.move_on_after(0.05) as scope:
            await carrier.send_chunks([bytes(1 << 24), b"x"])
        assert scope.cancelled_caught
        await trio.aclose_forcefully(right)
        with pytest.raises(ConnectionLost, match="lost: "):
            while True:
                await carrier.send_chunks([bytes(20_000), b"x"])
        await trio.aclose_forcefully(left)
        with pytest.raises(trio.ClosedResourceError):
            await carrier.send_chunks([b"x"])


async def test_close_lingers_for_the_last_bytes() -> None:
    """Closing with unread input does not destroy what was sent just before."""
    async with open_socket_pair() as (left, right):
        closer, reader = ByteCarrier(left), ByteCarrier(right)
        await reader.send(b"never read")
        await trio.testing.wait_all_tasks_blocked(0.01)
        received = bytearray()

        async def close() -> None:
            await closer.send(b"last words" * 1_000)
            await closer.aclose()

        async def read() -> None:
            await reader.send(b"still talking")
            while data := await reader.receive():
                received.extend(data)
            await reader.aclose()

        await two(close, read)
        assert bytes(received) == b"last words" * 1_000


async def test_close_is_bounded() -> None:
    """A peer that neither reads nor closes delays a close by `close_timeout`, no more."""
    async with open_socket_pair() as (left, _):
        carrier = ByteCarrier(left, close_timeout=0.02)
        with trio.fail_after(30):
            await carrier.aclose()
        assert left.socket.fileno() == -1


async def test_tls_like_streams_close_by_themselves() -> None:
    """A stream without `send_eof` is closed by its own `aclose`."""

    class Whole(trio.abc.Stream):
        closes = 0

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise AssertionError

        async def wait_send_all_might_not_block(self) -> None:
            raise trio.BrokenResourceError("gone")

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise AssertionError

        async def aclose(self) -> None:
            self.closes += 1
            await trio.lowlevel.checkpoint()

    stream = Whole()
    carrier = ByteCarrier(stream)
    assert carrier.peer == "Whole"
    with pytest.raises(ConnectionLost, match="connection to Whole lost: gone"):
        await carrier.wait_writable()
    await carrier.aclose()
    assert stream.closes >= 1


async def test_connect_and_listen() -> None:
    """`connect_tcp` reaches `open_tcp_listeners`, and each side names the other's address."""
    listeners = await open_tcp_listeners("127.0.0.1", 0, user_timeout=1.5)
    port = listeners[0].socket.getsockname()[1]
    async with listeners[0]:
        client = await connect_tcp("127.0.0.1", port, user_timeout=2)
        accepted = await listeners[0].accept()
    server = ByteCarrier(accepted)
    if sys.platform == "linux":
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1_500
    assert client.peer == f"127.0.0.1:{port}"
    assert server.peer.startswith("127.0.0.1:")
    await client.send(b"hello")
    assert await server.receive() == b"hello"
    await two(client.aclose, server.aclose)


async def test_refused_is_one_line() -> None:
    """A refused connection is one clear line."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ConnectionLost) as caught:
        await connect_tcp("127.0.0.1", port)
    assert str(caught.value) == f"cannot connect to tcp://127.0.0.1:{port}: connection refused"


async def test_taken_port_is_one_line() -> None:
    """A taken port is one clear line that names it, with the kernel's number beside it."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            await open_tcp_listeners("127.0.0.1", port)
    assert str(caught.value) == f"cannot listen on tcp://127.0.0.1:{port}: address already in use"
    assert caught.value.errno == errno.EADDRINUSE
    assert isinstance(caught.value, StreamsError)
    assert isinstance(caught.value, OSError)


async def test_connect_timeout_is_one_line(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """An address that never answers is given up after `connect_timeout`."""

    async def never(*_args: object, **_kwargs: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    with pytest.raises(ConnectionLost, match=r"cannot connect to tcp://\[::1\]:80: no answer within 3 s"):
        await connect_tcp("::1", 80, config=ConnectionConfig(connect_timeout=3))
    assert autojump_clock.current_time() >= 3


async def test_peer_names() -> None:
    """Peers have names for people, also those without an address or that left."""
    left, right = (trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair())
    assert peer_name(left) == "unix"
    await left.aclose()
    await right.aclose()
    assert peer_name(left) == "disconnected peer"
    memory, _ = trio.testing.memory_stream_pair()
    assert peer_name(memory) == "StapledStream"


def test_fault_descriptions() -> None:
    """The kernel's words come out from under Trio's wrapping; an exception without words gives its name."""
    inner = OSError(errno.ENETUNREACH, "whatever")
    outer = OSError("all attempts failed")
    outer.__cause__ = ExceptionGroup("several", [inner, ValueError()])
    assert describe_fault(outer) == "network is unreachable"
    assert describe_fault(trio.BrokenResourceError()) == "BrokenResourceError"
    assert describe_fault(OSError("odd")) == "odd"
