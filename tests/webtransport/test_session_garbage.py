"""What is over is freed at once: nothing of a session waits for the collector of cycles."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import Final

import trio
from trio.testing import MockClock

from tests.garbage import Garbage
from tests.webtransport.link_pair import open_pair, session_pair
from tests.webtransport.serving import serving
from trio_streams.errors import StreamError
from trio_streams.webtransport import WebTransportSession, connect
from trio_streams.webtransport.errors import WebTransportStreamReset

TIMES: Final = 20


HERE: Final = re.compile(
    r"trio_streams\.(nursery|webtransport\.(session|stream|link|incoming|datagram_inbox|connecting|serving|admitting|ending))"
)


def ours(found: Counter[str]) -> dict[str, int]:
    """What was left each time, but for machines: aioquic's connection is a cycle, and its own holds what it holds."""
    return {name: count for name, count in found.items() if count >= TIMES and HERE.match(name)}


async def echo(session: WebTransportSession) -> None:
    """Send back what arrives on streams in both directions."""
    while True:
        with suppress(StreamError):
            async with await session.accept_bidirectional_stream() as stream:
                await stream.write(await stream.read_all(), end_stream=True)


async def test_streams_leave_no_cycles(autojump_clock: MockClock) -> None:
    """Streams that were read to the end, reset, stopped, owned and left by an exception are freed with their last reference."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        server.start_soon(echo, server)

        async def use() -> None:
            async with await client.create_bidirectional_stream() as stream:
                await stream.write(b"x", end_stream=True)
                assert await stream.read_all() == b"x"
            stream = await client.create_bidirectional_stream()
            stream.abort(code=3)
            with suppress(trio.ClosedResourceError):
                await stream.read()
            with suppress(ZeroDivisionError):
                async with await client.create_bidirectional_stream():
                    raise ZeroDivisionError
            sending = await server.create_unidirectional_stream()
            sending.abort(code=4)
            with suppress(WebTransportStreamReset), (await client.accept_unidirectional_stream()).own():
                await trio.sleep_forever()
            await trio.sleep(1)

        with Garbage() as garbage:
            found = await garbage.of(TIMES, use)
        assert ours(found) == {}


async def test_sessions_leave_no_cycles() -> None:
    """A client's session and its connection, and the server's, are freed when they are over, however they ended."""
    with trio.fail_after(60):
        async with serving(echo) as server:

            async def use() -> None:
                async with connect(server.url, verify=False) as session:
                    stream = await session.create_bidirectional_stream()
                    await stream.write(b"x", end_stream=True)
                    await stream.read_all()
                with suppress(ZeroDivisionError):
                    async with connect(server.url, verify=False):
                        raise ZeroDivisionError

            with Garbage() as garbage:
                found = await garbage.of(TIMES, use)
    assert ours(found) == {}
