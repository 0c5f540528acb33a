"""Streams that go on over another carrier, and what ends them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.resuming.site import CONFIG, Site, connected, open_site
from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.resuming.client import delays
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.testing.peers import live_tasks


async def test_a_stream_sees_nothing_of_a_resume(autojump_clock: MockClock) -> None:
    """Items go there and come back over one carrier after the other; there is one handler, and one connection."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        for number in range(20):
            await stream.send(b"%d" % number)
            if number % 3 == 0:
                site.cut()
            assert await stream.receive() == b"%d" % number
            assert not site.ended
        assert len(site.links) == 8
        assert len(site.connections) == 1
        for connection in (client, site.connections[0]):
            assert connection.statistics().resumes == 7
            assert connection.statistics().is_attached


async def test_a_long_download_is_cut_anywhere(autojump_clock: MockClock) -> None:
    """A producer and its consumer, cut every few items: every item once and in order."""
    chance = random.Random(5)
    async with open_site() as site, connected(site) as client, client.open_stream("count") as stream:
        for number in range(3_000):
            assert await stream.receive() == b"%d" % number
            if chance.random() < 0.02:
                site.cut()
        assert client.statistics().resumes > 5
        assert client.statistics().retained_bytes < 40_000


async def test_an_end_without_a_goodbye_is_a_loss(autojump_clock: MockClock) -> None:
    """A carrier that is closed cleanly, but not the session, is replaced."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        await site.links[-1][1].inner.aclose()
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        assert client.statistics().resumes == 1


async def test_the_connection_says_that_it_is_detached(autojump_clock: MockClock) -> None:
    """Meanwhile senders go on until the send buffer is full, and what is retained is told."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        await wait_all_tasks_blocked()
        site.is_down = True
        site.cut()
        await wait_all_tasks_blocked()
        statistics = client.statistics()
        assert (statistics.is_attached, statistics.is_open, statistics.resumes) == (False, True, 0)
        assert statistics.retained_bytes > 0
        with trio.move_on_after(5) as scope:
            for _ in range(100):
                await stream.send(bytes(100_000))
        assert scope.cancelled_caught
        assert 0 < client.statistics().queued_bytes < 2_000_000
        site.is_down = False
        assert await stream.receive() == bytes(100_000)


async def test_streams_that_are_opened_meanwhile_wait(autojump_clock: MockClock) -> None:
    """An OPEN waits for the next carrier, and its deadline counts."""
    async with open_site() as site, connected(site) as client:
        site.is_down = True
        site.cut()
        await wait_all_tasks_blocked()
        with trio.move_on_after(3) as scope:
            async with client.open_stream("echo"):
                raise AssertionError("there is no carrier")
        assert scope.cancelled_caught
        site.is_down = False
        async with client.open_stream("echo") as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"


async def test_leaving_the_block_ends_the_session(autojump_clock: MockClock) -> None:
    """A deliberate close: the server forgets the session at once, and nobody connects again."""
    async with open_site() as site:
        async with connected(site) as client, client.open_stream("wait"):
            await wait_all_tasks_blocked()
            assert site.sessions.count == 1
        await trio.sleep(1)
        assert (site.sessions.count, site.sessions.detached_count, site.ended) == (0, 0, ["wait"])
        assert len(site.tries) == 1


async def test_leaving_while_there_is_no_carrier(autojump_clock: MockClock) -> None:
    """The block waits for `close_timeout` to say goodbye; the server's session goes with its age."""
    async with open_site() as site:
        async with connected(site):
            site.is_down = True
            site.cut()
            await wait_all_tasks_blocked()
            started = trio.current_time()
        assert trio.current_time() - started == CONFIG.close_timeout
        assert site.sessions.detached_count == 1
        await trio.sleep(61)
        assert site.sessions.count == 0


async def test_a_server_that_ends_the_session(autojump_clock: MockClock) -> None:
    """Its streams end at once, each with an error, and nobody connects again."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        site.nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive()
        await trio.sleep(100)
        assert len(site.tries) == 1


async def test_a_session_that_is_too_old_ends_once(autojump_clock: MockClock) -> None:
    """`max_session_age` after the loss every stream ends with an error that names the limit and the last fault."""
    async with open_site() as site, connected(site, ResumeOptions(max_session_age=30)) as client:
        async with client.open_stream("wait") as stream:
            await wait_all_tasks_blocked()
            site.is_down = True
            site.cut()
            lost = trio.current_time()
            with pytest.raises(ConnectionLost, match=r"max_session_age of 30 s has passed \(nobody is there\)"):
                await stream.receive()
            assert trio.current_time() - lost == 30
        with pytest.raises(ConnectionLost, match="not resumed"):
            await client.wait_ready()
        assert site.ended == []
        await trio.sleep(31)
        assert (site.ended, site.sessions.count) == (["wait"], 0)


async def test_attempts_may_be_counted(autojump_clock: MockClock) -> None:
    """After `max_attempts` the session is given up, before its age."""
    patience = ReconnectOptions(initial_delay=1, max_attempts=4)
    async with open_site() as site, connected(site, reconnect=patience) as client:
        async with client.open_stream("wait") as stream:
            site.is_down = True
            site.cut()
            with pytest.raises(ConnectionLost, match="max_attempts of 4 were made"):
                await stream.receive()
        assert len(site.tries) == 5


async def test_a_server_that_was_restarted(autojump_clock: MockClock) -> None:
    """It does not know the session: one clear error, and no frame of the old session reaches the new one."""
    async with open_site() as old, open_site() as new, connected(old) as client, client.open_stream("echo") as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        old.sessions = new.sessions
        old.cut()
        with pytest.raises(ConnectionLost, match="could not be resumed: the peer does not have it any more"):
            await stream.receive()
        await trio.sleep(1)
        assert new.sessions.count == 0
        assert old.connections[-1].statistics().streams_accepted == 0


async def test_the_delays_grow_and_are_spread() -> None:
    """Full jitter: between nothing and what doubles, never above the most, the same for the same seed."""
    options = ReconnectOptions(initial_delay=1, max_delay=30, factor=2, max_attempts=2_000)
    waits = list(delays(options, random.Random(1)))
    assert len(waits) == 2_000
    assert waits == list(delays(options, random.Random(1)))
    assert all(0 <= wait <= min(2**n, 30) for n, wait in enumerate(waits[:6]))
    assert 29 < max(waits) <= 30
    assert 14 < sum(waits) / len(waits) < 16


async def test_attempts_come_when_the_delays_say(autojump_clock: MockClock) -> None:
    """Seeded, so that a test can tell; a session that went on begins with the shortest delay again."""
    options = ReconnectOptions(initial_delay=1, seed=3)
    async with open_site() as site, connected(site, reconnect=options) as client:
        for _ in range(2):
            site.is_down = True
            site.cut()
            before, started = len(site.tries), trio.current_time()
            await trio.sleep(25)
            assert len(site.tries) > before + 2
            site.is_down = False
            async with client.open_stream("echo") as stream:
                await stream.send(b"x")
                assert await stream.receive() == b"x"
            assert site.tries[before] - started <= 1
        expected = delays(options, random.Random(3))
        assert site.tries[1] - site.tries[0] == pytest.approx(next(expected))
        assert site.tries[2] - site.tries[1] == pytest.approx(next(expected))


async def test_the_first_connection_is_not_retried(autojump_clock: MockClock) -> None:
    """Unless asked for: a wrong address should not look like a slow network."""
    async with open_site() as site:
        site.is_down = True
        with pytest.raises(ConnectionLost, match="nobody is there"):
            async with connected(site):
                raise AssertionError("nobody is there")
        assert len(site.tries) == 1


async def test_the_first_connection_may_be_retried(autojump_clock: MockClock) -> None:
    """As often and as long as any other one."""
    retrying = ReconnectOptions(initial_delay=1, retries_first=True)
    async with open_site() as site:
        site.is_down = True
        with pytest.raises(ConnectionLost, match="nobody is there"):
            async with connected(site, ResumeOptions(max_session_age=20), retrying):
                raise AssertionError("nobody is there")
        assert len(site.tries) > 2
        assert trio.current_time() <= site.tries[0] + 20
        site.is_down = False
        async with connected(site, reconnect=retrying) as client:
            assert client.lost is None


async def test_a_peer_that_is_lost_before_its_hello(autojump_clock: MockClock) -> None:
    """There is no session yet, so nothing is resumed."""
    async with open_site() as site:
        with pytest.raises(ConnectionLost):
            async with open_bare_nursery() as nursery:
                nursery.start_soon(_cut_soon, site)
                async with connected(site):
                    raise AssertionError("nobody has greeted")
        assert len(site.tries) == 1


async def _cut_soon(site: Site) -> None:
    while not site.links:
        await trio.lowlevel.checkpoint()
    site.cut()


async def test_a_server_without_sessions(autojump_clock: MockClock) -> None:
    """It does not offer to resume: a plain connection, that ends with its carrier."""
    async with open_site() as site:
        site.is_plain = True
        async with connected(site) as client, client.open_stream("echo") as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            site.cut()
            with pytest.raises(ConnectionLost, match="the memory link was cut"):
                await stream.receive()
        assert len(site.tries) == 1


@pytest.mark.parametrize("hold", ["wait_writable", "send"])
async def test_a_write_that_is_stuck(autojump_clock: MockClock, hold: str) -> None:
    """After `idle_timeout` the carrier is given up and another one found; what was being written goes again."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        await wait_all_tasks_blocked()
        site.links[-1][0].holds.add(hold)
        started = trio.current_time()
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        assert 20 <= trio.current_time() - started <= 21
        assert client.statistics().resumes == 1


async def test_a_silence(autojump_clock: MockClock) -> None:
    """A line that is dead without saying so costs `idle_timeout`, on each side for itself."""
    async with open_site() as site, connected(site) as client, client.open_stream("echo") as stream:
        await wait_all_tasks_blocked()
        site.swallow()
        await stream.send(b"x")
        started = trio.current_time()
        assert await stream.receive() == b"x"
        assert 20 <= trio.current_time() - started <= 21
        assert client.statistics().resumes == site.connections[0].statistics().resumes == 1


async def test_carriers_that_never_greet_again(autojump_clock: MockClock) -> None:
    """Each is given up after `handshake_timeout`; the age of the session counts from the first loss."""
    async with open_site() as site, connected(site, ResumeOptions(max_session_age=12)) as client:
        async with client.open_stream("wait") as stream:
            await wait_all_tasks_blocked()
            site.is_silent = True
            site.cut()
            lost = trio.current_time()
            with pytest.raises(ConnectionLost, match="no hello within handshake_timeout of 5 s"):
                await stream.receive()
            assert 12 <= trio.current_time() - lost <= 17
        assert len(site.tries) == 4


async def test_garbage_on_another_carrier_ends_the_session(autojump_clock: MockClock) -> None:
    """Who answers there does not speak the protocol; that is no matter of the network."""
    async with open_site() as site, connected(site) as client, client.open_stream("wait") as stream:
        far = site.links[-1][1]
        await far.inner.send(b"\xff" * 40)
        with pytest.raises(ConnectionLost, match="max_frame_bytes"):
            await stream.receive()


async def test_a_session_that_ends_while_a_carrier_is_connected(autojump_clock: MockClock) -> None:
    """The carrier came for nothing, and is let go."""
    async with open_site() as site, connected(site, ResumeOptions(max_session_age=5)) as client:
        async with client.open_stream("wait") as stream:
            await wait_all_tasks_blocked()
            site.connect_seconds = 7
            site.cut()
            with pytest.raises(ConnectionLost, match="max_session_age of 5 s"):
                await stream.receive()
        await trio.sleep(5)
        assert len(site.links) == 2


# -- cancellation ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _site_that_forgets() -> AsyncGenerator[Site, None]:
    before = live_tasks()
    async with open_site() as site:
        yield site
        await trio.sleep(70)
        assert (site.sessions.count, site.sessions.detached_count) == (0, 0)
        assert all(near.closes == 1 for near, _ in site.links)
    assert live_tasks() == before


async def _connect_and_resume(site: Site) -> None:
    async with connected(site) as client, client.open_stream("echo") as stream:
        await stream.send(b"1")
        assert await stream.receive() == b"1"
        site.cut()
        await stream.send(b"2")
        assert await stream.receive() == b"2"


async def test_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """Whichever await is cancelled, no task, carrier or session is left behind."""
    assert await cancel_everywhere(_connect_and_resume, _site_that_forgets) >= 5


async def _connect_while_nobody_is_there(site: Site) -> None:
    async with connected(site, reconnect=ReconnectOptions(initial_delay=1)) as client:
        site.is_down = True
        site.cut()
        await trio.sleep(0.1)
        with trio.move_on_after(10):
            async with client.open_stream("echo"):
                raise AssertionError("there is no carrier")


async def test_cancelled_while_there_is_no_carrier(autojump_clock: MockClock) -> None:
    """Likewise while it looks for another one."""
    assert await cancel_everywhere(_connect_while_nobody_is_there, _site_that_forgets) >= 5


async def test_the_goodbye_of_a_cancelled_client_leaves(autojump_clock: MockClock) -> None:
    """The carrier's own task does not take it away before the resets are written."""
    async with open_site() as site:
        with trio.move_on_after(1):
            async with connected(site) as client, client.open_stream("wait"):
                await trio.sleep_forever()
        await trio.sleep(0.1)
        assert site.ended == ["wait"]
        assert site.sessions.count == 0
