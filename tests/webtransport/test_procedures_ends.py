"""How a connection on a session ends, over real QUIC in virtual time."""
# A connection outlives its streams, and what is between the two is part of what happens.
# ruff: noqa: SIM117

from __future__ import annotations

from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.calls import CONFIG, Raw, echo, serving
from tests.webtransport.link_pair import open_pair, session_pair
from tests.webtransport.quic_pair import LOSSLESS, Fate
from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.errors import ConnectionLost, StreamReset
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.procedures import run_session_connection, run_session_server


async def test_leaving_a_client_closes_the_session(autojump_clock: MockClock) -> None:
    """What was ended is delivered before, and the server sees an ordinary end."""
    got: list[bytes] = []

    async def collect(stream: Raw) -> None:
        got.extend([item async for item in stream])

    async with serving(collect) as rig:
        async with run_session_connection(rig.ours, config=CONFIG) as connection:
            async with connection.open_stream("x") as stream:
                await stream.send_many([bytes(50_000)] * 10)
                stream.end()
                assert [item async for item in stream] == []
        await rig.served.wait()
        assert [len(item) for item in got] == [50_000] * 10
        assert str(rig.server.lost) == "client closed the connection"
        assert str(connection.lost) == "the connection to server was closed here"


async def test_a_cancelled_client_resets_its_streams(autojump_clock: MockClock) -> None:
    """Its handlers are cancelled, and nothing is left on either side."""
    cancelled = trio.Event()

    async def hold(stream: Raw) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(hold) as rig:
        with trio.move_on_after(1) as scope:
            async with run_session_connection(rig.ours, config=CONFIG) as connection, connection.open_stream("x"):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await cancelled.wait()


async def test_a_cancelled_server_ends_its_handlers(autojump_clock: MockClock) -> None:
    """Their `finally` is done before the server is; the client hears of the end of the session."""
    cleaned = False

    async def hold(stream: Raw) -> None:
        nonlocal cleaned
        try:
            await trio.sleep_forever()
        finally:
            cleaned = True

    async with serving(hold) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream:
            await trio.sleep(1)
            rig.scope.cancel()
            with pytest.raises((ConnectionLost, StreamReset)):
                await stream.receive()
        assert cleaned
        with pytest.raises(ConnectionLost), trio.fail_after(5):
            await connection.accept_stream()


async def test_a_server_that_goes_away_takes_no_new_streams(autojump_clock: MockClock) -> None:
    """Those that are open go on; `end` then closes the session when they are done."""
    async with serving() as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream:
            await stream.send(b"a")
            assert await stream.receive() == b"a"
            rig.server.go_away("maintenance")
            await trio.sleep(1)
            with pytest.raises(ConnectionLost, match="server takes no new streams: it is going away"):
                async with connection.open_stream("y"):
                    pass
            await stream.send(b"b")
            assert await stream.receive() == b"b"
        rig.server.end(False)
        await rig.served.wait()
        await trio.sleep(1)
        assert str(connection.lost) == "server closed the connection"


async def test_a_connection_that_is_cut_ends_at_once(autojump_clock: MockClock) -> None:
    """Without waiting for what is under way, also while it closes."""

    async def hold(stream: Raw) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    async with serving(hold) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x"):
            await trio.sleep(0.5)
            rig.server.end(True)
            assert rig.server.lost is not None
            assert not rig.theirs.is_open
            rig.server.end(True)


async def test_a_close_that_waits_can_be_cut(autojump_clock: MockClock) -> None:
    """The peer takes nothing; whoever cuts the connection need not wait for `close_timeout`."""
    is_dark = False

    def network() -> Fate:
        return Fate(delays=()) if is_dark else LOSSLESS

    config = attrs.evolve(CONFIG, close_timeout=1_000)
    async with open_pair(network=network) as pair, session_pair(pair) as (ours, theirs):
        async with open_bare_nursery() as nursery:
            nursery.start_soon(partial(run_session_server, theirs, lambda _: echo, config=CONFIG))
            async with open_bare_nursery() as cutting:
                async with run_session_connection(ours, config=config) as connection:
                    async with connection.open_stream("x") as stream:
                        await stream.send(b"a")
                        await stream.receive()
                        is_dark = True
                        await stream.send(bytes(30_000))
                    end = connection.end
                    began = trio.current_time()

                    async def cut() -> None:
                        await trio.sleep(3)
                        end(True)

                    cutting.start_soon(cut)
            assert 3 <= trio.current_time() - began < 4
            pair.client.close()
            pair.server.close()


async def test_a_goodbye_that_nobody_takes_ends_at_close_timeout(autojump_clock: MockClock) -> None:
    """The network is gone: leaving the block takes that long and no longer."""
    is_dark = False

    def network() -> Fate:
        return Fate(delays=()) if is_dark else LOSSLESS

    async with open_pair(network=network) as pair, session_pair(pair) as (ours, theirs):
        async with open_bare_nursery() as nursery:
            nursery.start_soon(partial(run_session_server, theirs, lambda _: echo, config=CONFIG))
            async with run_session_connection(ours, config=CONFIG) as connection:
                async with connection.open_stream("x") as stream:
                    is_dark = True
                    await stream.send(b"a")
                began = trio.current_time()
            assert trio.current_time() - began == pytest.approx(CONFIG.close_timeout)
            pair.client.close()
            pair.server.close()


async def test_a_peer_that_never_greets_is_given_up(autojump_clock: MockClock) -> None:
    """After `handshake_timeout`; it hears why."""
    async with open_pair() as pair, session_pair(pair) as (ours, theirs):
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="no hello within handshake_timeout of 5 s"):
            async with run_session_connection(ours, config=CONFIG):
                raise AssertionError("never")
        assert trio.current_time() - began == pytest.approx(5)
        closed = await theirs.wait_closed()
        assert closed.code == Code.HANDSHAKE_TIMEOUT
        assert "no hello" in closed.reason


async def test_waiting_for_the_hello_can_be_cancelled(autojump_clock: MockClock) -> None:
    """The session is closed with it."""
    async with open_pair() as pair, session_pair(pair) as (ours, theirs):
        with trio.move_on_after(1) as scope:
            async with run_session_connection(ours, config=CONFIG):
                raise AssertionError("never")
        assert scope.cancelled_caught
        await theirs.wait_closed()


async def test_a_peer_that_speaks_something_else_is_told(autojump_clock: MockClock) -> None:
    """Its session is closed with the error's code and words, and the user sees the peer's fault as the cause."""
    async with open_pair() as pair, session_pair(pair) as (ours, theirs):
        stream = await theirs.create_unidirectional_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionLost, match="does not speak trio-streams.v1") as caught:
            async with run_session_connection(ours, config=CONFIG):
                raise AssertionError("never")
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        closed = await theirs.wait_closed()
        assert closed.code == Code.PROTOCOL_ERROR


async def test_the_peers_reason_is_heard(autojump_clock: MockClock) -> None:
    """A session that is closed with a code is a connection that was given up."""
    async with serving() as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        rig.theirs.close(Code.RESOURCE_EXHAUSTED, "too much")
        with pytest.raises(ConnectionLost, match="gave the connection up: RESOURCE_EXHAUSTED: too much"):
            await connection.accept_stream()


async def test_a_lost_connection_is_told(autojump_clock: MockClock) -> None:
    """What had arrived can still be taken, then the loss is raised; the handler is cancelled."""

    async def greet(stream: Raw) -> None:
        await stream.send(b"hello")
        await trio.sleep_forever()

    async with serving(greet) as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with connection.open_stream("x") as stream:
            await trio.sleep(1)
            rig.pair.server.close()
            await trio.sleep(1)
            assert await stream.receive() == b"hello"
            with pytest.raises(ConnectionLost):
                await stream.receive()


async def test_a_silent_connection_is_kept_by_pings(autojump_clock: MockClock) -> None:
    """Longer than QUIC's own idle timeout."""
    config = attrs.evolve(CONFIG, idle_timeout=10.0)
    async with serving(config=config) as rig, run_session_connection(rig.ours, config=config) as connection:
        await trio.sleep(1_000)
        assert connection.lost is None
        async with connection.open_stream("x") as stream:
            await stream.send(b"a")
            assert await stream.receive() == b"a"
        assert connection.statistics().round_trip is not None


async def test_opening_waits_for_quics_credit(autojump_clock: MockClock) -> None:
    """First come, first served; a call that waits can be cancelled, and has opened nothing."""
    async with serving() as rig, run_session_connection(rig.ours, config=CONFIG) as connection:
        async with open_bare_nursery() as nursery:
            opened = 0
            done = trio.Event()

            async def hold() -> None:
                nonlocal opened
                async with connection.open_stream("x"):
                    opened += 1
                    await done.wait()

            while connection.machine.can_open:
                nursery.start_soon(hold)
                await wait_all_tasks_blocked()
            with trio.move_on_after(1) as scope:
                async with connection.open_stream("cancelled"):
                    raise AssertionError("never")
            assert scope.cancelled_caught
            before = opened
            nursery.start_soon(hold)
            await trio.sleep(1)
            assert opened == before
            done.set()
        assert opened == before + 1


async def test_a_session_is_handed_over_once(autojump_clock: MockClock) -> None:
    """Two connections on one session would take each other's streams."""
    async with serving() as rig, run_session_connection(rig.ours, config=CONFIG):
        with pytest.raises(LocalProtocolError, match="somebody else serves them"):
            async with run_session_connection(rig.ours, config=CONFIG):
                raise AssertionError("never")


async def test_a_connection_that_closes_hears_that_its_last_stream_was_reset(autojump_clock: MockClock) -> None:
    """The network is dark: nothing but the reset says that there is nothing left to wait for."""
    is_dark = False

    def network() -> Fate:
        return Fate(delays=()) if is_dark else LOSSLESS

    async def hold(_: Raw) -> None:
        await trio.sleep_forever()

    config = attrs.evolve(CONFIG, close_timeout=20)
    async with open_pair(network=network) as pair, session_pair(pair) as (ours, theirs):
        async with open_bare_nursery() as nursery:
            nursery.start_soon(partial(run_session_server, theirs, lambda _: hold, config=CONFIG))
            async with run_session_connection(ours, config=config) as connection:
                async with connection.open_stream("x") as stream:
                    with trio.move_on_after(1):
                        await stream.send_many([bytes(10_000)] * 40)
                    is_dark = True
                    connection.end(False)
                    await trio.sleep(1)
                    assert ours.is_open
                    began = trio.current_time()
                    stream.reset()
                    await ours.wait_closed()
                    assert trio.current_time() - began < 1
            pair.client.close()
            pair.server.close()
