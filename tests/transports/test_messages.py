"""WebSockets as carriers: the shared checks, handshakes, frames, pings, goodbyes."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Opcode

from tests.transports.carrier_checks import CHECKS, Check, Link, Maker, check_loss, open_socket_pair, two
from tests.transports.links import (
    WEBSOCKET_LINKS,
    client_carrier,
    frame,
    server_carrier,
    server_side,
)
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.messages import WebSocketCarrier


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("link", WEBSOCKET_LINKS, ids=lambda link: link.__name__)
async def test_checks(check: Check, link: Maker) -> None:
    """Our WebSockets, trio-websocket's, and one of each keep every carrier's claims."""
    if check is check_loss and link.__name__.endswith("up"):
        return  # loss is seen by the client
    await check(link)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_checks_without_a_socket(check: Check) -> None:
    """A WebSocket over a stream that only has `send_all` keeps every claim that such a stream allows."""
    if check.__name__ in {"check_loss", "check_backpressure"}:
        return  # Trio's memory streams have neither

    @asynccontextmanager
    async def make() -> AsyncGenerator[Link, None]:
        left, right = trio.testing.memory_stream_pair()

        async def lose() -> None:
            raise NotImplementedError

        yield Link(client_carrier(left), server_carrier(right), lose)

    await check(make)


# Frames


async def test_payloads_are_joined() -> None:
    """What has arrived in one read comes out as one run, whatever messages it was in; empty ones vanish."""
    async with server_side() as (carrier, client):
        await client.send_all(
            frame(Opcode.BINARY, b"one")
            + frame(Opcode.BINARY)
            + frame(Opcode.BINARY, b"t", fin=False)
            + frame(Opcode.CONT, b"w", fin=False)
            + frame(Opcode.PING, b"in between")
            + frame(Opcode.CONT, b"o")
        )
        assert await carrier.receive() == b"onetwo"


async def test_fragments_are_handed_over_as_they_arrive() -> None:
    """A message that never ends is not collected: its parts come out at once."""
    async with server_side() as (carrier, client):
        await client.send_all(frame(Opcode.BINARY, b"begin", fin=False))
        assert await carrier.receive() == b"begin"
        await client.send_all(frame(Opcode.CONT, b"more", fin=False))
        assert await carrier.receive() == b"more"


async def test_messages_keep_their_boundaries_and_kinds() -> None:
    """The message view gives whole messages, text as str."""
    async with server_side() as (carrier, client):
        await client.send_all(
            frame(Opcode.TEXT, "grü".encode()[:3], fin=False)
            + frame(Opcode.CONT, "grü".encode()[3:])
            + frame(Opcode.BINARY)
            + frame(Opcode.BINARY, b"\xff")
            + frame(Opcode.TEXT, b"part", fin=False)
        )
        assert await carrier.receive_messages() == ["grü", b"", b"\xff"]
        await client.send_all(frame(Opcode.CONT, b"ner"))
        assert await carrier.receive_messages() == ["partner"]
        await client.send_all(frame(Opcode.CLOSE, Close(1001, "").serialize()))
        assert await carrier.receive_messages() == []


async def test_messages_are_sent_as_they_are() -> None:
    """`send_messages` gives each message a frame of its own; sending none is a checkpoint."""
    async with open_socket_pair() as (left, right):
        server, client = server_carrier(left), client_carrier(right)
        await server.send_messages(["a", b"b", "", b""])
        with trio.testing.assert_checkpoints():
            await server.send_messages([])
        received: list[str | bytes] = []
        while len(received) < 4:
            received += await client.receive_messages()
        assert received == ["a", b"b", "", b""]


async def test_one_send_is_one_frame() -> None:
    """`send` makes one binary frame of its bytes."""
    async with server_side() as (carrier, client):
        await carrier.send(b"x" * 300)
        assert await client.receive_some() == frame(Opcode.BINARY, b"x" * 300, mask=False)


BAD_INPUT = {
    "a text message": (frame(Opcode.TEXT, b"hello"), "expected binary messages, not a text message", 1003),
    "an unmasked frame": (frame(Opcode.BINARY, b"x", mask=False), "incorrect masking", 1002),
    "a reserved bit": (b"\xc2\x80\0\0\0\0", "reserved bits", 1002),
    "an unknown opcode": (b"\x83\x80\0\0\0\0", "invalid opcode", 1002),
    "a continuation of nothing": (frame(Opcode.CONT, b"x"), "unexpected continuation", 1002),
    "a long ping": (b"\x89\xfe\0\x7e" + bytes(4 + 126), "control frame too long", 1002),
    "a fragmented ping": (b"\x09\x80\0\0\0\0", "fragmented control frame", 1002),
    "a huge message": (b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4), "over max_message_bytes=1048576", 1009),
    "a huge sum of fragments": (
        frame(Opcode.BINARY, bytes(2**19), fin=False) * 1 + frame(Opcode.CONT, bytes(2**19 + 1)),
        "over max_message_bytes=1048576",
        1009,
    ),
    "a goodbye inside a message": (
        frame(Opcode.BINARY, b"x", fin=False) + frame(Opcode.CLOSE, b"\x03\xe8"),
        "incomplete fragmented message",
        1002,
    ),
    "a goodbye of one byte": (b"\x88\x81\0\0\0\0\0", "close frame too short", 1002),
    "a goodbye that is not UTF-8": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), "codec can't decode", 1007),
}


@pytest.mark.parametrize("name", BAD_INPUT)
async def test_bad_input(name: str) -> None:
    """Bytes that break RFC 6455, or our limits, are a RemoteProtocolError after the data before them; the peer is told."""
    data, message, close_code = BAD_INPUT[name]
    async with server_side() as (carrier, client):
        told = bytearray()

        async def receive() -> None:
            received = b""
            with pytest.raises(RemoteProtocolError, match=message) as caught:
                while True:
                    received += await carrier.receive()
            assert received.startswith(b"before")
            expected = Code.MESSAGE_TOO_LARGE if close_code == 1009 else Code.PROTOCOL_ERROR
            assert caught.value.code is expected
            if close_code == 1009:
                assert (caught.value.field, caught.value.limit) == ("max_message_bytes", 2**20)
                assert caught.value.size is not None
                assert caught.value.size > 2**20
            with pytest.raises(RemoteProtocolError, match=message):
                await carrier.receive()
            with pytest.raises(ConnectionLost, match="cannot send"):
                await carrier.send(b"x")
            await carrier.aclose()

        async def talk() -> None:
            await client.send_all(frame(Opcode.BINARY, b"before") + data)
            while part := await client.receive_some():
                told.extend(part)
            await client.aclose()

        await two(receive, talk)
        assert told[0] == 0x88
        assert int.from_bytes(told[2:4], "big") == close_code


async def test_text_that_is_not_utf8() -> None:
    """In the message view, a text message that is not UTF-8 is refused after the messages before it."""
    async with server_side() as (carrier, client):
        await client.send_all(frame(Opcode.TEXT, b"fine") + frame(Opcode.TEXT, b"\xff"))
        assert await carrier.receive_messages() == ["fine"]
        with pytest.raises(RemoteProtocolError, match="byte 0 is not"):
            await carrier.receive_messages()


_frames = st.builds(
    lambda opcode, data, fin, rsv, mask: (
        bytes([fin | rsv | opcode, (0x80 if mask else 0) | len(data)]) + (b"\0\0\0\0" if mask else b"") + data
    ),
    st.sampled_from([0, 1, 2, 2, 2, 2, 3, 8, 9, 9, 10, 11]),
    st.binary(max_size=125),
    st.sampled_from([0, 0x80, 0x80, 0x80]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 0x40, 0x10]),
    st.sampled_from([True] * 20 + [False]),
)


@settings(max_examples=150, deadline=None)
@given(
    stream=st.one_of(st.lists(_frames, max_size=12).map(b"".join), st.binary(max_size=200)),
    seed=st.integers(0, 2**16),
    is_client=st.booleans(),
)
def test_any_input_ends_or_waits(stream: bytes, seed: int, is_client: bool) -> None:
    """Whatever bytes arrive, however they are cut: data, a clean end or one of our errors, and the cuts change nothing."""

    async def feed(chunks: list[bytes]) -> tuple[bytes, str]:
        ours, theirs = trio.testing.memory_stream_pair()
        carrier = (client_carrier if is_client else server_carrier)(ours, config=ConnectionConfig(close_timeout=0.01))
        received = b""

        async def send() -> None:
            for chunk in chunks:
                await theirs.send_all(chunk)
                await trio.testing.wait_all_tasks_blocked()
            await theirs.send_eof()

        ending = "clean"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                while data := await carrier.receive():
                    received += data
            except (ConnectionLost, RemoteProtocolError) as exc:
                ending = f"{type(exc).__name__}: {exc}"
            nursery.cancel_scope.cancel()
        await carrier.aclose()
        return received, ending

    async def main() -> None:
        rng = random.Random(seed)
        cuts = sorted(rng.sample(range(len(stream) + 1), min(len(stream) + 1, 6)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
        assert await feed([stream] if stream else []) == await feed(pieces)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# Pings


async def test_a_ping_is_answered_while_nothing_is_sent() -> None:
    """A receiver that waits for data answers pings by itself."""
    async with server_side() as (carrier, client), trio.open_nursery() as nursery:
        nursery.start_soon(carrier.receive)
        await client.send_all(frame(Opcode.PING, b"you there?"))
        assert await client.receive_some() == frame(Opcode.PONG, b"you there?", mask=False)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("blocked_in", ["send", "wait_writable"])
async def test_a_ping_while_a_send_is_blocked(blocked_in: str) -> None:
    """A pong goes out right behind the frame that blocks the socket, and between no frame's bytes."""
    big = bytes(2**23)
    async with server_side() as (carrier, client):

        async def block() -> None:
            if blocked_in == "send":
                await carrier.send(big)
                return
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(carrier.send, big)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    scope.cancel()
            await carrier.wait_writable()

        pongs = b"".join(frame(Opcode.PONG, one, mask=False) for one in (b"p", b"q"))
        expected = frame(Opcode.BINARY, big, mask=False) + pongs
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(block)
            nursery.start_soon(carrier.receive)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await client.send_all(frame(Opcode.PING, b"p") + frame(Opcode.PING, b"q"))
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert carrier._output.owed_bytes == len(pongs)
            while len(received) < len(expected):
                received += await client.receive_some()
            nursery.cancel_scope.cancel()
        assert received == expected


async def test_a_flood_of_pings_is_bounded() -> None:
    """A peer that sends pings and reads no pong stops being read; what is owed to it stays within the bound."""
    config = ConnectionConfig(max_control_bytes=4_096, close_timeout=0.01)
    async with server_side(partial(server_carrier, config=config)) as (carrier, client):
        ping = frame(Opcode.PING, b"x" * 100)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await client.send_all(ping * 1_000)
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.receive)
            nursery.start_soon(flood)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert carrier._output.owed_bytes <= 4_096 + 65_536
            stuck_at = sent
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert sent == stuck_at
            # Who reads again is answered again.
            pongs = 0
            while pongs < 2**23:
                pongs += len(await client.receive_some())
            nursery.cancel_scope.cancel()
        assert sent > stuck_at


async def cancelled(rng: random.Random, fn: Callable[[], Awaitable[None]]) -> None:
    """Run a function and cancel it within some scheduler rounds."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fn)
            for _ in range(rng.randint(0, 8)):
                await trio.lowlevel.checkpoint()
            scope.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_no_frame_is_torn(seed: int) -> None:
    """Sends, receives and waits that are cancelled anywhere, under pings both ways, leave two streams of whole frames."""
    rng = random.Random(seed)
    async with open_socket_pair() as (left, right):
        a, b = server_carrier(left), client_carrier(right)
        got: dict[WebSocketCarrier, bytearray] = {a: bytearray(), b: bytearray()}
        finished = 0

        async def send(carrier: WebSocketCarrier, byte: bytes) -> None:
            nonlocal finished
            for _ in range(40):
                calls: list[Callable[[], Awaitable[None]]] = [
                    carrier.wait_writable,
                    partial(carrier.send, byte * rng.randint(1, 100_000)),
                ]
                await cancelled(rng, rng.choice(calls))
                carrier._machine.complete().send_ping(b"ping")
                carrier._output.owe(carrier._machine.answers())
            await carrier.send(b"\0")
            finished += 1

        async def receive(carrier: WebSocketCarrier) -> None:
            async def once() -> None:
                got[carrier].extend(await carrier.receive())

            while not got[carrier].endswith(b"\0"):
                await cancelled(rng, once)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, a, b"a")
            nursery.start_soon(send, b, b"b")
            nursery.start_soon(receive, a)
            nursery.start_soon(receive, b)
        assert set(got[a]) == {0, ord("b")}
        assert set(got[b]) == {0, ord("a")}
        await two(a.aclose, b.aclose)


async def test_a_cancelled_write_without_a_socket_is_never_followed() -> None:
    """Where nobody knows how much was written, nothing more is."""
    left, right = trio.testing.lockstep_stream_pair()
    carrier = server_carrier(left)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carrier.send, b"x" * 100)
        await trio.testing.wait_all_tasks_blocked()
        assert await right.receive_some(1) == b"\x82"
        nursery.cancel_scope.cancel()
    for call in (partial(carrier.send, b"y"), carrier.wait_writable):
        with pytest.raises(ConnectionLost, match="a cancelled write left a frame unfinished"):
            await call()


async def test_answers_without_a_socket_have_a_limit(autojump_clock: trio.testing.MockClock) -> None:
    """A stream that never takes an answer cannot hold a receiver beyond `close_timeout`, cancelled or not."""
    assert autojump_clock
    left, right = trio.testing.memory_stream_pair()
    blocked = trio.Event()

    async def block() -> None:
        blocked.set()
        await trio.sleep_forever()

    left.send_stream.send_all_hook = block
    carrier = server_carrier(left)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.receive)
            await right.send_all(frame(Opcode.PING))
            await blocked.wait()
            scope.cancel()
    assert scope.cancelled_caught
    with pytest.raises(ConnectionLost):
        await carrier.send(b"x")
