"""Streams over whatever is open already: pipes, channels, and Trio's byte streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing

from tests.transports.more_links import pipe_pair
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams import ConnectionLost, LocalProtocolError, Router, connect, connect_stream, serve, serve_stream
from trio_streams.carrier import Carrier
from trio_streams.transports import ChannelCarrier
from trio_streams.urls.address import Address, parse_address

app = Router()


@app.stream("sum", direction="bidi")
async def running_sum(items: AsyncIterator[int]) -> AsyncIterator[int]:
    total = 0
    async for item in items:
        total += item
        yield total


def channel_pair() -> tuple[ChannelCarrier, ChannelCarrier]:
    """Two carriers over two memory channels."""
    (there_in, there_out), (back_in, back_out) = trio.open_memory_channel[bytes](4), trio.open_memory_channel[bytes](4)
    near = ChannelCarrier(there_in, back_out, close_timeout=0.05)
    return near, ChannelCarrier(back_in, there_out, close_timeout=0.05, max_message_bytes=10)


def stapled_pipes() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Trio's own way to make one stream of two pipes."""
    (there_out, there_in), (back_out, back_in) = os.pipe(), os.pipe()
    fd = trio.lowlevel.FdStream
    return trio.StapledStream(fd(there_in), fd(back_out)), trio.StapledStream(fd(back_in), fd(there_out))


@pytest.mark.parametrize(
    "make", [channel_pair, pipe_pair, stapled_pipes, trio.testing.memory_stream_pair, trio.testing.lockstep_stream_pair]
)
async def test_whatever_is_open(
    make: Callable[[], tuple[trio.abc.Stream | Carrier, trio.abc.Stream | Carrier]],
) -> None:
    """A client and a server meet over two ends of anything, and both are over when the client is done."""
    near, far = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, far, app)
        async with connect_stream(near) as client, client.bidi("sum", returns=int) as stream:
            await stream.send_many([1, 2, 3])
            stream.end()
            assert [item async for item in stream] == [1, 3, 6]


async def test_a_peers_name_can_be_given() -> None:
    """What people read in errors and contexts is what the program calls it."""
    near, far = trio.testing.memory_stream_pair()
    await far.aclose()
    with pytest.raises(ConnectionLost, match="the printer"):
        async with connect_stream(near, peer="the printer"):
            pytest.fail("connected")


async def test_long_messages_are_cut() -> None:
    """A channel with a limit gets no longer message; an empty one is none at all."""
    send_channel, receive_channel = trio.open_memory_channel[bytes](10)
    other_in, other_out = trio.open_memory_channel[bytes](10)
    carrier = ChannelCarrier(send_channel, other_out, max_message_bytes=4)
    await carrier.send(b"0123456789")
    await carrier.send(b"")
    assert [receive_channel.receive_nowait() for _ in range(3)] == [b"0123", b"4567", b"89"]
    with pytest.raises(trio.WouldBlock):
        receive_channel.receive_nowait()
    await other_in.send(b"")
    await other_in.send(b"x")
    assert await carrier.receive() == b"x"
    await receive_channel.aclose()
    await other_in.aclose()
    await carrier.aclose()
    with pytest.raises(ValueError, match="max_message_bytes must be at least 1"):
        ChannelCarrier(send_channel, other_out, max_message_bytes=0)


async def test_closing_a_channel_wakes_a_waiting_sender() -> None:
    """A sender in a full channel learns that this side was closed."""
    near, _far = channel_pair()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                for _ in range(10):
                    await near.send(b"x")

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.aclose()


async def test_a_peer_that_dies_is_told_from_one_that_says_goodbye() -> None:
    """Both pipes closed at once is a loss; one closed while the other is read is a goodbye, again and again."""
    near, far = pipe_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await far.aclose()
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="gone without a goodbye"):
            await near.receive()
    await near.aclose()


@pytest.mark.parametrize("make", [channel_pair, pipe_pair])
async def test_trios_own_checks(make: Callable[[], tuple[Carrier, Carrier]]) -> None:
    """Through a thin view, pipes and channels keep Trio's own contract for one-way streams."""
    async with AsyncExitStack() as stack:

        async def make_views() -> tuple[SendView, ReceiveView]:
            near, far = make()
            stack.push_async_callback(trio.aclose_forcefully, SendView(near))
            stack.push_async_callback(trio.aclose_forcefully, ReceiveView(far))
            return SendView(near), ReceiveView(far)

        await trio.testing.check_one_way_stream(make_views, None)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://127.0.0.1:7", {"host": "127.0.0.1", "port": 7}),
        ("tls://[::1]:7", {"host": "::1", "port": 7}),
        ("wss://a.example/x", {"host": "a.example", "port": 443}),
        ("http://a.example", {"host": "a.example", "port": 80}),
        ("unix:/run/a.sock", {"path": "/run/a.sock"}),
        ("unix:///run/a%20b.sock?mode=660", {"path": "/run/a b.sock", "mode": 0o660}),
        ("unix:a.sock", {"path": "a.sock"}),
        ("unix:@name", {"path": "@name"}),
        ("process:python -m 'a b' #?x", {"command": ("python", "-m", "a b", "#?x")}),
        ("stdio:", {}),
    ],
)
def test_urls(url: str, address: dict[str, object]) -> None:
    """What each URL means."""
    scheme = url.partition(":")[0]
    parsed = parse_address(url, [scheme])
    assert parsed == Address(url=url, scheme=scheme, **address)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("ftp://a", "scheme"),
        ("nothing", "scheme"),
        ("tcp://a", "port"),
        ("tcp://:7", "port"),
        ("tcp://a:b", "port"),
        ("tcp://[::1:7", "url"),
        ("unix:", "path"),
        ("unix:@", "path"),
        ("unix://run/a.sock", "host"),
        ("unix:/a?mode=9", "mode"),
        ("unix:/a?mode=1777", "mode"),
        ("unix:/a?mod=660", "query"),
        ("stdio:x", "path"),
        ("process:", "command"),
        ("process:a 'b", "command"),
    ],
)
def test_urls_that_make_no_sense(url: str, field: str) -> None:
    """They are refused in one line, with the part that is wrong."""
    with pytest.raises(LocalProtocolError, match="^can't use ") as caught:
        parse_address(url, ["tcp", "unix", "stdio", "process"])
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


async def test_each_side_has_its_own_schemes() -> None:
    """What can only be served can't be called, and the other way round."""
    with pytest.raises(LocalProtocolError, match="scheme is not one of"):
        async with connect("stdio:"):
            pytest.fail("connected")
    with pytest.raises(LocalProtocolError, match="scheme is not one of"):
        await partial(serve, app)("process:true")
