"""What clients of envelopes say, in every order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.envelope_client import EnvelopeClient, items
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.states import StreamState
from trio_streams.wire.envelope import MessageLimits
from trio_streams.wire.envelope_channels import Publish, Subscribe


def answers(client: EnvelopeClient) -> list[tuple[str, str]]:
    """Each answer's id, and its error's code where it is one."""
    return [
        (one["id"], one["payload"].get("code", "") if isinstance(one["payload"], dict) else "") for one in client.hear()
    ]


@pytest.mark.parametrize("payload", [{"a": 1}, [1], 0, "", False])
def test_a_call_is_a_stream_with_one_item(payload: object) -> None:
    """Opened with name and metadata, one item, the end."""
    client = EnvelopeClient()
    client.say({"id": "r1", "procedure": "ping", "type": "request", "payload": payload, "metadata": {"X-A": 5}})
    assert client.take() == [
        events.Opened(1, records.Open("ping", {"x-a": "5"})),
        events.Received(1, [json.dumps(payload).encode()]),
        events.Ended(1, records.OK, records.NO_METADATA),
    ]
    assert client.hear() == []


@pytest.mark.parametrize("more", [{}, {"payload": None}])
def test_no_payload_is_no_item(more: dict[str, Any]) -> None:
    """As in the original, null is as good as nothing here."""
    client = EnvelopeClient()
    client.start("request", "ping", **more)
    assert items(client.take()) == []


def test_a_server_stream_is_echoed_at_once() -> None:
    """Before its handler has said anything; its payload is its input."""
    client = EnvelopeClient()
    client.say({"type": "stream:start", "id": "s", "procedure": "counter", "payload": {"count": 2}})
    assert [type(event) for event in client.take()] == [events.Opened, events.Received, events.Ended]
    assert answers(client) == [("s:stream:start", "")]


def test_a_clients_items_are_a_run() -> None:
    """As documented: data and end name the id alone; null is an item there; the status of `stream:error` arrives."""
    client = EnvelopeClient()
    number = client.start("stream:start", "sum", "c1")
    data = [{"type": "stream:data", "id": "c1", "payload": n} for n in (1, None)]
    client.say(*data, {"type": "stream:data", "id": "c1"}, {"type": "stream:end", "id": "c1", "metadata": {"t": 1}})
    assert client.take() == [
        events.Received(number, [b"1", b"null", b"null"]),
        events.Ended(number, records.OK, {"t": "1"}),
    ]
    assert client.hear() == []  # an upload is answered once
    failing = client.start("stream:start", "echo", "c2", payload=5)
    client.say({"type": "stream:error", "id": "c2", "payload": {"code": "OWN", "message": "m"}})
    assert client.take()[-1] == events.Ended(failing, records.Status("OWN", "m"), {})


def test_data_after_the_end_is_refused_and_changes_nothing() -> None:
    """What takes no items says so; a second end is dropped."""
    client = EnvelopeClient()
    client.start("stream:start", "counter", "s")
    client.hear()
    client.say({"type": "stream:data", "id": "s", "payload": 1}, {"type": "stream:end", "id": "s"})
    assert answers(client) == [("s:error", "INVALID_ARGUMENT")]
    assert client.take() == []


def test_what_crosses_an_end_on_the_wire_is_dropped() -> None:
    """Data, end, error and cancel for a stream that nobody knows any more are nobody's fault."""
    client = EnvelopeClient()
    for type_ in ("stream:data", "stream:end", "stream:error", "cancel"):
        client.say({"type": type_, "id": "gone"}, {"type": type_})
    assert client.take() == []
    assert client.hear() == []


def test_data_after_our_stop_is_dropped() -> None:
    """The dialect cannot say stop, so the client goes on, and nothing of it is kept."""
    client = EnvelopeClient()
    number = client.start("stream:start", "sum")
    client.machine.stop(number)
    client.say({"type": "stream:data", "id": "a", "payload": 1})
    assert client.take() == []
    assert client.hear() == []
    assert client.machine.unread_bytes == 0


@pytest.mark.parametrize(
    ("envelope", "id_", "code"),
    [
        ({"id": "x", "type": "request"}, "x:error", "INVALID_ENVELOPE"),
        ({"id": "x"}, "x:error", "INVALID_ENVELOPE"),
        ({"id": "x", "type": "request", "procedure": "nope"}, "x:error", "NOT_FOUND"),
        ({"id": "x", "type": "request", "procedure": "counter"}, "x:error", "NOT_FOUND"),
        ({"id": "x", "type": "event", "procedure": "ping"}, "x:error", "NOT_FOUND"),
        ({"id": "x", "type": "stream:start", "procedure": "ping"}, "x:stream:error", "NOT_FOUND"),
        ({"id": "x", "type": "stream:start", "procedure": "n" * 500}, "x:stream:error", "NOT_FOUND"),
        ({"id": "x", "type": "stream:start"}, "x:stream:error", "INVALID_ENVELOPE"),
        ({"id": "x", "type": "teleport", "procedure": "ping"}, "x:error", "INVALID_TYPE"),
        ({"id": "x", "type": "subscribe", "channel": "room"}, "x:error", "UNIMPLEMENTED"),
        ({"id": "i" * 257, "type": "request", "procedure": "ping"}, "i" * 64 + ":error", "MESSAGE_TOO_LARGE"),
        ({"id": "i" * 257, "type": "ping"}, "i" * 64 + ":error", "MESSAGE_TOO_LARGE"),
        ({"id": "x", "type": "request", "procedure": "p" * 1_025}, "x:error", "MESSAGE_TOO_LARGE"),
        (
            {"id": "x", "type": "request", "procedure": "ping", "metadata": {"a": "b" * 20_000}},
            "x:error",
            "MESSAGE_TOO_LARGE",
        ),
        ({"id": 5, "type": 5}, "5:error", "INVALID_ENVELOPE"),
    ],
)
def test_a_wrong_envelope_is_answered_and_changes_nothing(envelope: dict[str, Any], id_: str, code: str) -> None:
    """One error, no stream, and the next call is served."""
    client = EnvelopeClient()
    client.say(envelope)
    assert answers(client) == [(id_, code)]
    assert client.take() == []
    assert client.start("request", "ping") == 1


def test_an_id_in_use_is_refused_and_its_stream_goes_on() -> None:
    """With `error`, for `stream:error` would end the first one at the client; afterwards the id is free again."""
    client = EnvelopeClient()
    number = client.start("stream:start", "counter", "d")
    client.say({"type": "stream:start", "id": "d", "procedure": "counter"})
    assert answers(client) == [("d:stream:start", ""), ("d:error", "ALREADY_EXISTS")]
    client.machine.send(number, [b"1"])
    client.machine.end(number)
    assert answers(client) == [("d:stream:data:0", ""), ("d:stream:end", "")]
    assert client.start("stream:start", "counter", "d") == 3


def test_a_half_that_is_open_keeps_its_id() -> None:
    """A bidirectional stream whose answer has ended still takes the client's items."""
    client = EnvelopeClient()
    number = client.start("stream:start", "echo", "b")
    client.machine.end(number)
    client.hear()
    client.say({"type": "stream:data", "id": "b", "payload": 1}, {"type": "stream:end", "id": "b"})
    assert items(client.take()) == [b"1"]
    assert client.start("stream:start", "echo", "b") == 3


def test_numbers_and_missing_ids_are_ids() -> None:
    """A number stands for its digits; a call without an id is answered all the same, an event without one is not."""
    client = EnvelopeClient()
    client.say({"type": "request", "id": 7, "procedure": "ping"}, {"type": "request", "procedure": "ping"})
    client.say({"type": "event", "procedure": "log", "payload": 1}, {"type": "event", "id": "e", "procedure": "log"})
    for number in (1, 3, 5, 7):
        client.machine.end(number)
    assert answers(client) == [("7:response", ""), ("#3:response", ""), ("e:response", "")]


def test_cancel_ends_a_stream_in_both_directions() -> None:
    """What is queued is dropped, the client is told once, and the id is free."""
    client = EnvelopeClient()
    number = client.start("stream:start", "counter", "s5", payload=1)
    client.machine.send(number, [b"1", b"2"])
    client.say({"type": "cancel", "id": "s5"})
    stopped, reset = client.take()
    assert stopped == events.Stopped(number, Code.CANCELLED, "the client cancelled")
    assert reset == events.Reset(number, Code.CANCELLED, "the client cancelled")
    assert client.machine.unread_bytes == client.machine.queued_bytes == 0
    client.say({"type": "cancel", "id": "s5"})
    assert answers(client) == [("s5:stream:start", ""), ("s5:stream:error", "CANCELLED")]
    client.machine.release(number)
    assert client.machine.state(number) is StreamState.CLOSED
    assert client.machine.stream_count == 0


def test_cancel_after_the_answer_is_silent() -> None:
    """The first end counts; the upload that goes on is stopped."""
    client = EnvelopeClient()
    number = client.start("stream:start", "echo")
    client.machine.end(number)
    client.hear()
    client.say({"type": "cancel", "id": "a"})
    assert [type(event) for event in client.take()] == [events.Reset]
    assert client.hear() == []


def test_a_pong_is_nothing() -> None:
    """Nobody asked for it."""
    client = EnvelopeClient()
    client.say({"type": "pong"})
    assert client.take() == []
    assert client.hear() == []


def test_streams_are_counted_until_their_handlers_are_done() -> None:
    """One more than `max_streams` is refused by name and limit, and taken when one is released."""
    client = EnvelopeClient(ConnectionConfig(max_streams=1))
    number = client.start("request", "ping", "a")
    client.machine.end(number)
    client.hear()
    client.say({"type": "request", "id": "b", "procedure": "ping"})
    (refused,) = client.hear()
    assert refused["payload"]["code"] == "RESOURCE_EXHAUSTED"
    assert refused["payload"]["details"] == {"field": "max_streams", "size": 2, "limit": 1}
    client.machine.release(number)
    assert client.start("request", "ping", "b") == 3


def test_who_is_going_away_takes_nothing_new() -> None:
    """What has begun goes on."""
    client = EnvelopeClient()
    number = client.start("request", "ping", "a")
    client.machine.go_away()
    client.say({"type": "request", "id": "b", "procedure": "ping"})
    client.machine.send(number, [b"1"])
    client.machine.end(number)
    assert answers(client) == [("b:error", "UNAVAILABLE"), ("a:response", "")]


def test_a_deadline_is_what_is_left_of_it() -> None:
    """`x-deadline` is a time of day in milliseconds."""
    client = EnvelopeClient(epoch=1_000.0)
    client.now = 5.0
    client.say({"type": "request", "procedure": "ping", "metadata": {"X-Deadline": 1_007_500}})
    (opened, _) = client.take()
    assert isinstance(opened, events.Opened)
    assert opened.open.timeout_ms == 2_500


# -- channels, JSON-RPC --------------------------------------------------------------------------------------------


def test_channels_messages_are_records() -> None:
    """Where somebody takes them; a broken one is refused."""
    client = EnvelopeClient(has_channels=True)
    client.say(
        {"id": "1", "type": "subscribe", "channel": "room"},
        {"id": "2", "type": "publish", "channel": "room", "event": "m", "data": [1]},
        {"id": "3", "type": "subscribe"},
    )
    assert client.machine.take_channel_messages() == [Subscribe("1", "room"), Publish("2", "room", "m", b"[1]")]
    assert answers(client) == [("3:error", "INVALID_ENVELOPE")]


def test_channels_messages_that_nobody_takes_are_bounded() -> None:
    """Reading pauses until they are taken, and no stream is ended for them."""
    client = EnvelopeClient(limits=MessageLimits(max_channel_messages=2, stall_timeout=5), has_channels=True)
    number = client.start("stream:start", "sum", payload=1)
    client.say(*[{"id": n, "type": "subscribe", "channel": "room"} for n in range(3)])
    assert not client.machine.wants_input
    client.machine.handle_deadline(5.0)
    assert client.machine.next_deadline() == 10
    assert client.machine.state(number) is StreamState.OPEN
    client.machine.release(number)
    client.machine.handle_deadline(10.0)
    assert client.machine.next_deadline() == 15
    assert (len(client.machine.take_channel_messages()), client.machine.wants_input) == (3, True)


def test_json_rpc_texts_that_nobody_takes_are_bounded() -> None:
    """Reading pauses until some are."""
    client = EnvelopeClient(limits=MessageLimits(max_channel_messages=2, stall_timeout=5), has_json_rpc=True)
    client.say(*[{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in range(3)])
    assert not client.machine.wants_input
    assert [json.loads(text)["id"] for text in client.machine.take_rpc_texts(1)] == [0]
    assert (client.machine.wants_input, client.machine.has_output) == (True, True), "the driver is to be told"


# -- what the server ends -------------------------------------------------------------------------------------------


def test_a_stream_that_holds_too_much_is_ended_for_both_sides() -> None:
    """An item beyond `max_item_bytes` at once, items that nobody takes after `stall_timeout`; each with its code."""
    client = EnvelopeClient(ConnectionConfig(max_item_bytes=2_000), MessageLimits(overflow_bytes=1_000))
    client.start("stream:start", "sum", "large", payload="x" * 2_000)
    stalled = client.start("stream:start", "sum", "stalled", payload="x" * 1_500)
    client.machine.handle_deadline(10.0)
    ended = [event for event in client.take() if isinstance(event, events.Reset)]
    assert [(event.stream_id, event.code) for event in ended] == [(stalled, Code.RESOURCE_EXHAUSTED)]
    assert answers(client) == [
        ("large:stream:error", "MESSAGE_TOO_LARGE"),
        ("stalled:stream:error", "RESOURCE_EXHAUSTED"),
    ]


def test_cancel_of_what_nobody_reads_any_more_is_answered() -> None:
    """A handler that had stopped its input is told of one end only."""
    client = EnvelopeClient()
    number = client.start("stream:start", "echo")
    client.machine.stop(number)
    client.say({"type": "cancel", "id": "a"})
    assert [type(event) for event in client.take()] == [events.Stopped]


def test_a_client_may_answer_what_nobody_asked() -> None:
    """A pong is nothing."""
    client = EnvelopeClient()
    client.say({"type": "pong"}, {"type": "ping", "id": 1})
    assert client.take() == []
    assert client.hear() == [{"id": "1", "type": "pong"}]


def test_an_upload_that_is_refused_frees_its_id() -> None:
    """As soon as both directions are over."""
    client = EnvelopeClient(ConnectionConfig(max_item_bytes=10))
    number = client.start("stream:start", "sum", "a", payload="x" * 9)
    client.take()
    assert client.start("stream:start", "sum", "a") == number + 2
