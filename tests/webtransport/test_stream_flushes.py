"""What streams of a session let leave, and when: nobody flushes a connection that did not ask."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import open_pair, session_pair


async def test_a_write_that_was_taken_is_not_cancelled(autojump_clock: MockClock) -> None:
    """A cancellation in the tick of the write comes too late: all was taken, the half is ended, and the call says so."""
    async with open_pair() as pair, session_pair(pair) as (client, _), trio.open_nursery() as nursery:

        async def cancel(scope: trio.CancelScope) -> None:
            scope.cancel()

        for _ in range(20):  # tasks of a tick run in any order
            stream = await client.create_unidirectional_stream()
            await trio.sleep(1)
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                await stream.write(b"all of it", end_stream=True)
            assert (scope.cancelled_caught, stream.bytes_sent, stream.is_writable) == (False, 9, False)


async def test_a_reader_that_comes_late_lets_its_writer_go_on_at_once(autojump_clock: MockClock) -> None:
    """The network is silent, so that only what the reader asks for can bring the credit to its peer."""
    async with open_pair() as pair, session_pair(pair) as (client, server), trio.open_nursery() as nursery:
        stream = await client.create_unidirectional_stream()
        nursery.start_soon(stream.send_all, bytes(300_000))
        there = await server.accept_unidirectional_stream()
        await trio.sleep(5)
        began, got = trio.current_time(), 0
        while got < 300_000:
            got += len(await there.receive_some())
        assert trio.current_time() - began < 2
