"""A connection of streams of items on a session, over real QUIC in virtual time."""
# A connection outlives its streams, and what is between the two is part of what happens.
# ruff: noqa: SIM117

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.calls import CONFIG, Raw, echo, serving
from tests.webtransport.quic_pair import LOSSLESS, Fate
from trio_streams import Router
from trio_streams.codes import Code
from trio_streams.errors import RpcError, StreamReset, StreamStopped
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.client import ConnectionClient
from trio_streams.testing.peers import until
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.procedures import run_session_connection


async def test_procedures_run_unchanged(autojump_clock: MockClock) -> None:
    """Calls, errors and streams are those of any connection."""
    app = Router()

    @app.call("add")
    async def add(input: list[int]) -> int:  # noqa: A002
        return sum(input)

    @app.call("fail")
    async def fail() -> None:
        raise RpcError("GONE", "no such thing", {"id": 1})

    @app.stream("count")
    async def count(input: int) -> AsyncIterator[int]:  # noqa: A002
        for number in range(input):
            yield number

    async with serving(app=app) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        client = ConnectionClient(connection)
        assert await client.call("add", [1, 2]) == 3
        with pytest.raises(RpcError) as caught:
            await client.call("fail")
        assert (caught.value.code, caught.value.message, caught.value.details) == ("GONE", "no such thing", {"id": 1})
        async with client.stream("count", 1_000) as numbers:
            assert [number async for number in numbers] == list(range(1_000))
        figures = connection.statistics()
        assert (figures.transport, figures.peer, figures.is_open, figures.streams_opened) == ("wt", "server", True, 3)
        assert rig.server.statistics().streams_accepted == 3
        assert figures.bytes_sent > 0
        assert figures.bytes_received > 0


async def test_items_that_are_sent_one_by_one_leave_together(autojump_clock: MockClock) -> None:
    """What comes together until a flush is one run of one frame."""
    async with serving() as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream:
            before = connection.bytes_sent
            for number in range(100):
                stream.send_nowait(b"%d" % (number % 10))
            got = [await stream.receive() for _ in range(100)]
            assert got == [b"%d" % (number % 10) for number in range(100)]
            assert connection.bytes_sent - before < 100 * 3 + 150


async def test_a_call_asks_for_few_flushes(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client does for its question and for what it took, a server for its answer and its end; not for what arrives or left."""

    async def answer(stream: Raw) -> None:
        await stream.send_last(await stream.receive())

    async with serving(answer) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:

        async def call() -> None:
            async with connection.open_stream("x") as stream:
                await stream.send_last(b"question")
                stream.end()
                assert [item async for item in stream] == [b"question"]

        await call()
        asked = 0
        kick = rig.pair.kick

        def count(link: Link) -> None:
            nonlocal asked
            asked += 1
            kick(link)

        monkeypatch.setattr(rig.pair, "kick", count)
        for _ in range(100):
            await call()
        assert asked <= 500, asked


async def test_both_sides_open_streams(autojump_clock: MockClock) -> None:
    """A server's handler may ask its client, which accepts streams as it does on any connection."""

    async def ask_back(stream: Raw) -> None:
        async with rig.server.open_stream("back") as back:
            await back.send(await stream.receive())
            back.end()
            await stream.send(await back.receive())

    async with serving(ask_back) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with open_bare_nursery() as nursery, connection.open_stream("there") as stream:

            async def answer() -> None:
                accepted = await connection.accept_stream()
                with connection.own(accepted):
                    assert accepted.name == "back"
                    await echo(accepted)

            nursery.start_soon(answer)
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"


@pytest.mark.parametrize("size", [0, 16_384, 200_000])
async def test_items_of_every_size_pass_a_network_that_loses(size: int, autojump_clock: MockClock) -> None:
    """One datagram in forty is lost, and others come late: every item arrives, once and in order."""
    count = 0

    def network() -> Fate:
        nonlocal count
        count += 1
        if count % 40 == 0:
            return Fate(delays=())
        return Fate(delays=(0.05,)) if count % 17 == 0 else LOSSLESS

    items = [bytes([number]) * size for number in range(3)]
    async with serving(network=network) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream, open_bare_nursery() as nursery:

            async def send() -> None:
                for item in items:
                    await stream.send(item)
                stream.end()

            nursery.start_soon(send)
            assert [item async for item in stream] == items


async def test_an_unread_stream_costs_its_window_and_holds_up_no_other(autojump_clock: MockClock) -> None:
    """Its sender stops; calls on other streams go on, and all of it arrives once it is read."""
    sent = 0

    async def flood(stream: Raw) -> None:
        nonlocal sent
        if stream.name == "x":
            await echo(stream)
            return
        for _ in range(3_000):
            await stream.send(bytes(1_000))
            sent += 1

    async with serving(flood) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("flood") as unread:
            async with connection.open_stream("x") as stream:
                for _ in range(3):
                    await stream.send(b"a")
                    assert await stream.receive() == b"a"
                    await trio.sleep(1)
            assert sent <= 256 + 1
            assert connection.machine.unread_bytes <= 256 * 1_064
            assert len([item async for item in unread]) == 3_000


async def test_cancelling_a_consumer_reaches_the_producer(autojump_clock: MockClock) -> None:
    """The handler's scope is cancelled, and its stream is over before the client's block is left behind."""
    ended = trio.Event()

    async def produce(stream: Raw) -> None:
        try:
            await stream.send(b"first")
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(produce) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        with trio.move_on_after(5):
            async with connection.open_stream("x") as stream:
                async for _ in stream:
                    pass
        with trio.fail_after(5):
            await ended.wait()
            await until(lambda: not rig.server.streams)
        assert connection.lost is None


async def test_a_reset_and_a_stop_have_their_codes(autojump_clock: MockClock) -> None:
    """The code of the table arrives; words do not travel."""

    async def give_up(stream: Raw) -> None:
        await stream.send(await stream.receive())
        stream.reset(Code.DATA_LOSS, "words")
        stream.stop(Code.RESOURCE_EXHAUSTED, "words")
        await trio.sleep(1)

    async with serving(give_up) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream:
            await stream.send(b"a")
            await trio.sleep(0.5)
            with pytest.raises(StreamReset) as reset:
                [item async for item in stream]
            assert (reset.value.code, reset.value.reason) == (Code.DATA_LOSS, "")
            with pytest.raises(StreamStopped) as stopped:
                await stream.send(b"b")
            assert stopped.value.code is Code.RESOURCE_EXHAUSTED


async def test_a_handler_that_fails_ends_its_stream(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The caller sees the status, and the session goes on."""

    async def fail(stream: Raw) -> None:
        if stream.name == "fail":
            raise ValueError("a secret")
        await echo(stream)

    with caplog.at_level(logging.CRITICAL, "trio_streams"):
        async with serving(fail) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
            async with connection.open_stream("fail") as stream:
                with pytest.raises(RpcError, match="internal error"):
                    await stream.receive()
            async with connection.open_stream("x") as stream:
                await stream.send(b"a")
                assert await stream.receive() == b"a"


async def test_a_deadline_travels(autojump_clock: MockClock) -> None:
    """The handler is cancelled at the caller's deadline."""
    deadlines: list[float] = []

    async def note(stream: Raw) -> None:
        deadlines.append(stream.deadline)
        await trio.sleep_forever()

    async with serving(note) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        began = trio.current_time()
        with trio.move_on_after(3):
            async with connection.open_stream("x") as stream:
                await stream.receive()
        assert trio.current_time() - began == pytest.approx(3)
        assert deadlines == [pytest.approx(began + 3, abs=0.1)]
