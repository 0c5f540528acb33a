"""Messages and items of envelopes, and how those who are read slowly are bounded, for both roles."""

from __future__ import annotations

import json

import pytest

from tests.wire.envelope_asking import Asking
from tests.wire.envelope_client import EnvelopeClient
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.states import StreamState
from trio_streams.wire.envelope import Form, MessageLimits
from trio_streams.wire.message_framing import frame, split

SMALL = MessageLimits(overflow_bytes=1_000, stall_timeout=5)


def answers(client: EnvelopeClient) -> list[tuple[str, str]]:
    """Each answer's id, and its error's code where it is one."""
    return [
        (one["id"], one["payload"].get("code", "") if isinstance(one["payload"], dict) else "") for one in client.hear()
    ]


def test_an_item_that_is_too_large_ends_its_stream() -> None:
    """With field, size and limit, and the connection goes on."""
    client = EnvelopeClient(ConnectionConfig(max_item_bytes=10))
    client.start("stream:start", "echo", payload="x" * 9)
    (_, error) = client.hear()
    assert error["type"] == "stream:error"
    assert error["payload"]["details"] == {"field": "max_item_bytes", "size": 11, "limit": 10}
    assert client.start("request", "ping", payload=1) == 3


def test_an_item_that_is_too_large_among_others_ends_its_stream_there() -> None:
    """Those before it arrive, those behind it do not, and another stream's are untouched."""
    client = EnvelopeClient(ConnectionConfig(max_item_bytes=10))
    first = client.start("stream:start", "sum", "a")
    second = client.start("stream:start", "sum", "b")
    data = [("a", 1), ("a", 2), ("a", "x" * 9), ("a", 3), ("b", 4), ("a", 5), ("b", 6), ("b", 7)]
    client.say(*[{"type": "stream:data", "id": id_, "payload": payload} for id_, payload in data])
    happened = client.take()
    received = [(event.stream_id, event.items) for event in happened if isinstance(event, events.Received)]
    assert received == [(first, [b"1", b"2"]), (second, [b"4", b"6", b"7"])]
    assert [event.stream_id for event in happened if isinstance(event, events.Reset)] == [first]
    assert answers(client) == [("a:stream:error", "MESSAGE_TOO_LARGE")]


def test_a_message_of_17_mib_ends_the_connection() -> None:
    """After what came before it; the client is told which limit, and nothing more is taken."""
    client = EnvelopeClient()
    client.say_raw(frame(b'{"type":"ping","id":1}') + (17 << 20).to_bytes(4, "big"))
    assert client.machine.failure is not None
    assert isinstance(client.take()[-1], events.Failed)
    pong, error = client.hear()
    assert pong == {"id": "1", "type": "pong"}
    assert error["payload"]["code"] == "MESSAGE_TOO_LARGE"
    assert "17825792" in error["payload"]["message"]
    assert "16777216" in error["payload"]["message"]
    client.say({"type": "request", "id": "r", "procedure": "ping"})
    assert client.take() == []
    assert client.hear() == []
    assert client.machine.next_deadline() is None


# -- slow readers here ---------------------------------------------------------------------------------------------


def test_reading_pauses_for_a_full_stream_and_goes_on() -> None:
    """Past `overflow_bytes`, until enough was taken; then the driver is woken, and nothing is written."""
    client = EnvelopeClient(limits=SMALL)
    number = client.start("stream:start", "sum", payload="x" * 998)
    assert not client.machine.wants_input
    assert client.machine.next_deadline() == 5
    client.hear()
    client.consume(number, b"x" * 1_000)
    assert client.machine.wants_input
    assert client.machine.next_deadline() is None
    assert client.machine.has_output
    assert client.hear() == []
    assert not client.machine.has_output


def test_a_stream_that_stays_full_is_ended_and_a_cancel_gets_through() -> None:
    """After `stall_timeout`: RESOURCE_EXHAUSTED with figures for it alone; what waits behind it is read."""
    client = EnvelopeClient(limits=SMALL)
    full = client.start("stream:start", "sum", "full", payload="x" * 1_998)
    other = client.start("stream:start", "counter", "other")
    client.hear()
    client.machine.handle_deadline(4.9)
    assert not client.machine.wants_input
    client.now = 5.0
    client.machine.handle_deadline(5.0)
    assert client.machine.wants_input
    (error,) = client.hear()
    assert (error["id"], error["payload"]["code"]) == ("full:stream:error", "RESOURCE_EXHAUSTED")
    assert error["payload"]["details"] == {"field": "overflow_bytes", "size": 2_064, "limit": 1_000}
    ended = [event for event in client.take() if isinstance(event, events.Reset)]
    assert [(event.stream_id, event.code) for event in ended] == [(full, Code.RESOURCE_EXHAUSTED)]
    client.say({"type": "cancel", "id": "other"})
    assert answers(client) == [("other:stream:error", "CANCELLED")]
    assert client.machine.state(other) is StreamState.CLOSED


def test_all_streams_together_are_bounded_by_the_connections_window() -> None:
    """The largest are ended until the rest fits."""
    client = EnvelopeClient(ConnectionConfig(connection_window_bytes=1_000))
    client.start("stream:start", "sum", "small", payload="x" * 200)
    client.start("stream:start", "sum", "large", payload="x" * 900)
    assert not client.machine.wants_input
    client.machine.handle_deadline(10.0)
    assert answers(client) == [("large:stream:error", "RESOURCE_EXHAUSTED")]
    assert client.machine.wants_input


def test_a_full_stream_that_is_cancelled_in_the_same_chunk_stops_nothing() -> None:
    """Its items are forgotten, and so is that it was full."""
    client = EnvelopeClient(limits=SMALL)
    client.say(
        {"type": "stream:start", "id": "a", "procedure": "sum", "payload": "x" * 2_000}, {"type": "cancel", "id": "a"}
    )
    assert client.machine.wants_input
    assert client.machine.next_deadline() is None


def test_releasing_a_full_stream_goes_on_reading() -> None:
    """What nobody will take is not waited for."""
    client = EnvelopeClient(limits=SMALL)
    number = client.start("stream:start", "sum", payload="x" * 2_000)
    client.machine.release(number)
    assert client.machine.wants_input
    assert client.machine.stream_count == 0


def test_one_of_two_full_streams_is_not_enough() -> None:
    """Reading goes on when none is full."""
    client = EnvelopeClient(limits=SMALL)
    first = client.start("stream:start", "sum", "a", payload="x" * 1_000)
    second = client.start("stream:start", "sum", "b", payload="x" * 1_000)
    client.consume(first, b"x" * 1_002)
    assert not client.machine.wants_input
    client.consume(second, b"x" * 1_002)
    assert client.machine.wants_input


def test_a_message_has_its_time() -> None:
    """From its first byte; the time that we did not read does not count."""
    client = EnvelopeClient(limits=MessageLimits(message_timeout=3, overflow_bytes=1_000, stall_timeout=5))
    assert client.machine.next_deadline() is None
    client.say_raw(frame(b'{"type":"pong"}')[:-1])
    assert client.machine.next_deadline() == 3
    client.now = 2.0
    client.say_raw(b"}" + b"\0\0")
    assert client.machine.next_deadline() == 5
    client.now = 3.0
    client.say_raw(b"\0")
    assert client.machine.next_deadline() == 5
    client.machine.handle_deadline(4.0)
    assert client.machine.failure is None
    client.machine.handle_deadline(5.0)
    failure = client.machine.failure
    assert isinstance(failure, RemoteProtocolError)
    assert (failure.code, failure.field) == (Code.IDLE_TIMEOUT, "message_timeout")
    client.machine.handle_deadline(6.0)
    unhurried = EnvelopeClient(limits=MessageLimits(message_timeout=None))
    unhurried.say_raw(b"\0")
    assert unhurried.machine.next_deadline() is None


def test_a_pause_of_ours_is_not_the_clients() -> None:
    """A message that was under way when reading paused has all its time again."""
    client = EnvelopeClient(limits=MessageLimits(message_timeout=3, overflow_bytes=1_000, stall_timeout=5))
    start = {"type": "stream:start", "id": "a", "procedure": "sum", "payload": "x" * 2_000}
    client.now = 1.0
    client.say_raw(frame(json.dumps(start).encode()) + b"\0")
    assert client.machine.next_deadline() == 6
    client.consume(1, b"x" * 2_002)
    assert client.machine.next_deadline() == 4


# -- slow readers there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "limits"), [(20_000, {}), (3_000, {"send_window_bytes": 1_000_000})])
def test_a_handler_is_not_woken_before_half_a_window_has_left(size: int, limits: dict[str, int]) -> None:
    """A turn that sends little of what is queued wakes nobody, whichever limit is near."""
    client = EnvelopeClient(limits=MessageLimits(**{"send_window_bytes": 200_000, "send_window_items": 20, **limits}))
    number = client.start("stream:start", "counter")
    client.machine.to_send(0.0, 1)
    taken = client.machine.send(number, [json.dumps("x" * size).encode()] * 30)
    sent = split(client.machine.to_send(0.0, 1))
    assert client.take() == []
    assert len(sent) + len(client.hear()) == taken
    assert client.take() == [events.Writable(number)]


# -- the client's role ----------------------------------------------------------------------------------------------


def test_a_fault_of_the_server_comes_behind_what_was_good() -> None:
    """Items before it are delivered, the connection fails for good, and nothing after it is looked at."""
    asking = Asking()
    number = asking.ask(Form.STREAM)
    asking.hear()
    data = json.dumps({"id": str(number), "type": "stream:data", "payload": 1}).encode()
    asking.answer_raw(frame(data) + frame(b"{nope") + frame(data))
    received, failed = asking.take()
    assert received == events.Received(number, [b"1"])
    assert isinstance(failed, events.Failed)
    asking.answer({"id": str(number), "type": "stream:end"})
    assert asking.take() == []


def test_a_client_waits_for_its_reader_while_nobody_else_waits() -> None:
    """One stream that is full stops reading for as long as it likes; a second one that waits is not kept for ever."""
    asking = Asking(limits=SMALL)
    full = asking.ask(Form.STREAM)
    asking.hear()
    asking.answer({"id": str(full), "type": "stream:data", "payload": "x" * 2_000})
    assert not asking.machine.wants_input
    asking.machine.handle_deadline(5.0)
    assert (asking.machine.wants_input, asking.machine.next_deadline()) == (False, 10.0)
    call = asking.ask(Form.CALL)
    asking.machine.handle_deadline(10.0)
    assert asking.machine.wants_input
    resets = [event for event in asking.take() if isinstance(event, events.Reset)]
    assert [(event.stream_id, event.code) for event in resets] == [(full, Code.RESOURCE_EXHAUSTED)]
    assert [(one["id"], one["type"]) for one in asking.hear()] == [(str(full), "cancel"), (str(call), "request")]


def test_the_largest_of_many_are_ended_only_as_far_as_needed() -> None:
    """Where each is small and all together are too much; and where even that is not enough, reading stays paused."""
    asking = Asking(ConnectionConfig(connection_window_bytes=1_000, idle_timeout=None), SMALL)
    numbers = [asking.ask(Form.STREAM) for _ in range(3)]
    asking.hear()
    for number, size in zip(numbers, (500, 600, 0), strict=True):
        asking.answer({"id": str(number), "type": "stream:data", "payload": "x" * size})
    waiting = asking.ask(Form.CALL)
    asking.machine.handle_deadline(5.0)
    resets = [event.stream_id for event in asking.take() if isinstance(event, events.Reset)]
    assert resets == [numbers[1]]
    assert asking.machine.wants_input
    assert waiting > numbers[2]


def test_one_stream_alone_may_pass_the_connections_window() -> None:
    """It is ended like any other."""
    client = EnvelopeClient(ConnectionConfig(connection_window_bytes=1_000))
    client.start("stream:start", "sum", "only", payload="x" * 1_500)
    client.machine.handle_deadline(10.0)
    assert client.machine.wants_input
    assert answers(client) == [("only:stream:error", "RESOURCE_EXHAUSTED")]


def test_metadata_are_bounded() -> None:
    """By what they are as strings; the envelope is refused."""
    client = EnvelopeClient(limits=MessageLimits(max_metadata_bytes=10))
    client.say({"type": "request", "id": "m", "procedure": "ping", "metadata": {"abcde": "123456"}})
    (refused,) = client.hear()
    assert refused["payload"]["details"] == {"field": "metadata", "size": 11, "limit": 10}
