"""Whatever is cancelled wherever: the session goes on, or is cleanly over, and nothing is left of what was begun."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import REQUEST, LinkPair, open_pair, session_pair
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer


@attrs.frozen
class Subject:
    """What a scenario uses."""

    pair: LinkPair
    client: WebTransportSession
    server: WebTransportSession


@asynccontextmanager
async def subject() -> AsyncIterator[Subject]:
    """Two sessions; at the end a new stream works between them, and no other one is left."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        yield Subject(pair, client, server)
        for stream in (*client.streams, *server.streams):
            await stream.aclose()
        with trio.move_on_after(1):
            async for stream in server.incoming_streams():
                await stream.aclose()
        last = await client.create_bidirectional_stream()
        await last.write(b"still", end_stream=True)
        taken = await server.accept_bidirectional_stream()
        assert await taken.read_all() == b"still"
        await taken.write(b"here", end_stream=True)
        assert await last.read_all() == b"here"
        await trio.sleep(5)
        assert (client.streams, server.streams) == ((), ())
        assert client.is_open


async def write_and_end(both: Subject) -> None:
    stream = await both.client.create_unidirectional_stream()
    await stream.write(b"x" * 50_000)
    await stream.flush()
    await stream.close()


async def write_in_a_block(both: Subject) -> None:
    async with await both.client.create_bidirectional_stream() as stream:
        await stream.wait_send_all_might_not_block()
        await stream.write(b"hello", end_stream=True)


async def wait_and_read(both: Subject) -> None:
    stream = await both.client.create_unidirectional_stream()
    await stream.write(b"abc", end_stream=True)
    receiving = await both.server.accept_unidirectional_stream()
    assert await receiving.read(size=1) == b"a"
    assert await receiving.read_all() == b"bc"
    await receiving.aclose()


async def exchange_datagrams(both: Subject) -> None:
    both.client.send_datagram(b"x")
    assert await both.server.receive_datagram() == b"x"
    both.server.send_datagram(b"y")
    assert await anext(both.client.datagrams()) == b"y"


async def have_another_session(both: Subject) -> None:
    async with SessionBlock(await both.pair.client.connect_session(REQUEST)) as session:
        async with await session.create_unidirectional_stream() as stream:
            await stream.write(b"x")
        session.start_soon(trio.sleep_forever)


@pytest.mark.parametrize(
    ("scenario", "turns"),
    [(write_and_end, 4), (write_in_a_block, 4), (wait_and_read, 5), (exchange_datagrams, 2), (have_another_session, 4)],
)
async def test_a_scenario_can_be_cancelled_everywhere(
    scenario: Callable[[Subject], Awaitable[None]], turns: int, autojump_clock: MockClock
) -> None:
    """Cancelled at each of its awaits in turn, it leaves a session on which a new stream works, and no stream of its own."""
    assert await cancel_everywhere(scenario, subject) >= turns


async def test_an_answer_can_be_cancelled_everywhere(autojump_clock: MockClock) -> None:
    """A server's handler that is cancelled at each of its awaits says goodbye, and its client hears it."""

    @asynccontextmanager
    async def around() -> AsyncIterator[tuple[LinkPair, list[SessionOffer]]]:
        async with open_pair() as pair, trio.open_nursery() as nursery:
            offers: list[SessionOffer] = []
            arrived = trio.Event()
            closed = trio.Event()

            def take(offer: SessionOffer) -> None:
                offers.append(offer)
                arrived.set()

            async def ask() -> None:
                session = await pair.client.connect_session(REQUEST)
                await session.wait_closed()
                closed.set()

            pair.server.on_session = take
            nursery.start_soon(ask)
            await arrived.wait()
            yield pair, offers
            await closed.wait()
            await trio.sleep(5)
            assert pair.server.machine.is_settled

    async def handle(subject: tuple[LinkPair, list[SessionOffer]]) -> None:
        session = subject[1][0].accept()
        assert session is not None
        async with SessionBlock(session), await session.create_unidirectional_stream() as stream:
            await stream.write(b"x")

    assert await cancel_everywhere(handle, around) >= 3
