"""What goes wrong at an endpoint: connections that raise, floods, cancellation at every wait, and being left."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.endpoint_site import SERVER, open_site
from tests.webtransport.fake_udp import DELAY, FakeNetwork
from tests.webtransport.quic_driven import QuicDriven, client
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.driven import Accept, Driven, Opening
from trio_streams.webtransport.endpoint import EndpointConfig, open_endpoint

DATA: Final = bytes(range(250)) * 400


class _OopsError(Exception):
    pass


def _raise(*_: object) -> None:
    raise _OopsError("oops")


# The fence


@pytest.mark.parametrize("method", ["receive", "dispatch", "datagrams_to_send", "next_deadline", "handle_deadline"])
async def test_what_one_connection_raises_is_its_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """Whichever method raises: that connection is told why, and forgotten, it is logged once, and the other one goes on."""
    async with open_site() as site, site.open_client() as (broken, _), site.open_client() as (sound, _):
        connection = site.server.connections[0]
        setattr(connection, method, _raise)
        if method == "handle_deadline":
            broken.write(broken.quic.open_stream(), DATA)
        with trio.move_on_after(2), contextlib.suppress(ConnectionLost):
            await broken.ask(b"x")
        assert isinstance(connection.lost, _OopsError)
        assert await sound.ask(DATA) == DATA
        seen = site.endpoint.statistics()
        assert (seen.connections, seen.failed_connections) == (1, 1)
    messages = [record.getMessage() for record in caplog.records]
    failed = "the connection with 192.0.2.1:40000 failed, and was given up"
    # What can't even say goodbye is said, too.
    assert messages[0] == failed
    assert messages[1:] in ([], ["the connection with 192.0.2.1:40000 could not be ended"])


async def test_a_connection_that_fails_says_goodbye(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer of a connection that raised is told at once, if the machine can still say it."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        site.server.connections[0].receive = _raise  # type: ignore[method-assign, assignment]
        driven.write(driven.quic.open_stream(), b"x")
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="lost"):
            await driven.wait_for(lambda: False)
        assert trio.current_time() - began < 1
    assert len(caplog.records) == 1


async def test_a_connection_that_can_not_be_attached_is_none(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One that raises while it learns of its place is forgotten, and the next one comes in."""

    def wrap(accept: Accept) -> Accept:
        def broken_at_first(opening: Opening) -> Driven | None:
            driven = accept(opening)
            assert driven is not None
            if opening.addr[1] == 40_000:
                driven.attach = _raise  # type: ignore[method-assign, assignment]
            return driven

        return broken_at_first

    async with (
        open_site(wrap=wrap) as site,
        site.open_client(is_ready=False) as (broken, _),
        site.open_client() as (sound, _),
    ):
        assert await sound.ask(DATA) == DATA
        assert broken.handshaken is None
        assert any(isinstance(connection.lost, _OopsError) for connection in site.server.connections)
        assert site.endpoint.statistics().connections == 1
    assert "the connection with 192.0.2.1:40000 failed, and was given up" in caplog.text


async def test_a_connection_that_can_not_be_closed_keeps_no_other_from_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """When the endpoint is left and one connection raises, the others say goodbye as ever."""
    network = FakeNetwork()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        async with open_site(network=network) as site:
            first = await nursery.start(_run_client, network)
            second = await nursery.start(_run_client, network)
            await trio.sleep(1)
            site.server.connections[0].close = _raise  # type: ignore[method-assign]
        assert [driven.quic.is_closing for driven in (first, second)] == [True, True]
        nursery.cancel_scope.cancel()
    assert len(caplog.records) == 1


async def test_a_connection_that_can_not_even_be_lost_is_gone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One that raises when it is told that it is lost is forgotten all the same."""
    async with open_site() as site, site.open_client() as (broken, _), site.open_client() as (sound, _):
        site.server.connections[0].receive = _raise  # type: ignore[method-assign, assignment]
        site.server.connections[0].lose = _raise  # type: ignore[method-assign, assignment]
        broken.write(broken.quic.open_stream(), b"x")
        assert await sound.ask(DATA) == DATA
        assert site.endpoint.statistics().connections == 1
    assert len(caplog.records) == 2


# Strangers


async def test_a_flood_of_garbage_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """Ten thousand datagrams of noise make no connection and no answer, and connections go on through them."""
    rng = random.Random(7)
    async with open_site() as site, site.open_client() as (driven, _):
        sent = len(site.network.sent)
        noise = [rng.randbytes(rng.choice([0, 1, 5, 20, 100, 1_200, 1_452])) for _ in range(500)]
        for datagram in noise * 20:
            site.socket.deliver(b"\x40" + datagram[1:], ("203.0.113.9", 9))
        assert await driven.ask(b"hello") == b"hello"
        assert site.endpoint.statistics().dropped_datagrams == 10_000
        assert site.endpoint.statistics().connections == 1
        assert not [to for _, to in site.network.sent[sent:] if to == ("203.0.113.9", 9)]


async def test_a_flood_of_first_packets_meets_its_limits(autojump_clock: MockClock) -> None:
    """Clients that begin and vanish are sent away with a Retry from the mark on, and are forgotten in time."""
    config = EndpointConfig(retry_above_half_open=10, max_half_open=20, handshake_timeout=3.0)
    network = FakeNetwork(lambda datagram, source, to: (DELAY,) if to == SERVER else ())
    async with open_site(config=config, network=network) as site:
        for number in range(100):
            driven = client(SERVER)
            for datagram, _ in driven.quic.datagrams_to_send(trio.current_time()):
                site.socket.deliver(datagram, ("203.0.113.9", number))
        await trio.sleep(0.1)
        seen = site.endpoint.statistics()
        assert (seen.half_open, seen.answered_datagrams) == (10, 90)
        await trio.sleep(3)
        assert site.endpoint.statistics().connections == 0
        assert site.endpoint.statistics().connection_ids == 0


async def test_noise_to_a_known_id_is_the_connections_to_drop(autojump_clock: MockClock) -> None:
    """A forged datagram to a connection's id changes nothing, wherever it comes from."""
    async with open_site() as site, site.open_client() as (driven, _):
        await driven.ask(b"hello")
        target = driven.quic._connection._peer_cid.cid
        for number in range(100):
            site.socket.deliver(b"\x40" + target + bytes([number]) * 100, ("203.0.113.9", number))
        assert await driven.ask(DATA) == DATA
        assert site.network.sent[-1][1] in (SERVER, ("192.0.2.1", 40_000))
        assert site.endpoint.statistics().dropped_datagrams == 0


# Being left and cancelled


async def test_who_is_left_says_goodbye(autojump_clock: MockClock) -> None:
    """When a server's endpoint is left, every client hears of it within a round trip."""
    network = FakeNetwork()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        clients: list[QuicDriven] = []
        async with open_site(network=network) as site:
            for _ in range(20):
                driven = await nursery.start(_run_client, network)
                clients.append(driven)
            assert site.endpoint.statistics().connections == 20
        await trio.sleep(2 * DELAY)
        assert [driven.quic.is_closing for driven in clients] == [True] * 20
        nursery.cancel_scope.cancel()


async def _run_client(network: FakeNetwork, task_status: trio.TaskStatus[QuicDriven]) -> None:
    async with open_endpoint(network.bind(peer=SERVER)) as endpoint:
        driven = client(SERVER)
        endpoint.attach(driven)
        await driven.wait_ready()
        task_status.started(driven)
        await trio.sleep_forever()


async def test_a_goodbye_that_is_lost_is_said_again(autojump_clock: MockClock) -> None:
    """A client whose server's CONNECTION_CLOSE was lost hears it again when it sends something."""
    async with open_site() as site, site.open_client() as (driven, _):
        await trio.sleep(1)
        (connection,) = site.server.connections
        site.network.fate = lambda datagram, source, to: ()
        connection.close()
        assert connection.attachment is not None
        connection.attachment.kick()
        await wait_all_tasks_blocked()
        site.network.fate = lambda datagram, source, to: (DELAY,)
        driven.write(driven.quic.open_stream(), b"x")
        with pytest.raises(ConnectionLost, match="bye"):
            await driven.wait_for(lambda: False)


async def test_a_goodbye_has_a_deadline(autojump_clock: MockClock) -> None:
    """Where the kernel takes nothing, leaving waits for `close_timeout` and no longer, and the connection is told."""
    async with open_site() as site:
        socket = site.network.bind(peer=SERVER)
        async with open_endpoint(socket, config=EndpointConfig(close_timeout=0.05)) as endpoint:
            driven = client(SERVER)
            endpoint.attach(driven)
            await driven.wait_ready()
            await trio.sleep(1)
            socket.make_room(0)
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(0.05)
        assert isinstance(driven.lost, ConnectionLost)
        assert socket.is_closed


@pytest.mark.parametrize("state", ["idle", "handshake", "busy", "full"])
async def test_a_cancelled_block_says_goodbye(autojump_clock: MockClock, state: str) -> None:
    """Wherever the loops are when the block is cancelled: the goodbye leaves, and no task and no socket is left."""
    async with open_site() as site:
        socket = site.network.bind(peer=SERVER)
        driven = client(SERVER)
        await wait_all_tasks_blocked()
        began = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            async with open_endpoint(socket) as endpoint:
                endpoint.attach(driven)
                if state != "handshake":
                    await driven.wait_ready()
                    await trio.sleep(1)
                if state in ("busy", "full"):
                    driven.write(driven.quic.open_stream(), bytes(10_000_000))
                    await trio.sleep(0.1)
                if state == "full":
                    socket.make_room(0)
                    driven.attachment.kick()  # type: ignore[union-attr]
                    await wait_all_tasks_blocked()
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    if state == "full":
                        socket.make_room(None)
        assert scope.cancelled_caught
        assert socket.is_closed
        assert trio.lowlevel.current_statistics().tasks_living == began
        assert driven.quic.is_closing
        if state != "handshake":
            await trio.sleep(3)
            assert site.endpoint.statistics().connections == 0


@pytest.mark.parametrize("wait", ["wait_readable", "receive_nowait", "send_nowait"])
async def test_a_socket_that_breaks_ends_the_block(autojump_clock: MockClock, wait: str) -> None:
    """An error that no UDP socket has leaves the block, bare, and every connection is told."""
    network = FakeNetwork()
    socket = network.bind(peer=SERVER)
    driven = client(SERVER)

    async def break_later() -> None:
        _raise()

    with pytest.raises(_OopsError):
        async with open_endpoint(socket, config=EndpointConfig(close_timeout=0)) as endpoint:
            await wait_all_tasks_blocked()
            broken: Callable[..., object] = break_later if wait == "wait_readable" else _raise
            setattr(socket, wait, broken)
            endpoint.attach(driven)
            socket.deliver(b"x", SERVER)
            await trio.sleep_forever()
    assert driven.lost is not None
    assert socket.is_closed


async def test_an_error_of_the_body_is_the_only_one(autojump_clock: MockClock) -> None:
    """What the body raises leaves the block bare, after the goodbyes."""
    async with open_site() as site:
        socket = site.network.bind(peer=SERVER)
        with pytest.raises(_OopsError):
            async with open_endpoint(socket) as endpoint:
                driven = client(SERVER)
                endpoint.attach(driven)
                await driven.wait_ready()
                raise _OopsError
        await trio.sleep(3)
        assert site.endpoint.statistics().connections == 0
