"""The server's sessions: whose they are, how many wait, and how they end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.resuming.site import CONFIG, Site, connected, open_site
from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.core import records
from trio_streams.core.mux import Mux
from trio_streams.core.session import RESUME
from trio_streams.driver import run_client
from trio_streams.errors import ConnectionLost
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.sessions import Offer, Sessions, resume_options
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair
from trio_streams.wire.binary import PREFACE, BinaryWire

LATE = ReconnectOptions(initial_delay=1_000, max_delay=1_000, seed=1)


def hello(session_id: str, received: int = 0, *features: str) -> bytes:
    said = records.Hello(session_id, received, 256, 262_144, 1 << 24, 100, 1 << 24, features=frozenset(features))
    return PREFACE + BinaryWire().encode(0, said)


async def heard(carrier: MemoryCarrier) -> list[records.Hello | records.GoAway]:
    """The hello and the goodbye that a server says."""
    data = b""
    with trio.move_on_after(1):
        while chunk := await carrier.receive():
            data += chunk
    found = [frame for _, frame in BinaryWire().decode(data)]
    return [frame for frame in found if isinstance(frame, records.Hello | records.GoAway)]


@asynccontextmanager
async def visiting(site: Site, data: bytes) -> AsyncGenerator[MemoryCarrier, None]:
    """A connection to a site by hand."""
    async with site.open_carrier():
        near = site.links[-1][0].inner
        await near.send(data)
        yield near
        await near.aclose()


async def test_a_guessed_id_gets_nothing(autojump_clock: MockClock) -> None:
    """An id that nobody has begins a session of its own; one that claims to have received frames is refused."""
    async with open_site() as site, connected(site):
        async with visiting(site, hello("guessed", 0, RESUME)) as near:
            (greeting,) = await heard(near)
            assert isinstance(greeting, records.Hello)
            assert greeting.frames_received == 0
            assert site.sessions.count == 2
        async with visiting(site, hello("guessed-too", 3, RESUME)) as near:
            _, goodbye = await heard(near)
            assert isinstance(goodbye, records.GoAway)
            assert "wants to resume a session that is not here" in goodbye.reason


async def test_a_stolen_id_gets_nothing(autojump_clock: MockClock) -> None:
    """Whoever is another principal can neither take a session over nor disturb it."""
    async with open_site() as site:
        site.principal = "alice"
        async with connected(site) as client, client.open_stream("echo") as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            stolen = _session_id(site)
            site.principal = "mallory"
            async with visiting(site, hello(stolen, 2, RESUME)) as near:
                _, goodbye = await heard(near)
                assert isinstance(goodbye, records.GoAway)
            site.principal = "alice"
            site.links[0][0].inner.lose()
            await stream.send(b"y")
            assert await stream.receive() == b"y"
            assert client.statistics().resumes == 1


def _session_id(site: Site) -> str:
    machine = site.connections[0].machine
    assert isinstance(machine, Mux)
    said = machine.peer_hello
    assert said is not None
    return said.session_id


async def test_the_same_principal_takes_its_session_over(autojump_clock: MockClock) -> None:
    """Also before the server has noticed that the old connection is dead: that one has to leave."""
    async with open_site() as site, connected(site, reconnect=LATE) as client, client.open_stream("echo") as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        async with visiting(site, hello(_session_id(site), 2, RESUME)) as near:
            greeting, *_ = await heard(near)
            assert isinstance(greeting, records.Hello)
            assert greeting.frames_received == 2
            assert site.links[0][1].closes == 1
            assert site.sessions.count == 1


@pytest.mark.parametrize(("received", "what"), [(1_000, "were sent"), (0, "acknowledged")])
async def test_a_replay_that_can_not_be(autojump_clock: MockClock, received: int, what: str) -> None:
    """Who asks for what was never sent, or was acknowledged before, ends the session, and is told why."""
    async with open_site() as site, connected(site, reconnect=LATE) as client, client.open_stream("echo") as stream:
        for _ in range(4):
            await stream.send(b"x")
            assert await stream.receive() == b"x"
        async with visiting(site, hello(_session_id(site), received, RESUME)) as near:
            *_, goodbye = await heard(near)
            assert isinstance(goodbye, records.GoAway)
            assert what in goodbye.reason
        assert site.ended == ["echo"]


async def test_too_many_wait(autojump_clock: MockClock) -> None:
    """One more than `max_detached_sessions` ends the one that has waited longest."""
    async with open_site(ResumeOptions(max_detached_sessions=2)) as site, trio.open_nursery() as nursery:

        async def visit() -> None:
            async with connected(site, reconnect=LATE) as client, client.open_stream("wait"):
                await trio.sleep_forever()

        for _ in range(3):
            nursery.start_soon(visit)
            await wait_all_tasks_blocked()
        for near, _ in site.links:
            near.inner.lose()
            await wait_all_tasks_blocked()
        assert site.sessions.detached_count == 2
        await trio.sleep(3)
        assert site.sessions.count == 2
        assert [connection.lost is None for connection in site.connections] == [False, True, True]
        assert "more than max_detached_sessions of 2 wait" in str(site.connections[0].lost)
        nursery.cancel_scope.cancel()


async def test_a_session_that_nobody_comes_back_to(autojump_clock: MockClock) -> None:
    """After `max_session_age` its handlers are cancelled, and nothing of it is left."""
    async with open_site(ResumeOptions(max_session_age=7)) as site:
        async with connected(site, reconnect=LATE) as client, client.open_stream("wait"):
            await wait_all_tasks_blocked()
            site.cut()
            await trio.sleep(6.9)
            assert (site.ended, site.sessions.detached_count) == ([], 1)
            await trio.sleep(0.2)
            assert site.ended == ["wait"]
            assert "max_session_age of 7 s has passed (the memory link was cut)" in str(site.connections[0].lost)
        assert (site.sessions.count, site.sessions.detached_count) == (0, 0)


async def test_a_session_that_came_back_too_late(autojump_clock: MockClock) -> None:
    """The client looks longer than the server waits: one clear error."""
    async with open_site(ResumeOptions(max_session_age=5)) as site:
        late = ReconnectOptions(initial_delay=60, max_delay=60, seed=2)
        looking = ResumeOptions(max_session_age=100)
        async with connected(site, looking, late) as client, client.open_stream("wait") as stream:
            await wait_all_tasks_blocked()
            site.cut()
            with pytest.raises(ConnectionLost, match="the peer does not have it any more"):
                await stream.receive()


async def test_a_client_that_does_not_offer_it_is_served_otherwise(autojump_clock: MockClock) -> None:
    """What it has said is given back with the offer that is none."""
    async with open_site() as site:
        near, far = memory_carrier_pair()
        await near.send(hello("plain"))
        offer = await site.sessions.receive_offer(far)
        assert offer == Offer(hello("plain"), None)
        data = hello("offering", 0, RESUME)
        for taken in (7, len(data)):
            near, far = memory_carrier_pair()
            await near.send(data[taken:] or b"more")
            offer = await site.sessions.receive_offer(far, data[:taken])
            assert (offer.received, offer.hello is not None) == (data, True)


@pytest.mark.parametrize("said", [b"", b"trio-str", PREFACE, PREFACE + b"\xff" * 20, b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_says_something_else(autojump_clock: MockClock, said: bytes) -> None:
    """Or too little: whoever serves otherwise sees all of it."""
    async with open_site() as site:
        for closes in (True, False):
            near, far = memory_carrier_pair()
            if said:
                await near.send(said)
            if closes:
                await near.aclose()
            started = trio.current_time()
            assert await site.sessions.receive_offer(far) == Offer(said, None)
            assert trio.current_time() - started in {0, CONFIG.handshake_timeout}


async def test_an_offer_may_come_in_pieces(autojump_clock: MockClock) -> None:
    """However the first bytes fall."""
    async with open_site() as site, trio.open_nursery() as nursery:
        near, far = memory_carrier_pair()
        data = hello("slow", 0, RESUME)

        async def say() -> None:
            for n in range(len(data)):
                await near.send(data[n : n + 1])
                await trio.sleep(0.001)

        nursery.start_soon(say)
        offer = await site.sessions.receive_offer(far)
        assert (offer.received, offer.hello is not None) == (data, True)


async def test_a_client_of_a_plain_connection_is_no_session(autojump_clock: MockClock) -> None:
    """It is not counted, and nothing waits for it."""
    async with open_site() as site:
        site.is_plain = True
        async with site.open_carrier() as carrier, run_client(carrier, config=CONFIG) as client:
            async with client.open_stream("echo") as stream:
                await stream.send(b"x")
                assert await stream.receive() == b"x"
            assert site.sessions.count == 0


async def test_the_end_of_a_server_says_goodbye(autojump_clock: MockClock) -> None:
    """Handlers are cancelled, and their streams reset, before the carriers' own tasks let go of them."""
    async with open_site() as site, connected(site) as client, client.open_stream("wait") as stream:
        await wait_all_tasks_blocked()
        site.nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive()
        assert not isinstance(caught.value, ConnectionLost)  # but a reset that has arrived
        assert client.machine.peer_went_away or client.lost is not None
        assert site.ended == ["wait"]


async def test_the_end_of_a_carriers_task_ends_its_session(autojump_clock: MockClock) -> None:
    """A host that ends a connection means it: the session says goodbye, and is over."""
    async with open_site() as site, connected(site) as client, client.open_stream("wait") as stream:
        await wait_all_tasks_blocked()
        site.scopes[0].cancel()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive()
        await trio.sleep(1)
        assert (site.sessions.count, site.ended, len(site.tries)) == (0, ["wait"], 1)


async def test_a_driver_that_fails_lets_go_of_the_carrier(autojump_clock: MockClock) -> None:
    """Whatever ends a session's run, the connection's own task is not left waiting."""

    async def run(carrier: ResumingCarrier) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionLost("the run has failed")

    async with open_site() as site:
        near, far = memory_carrier_pair()
        await near.send(hello("a", 0, RESUME))
        await site.sessions.serve(far, await site.sessions.receive_offer(far), None, run)
        assert site.sessions.count == 0
        with pytest.raises(ConnectionLost):
            await near.send(b"x")


async def test_a_name_is_free_once_its_session_is_over(autojump_clock: MockClock) -> None:
    """Also while the old one still ends: the new one keeps the name."""
    goodbye = BinaryWire().encode(0, records.GoAway())
    async with open_site() as site, visiting(site, hello("same", 0, RESUME)) as old:
        await old.send(goodbye)
        await wait_all_tasks_blocked()
        async with visiting(site, hello("same", 0, RESUME)):
            await wait_all_tasks_blocked()
            assert len(site.connections) == 2
            await old.aclose()
            await trio.sleep(5)
            assert [connection.lost is None for connection in site.connections] == [False, True]
            assert site.sessions.count == 1


@asynccontextmanager
async def _one_more() -> AsyncGenerator[Site, None]:
    async with open_site() as site:
        yield site
        await trio.sleep(5)
        assert site.sessions.count == 0


async def _serve_one(site: Site) -> None:
    near, far = memory_carrier_pair()
    await near.send(hello("a", 0, RESUME))
    with trio.move_on_after(1):
        await site.sessions.serve(far, await site.sessions.receive_offer(far), None, site._run)
    await near.aclose()


async def test_serving_is_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """Nothing of a session is left behind, whenever its connection's task is cancelled."""
    assert await cancel_everywhere(_serve_one, _one_more) >= 4


def test_what_an_argument_stands_for() -> None:
    """True is the defaults; False and None are nothing."""
    mine = ResumeOptions(max_session_age=1)
    assert [resume_options(value) for value in (True, False, None, mine)] == [ResumeOptions(), None, None, mine]


async def test_options_bound_what_a_session_retains(autojump_clock: MockClock) -> None:
    """The server's own limit counts for what it sends."""
    async with open_site(ResumeOptions(max_retained_bytes=131_072)) as site:
        assert isinstance(site.sessions, Sessions)
        async with connected(site) as client, client.open_stream("count") as stream:
            for number in range(2_000):
                assert await stream.receive() == b"%d" % number
            assert site.connections[0].statistics().retained_bytes < 131_072
