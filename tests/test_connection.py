"""A connection's streams: opening, accepting, owning, losing, and its figures."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.fake_carrier import HELLO, Peer, make_rig
from tests.streams.wire_pair import Raw, settle
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.mux import Mux
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.wire.binary import BinaryWire

CONFIG = ConnectionConfig(idle_timeout=None)


@asynccontextmanager
async def rig(hello: records.Hello = HELLO) -> AsyncGenerator[tuple[Connection, Peer], None]:
    carrier, peer = make_rig()
    await peer.greet(hello)
    async with run_client(carrier, config=CONFIG) as connection:
        await settle()
        yield connection, peer


def hello(max_streams: int) -> records.Hello:
    return records.Hello("peer", 0, 256, 262_144, 16_777_216, max_streams, 16_777_216)


async def test_opening_beyond_max_streams_waits() -> None:
    """Beyond the peer's limit opening waits, in order, until the peer allows more."""
    async with rig(hello(1)) as (connection, peer), trio.open_nursery() as nursery:
        opened: list[str] = []

        async def open_one(name: str) -> None:
            async with connection.open_stream(name):
                opened.append(name)

        async with connection.open_stream("first"):
            nursery.start_soon(open_one, "second")
            await settle()
            nursery.start_soon(open_one, "third")
            await settle()
            assert opened == []
            await peer.send((0, records.ConnectionCredit(16_777_216, 2)))
            assert opened == ["second"]
            await peer.send((0, records.ConnectionCredit(16_777_216, 3)))
            assert opened == ["second", "third"]


async def test_cancelled_while_it_waits_to_open() -> None:
    """A cancelled opener has opened nothing, and the place goes to the next."""
    async with rig(hello(1)) as (connection, peer), connection.open_stream("first"):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def open_one() -> None:
                    async with connection.open_stream("never"):
                        raise AssertionError("opened")

                nursery.start_soon(open_one)
                await settle()
                scope.cancel()
        await peer.send((0, records.ConnectionCredit(16_777_216, 2)))
        async with connection.open_stream("second") as stream:
            assert stream.id == 3


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_peer_that_goes_away(waiting: bool) -> None:
    """Opening on a connection whose peer goes away is refused, also for who waits already; open streams go on."""
    async with rig(hello(1)) as (connection, peer), trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(ConnectionLost, match="fake:peer takes no new streams: it is going away"):
                async with connection.open_stream("no"):
                    pass

        async with connection.open_stream("first") as stream:
            if waiting:
                nursery.start_soon(refused)
                await settle()
            await peer.send((0, records.GoAway(Code.OK, "bye")))
            if not waiting:
                await refused()
            await peer.send((1, [b"still"]))
            assert await stream.receive() == b"still"


async def test_lost_while_waiting_to_open() -> None:
    """Who waits to open when the connection is lost gets ConnectionLost, and so does everybody later."""
    async with rig(hello(1)) as (connection, peer), trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(ConnectionLost, match="closed the connection"):
                async with connection.open_stream("no"):
                    pass

        async with connection.open_stream("first"):
            nursery.start_soon(refused)
            await settle()
            await peer.link.aclose()
            await settle()
        await refused()
        with pytest.raises(ConnectionLost):
            await connection.wait_ready()
        assert connection.lost is not None


async def test_an_open_that_does_not_fit() -> None:
    """Name and metadata that fit into no frame are refused here, and nothing is opened."""
    async with rig() as (connection, peer):
        with pytest.raises(LocalProtocolError, match="does not fit"):
            async with connection.open_stream("x" * 20_000):
                pass
        assert connection.streams == ()
        assert len(peer.heard()) == 1


async def test_what_an_open_carries(autojump_clock: trio.testing.MockClock) -> None:
    """Name, metadata, priority, window, and what is left of the deadline, in milliseconds rounded up."""
    async with rig() as (connection, peer):
        now = trio.current_time()
        async with connection.open_stream(
            "s", metadata={"k": "v"}, priority=7, high_water_mark=3, deadline=now + 1.2345
        ) as stream:
            await settle()
            assert stream.deadline == now + 1.2345
        opened = peer.heard_on(1)[0]
        assert isinstance(opened, records.Open)
        assert (opened.name, opened.metadata, opened.priority, opened.window_items) == ("s", {"k": "v"}, 7, 3)
        assert opened.timeout_ms == 1_235


@pytest.mark.parametrize(("left", "timeout_ms"), [(math.inf, None), (2.0, 2_000), (-1.0, 0)])
async def test_deadlines_travel_as_what_is_left(
    left: float, timeout_ms: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    """Without a deadline none travels; one that has passed is 0; the scopes around the call give the default."""
    async with rig() as (connection, peer):
        when = trio.current_time() + left
        async with connection.open_stream("explicit", deadline=when):
            pass
        if left > 0:
            with trio.CancelScope(deadline=when):
                async with connection.open_stream("implicit"):
                    pass
        await settle()
        opened = [frame for _, frame in peer.heard() if isinstance(frame, records.Open)]
        assert {frame.timeout_ms for frame in opened} == {timeout_ms}


async def test_accept_stream() -> None:
    """Streams that the peer opens are taken in order and owned by a block; a cancelled accept takes none."""
    async with rig() as (connection, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.accept_stream()
        await peer.send((2, records.Open("a", {}, 0, None, 8, 1_000)), (4, records.Open("b", {}, 0, None, 8, 1_000)))
        first, second = await connection.accept_stream(), await connection.accept_stream()
        assert (first.name, second.name) == ("a", "b")
        assert connection.statistics().streams_accepted == 2
        with connection.own(first):
            await first.send(b"x")
        assert connection.streams == (second,)
        await settle()
        assert peer.heard_on(2) == [records.Stop(Code.OK), [b"x"], records.End()]


async def test_accept_stream_of_a_lost_connection() -> None:
    """Who waits to accept when the connection is lost gets ConnectionLost."""
    async with rig() as (connection, peer), trio.open_nursery() as nursery:

        async def accept() -> None:
            with pytest.raises(ConnectionLost, match="closed the connection"):
                await connection.accept_stream()

        nursery.start_soon(accept)
        await settle()
        await peer.link.aclose()
        await settle()
        await accept()


async def test_a_serving_connection_has_no_streams_to_accept() -> None:
    """Streams go to `on_accepted` or to `accept_stream`; who asks for both is told at once, and does not wait for ever."""
    machine = Mux(BinaryWire(), is_client=False, config=ConnectionConfig(), session_id="s", now=0.0)
    connection = Connection(machine, peer="peer", config=ConnectionConfig(), on_accepted=lambda stream: None)
    with pytest.raises(LocalProtocolError, match="serves its streams by itself"):
        await connection.accept_stream()


async def test_own_applies_the_exit_policy() -> None:
    """A block that fails ends the accepted stream with the status, and the exception goes on."""
    async with rig() as (connection, peer):
        await peer.send((2, records.Open("a", {}, 0, None, 8, 1_000)))
        stream = await connection.accept_stream()
        with pytest.raises(KeyError), connection.own(stream):
            raise KeyError("bug")
        await settle()
        assert records.End(records.Status("INTERNAL", "internal error")) in peer.heard_on(2)


async def test_own_is_cancelled_by_the_peer() -> None:
    """The block is the stream's cancel scope: the peer's RESET ends it, and what is outside goes on."""
    async with rig() as (connection, peer):
        await peer.send((2, records.Open("a", {}, 0, None, 8, 1_000)))
        stream = await connection.accept_stream()
        with connection.own(stream):
            await peer.send((2, records.Reset()))
            await trio.sleep_forever()
        assert stream.cancel_scope.cancelled_caught


async def test_events_of_streams_that_are_gone() -> None:
    """Whatever still arrives for a stream whose block was left is dropped."""
    async with rig() as (connection, peer):
        async with connection.open_stream("s"):
            pass
        await peer.send((1, records.Header({})), (1, [b"x"]), (1, records.Credit(512, 1_000_000)))
        await peer.send((1, records.End()))
        async with connection.open_stream("s") as stream:
            connection._streams.pop(stream.id)  # its block was left, and the machine still talks of it
            assert connection.machine.send(3, [b"x"] * 300) == 256
            await peer.send((3, records.Header({})), (3, [b"x"]), (3, records.Credit(512, 1_000_000)))
            await peer.send((3, records.Stop()), (3, records.End()))
        async with connection.open_stream("s") as stream:
            connection._streams.pop(stream.id)
            await peer.send((5, records.Reset()))
        assert connection.lost is None


async def test_pings_and_head_reach_whom_they_concern() -> None:
    """A pong sets the round trip, a head its stream's header."""
    async with rig() as (connection, peer), connection.open_stream("s") as stream:
        number = connection.machine.ping(trio.current_time())
        await peer.send((0, records.Pong(number)), (1, records.Header({"k": "v"})))
        assert connection.statistics().round_trip is not None
        assert await stream.header() == {"k": "v"}


async def test_lose_once() -> None:
    """The first reason counts; each stream ends once; anything but a ConnectionLost becomes the cause of one."""
    async with rig() as (connection, _), connection.open_stream("s") as stream:
        connection.lose(RemoteProtocolError("broken"))
        connection.lose(ConnectionLost("later"))
        for operation in (stream.receive, connection.accept_stream, connection.wait_ready):
            with pytest.raises(ConnectionLost, match="the connection to fake:peer failed: broken") as caught:
                await operation()
            assert isinstance(caught.value.__cause__, RemoteProtocolError)
            assert caught.value is not connection.lost


async def test_what_is_opened_after_the_loss_is_not_served() -> None:
    """A stream that arrives with the last read of a connection whose writing has just failed begins no handler.

    Nothing would ever end it, and the server would wait for it for ever.
    """
    server = Mux(BinaryWire(), is_client=False, config=CONFIG, session_id="server", now=0)
    client = Mux(BinaryWire(), is_client=True, config=CONFIG, session_id="client", now=0)
    client.receive(server.to_send(0, 65_536), 0)
    client.open("late")
    accepted: list[object] = []
    connection = Connection(server, peer="a test", config=CONFIG, on_accepted=accepted.append)
    connection.lose(ConnectionLost("writing failed"))
    server.receive(client.to_send(0, 65_536), 0)
    connection.dispatch()
    assert server.get(1) is not None
    assert not accepted
    assert not connection.streams


async def test_go_away_refuses_new_streams_only() -> None:
    """After `go_away` the peer's new streams are refused, and the old ones go on."""
    async with rig() as (connection, peer):
        await peer.send((2, records.Open("a", {}, 0, None, 8, 1_000)))
        connection.go_away("enough")
        await settle()
        assert records.GoAway(Code.OK, "enough", 2) in peer.heard_on(0)
        await peer.send((4, records.Open("b", {}, 0, None, 8, 1_000)), (2, [b"x"]))
        assert records.Reset(Code.UNAVAILABLE, "going away") in peer.heard_on(4)
        stream = await connection.accept_stream()
        with connection.own(stream):
            assert await stream.receive() == b"x"


async def test_statistics() -> None:
    """The snapshot counts streams and bytes, queued and unread ones too, and says whether the connection is open."""
    async with rig() as (connection, peer):
        async with connection.open_stream("s") as stream:
            stream.send_nowait(b"12345")
            assert connection.statistics().queued_bytes == 5 + 64
            await peer.send((1, [b"123"]))
            statistics = connection.statistics()
            assert statistics.is_open and statistics.peer == "fake:peer"
            assert (statistics.streams_opened, statistics.streams_accepted) == (1, 0)
            assert (statistics.queued_bytes, statistics.unread_bytes) == (0, 3 + 64)
            assert statistics.bytes_sent == len(peer.carrier.sent)
            assert [each.id for each in statistics.streams] == ["1"]
            assert connection.streams == (stream,)
        assert connection.statistics().streams == ()
    assert not connection.statistics().is_open


async def test_a_server_opens_streams_too() -> None:
    """A served connection opens streams to its client, even when asked before the hello."""
    left, right = memory_carrier_pair()
    names: list[str] = []

    async def run(nursery: trio.Nursery) -> None:
        def told(connection: Connection) -> None:
            assert (connection.transport, connection.statistics().transport) == ("memory", "memory")
            nursery.start_soon(open_one, connection)

        def prepare(stream: Raw) -> Handler:
            raise AssertionError("the client opens none")

        await run_server(right, prepare, transport="memory", on_connection=told)

    async def open_one(connection: Connection) -> None:
        async with connection.open_stream("from the server") as stream:
            await stream.send(b"hello")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, nursery)
        async with run_client(left) as connection:
            stream = await connection.accept_stream()
            with connection.own(stream):
                names.append(stream.name)
                assert await stream.receive() == b"hello"
    assert names == ["from the server"]


async def test_a_peer_that_breaks_the_protocol() -> None:
    """The machine's failure ends every stream, with the peer's fault as the cause."""
    async with rig() as (connection, peer), connection.open_stream("s") as stream:
        await peer.send((77, [b"x"]))
        with pytest.raises(ConnectionLost, match="stream 77, which was never opened") as caught:
            await stream.receive()
        assert isinstance(caught.value.__cause__, RemoteProtocolError)


async def test_credit_wakes_a_sender() -> None:
    """A sender without credit goes on when the peer grants more."""
    async with rig() as (connection, peer), connection.open_stream("s") as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_many, [b"x"] * 300)
        await settle()
        assert stream.statistics().items_sent == 256
        await peer.send((1, records.Credit(512, 1_000_000)))
        assert stream.statistics().items_sent == 300
