"""The relay over real WebSockets: what reaches whom, who waits, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from trio_streams.errors import ConnectionLost
from trio_streams.peer.relay import Relay, RelayOptions
from trio_streams.transports.messages import WebSocketCarrier, accept_websocket, connect_websocket
from trio_streams.wire.signal_relay import RelayLimits


class Room:
    """A relay that listens on the loopback, and those who have been let in."""

    def __init__(self, nursery: trio.Nursery, options: RelayOptions | None) -> None:
        self.relay = Relay(options)
        self.nursery = nursery
        self.url = ""
        self.failures: list[Exception] = []
        self.entered: list[WebSocketCarrier] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        carrier = await accept_websocket(stream, subprotocols=(), require_subprotocol=False)
        try:
            await self.relay.run(carrier, carrier.path)
        except Exception as exc:  # noqa: BLE001 - looked at by the test
            self.failures.append(exc)

    async def enter(self, target: str = "/room") -> tuple[WebSocketCarrier, dict[str, Any]]:
        carrier = await connect_websocket(self.url + target, subprotocols=(), require_subprotocol=False)
        self.entered.append(carrier)
        (welcome,) = await carrier.receive_messages()
        return carrier, json.loads(welcome)


@asynccontextmanager
async def opened(options: RelayOptions | None = None) -> AsyncGenerator[Room, None]:
    """A room for as long as the block; then nothing of it is left."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            room = Room(nursery, options)
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, room.serve, 0, host="127.0.0.1")
            )
            room.url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            try:
                yield room
            finally:
                nursery.cancel_scope.cancel()
        for carrier in room.entered:
            with trio.move_on_after(0):
                await carrier.aclose()
    assert room.relay.members == ()


def data(payload: object) -> str:
    """An item of a stream."""
    return json.dumps({"type": "StreamData", "streamId": "s", "payload": payload})


async def until_members(room: Room, count: int) -> None:
    """Wait until so many are there."""
    while len(room.relay.members) != count:
        await trio.lowlevel.checkpoint()


async def until_failures(room: Room) -> None:
    """Wait until a connection has ended by a fault."""
    while not room.failures:
        await trio.lowlevel.checkpoint()


async def test_a_call_through_the_relay() -> None:
    """A request on the topic is heard by the other peer, and its response reaches the asker alone."""
    async with opened() as room:
        one, welcome = await room.enter()
        two, _ = await room.enter()
        three, _ = await room.enter("/elsewhere")
        await one.send_messages(
            [json.dumps({"category": "request", "requestId": "r", "from": welcome["clientId"], "data": 1})]
        )
        (heard,) = await two.receive_messages()
        request = json.loads(heard)
        answer = json.dumps({"category": "response", "requestId": "r", "to": request["from"], "data": 2})
        await two.send_messages([answer])
        assert await one.receive_messages() == [answer]
        await three.send_messages(['{"category":"ping","timestamp":5}'])
        assert await three.receive_messages() == ['{"category":"pong","timestamp":5}']
        for carrier in (one, two, three):
            await carrier.aclose()
        await until_members(room, 0)
        assert room.failures == []


async def test_a_message_that_is_binary_is_read_as_text() -> None:
    """A binary message goes on as the text that it holds; what is no UTF-8 is refused."""
    async with opened() as room:
        one, _ = await room.enter()
        two, _ = await room.enter()
        text = '{"type":"StreamEnd","streamId":"é"}'
        await one.send_messages([text.encode(), b"\xff"])
        assert await two.receive_messages() == [text]
        (refused,) = await one.receive_messages()
        assert "UTF-8" in refused


async def test_twenty_megabytes_wait_for_a_slow_reader_and_none_is_lost() -> None:
    """The original's fault: its sender never waits. Here the sender is held up near the limit, and every item arrives."""
    options = RelayOptions(limits=RelayLimits(max_queued_bytes=65_536))
    items = 320
    async with opened(options) as room:
        one, _ = await room.enter()
        two, _ = await room.enter()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(items):
                await one.send_messages([data([number, "x" * 65_536])])
                sent += 1

        room.nursery.start_soon(send)
        with trio.move_on_after(0.5):
            await trio.sleep_forever()
        held = max(member.queued_bytes for member in room.relay.members)
        assert sent < items
        assert held < 65_536 + 4 * 65_600 + 131_072  # the limit, and what one read brings
        numbers: list[int] = []
        while len(numbers) < items:
            numbers += [json.loads(one)["payload"][0] for one in await two.receive_messages()]
        assert numbers == list(range(items))


async def test_nine_hundred_small_messages_are_not_dropped() -> None:
    """The original loses 900 of 1,000 messages to its default rate limit; here there is none that drops."""
    async with opened() as room:
        one, _ = await room.enter()
        two, _ = await room.enter()
        await one.send_messages([data(n) for n in range(1_000)])
        numbers: list[int] = []
        while len(numbers) < 1_000:
            numbers += [json.loads(text)["payload"] for text in await two.receive_messages()]
        assert numbers == list(range(1_000))


async def test_who_reads_nothing_is_disconnected_and_the_others_go_on() -> None:
    """A peer that stalls costs the others `stall_timeout` at most."""
    options = RelayOptions(limits=RelayLimits(max_queued_bytes=65_536), stall_timeout=0.2)
    async with opened(options) as room:
        one, _ = await room.enter()
        two, _ = await room.enter()
        _stalled, _ = await room.enter()
        items = 400

        async def send() -> None:
            for number in range(items):
                await one.send_messages([data([number, "x" * 65_536])])

        room.nursery.start_soon(send)
        numbers: list[int] = []
        while len(numbers) < items:
            numbers += [json.loads(text)["payload"][0] for text in await two.receive_messages()]
        assert numbers == list(range(items))
        assert len(room.relay.members) == 2


async def test_a_peer_comes_back_under_its_id() -> None:
    """`?sessionId=` restores the id, also while the dead connection still counts, which is closed then."""
    async with opened() as room:
        one, first = await room.enter()
        again, second = await room.enter(f"/room?sessionId={first['sessionId']}")
        assert second["clientId"] == first["clientId"]
        assert second["restoredSession"] is True
        assert await one.receive_messages() == []
        await again.aclose()
        await until_members(room, 0)
        _, third = await room.enter(f"/room?sessionId={first['sessionId']}")
        assert third["clientId"] == first["clientId"]


async def test_a_full_relay_lets_nobody_in() -> None:
    """Past `max_members` a peer is turned away, and told of in one error."""
    async with opened(RelayOptions(limits=RelayLimits(max_members=1))) as room:
        await room.enter()
        carrier = await connect_websocket(room.url + "/room", subprotocols=(), require_subprotocol=False)
        room.entered.append(carrier)
        assert await carrier.receive_messages() == []
        await until_failures(room)
        assert [str(one) for one in room.failures] == ["peer number 2: max_members is 1"]


async def test_a_broken_peer_ends_alone() -> None:
    """A peer that breaks off in the middle of a frame is gone, and the others notice nothing."""
    async with opened() as room:
        one, _ = await room.enter()
        two, _ = await room.enter()
        await trio.aclose_forcefully(one._stream)  # a carrier says goodbye otherwise
        await until_failures(room)
        assert len(room.relay.members) == 1
        assert isinstance(room.failures[0], ConnectionLost)
        await two.send_messages(['{"category":"ping","timestamp":1}'])
        assert await two.receive_messages() == ['{"category":"pong","timestamp":1}']


@pytest.mark.parametrize("wait", ["receive", "room", "write"])
async def test_cancelling_leaves_nothing(wait: str) -> None:
    """Cancelled while it waits for a message, for room or for a writer, a relay has closed its carriers and forgotten all."""
    async with opened(RelayOptions(limits=RelayLimits(max_queued_bytes=1_000))) as room:
        one, _ = await room.enter()
        _two, _ = await room.enter()
        if wait != "receive":
            size = 65_536 if wait == "write" else 2_000
            text = data("x" * size)

            async def send() -> None:
                while True:
                    await one.send_messages([text])

            room.nursery.start_soon(send)
            with trio.move_on_after(0.3):
                await trio.sleep_forever()
