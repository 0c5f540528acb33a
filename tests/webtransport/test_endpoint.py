"""All connections of a socket, in virtual time: who gets what, when things are sent, and how connections begin and end."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.endpoint_site import SERVER, open_site
from tests.webtransport.fake_udp import DELAY, FakeNetwork
from tests.webtransport.quic_driven import QuicDriven, client
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.endpoint import EndpointConfig, open_endpoint
from trio_streams.webtransport.quic_config import QuicLimits

DATA: Final = bytes(range(250)) * 400


async def test_a_server_answers(autojump_clock: MockClock) -> None:
    """A client shakes hands, asks, and gets back what it sent; afterwards nothing of it is left at the server."""
    async with open_site() as site:
        async with site.open_client() as (driven, _):
            assert await driven.ask(DATA) == DATA
            assert site.endpoint.statistics().connections == 1
            assert site.endpoint.statistics().half_open == 0
        await trio.sleep(5)
        seen = site.endpoint.statistics()
        assert (seen.connections, seen.half_open, seen.connection_ids, seen.failed_connections) == (0, 0, 0, 0)
        (connection,) = site.server.connections
        assert connection.terminated is not None
        assert connection.terminated.reason == "bye"


async def test_connections_do_not_mix(autojump_clock: MockClock) -> None:
    """Fifty clients at once each get their own answer."""
    async with open_site() as site:

        async def ask(number: int) -> None:
            data = number.to_bytes(2, "big") * 5_000
            async with site.open_client() as (driven, _):
                assert await driven.ask(data) == data

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
        assert len(site.server.connections) == 50


async def test_a_tick_has_one_flush(autojump_clock: MockClock) -> None:
    """Whatever is written to a connection between two ticks, and however often it asks for a flush, it is flushed once."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        flushes = 0
        flush = driven.datagrams_to_send

        def counting(now: float) -> list[tuple[bytes, Address]]:
            nonlocal flushes
            flushes += 1
            return flush(now)

        driven.datagrams_to_send = counting  # type: ignore[method-assign]
        for _ in range(20):
            driven.write(driven.quic.open_stream(), b"x")
        sent = len(site.network.sent)
        await wait_all_tasks_blocked()
        assert flushes == 1
        assert len(site.network.sent) == sent + 1


async def test_an_idle_connection_ends_in_time(autojump_clock: MockClock) -> None:
    """A peer that vanishes is noticed after the idle timeout, by both sides, without a word on the wire."""
    limits = QuicLimits(idle_timeout=30.0)
    async with open_site(limits=limits) as site, site.open_client(limits=limits) as (driven, _):
        await driven.ask(b"hello")
        site.network.fate = lambda datagram, source, to: ()
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="Idle"):
            await driven.wait_for(lambda: False)
        assert 29.0 < trio.current_time() - began < 31.0
        (connection,) = site.server.connections
        await trio.sleep(2)
        assert connection.terminated is not None
        assert connection.terminated.is_timeout
        assert site.endpoint.statistics().connections == 0


async def test_a_connection_that_stays_silent_costs_no_turn(autojump_clock: MockClock) -> None:
    """Idle connections are not looked at until their timeout."""
    async with open_site() as site, site.open_client() as (driven, _):
        await driven.ask(b"hello")
        await trio.sleep(5)
        (connection,) = site.server.connections
        calls = 0

        def count(now: float) -> list[tuple[bytes, Address]]:
            nonlocal calls
            calls += 1
            return []

        connection.datagrams_to_send = count  # type: ignore[method-assign]
        await trio.sleep(30)
        assert calls == 0


async def test_a_client_that_changes_its_address_is_followed(autojump_clock: MockClock) -> None:
    """Datagrams from another address reach their connection by its id, and the answers go there."""
    async with open_site() as site, site.open_client() as (driven, socket):
        assert await driven.ask(DATA) == DATA
        site.network.rename(socket, ("192.0.2.77", 5_555))
        assert await driven.ask(DATA) == DATA
        (connection,) = site.server.connections
        assert connection.seen_from == [("192.0.2.1", 40_000), ("192.0.2.77", 5_555)]
        assert site.network.sent[-1][1] in (("192.0.2.77", 5_555), SERVER)


async def test_a_handshake_has_its_time(autojump_clock: MockClock) -> None:
    """A client that begins and does not go on is forgotten after `handshake_timeout`, and so is a server that does not answer."""
    config = EndpointConfig(handshake_timeout=3.0)
    network = FakeNetwork(lambda datagram, source, to: (DELAY,) if to == SERVER and len(network.sent) == 1 else ())
    async with open_site(config=config, network=network) as site:
        async with site.open_client(is_ready=False, config=config) as (driven, _):
            await trio.sleep(1)
            assert site.endpoint.statistics().half_open == 1
            with pytest.raises(ConnectionLost, match=r"the handshake with our server took longer than 3.0 s"):
                await driven.wait_ready()
        await trio.sleep(1)
        seen = site.endpoint.statistics()
        assert (seen.connections, seen.half_open, seen.connection_ids, seen.failed_connections) == (0, 0, 0, 0)
        (connection,) = site.server.connections
        assert isinstance(connection.lost, ConnectionLost)


async def test_a_retry_precedes_the_handshake(autojump_clock: MockClock) -> None:
    """Where a Retry is always asked for, the handshake succeeds behind it, and its connection knows both ids."""
    async with open_site(config=EndpointConfig(retry_above_half_open=0)) as site:
        async with site.open_client() as (driven, _):
            assert await driven.ask(DATA) == DATA
        (opening,) = site.server.openings
        assert opening.retry_source_connection_id is not None
        assert site.endpoint.statistics().answered_datagrams == 1


async def test_a_server_that_is_full_says_so(autojump_clock: MockClock) -> None:
    """The client of one connection too many is refused at once; the one that is there goes on."""
    async with open_site(config=EndpointConfig(max_connections=1)) as site, site.open_client() as (driven, _):
        async with site.open_client(is_ready=False) as (second, _):
            began = trio.current_time()
            with pytest.raises(ConnectionLost, match="code=2"):
                await second.wait_ready()
            assert trio.current_time() - began < 2.0
        assert await driven.ask(DATA) == DATA


async def test_a_server_may_refuse(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What `accept` does not want, or fails to make, is refused, and the failure is logged once."""
    answers = iter(["none", "error"])

    def refuse(opening: object) -> None:
        if next(answers) == "error":
            raise RuntimeError("no such luck")

    async with open_site(wrap=lambda accept: refuse) as site:
        for _ in range(2):
            async with site.open_client(is_ready=False) as (driven, _):
                with pytest.raises(ConnectionLost, match="code=2"):
                    await driven.wait_ready()
        assert site.endpoint.statistics().connections == 0
    assert [record.getMessage() for record in caplog.records] == ["no connection could be made for 192.0.2.1:40001"]


async def test_it_can_stop_accepting(autojump_clock: MockClock) -> None:
    """New clients get no answer any more, and connections that are there go on."""
    async with open_site() as site, site.open_client() as (driven, _):
        site.endpoint.stop_accepting()
        async with site.open_client(is_ready=False) as (second, _):
            with trio.move_on_after(3) as scope:
                await second.wait_ready()
            assert scope.cancelled_caught
        assert await driven.ask(DATA) == DATA


async def test_nobody_listening_is_noticed_at_once(autojump_clock: MockClock) -> None:
    """A client whose server's host says that nobody listens does not wait for a timeout."""
    network = FakeNetwork()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        async with open_endpoint(network.bind(peer=SERVER)) as endpoint:
            driven = client(SERVER)
            endpoint.attach(driven)
            with pytest.raises(ConnectionLost, match="nobody listens at our server"):
                await driven.wait_ready()
            assert trio.current_time() <= 3 * DELAY
        nursery.cancel_scope.cancel()


async def test_a_refusal_in_mid_connection_has_to_be_said_again(autojump_clock: MockClock) -> None:
    """One refusal of a connection that has begun is nothing; several in a row without a sign of life end it."""
    async with open_site() as site, site.open_client() as (driven, socket):
        for _ in range(10):
            socket.refuse()
            await wait_all_tasks_blocked()
            assert await driven.ask(b"still there") == b"still there"
        for _ in range(3):
            assert driven.lost is None
            socket.refuse()
            await wait_all_tasks_blocked()
        assert isinstance(driven.lost, ConnectionLost)


async def test_a_full_kernel_holds_back_and_loses_nothing(autojump_clock: MockClock) -> None:
    """What the kernel has no room for leaves when it has, in order, and receiving goes on meanwhile."""
    async with open_site() as site, site.open_client() as (driven, socket):
        await trio.sleep(1)
        socket.make_room(2)
        received = site.endpoint.statistics().received_datagrams
        stream_id = driven.quic.open_stream()
        driven.write(stream_id, DATA)
        await trio.sleep(0.05)
        assert site.endpoint.statistics().received_datagrams == received + 2
        for _ in range(1_000):
            socket.make_room(3)
            await trio.sleep(0.001)
        socket.make_room(None)
        await driven.wait_for(lambda: stream_id in driven.ended)
        assert driven.received[stream_id] == DATA


async def test_a_stuck_kernel_does_not_stop_time(autojump_clock: MockClock) -> None:
    """While the kernel takes nothing for good, datagrams are lost and timers are kept: the connection ends when it is idle."""
    limits = QuicLimits(idle_timeout=5.0)
    async with open_site(limits=limits) as site, site.open_client(limits=limits) as (driven, socket):
        await trio.sleep(1)
        socket.make_room(0)
        driven.write(driven.quic.open_stream(), DATA)
        with pytest.raises(ConnectionLost, match="Idle"):
            await driven.wait_for(lambda: False)
        assert trio.current_time() < 20.0
        socket.make_room(None)


async def test_one_that_sends_much_does_not_keep_the_others_waiting(autojump_clock: MockClock) -> None:
    """While one connection sends all it can, another one's question is answered within a few round trips."""
    async with open_site() as site, site.open_client() as (greedy, _), site.open_client() as (modest, _):
        greedy.write(greedy.quic.open_stream(), bytes(50_000_000))
        await trio.sleep(0.5)
        (first, _) = site.server.connections
        began = trio.current_time()
        for _ in range(10):
            assert await modest.ask(b"?") == b"?"
        assert trio.current_time() - began < 10 * 4 * DELAY
        assert first.received_bytes > 1_000_000


async def test_what_tasks_write_in_a_row_of_ticks_has_one_flush(autojump_clock: MockClock) -> None:
    """A task that sends in one tick after the other is waited for, so that one packet carries what it has."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        sent = len(site.network.sent)
        assert driven.attachment is not None
        for _ in range(10):
            driven.attachment.kick()
        for _ in range(5):
            driven.write(driven.quic.open_stream(), b"x")
            await trio.lowlevel.checkpoint()
        assert len(site.network.sent) == sent
        await wait_all_tasks_blocked()
        assert len(site.network.sent) == sent + 1


async def test_a_connection_that_is_never_left_alone_is_flushed(autojump_clock: MockClock) -> None:
    """A task that asks for a flush in every tick, without an end, gets one after some ticks, though no time has passed."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        sent = len(site.network.sent)
        driven.write(driven.quic.open_stream(), b"x")
        for _ in range(100):
            assert driven.attachment is not None
            driven.attachment.kick()
            await trio.lowlevel.checkpoint()
            if len(site.network.sent) > sent:
                break
        else:
            raise AssertionError("never flushed")


async def test_connections_of_one_tick_are_flushed_in_their_order(autojump_clock: MockClock) -> None:
    """Connections are flushed in the order in which they asked; one that asks again comes last."""
    network = FakeNetwork()
    order: list[str] = []

    class Named(QuicDriven):
        name = ""

        def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
            order.append(self.name)
            if len(order) == 1:
                assert self.attachment is not None
                self.attachment.kick()
            return []

    async with open_endpoint(network.bind()) as endpoint:
        await wait_all_tasks_blocked()
        for name in "abc":
            driven = Named(client(SERVER).quic, echoes=False)
            driven.name = name
            endpoint.attach(driven)
        await wait_all_tasks_blocked()
        assert order == ["a", "b", "c", "a"]


async def test_a_deadline_that_does_not_move_costs_no_core(autojump_clock: MockClock) -> None:
    """A connection that says again and again that it is late is asked a few thousand times a second at most, not for ever."""
    network = FakeNetwork()
    calls = 0

    class Late(QuicDriven):
        def next_deadline(self) -> float | None:
            return 0.0

        def handle_deadline(self, now: float) -> None:
            nonlocal calls
            calls += 1

    async with open_endpoint(network.bind()) as endpoint:
        endpoint.attach(Late(client(SERVER).quic, echoes=False))
        await trio.sleep(1)
        assert 100 < calls <= 2_001


async def test_nothing_is_taken_on_after_the_end(autojump_clock: MockClock) -> None:
    """An endpoint that was left takes no connection, its socket is closed, and asking it for more is no matter."""
    network = FakeNetwork()
    socket = network.bind()
    async with open_endpoint(socket) as endpoint:
        driven = client(SERVER)
        attachment = endpoint.attach(driven)
    assert socket.is_closed
    assert isinstance(driven.lost, ConnectionLost)
    attachment.kick()
    attachment.add_connection_id(b"12345678")
    attachment.remove_connection_id(b"12345678")
    attachment.note_handshake()
    assert endpoint.statistics().connection_ids == 0
    with pytest.raises(trio.ClosedResourceError):
        endpoint.attach(client(SERVER))


async def test_an_id_that_is_retired_leads_nowhere(autojump_clock: MockClock) -> None:
    """Ids come and go as the connection says; one that leads to another connection can't be taken from it."""
    async with open_site() as site, site.open_client() as (driven, _), site.open_client():
        await driven.ask(b"hello")
        await trio.sleep(1)
        first, second = (connection.attachment for connection in site.server.connections)
        assert first is not None
        assert second is not None
        ids = site.endpoint.statistics().connection_ids
        first.add_connection_id(b"one more")
        second.add_connection_id(b"one more")
        second.remove_connection_id(b"one more")
        assert site.endpoint.statistics().connection_ids == ids + 1
        first.remove_connection_id(b"one more")
        assert site.endpoint.statistics().connection_ids == ids
        driven.quic._connection.change_connection_id()
        assert await driven.ask(DATA) == DATA
        await trio.sleep(1)
        assert site.endpoint.statistics().connection_ids == ids  # one retired, one issued


async def test_who_asks_often_while_it_hears_is_flushed(autojump_clock: MockClock) -> None:
    """What a datagram makes many ask for leaves within two milliseconds, though the task that sends was asleep."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        assert driven.attachment is not None
        (attached,) = site.endpoint._roster.attached
        flushed: list[float] = []
        heard: list[float] = []
        flush, dispatch, receive = (
            getattr(attached.driven, name) for name in ("datagrams_to_send", "dispatch", "receive")
        )

        def on_receive(datagram: bytes, addr: Address, now: float) -> None:
            heard.append(trio.current_time())
            receive(datagram, addr, now)

        def on_dispatch() -> None:
            dispatch()
            if len(heard) == 1 and not flushed:
                for _ in range(6):
                    attached.kick()

        def on_flush(now: float) -> list[tuple[bytes, Address]]:
            flushed.append(trio.current_time())
            datagrams: list[tuple[bytes, Address]] = flush(now)
            return datagrams

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attached.driven, "receive", on_receive)
            patch.setattr(attached.driven, "dispatch", on_dispatch)
            patch.setattr(attached.driven, "datagrams_to_send", on_flush)
            driven.quic.ping()
            driven.attachment.kick()
            await trio.sleep(0.5)
        assert flushed[0] - heard[0] <= 0.002


async def test_what_is_in_a_hurry_does_not_wait_for_others(autojump_clock: MockClock) -> None:
    """A task that asks for a flush in each tick puts it off; `hurry` has it in the next one or two."""
    async with open_site() as site, site.open_client() as (driven, _):
        attachment = driven.attachment
        assert attachment is not None
        flushes: list[float] = []
        flush = driven.datagrams_to_send

        def on_flush(now: float) -> list[tuple[bytes, Address]]:
            flushes.append(now)
            return flush(now)

        ticks: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driven, "datagrams_to_send", on_flush)
            for ask in (attachment.kick, attachment.hurry):
                await trio.sleep(1)
                flushes.clear()
                for _ in range(6):
                    attachment.kick()
                ask()
                tick = 0
                while not flushes:
                    attachment.kick()
                    await trio.lowlevel.checkpoint()
                    tick += 1
                ticks.append(tick)
        assert ticks[1] <= 2 < ticks[0]
