"""The machine of peer RPC in ts-signal-rpc's messages: commands, signs of life, and two machines against each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.signal_peer import Peered
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.errors import LocalProtocolError
from trio_streams.wire.message_framing import split
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.signal import StreamMessageType
from trio_streams.wire.signal_machine import SignalMachine
from trio_streams.wire.signal_names import REQUEST, SEND, STREAM, STREAM_ID

STREAM_TYPES = [kind.value for kind in StreamMessageType]


def test_a_server_welcomes_its_client() -> None:
    """The first words of a server are the welcome; a client says nothing, and knows who it is once it is welcomed."""
    server, client = Peered(is_client=False), Peered(name="A")
    assert server.started == [
        {"category": "welcome", "clientId": "id-1", "sessionId": "id-2", "restoredSession": False}
    ]
    assert client.started == []
    assert client.machine.welcome is None
    client.hear(*server.started)
    assert client.machine.welcome is not None
    client.machine.send(client.machine.open(SEND), [b"1"])
    assert client.said() == [{"category": "request", "from": "id-1", "fromName": "A", "requestId": "id-1", "data": 1}]


def test_ids_are_unguessable_unless_somebody_says_otherwise() -> None:
    """Sessions and calls have random ids of 122 bits."""
    machines = [SignalMachine(is_client=False, config=ConnectionConfig(), now=0.0) for _ in range(2)]
    one, two = (json.loads(split(machine.to_send(0.0, 1_000))[0]) for machine in machines)
    assert len(one["sessionId"]) == 36
    assert one["sessionId"] != two["sessionId"]


def test_a_call() -> None:
    """A request goes out, and its response is the stream's item and end."""
    peer = Peered()
    number = peer.machine.open(REQUEST)
    peer.machine.send(number, [b'{"method":"go"}'])
    peer.machine.end(number)
    assert peer.said() == [{"category": "request", "requestId": "id-1", "data": {"method": "go"}}]
    happened = peer.hear({"category": "response", "requestId": "id-1", "data": 7})
    assert happened == [
        events.Received(number, [b"7"]),
        events.Ended(number, records.OK, records.NO_METADATA),
    ]
    peer.machine.consume(number, 1, 65)
    assert peer.machine.stream_count == 0


def test_a_call_that_fails_is_answered() -> None:
    """An end with a status is the response, though the machine looks at it twice: once whether it fits a frame."""
    peer = Peered(is_client=False)
    (opened, *_) = peer.hear({"category": "request", "requestId": "r", "from": "x", "data": 1})
    assert isinstance(opened, events.Opened)
    peer.machine.consume(opened.stream_id, 1, 65)
    peer.machine.end(opened.stream_id, records.Status("OUT_OF_STOCK", "none left"))
    peer.machine.release(opened.stream_id)
    assert peer.said() == [
        {
            "category": "response",
            "requestId": "r",
            "to": "x",
            "data": None,
            "error": {"code": "OUT_OF_STOCK", "message": "none left"},
        }
    ]
    assert peer.machine.stream_count == 0


def test_what_nobody_answers_ends_at_once() -> None:
    """Messages and streams have no answer: their other half is over when they begin."""
    peer = Peered()
    for name in (SEND, STREAM):
        number = peer.machine.open(name)
        assert peer.events() == [events.Ended(number, records.OK, records.NO_METADATA)]


def test_two_streams_under_one_id_are_refused() -> None:
    """Nobody could tell them apart; the id is free again when the first is over."""
    peer = Peered()
    number = peer.machine.open(STREAM, metadata={STREAM_ID: "s"})
    with pytest.raises(LocalProtocolError, match="'s' is being sent already") as caught:
        peer.machine.open(STREAM, metadata={STREAM_ID: "s"})
    assert caught.value.code is Code.ALREADY_EXISTS
    peer.machine.end(number)
    peer.said()
    peer.machine.open(STREAM, metadata={STREAM_ID: "s"})


def test_streams_are_bounded_and_room_is_told_of() -> None:
    """Past `max_streams` nothing is opened, until one is over."""
    peer = Peered(config=ConnectionConfig(max_streams=1))
    number = peer.machine.open(STREAM)
    assert not peer.machine.can_open
    with pytest.raises(LocalProtocolError, match="the peer allows 1"):
        peer.machine.open(STREAM)
    peer.machine.end(number)
    peer.said()
    assert events.StreamsAllowed() in peer.events()
    assert peer.machine.can_open


def test_a_sender_waits_for_its_carrier() -> None:
    """Items that wait for the carrier are bounded; once half were written the sender hears of room."""
    peer = Peered()
    number = peer.machine.open(STREAM)
    assert peer.machine.send(number, [b"1"] * 300) == MessageLimits().send_window_items
    peer.events()
    peer.machine.to_send(0.0, 1 << 20)
    assert peer.events() == [events.Writable(number)]


class Signs:
    """A carrier that asks for signs of life by itself."""

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.pings = 0

    def ping_nowait(self) -> None:
        self.pings += 1


def test_a_carrier_that_asks_by_itself_is_asked_to() -> None:
    """Its pings stand for messages, and what it hears counts."""
    signs = Signs()
    peer = Peered(config=ConnectionConfig(idle_timeout=10.0), signs=signs)
    peer.machine.handle_deadline(5.0)
    assert (signs.pings, peer.said()) == (1, [])
    signs.heard_at = 9.0
    peer.machine.handle_deadline(10.0)
    assert peer.machine.failure is None
    assert peer.machine.next_deadline() == 14.0


def test_a_client_may_wait_for_its_welcome() -> None:
    """Until then it has not been greeted, it asks for a sign of life, and its patience is `handshake_timeout`."""
    config = ConnectionConfig(handshake_timeout=3.0, idle_timeout=None)
    peer = Peered(config=config, awaits_welcome=True)
    assert [one["category"] for one in peer.started] == ["ping"]
    assert [peer.machine.client_id, peer.machine.next_deadline()] == [None, 3.0]
    welcome = {"category": "welcome", "clientId": "me", "sessionId": "s"}
    assert [type(one) for one in peer.hear(welcome, welcome)] == [events.Greeted]
    assert [peer.machine.client_id, peer.machine.next_deadline()] == ["me", None]
    late = Peered(config=config, awaits_welcome=True)
    late.machine.handle_deadline(3.0)
    assert "no hello within handshake_timeout" in str(late.machine.failure)


def test_what_the_dialect_can_say_is_known() -> None:
    """No metadata; addresses only where a relay is between."""
    assert [Peered(is_relayed=one).machine.has_addresses for one in (False, True)] == [False, True]
    assert not Peered().machine.carries_metadata


def test_a_silent_peer_is_asked_for_a_sign_of_life_and_given_up() -> None:
    """At half of `idle_timeout` a ping goes out, with the time of day; a pong measures, and silence ends."""
    peer = Peered(config=ConnectionConfig(idle_timeout=10.0), epoch=1_000.0)
    assert peer.machine.next_deadline() == 5.0
    peer.now = 5.0
    peer.machine.handle_deadline(5.0)
    assert peer.said() == [{"category": "ping", "timestamp": 1_005_000}]
    peer.now = 5.25
    assert peer.hear({"category": "pong", "timestamp": 1_005_000}) == [events.Ponged(1, 0.25)]
    assert peer.machine.round_trip == 0.25
    assert peer.hear({"category": "pong", "timestamp": 1_005_000}, {"category": "pong", "timestamp": 3}) == []
    while (due := peer.machine.next_deadline()) is not None and peer.machine.failure is None:
        peer.machine.handle_deadline(due)
    assert peer.machine.failure is not None
    assert peer.machine.failure.code is Code.IDLE_TIMEOUT


def test_pings_are_told_apart_and_bounded() -> None:
    """Two pings of one millisecond have two timestamps; of more than 64 the oldest is forgotten."""
    peer = Peered()
    numbers = [peer.machine.ping(1.0) for _ in range(65)]
    stamps = [message["timestamp"] for message in peer.said()]
    assert stamps == list(range(1_000, 1_065))
    assert peer.hear({"category": "pong", "timestamp": stamps[0]}) == []
    assert peer.hear({"category": "pong", "timestamp": stamps[1]}) == [events.Ponged(numbers[1], -1.0)]


def _deliver(source: Peered, sink: Peered, cut: Callable[[], int]) -> None:
    data = source.machine.to_send(0.0, 1 << 16)
    position = 0
    while position < len(data):
        size = cut()
        sink.machine.receive(data[position : position + size], 0.0)
        position += size


@settings(deadline=None)
@given(data=st.data(), items=st.lists(st.lists(st.integers(), max_size=20), min_size=1, max_size=5))
def test_every_item_arrives_once_and_in_order(data: st.DataObject, items: list[list[int]]) -> None:
    """Streams of any length, both ways at once, cut anywhere: the other side has each item once, in order, and the end."""
    one, two = Peered(), Peered(is_client=False)

    def cut() -> int:
        return data.draw(st.integers(1, 200))

    for number, run in enumerate(items):
        for peer in (one, two):
            stream = peer.machine.open(STREAM, metadata={STREAM_ID: f"{number}"})
            if run:
                peer.machine.send(stream, [str(item).encode() for item in run])
            peer.machine.end(stream)
        peer.events()
    for source, sink in ((one, two), (two, one)):
        source.events()
        while source.machine.has_output:
            _deliver(source, sink, cut)
        ids: dict[int, str] = {}
        found: dict[str, list[int]] = {}
        ended: set[str] = set()
        for event in sink.events():
            if isinstance(event, events.Opened):
                ids[event.stream_id] = event.open.metadata[STREAM_ID]
                found[ids[event.stream_id]] = []
            elif isinstance(event, events.Received):
                found[ids[event.stream_id]] += map(json.loads, event.items)
            elif isinstance(event, events.Ended) and event.stream_id in ids:
                ended.add(ids[event.stream_id])
        assert found == {str(number): run for number, run in enumerate(items)}
        assert ended == set(found)


VALID = [
    {"category": "request", "requestId": "a", "data": 1, "from": "b"},
    {"category": "response", "requestId": "id-1", "data": 1},
    {"category": "response", "requestId": "id-1", "error": {"code": "X"}},
    {"category": "ping", "timestamp": 1},
    {"category": "pong", "timestamp": 1},
    {"category": "welcome", "clientId": "c"},
    {"category": "error", "error": "why", "details": {"streamId": "id-2"}},
    {"category": "error", "error": "why", "details": {"requestId": "id-1"}},
    {"category": "error", "error": "why"},
    *({"type": kind, "streamId": id_, "payload": 1, "error": "why"} for kind in STREAM_TYPES for id_ in "ab"),
]


@settings(deadline=None)
@given(
    messages=st.lists(
        st.sampled_from(VALID)
        | st.binary(max_size=40)
        | st.builds(
            lambda one, name, value: {**one, name: value}, st.sampled_from(VALID), st.text(max_size=4), st.none()
        )
        | st.builds(
            lambda one, name, value: {**one, name: value},
            st.sampled_from(VALID),
            st.sampled_from(["type", "category", "streamId", "requestId", "error", "details", "timestamp"]),
            st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
        ),
        max_size=30,
    )
)
def test_no_input_breaks_it(messages: list[Any]) -> None:
    """Whatever a peer says, the machine neither raises nor fails, and its streams end at most once."""
    peer = Peered(config=ConnectionConfig(max_streams=2))
    peer.machine.open(REQUEST)
    peer.machine.open(STREAM)
    ends = [event.stream_id for event in peer.hear(*messages) if isinstance(event, (events.Ended, events.Reset))]
    peer.said()
    assert peer.machine.failure is None
    assert len(ends) == len(set(ends))
