"""The driver's loops, its cancellation points and the order in which a connection ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.fake_carrier import HELLO, FakeCarrier, Peer, fake_link, make_rig
from tests.transports.carrier_checks import CHECKS, Check
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core import records
from trio_streams.core.mux import Mux
from trio_streams.driver import run_client
from trio_streams.errors import ConnectionLost, RemoteProtocolError

CONFIG = ConnectionConfig(close_timeout=2, handshake_timeout=5, idle_timeout=None)


@asynccontextmanager
async def client(
    config: ConnectionConfig = CONFIG, max_buffered_bytes: int = 65_536
) -> AsyncGenerator[tuple[Connection, FakeCarrier, Peer], None]:
    """A client connection whose peer has greeted, and reads nothing unless told to."""
    carrier, peer = make_rig(max_buffered_bytes)
    await peer.greet()
    async with run_client(carrier, config=config) as connection:
        yield connection, carrier, peer
    assert carrier.closes == 1
    assert carrier.waiting == set()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_fake_is_a_carrier(check: Check) -> None:
    """What these tests run over keeps the claims of every carrier."""
    await check(fake_link)


# -- the end ---------------------------------------------------------------------------------------------------


async def test_the_end_comes_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Body done, END queued, flushed, loops ended, carrier closed; and the peer reads exactly that."""
    async with client() as (connection, carrier, peer):
        async with connection.open_stream("s") as stream:
            await stream.send(b"item")
        assert carrier.closes == 0
    frames = peer.heard()
    assert [type(frame).__name__ for _, frame in frames] == ["Hello", "Open", "Stop", "list", "End", "GoAway"] or [
        type(frame).__name__ for _, frame in frames
    ] == ["Hello", "Open", "Stop", "GoAway", "list", "End"]
    assert connection.lost is not None and "closed here" in str(connection.lost)


async def test_what_is_queued_leaves_before_the_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    """A body that ends with data queued waits until the peer has taken all of it."""
    async with client(max_buffered_bytes=1_000) as (connection, _, peer), connection.open_stream("s") as stream:
        await stream.send_many([b"x" * 500] * 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_later, peer, 0.5)
            stream.end()
            await trio.sleep(0.6)
    runs = [frame for frame in peer.heard_on(1) if isinstance(frame, list)]
    assert sum(map(len, runs)) == 100
    assert records.End() in peer.heard_on(1)


async def _drain_later(peer: Peer, seconds: float) -> None:
    await trio.sleep(seconds)
    with trio.move_on_after(0.05):
        await peer.drain()


@pytest.mark.parametrize("hold", ["wait_writable", "send"])
async def test_close_timeout_bounds_a_peer_that_takes_nothing(
    autojump_clock: trio.testing.MockClock, hold: str
) -> None:
    """The goodbye of a connection that can't write ends after close_timeout, and the carrier is closed."""
    async with client() as (connection, carrier, _):
        await trio.testing.wait_all_tasks_blocked()
        carrier.holds.add(hold)
        async with connection.open_stream("s") as stream:
            await stream.send(b"item")
            await trio.testing.wait_all_tasks_blocked()
        assert carrier.waiting == {hold}
        started = trio.current_time()
    assert trio.current_time() - started == pytest.approx(CONFIG.close_timeout)


async def test_a_slow_goodbye_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """A carrier whose goodbye hangs is closed by force after close_timeout."""
    async with client() as (_, carrier, _):
        carrier.holds.add("aclose")
        started = trio.current_time()
    assert trio.current_time() - started == pytest.approx(CONFIG.close_timeout)


async def test_a_carrier_that_fails_in_its_goodbye_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    """Aclose is idempotent: the forceful second call does nothing to a carrier that is closed."""
    async with client() as (_, carrier, _):
        pass
    assert carrier.calls["aclose"] == 1


# -- cancelled at every await ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", ["receive", "wait_writable", "send", "aclose"])
async def test_cancelled_body_while_a_loop_is_blocked(autojump_clock: trio.testing.MockClock, hold: str) -> None:
    """Wherever the loops are blocked, cancelling the body ends the connection within close_timeout, and no task stays."""
    carrier, peer = make_rig()
    await peer.greet()
    with trio.CancelScope() as scope:
        async with run_client(carrier, config=CONFIG) as connection:
            carrier.holds.add(hold)
            async with connection.open_stream("s") as stream:
                await stream.send(b"item")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() <= CONFIG.close_timeout
    assert carrier.closes == 1
    assert carrier.waiting == set()
    assert connection.lost is not None


async def test_cancelled_body_sends_its_resets(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled body's RESET and STOP reach the peer, who goes on reading."""
    carrier, peer = make_rig()
    await peer.greet()
    with trio.move_on_after(1):
        async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s"):
            await trio.sleep_forever()
    kinds = [type(frame) for frame in peer.heard_on(1)]
    assert kinds == [records.Open, records.Reset, records.Stop]


@pytest.mark.parametrize("hold", ["receive", "wait_writable", "send"])
async def test_cancelled_handshake(autojump_clock: trio.testing.MockClock, hold: str) -> None:
    """Cancelling while the peer's hello is awaited closes the carrier once, within close_timeout."""
    carrier, _ = make_rig()
    carrier.holds.add(hold)
    with trio.move_on_after(1) as scope:
        async with run_client(carrier, config=CONFIG):
            raise AssertionError("the peer has not greeted")
    assert scope.cancelled_caught
    assert trio.current_time() <= 1 + CONFIG.close_timeout
    assert carrier.closes == 1


async def test_cancelled_before_it_began(autojump_clock: trio.testing.MockClock) -> None:
    """A connection in a scope that is cancelled already is closed all the same."""
    carrier, _ = make_rig()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with run_client(carrier, config=CONFIG):
            raise AssertionError("cancelled")
    assert carrier.closes == 1


async def test_a_cancelled_send_tears_no_frame(autojump_clock: trio.testing.MockClock) -> None:
    """A user's send, cancelled while the carrier is in the middle of a frame, leaves the bytes whole."""
    async with client() as (connection, carrier, peer), connection.open_stream("s") as stream:
        await trio.testing.wait_all_tasks_blocked()
        carrier.holds.add("send")
        with trio.move_on_after(1):
            await stream.send(b"a" * 10_000)
            await stream.send_many([b"b"] * 10_000)  # waits: its window is smaller
        with trio.move_on_after(1):
            await stream.wait_writable()
        assert carrier.waiting >= {"send"}
        carrier.let("send")
        await trio.testing.wait_all_tasks_blocked()
    items = [item for frame in peer.heard_on(1) if isinstance(frame, list) for item in frame]
    assert items[0] == b"a" * 10_000
    assert items[1:] == [b"b"] * (HELLO.window_items - 1)
    assert isinstance(peer.heard_on(1)[-1], records.End)


async def test_an_outer_timeout_does_not_stop_the_loops_in_a_frame(autojump_clock: trio.testing.MockClock) -> None:
    """A deadline around the whole connection lets the frame under way leave before anything else ends."""
    carrier, peer = make_rig()
    await peer.greet()
    with trio.move_on_after(1):
        async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
            await trio.testing.wait_all_tasks_blocked()
            carrier.holds.add("send")
            await stream.send(b"a" * 10_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_let_send, carrier, 1.5)
                await trio.sleep_forever()
    kinds = [type(frame) for frame in peer.heard_on(1)]
    assert kinds == [records.Open, list, records.Reset, records.Stop]


async def _let_send(carrier: FakeCarrier, seconds: float) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
    carrier.let("send")


# -- timeouts ----------------------------------------------------------------------------------------------------


async def test_handshake_timeout(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that never greets is given up after handshake_timeout, and told so."""
    carrier, peer = make_rig()
    with pytest.raises(ConnectionLost, match="no hello within handshake_timeout of 5 s"):
        async with run_client(carrier, config=CONFIG):
            raise AssertionError("the peer has not greeted")
    assert trio.current_time() == pytest.approx(5)
    goaway = peer.heard()[-1][1]
    assert isinstance(goaway, records.GoAway) and goaway.code is Code.HANDSHAKE_TIMEOUT
    assert carrier.closes == 1


@pytest.mark.parametrize("hold", ["wait_writable", "send"])
async def test_handshake_timeout_of_a_peer_that_reads_nothing(
    autojump_clock: trio.testing.MockClock, hold: str
) -> None:
    """A peer that takes not even our hello is given up after handshake_timeout, whatever idle_timeout says."""
    carrier, _ = make_rig()
    carrier.holds.add(hold)
    with pytest.raises(ConnectionLost, match="took no bytes for handshake_timeout of 5 s"):
        async with run_client(carrier, config=CONFIG):
            raise AssertionError("the peer has not greeted")
    assert trio.current_time() == pytest.approx(5)
    assert carrier.closes == 1


@pytest.mark.parametrize("hold", ["wait_writable", "send"])
async def test_idle_timeout_with_a_stuck_send(autojump_clock: trio.testing.MockClock, hold: str) -> None:
    """A peer that takes no bytes for idle_timeout is given up: its streams end with ConnectionLost."""
    config = ConnectionConfig(idle_timeout=8, close_timeout=2)
    async with client(config) as (connection, carrier, _), connection.open_stream("s") as stream:
        await trio.testing.wait_all_tasks_blocked()
        carrier.holds.add(hold)
        await stream.send(b"item")
        with pytest.raises(ConnectionLost, match="took no bytes for idle_timeout of 8 s"):
            await stream.receive()
    assert trio.current_time() == pytest.approx(8)


async def test_a_ping_goes_into_the_silence(autojump_clock: trio.testing.MockClock) -> None:
    """After half of idle_timeout a ping goes out; unanswered, the connection is lost after the whole."""
    config = ConnectionConfig(idle_timeout=8)
    async with client(config) as (connection, _, peer), connection.open_stream("s") as stream:
        await trio.sleep(5)
        assert [frame for _, frame in peer.heard() if isinstance(frame, records.Ping)] == [records.Ping(1)]
        await peer.send((0, records.Pong(1)))
        assert connection.statistics().round_trip == pytest.approx(1)
        with pytest.raises(ConnectionLost, match="silent for 8 s, idle_timeout is 8 s"):
            await stream.receive()
        assert trio.current_time() == pytest.approx(5 + 8)
    goaway = peer.heard()[-1][1]
    assert isinstance(goaway, records.GoAway) and goaway.code is Code.IDLE_TIMEOUT


# -- loss ----------------------------------------------------------------------------------------------------------


async def test_the_peer_closes(autojump_clock: trio.testing.MockClock) -> None:
    """A clean end of the carrier ends the streams with ConnectionLost, on the caller's side from operations only."""
    async with client() as (connection, _, peer), connection.open_stream("s") as stream:
        await peer.link.aclose()
        with pytest.raises(ConnectionLost, match="fake:peer closed the connection"):
            await stream.receive()
        with pytest.raises(ConnectionLost, match="fake:peer closed the connection"):
            await stream.send(b"x")
        await trio.lowlevel.checkpoint()  # nothing has cancelled the body


@pytest.mark.parametrize(("call", "number"), [("receive", 1), ("receive", 2), ("wait_writable", 2), ("send", 2)])
async def test_a_carrier_fails_at_a_call(autojump_clock: trio.testing.MockClock, call: str, number: int) -> None:
    """Whichever call of the carrier fails first, streams end with its error, each once, and the carrier is closed."""
    carrier, peer = make_rig()
    carrier.faults[call, number] = ConnectionLost("the cable is out")
    await peer.greet()
    with pytest.raises(ConnectionLost, match="the cable is out"):
        async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
            await peer.send((0, records.Ping(1)))
            await stream.receive()
    assert carrier.closes == 1


async def test_a_carrier_that_breaks_its_own_protocol(autojump_clock: trio.testing.MockClock) -> None:
    """The carrier's RemoteProtocolError becomes the cause of the streams' ConnectionLost."""
    async with client() as (connection, carrier, peer), connection.open_stream("s") as stream:
        carrier.faults["receive", carrier.calls["receive"] + 1] = RemoteProtocolError("not a frame")
        await peer.send((0, records.Ping(1)))
        with pytest.raises(ConnectionLost, match="the connection to fake:peer failed: not a frame") as caught:
            await stream.receive()
        assert isinstance(caught.value.__cause__, RemoteProtocolError)


async def test_a_peer_that_breaks_the_protocol_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """GOAWAY with the code and the reason reaches a peer that breaks the protocol, and nothing follows it."""
    async with client() as (connection, carrier, peer):
        async with connection.open_stream("s") as stream:
            await peer.send((99, [b"x"]))
            with pytest.raises(ConnectionLost, match="DATA on stream 99, which was never opened") as caught:
                await stream.receive()
            assert isinstance(caught.value.__cause__, RemoteProtocolError)
        assert carrier.closes == 1  # the peer need not wait for our block
    last = peer.heard()[-1][1]
    assert isinstance(last, records.GoAway) and last.code is Code.PROTOCOL_ERROR and "stream 99" in last.reason


async def test_flooding_peer_is_not_read_until_it_reads(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that floods pings and reads nothing is no longer read once it owes us max_control_bytes; then it goes on."""
    config = ConnectionConfig(max_control_bytes=1_024, idle_timeout=None)
    async with client(config, max_buffered_bytes=4_000) as (connection, carrier, peer):
        flood: list[tuple[int, records.Record | list[bytes]]] = [(0, records.Ping(n)) for n in range(20)]
        async with trio.open_nursery() as nursery:

            async def send_all() -> None:
                for _ in range(200):
                    await peer.send(*flood)

            nursery.start_soon(send_all)
            await trio.testing.wait_all_tasks_blocked(0.1)
            calls = carrier.calls["receive"]
            await trio.sleep(1)
            assert carrier.calls["receive"] == calls
            owed = connection.bytes_received - connection.bytes_sent
            assert owed <= 4_000 + 1_024 + 2 * 4_000
            nursery.start_soon(peer.drain)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert sum(isinstance(frame, records.Pong) for _, frame in peer.heard()) == 4_000
            nursery.cancel_scope.cancel()


async def test_flooding_peer_that_never_reads_is_lost_while_reading_pauses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While reading is paused a stuck send still ends the connection after idle_timeout."""
    config = ConnectionConfig(max_control_bytes=1_024, idle_timeout=3)
    async with client(config) as (connection, carrier, peer), connection.open_stream("s") as stream:
        await trio.testing.wait_all_tasks_blocked()
        carrier.holds.add("send")
        await peer.send(*[(0, records.Ping(n)) for n in range(10)])
        await peer.send(*[(0, records.Ping(n)) for n in range(1_000)])
        with pytest.raises(ConnectionLost, match="took no bytes for idle_timeout of 3 s"):
            await stream.receive()


# -- our own faults ------------------------------------------------------------------------------------------------


class _Bug(Exception):
    pass


@pytest.mark.parametrize("method", ["receive", "chunks_to_send", "events"])
async def test_a_bug_in_the_machine_surfaces(
    autojump_clock: trio.testing.MockClock, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception inside a loop leaves `run_client` as itself, and nothing hangs."""
    carrier, peer = make_rig()
    await peer.greet()

    def fail(*_: object) -> Iterator[object]:
        monkeypatch.undo()  # a bug that shows once: in both loops it would be two failures, and so a group
        raise _Bug(method)

    with pytest.raises(_Bug, match=method):
        async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
            monkeypatch.setattr(Mux, method, fail)
            await stream.send(b"x")
            await peer.link.send(b"\x09")
            await trio.sleep_forever()
    assert carrier.closes == 1
    assert trio.current_time() <= CONFIG.close_timeout


async def test_a_bug_in_a_carrier_surfaces(autojump_clock: trio.testing.MockClock) -> None:
    """An exception that no carrier may raise is a bug: it surfaces bare and ends the connection."""
    carrier, peer = make_rig()
    carrier.faults["wait_writable", 1] = _Bug("carrier")
    await peer.greet()
    with pytest.raises(_Bug):
        async with run_client(carrier, config=CONFIG):
            await trio.sleep_forever()
    assert carrier.closes == 1


async def test_exceptions_arrive_bare_with_their_context(autojump_clock: trio.testing.MockClock) -> None:
    """What the body raises leaves `run_client` as itself, its context as the body made it."""
    carrier, peer = make_rig()
    await peer.greet()
    with pytest.raises(_Bug) as caught:
        async with run_client(carrier, config=CONFIG):
            try:
                raise KeyError("first")  # noqa: TRY301
            except KeyError:
                raise _Bug("second")  # noqa: B904
    assert isinstance(caught.value.__context__, KeyError)
    assert caught.value.__context__.__context__ is None
    assert carrier.closes == 1


async def test_keyboard_interrupt_is_not_ours(autojump_clock: trio.testing.MockClock) -> None:
    """KeyboardInterrupt in the body unwinds: bare, with the carrier closed."""
    carrier, peer = make_rig()
    await peer.greet()
    with pytest.raises(KeyboardInterrupt):
        async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s"):
            raise KeyboardInterrupt
    assert carrier.closes == 1
    reset = peer.heard_on(1)[1]
    assert isinstance(reset, records.Reset)


async def test_no_logging_of_ordinary_ends(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is opened, used and closed logs nothing."""
    with caplog.at_level(logging.DEBUG):
        async with client() as (connection, _, _), connection.open_stream("s") as stream:
            await stream.send(b"x")
    assert [record for record in caplog.records if record.name == "trio_streams"] == []
