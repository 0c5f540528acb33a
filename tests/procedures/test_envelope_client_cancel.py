"""Our client of envelopes, cancelled wherever it waits: what the server hears, and that the connection goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.fake_carrier import FakeCarrier, make_rig
from trio_streams.config import ConnectionConfig
from trio_streams.core.mux import Mux
from trio_streams.errors import ConnectionLost
from trio_streams.procedures.envelope_client import EnvelopeClient, open_envelope_client
from trio_streams.transports.memory import MemoryCarrier
from trio_streams.wire.message_framing import frame, split
from trio_streams.wire.message_limits import MessageLimits

CONFIG = ConnectionConfig(idle_timeout=None, close_timeout=1, max_streams=2)
LIMITS = MessageLimits(send_window_items=4)


@attrs.define
class Server:
    """The other side, in the test's hands."""

    carrier: FakeCarrier
    link: MemoryCarrier

    def heard(self) -> list[tuple[str, str]]:
        """Ids and types of whatever was sent so far."""
        envelopes = [json.loads(message) for message in split(bytes(self.carrier.sent))]
        return [(one["id"], one["type"]) for one in envelopes]

    async def say(self, **fields: object) -> None:
        await self.link.send(frame(json.dumps(fields).encode()))
        await trio.testing.wait_all_tasks_blocked()

    async def drain(self) -> None:
        with contextlib.suppress(ConnectionLost):
            while await self.link.receive():
                pass


@contextlib.asynccontextmanager
async def connected() -> AsyncGenerator[tuple[EnvelopeClient, Server], None]:
    carrier, peer = make_rig()
    async with trio.open_nursery() as nursery:
        server = Server(carrier, peer.link)
        nursery.start_soon(server.drain)
        async with open_envelope_client(carrier, config=CONFIG, limits=LIMITS, is_text=False) as client:
            yield client, server
        nursery.cancel_scope.cancel()
    assert carrier.closes == 1
    assert carrier.waiting == set()


async def call(client: EnvelopeClient) -> None:
    await client.call("thing", 1)


async def event(client: EnvelopeClient) -> None:
    await client.event("thing", 1)


async def stream(client: EnvelopeClient) -> None:
    async with client.stream("thing", 1) as items:
        await items.receive()


async def iterate(client: EnvelopeClient) -> None:
    async with client.stream("thing", 1) as items:
        async for _ in items:
            pass


async def upload(client: EnvelopeClient) -> None:
    await client.upload("thing", [1, 2])


async def upload_slowly(client: EnvelopeClient) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    await client.upload("thing", items())


async def bidi_receive(client: EnvelopeClient) -> None:
    async with client.bidi("thing") as conversation:
        await conversation.send(1)
        await conversation.receive()


USES = [call, event, stream, iterate, upload, upload_slowly, bidi_receive]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_waiting_for_an_answer(
    autojump_clock: trio.testing.MockClock, use: Callable[[EnvelopeClient], Awaitable[None]]
) -> None:
    """One `cancel`, last of its stream; nothing is left here, and the next call is answered."""
    async with connected() as (client, server):
        with trio.move_on_after(1) as scope:
            await use(client)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        heard = server.heard()
        assert heard[-1] == ("1", "cancel")
        assert [kind for _, kind in heard].count("cancel") == 1
        assert client.connection.statistics().streams == ()
        machine = client.connection.machine
        assert isinstance(machine, Mux)
        assert machine.stream_count == 0
        await server.say(id="1:stream:error", type="stream:error", payload={"code": "CANCELLED"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, client)
            await trio.testing.wait_all_tasks_blocked()
            await server.say(id="3:response", type="response", payload=5)
        assert client.connection.lost is None


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_waiting_for_the_carrier(
    autojump_clock: trio.testing.MockClock, use: Callable[[EnvelopeClient], Awaitable[None]]
) -> None:
    """What has not left is taken back: of a single question the server never hears, of a run the whole truth."""
    async with connected() as (client, server):
        server.carrier.holds.add("wait_writable")
        with trio.move_on_after(1) as scope:
            await use(client)
        assert scope.cancelled_caught
        server.carrier.let("wait_writable")
        await trio.testing.wait_all_tasks_blocked()
        kinds = [kind for _, kind in server.heard()]
        assert kinds in ([], ["stream:start", "stream:error", "cancel"], ["stream:start", "cancel"])
        machine = client.connection.machine
        assert isinstance(machine, Mux)
        assert machine.stream_count == machine.queued_bytes == 0


async def test_waiting_for_room_to_send(autojump_clock: trio.testing.MockClock) -> None:
    """A sender that is cancelled has sent what was taken, in order; the rest never goes."""
    async with connected() as (client, server), client.bidi("thing") as conversation:
        server.carrier.holds.add("wait_writable")
        sent: list[int] = []
        with trio.move_on_after(1) as scope:
            for n in range(100):
                await conversation.send(n)
                sent.append(n)
        assert scope.cancelled_caught
        assert 4 <= len(sent) < 100
        server.carrier.let("wait_writable")
        await trio.testing.wait_all_tasks_blocked()
        envelopes = [json.loads(message) for message in split(bytes(server.carrier.sent))]
        assert [one["payload"] for one in envelopes if one["type"] == "stream:data"] == sent


async def test_waiting_for_another_stream_to_end(autojump_clock: trio.testing.MockClock) -> None:
    """Where `max_streams` are open nothing is opened; the next one in line gets its turn when one ends."""
    async with connected() as (client, server), trio.open_nursery() as nursery:
        for _ in range(CONFIG.max_streams):
            nursery.start_soon(call, client)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await call(client)
        assert scope.cancelled_caught
        nursery.start_soon(call, client)
        await trio.testing.wait_all_tasks_blocked()
        assert server.heard() == [("1", "request"), ("3", "request")]
        await server.say(id="1:response", type="response", payload=1)
        assert server.heard()[2:] == [("5", "request")]
        for number in (3, 5):
            await server.say(id=f"{number}", type="response", payload=1)


async def test_leaving_normally_what_is_unfinished(autojump_clock: trio.testing.MockClock) -> None:
    """A stream is cancelled at once, a conversation behind its end."""
    async with connected() as (client, server):
        async with client.stream("thing"):
            await trio.testing.wait_all_tasks_blocked()
        async with client.bidi("thing") as conversation:
            await conversation.send(1)
        await trio.testing.wait_all_tasks_blocked()
        assert [kind for id_, kind in server.heard() if id_ == "1"] == ["stream:start", "cancel"]
        expected = ["stream:start", "stream:data", "stream:end", "cancel"]
        assert [kind for id_, kind in server.heard() if id_ == "3"] == expected


async def test_the_block_cancelled_as_a_whole(autojump_clock: trio.testing.MockClock) -> None:
    """Its streams say so within `close_timeout`, and the carrier is closed."""
    with trio.move_on_after(1):
        async with connected() as (client, server):
            heard = server.heard
            await call(client)
    assert heard() == [("1", "request"), ("1", "cancel")]
    assert trio.current_time() <= 1 + CONFIG.close_timeout


async def test_the_block_cancelled_while_the_server_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """It waits `close_timeout` at most."""
    with trio.move_on_after(1):
        async with connected() as (client, server):
            server.carrier.holds.add("send")
            await call(client)
    assert trio.current_time() == pytest.approx(1 + CONFIG.close_timeout, abs=0.5)


async def test_the_carrier_breaks(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever waits is told once, and the block can be left."""
    async with connected() as (client, server):
        outcomes: list[Any] = []

        async def one() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await call(client)
            outcomes.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            server.carrier.inner.lose()
        assert len(outcomes) == 2
