"""The machine of envelopes as its driver sees it: order, large items, limits, and captures of the original."""

from __future__ import annotations

import json

import pytest

from tests.wire.envelope_client import FORMS, EnvelopeClient, items
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.streams.machine import Machine
from trio_streams.wire.envelope import EnvelopeMachine, MessageLimits
from trio_streams.wire.envelope_channels import encode_channel_event
from trio_streams.wire.message_framing import frame, split


def test_it_is_what_a_stream_asks_for() -> None:
    """A `Machine` for streams, and greeted from the start: such a client has no hello."""
    client = EnvelopeClient()
    machine: Machine = client.machine
    assert machine is client.machine
    assert client.machine.peer_hello is not None
    assert client.hear() == []
    assert client.machine.next_deadline() is None


def test_the_first_event_is_the_greeting() -> None:
    """So whoever waits for a connection to be ready need not know the dialect."""
    client = EnvelopeClient()
    assert client.greeting == [events.Greeted(client.machine.peer_hello or records.Hello("nobody"))]
    assert client.machine.peer_hello == records.Hello("", agent="raffel", max_item_bytes=16_777_216)


def test_it_opens_no_streams() -> None:
    """A client of envelopes takes none."""
    client = EnvelopeClient()
    assert not client.machine.can_open
    with pytest.raises(LocalProtocolError, match="takes none"):
        client.machine.open("x")


def test_a_capture_of_the_original() -> None:
    """A stream and a call as Raffel 0.2.3's clients send them, and its answers, but for the counter."""
    client = EnvelopeClient()
    client.say_raw(frame(b'{"type":"stream:start","id":"t1","procedure":"counter","payload":{"count":2}}'))
    (opened, received, _) = client.take()
    assert isinstance(opened, events.Opened)
    assert items([received]) == [b'{"count":2}']
    assert client.machine.send(1, [b'{"n":0}', b'{"n":1}']) == 2
    client.machine.end(1)
    sent = b""
    while client.machine.has_output:
        sent += client.machine.to_send(0.0, 65_536)
    assert split(sent) == [
        b'{"id":"t1:stream:start","procedure":"counter","type":"stream:start","payload":null,"metadata":{}}',
        b'{"id":"t1:stream:data:0","procedure":"counter","type":"stream:data","payload":{"n":0},"metadata":{}}',
        b'{"id":"t1:stream:data:1","procedure":"counter","type":"stream:data","payload":{"n":1},"metadata":{}}',
        b'{"id":"t1:stream:end","procedure":"counter","type":"stream:end","payload":null,"metadata":{}}',
    ]


def test_an_item_larger_than_a_turn_goes_whole() -> None:
    """It is one message, and others have their turns before and after."""
    client = EnvelopeClient()
    large = client.start("stream:start", "counter", "large")
    small = client.start("stream:start", "counter", "small")
    client.hear()
    item = json.dumps("x" * 100_000).encode()
    client.machine.send(large, [item, item])
    client.machine.send(small, [b"1"])
    assert [one["id"] for one in client.hear()] == ["large:stream:data:0", "small:stream:data:0"]
    assert client.machine.send(large, [item]) == 1


def test_streams_take_turns() -> None:
    """One that floods does not hold up another's answer by more than a turn."""
    client = EnvelopeClient(limits=MessageLimits(send_window_items=2_000, send_window_bytes=1_000_000))
    flood = client.start("stream:start", "counter", "flood")
    call = client.start("request", "ping", "call")
    client.hear()
    client.machine.send(flood, [b"1" * 100] * 1_000)
    client.machine.send(call, [b"2"])
    client.machine.end(call)
    order = [one["id"] for one in client.hear()]
    assert order.index("call:response") < 200
    assert len(order) == 1_001


@pytest.mark.parametrize(("item", "fits"), [(b"1", 4), (b"1" * 436, 2)])
def test_a_handler_is_ahead_of_its_client_by_a_window(item: bytes, fits: int) -> None:
    """By items or by bytes, whichever comes first; it goes on when half a window has left, in order."""
    client = EnvelopeClient(limits=MessageLimits(send_window_items=4, send_window_bytes=1_000))
    number = client.start("stream:start", "counter")
    client.machine.to_send(0.0, 1_000_000)
    assert client.machine.send(number, [item] * 10) == fits
    assert not client.machine.is_writable(number)
    assert client.take() == []
    assert len(client.hear()) == fits
    assert client.take() == [events.Writable(number)]
    assert client.machine.send(number, [item] * 10) == fits


def test_a_head_and_a_status_go_with_their_items() -> None:
    """Metadata with the first item, details with the end."""
    client = EnvelopeClient()
    number = client.start("stream:start", "counter")
    client.machine.send_header(number, {"a": "b"})
    client.machine.send(number, [b"1"])
    client.machine.end(number, records.Status("OWN", "m", [1]), {"t": "1"})
    _, data, end = client.hear()
    assert data["metadata"] == {"a": "b"}
    assert (end["type"], end["payload"]["details"], end["metadata"]) == ("stream:error", [1], {"t": "1"})


def test_a_handler_that_was_cancelled_tells_its_client() -> None:
    """RESET has no word of its own here; what was queued is dropped, and the code travels."""
    client = EnvelopeClient()
    number = client.start("stream:start", "counter")
    client.machine.send(number, [b"1"])
    client.machine.reset(number, Code.UNAVAILABLE, "closing")
    _, error = client.hear()
    assert error["payload"] == {"code": "UNAVAILABLE", "status": 503, "message": "closing"}


def test_reading_pauses_while_answers_are_left_unread() -> None:
    """What a client makes us owe it is bounded."""
    client = EnvelopeClient(ConnectionConfig(max_control_bytes=1_024))
    while client.machine.wants_input:
        client.say({"type": "ping", "id": 1})
    assert len(client.hear()) < 100
    assert client.machine.wants_input


def test_a_channel_that_nobody_reads_is_bounded() -> None:
    """A message is refused where the client leaves too much unread, or has gone."""
    client = EnvelopeClient(ConnectionConfig(max_control_bytes=1_024), has_channels=True)
    heard = encode_channel_event("room", "m", b"1")
    count = 0
    while client.machine.send_aside(heard):
        count += 1
    assert len(client.hear()) == count < 100
    assert client.machine.send_aside(heard)
    while client.machine.send_aside(heard):
        pass
    assert client.machine.send_aside(heard, is_owed=True), "what is asked for is bounded by who asks"
    client.say_raw(b"\xff\xff\xff\xff")
    assert not client.machine.send_aside(heard)


def test_nothing_is_due_after_a_failure() -> None:
    """A deadline that comes too late does nothing."""
    client = EnvelopeClient()
    client.machine.handle_deadline(1e9)
    client.say_raw(b"\xff\xff\xff\xff")
    client.take()
    client.machine.handle_deadline(1e9)
    assert client.take() == []
    assert client.machine.take_channel_messages() == []


def test_json_rpc_texts_stand_beside_envelopes() -> None:
    """A call or a batch is kept for its owner, who is told; what is neither an envelope nor JSON-RPC is refused."""
    told: list[int] = []
    client = EnvelopeClient(has_json_rpc=True, on_aside=lambda: told.append(1))
    texts = [{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, [{"jsonrpc": "2.0", "method": "log"}], []]
    client.say_raw(b"".join(frame(json.dumps(text).encode()) for text in texts))
    assert told == [1]
    assert client.hear() == []
    assert [json.loads(text) for text in client.machine.take_rpc_texts(2)] == texts[:2]
    assert client.machine.take_rpc_texts(9) == [b"[]"]
    client.say({"id": "x", "type": "request"}, {"id": 1.5}, {"jsonrpc": "2.0", "type": "nope"})
    client.say_raw(frame(b"{nope") + frame(b'"\xff"') + frame(b"[1") + frame(b"5"))
    assert len(client.hear()) == 7
    assert client.machine.take_rpc_texts(9) == []
    assert told == [1]


def test_without_json_rpc_its_texts_are_refused() -> None:
    """As any message that is no envelope."""
    client = EnvelopeClient()
    client.say({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert client.hear()[0]["payload"]["code"] == "INVALID_ENVELOPE"


def test_channel_messages_tell_their_owner() -> None:
    """Once for each chunk that holds some."""
    told: list[int] = []
    client = EnvelopeClient(has_channels=True, on_aside=lambda: told.append(1))
    assert not client.machine.has_channel_messages
    client.say({"id": 1, "type": "subscribe", "channel": "a"}, {"id": 2, "type": "subscribe", "channel": "b"})
    assert told == [1]
    assert client.machine.has_channel_messages


class _Signs:
    heard_at = 0.0
    pings = 0

    def ping_nowait(self) -> None:
        self.pings += 1


def test_a_silent_client_is_asked_by_its_carrier() -> None:
    """Where there is one that can; the machine says nothing for it."""
    signs = _Signs()
    config = ConnectionConfig(idle_timeout=10)
    machine = EnvelopeMachine(find_form=FORMS.get, config=config, now=0.0, signs=signs)
    assert machine.to_send(0.0, 100) == b""
    machine.handle_deadline(5.0)
    assert signs.pings == 1
    assert not machine.has_output
    machine.handle_deadline(10.0)
    assert machine.failure is not None
