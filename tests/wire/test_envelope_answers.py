"""What servers answer, in every order, and what a client makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.envelope_asking import Asking
from tests.wire.envelope_client import items
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.states import StreamState
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits

NOTHING = records.NO_METADATA


def failure(asking: Asking) -> RemoteProtocolError:
    """Why the connection is over; the last event says so too."""
    error = asking.machine.failure
    assert isinstance(error, RemoteProtocolError)
    assert asking.take()[-1] == events.Failed(error)
    return error


@pytest.mark.parametrize("id_", ["1:response", "1", 1])
def test_a_response_is_one_item_and_the_end(id_: str | int) -> None:
    """With or without the original's suffix, whatever JSON an id is; metadata are the answer's head."""
    asking = Asking()
    assert asking.ask(Form.CALL, "ping", b"1") == 1
    asking.hear()
    asking.answer({"id": id_, "procedure": "ping", "type": "response", "payload": {"n": 1}, "metadata": {"A": 5}})
    assert asking.take() == [
        events.Headed(1, {"a": "5"}),
        events.Received(1, [b'{"n": 1}']),
        events.Ended(1, records.OK, NOTHING),
    ]
    asking.consume(1, b'{"n": 1}')
    assert asking.machine.stream_count == 0


@pytest.mark.parametrize("payload", [{"payload": None}, {}])
def test_a_response_without_a_payload_is_null(payload: dict[str, Any]) -> None:
    """It is an answer: a call has one item."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": "1", "type": "response", **payload})
    assert items(asking.take()) == [b"null"]


def test_an_event_is_taken_without_an_item() -> None:
    """`{"received":true}` says nothing else."""
    asking = Asking()
    asking.ask(Form.EVENT)
    asking.hear()
    asking.answer({"id": "1:response", "type": "response", "payload": {"received": True}})
    assert asking.take() == [events.Ended(1, records.OK, NOTHING)]
    assert asking.machine.stream_count == 0


def test_a_server_stream() -> None:
    """Start, items as one run, end; the head comes with the first that has one, trailers with the end."""
    asking = Asking()
    number = asking.ask(Form.STREAM)
    other = asking.ask(Form.STREAM)
    asking.hear()
    asking.answer(
        {"id": "1:stream:start", "type": "stream:start", "payload": None, "metadata": {}},
        {"id": "1:stream:data:0", "type": "stream:data", "payload": 0, "metadata": {"h": "1"}},
        {"id": "1:stream:data:1", "type": "stream:data", "payload": 1, "metadata": {}},
        {"id": "1:stream:data:2", "type": "stream:data", "metadata": {"late": "x"}},
        {"id": "3:stream:data:0", "type": "stream:data", "payload": 9},
        {"id": "1:stream:end", "type": "stream:end", "metadata": {"t": "1"}},
    )
    assert asking.take() == [
        events.Headed(number, {"h": "1"}),
        events.Received(number, [b"0", b"1", b"null"]),
        events.Received(other, [b"9"]),
        events.Ended(number, records.OK, {"t": "1"}),
    ]


def test_a_head_may_come_with_the_start() -> None:
    """Once."""
    asking = Asking()
    asking.ask(Form.STREAM)
    asking.hear()
    for kind in ("stream:start", "stream:start", "stream:data"):
        asking.answer({"id": "1", "type": kind, "metadata": {"h": "1"}})
    assert [type(event) for event in asking.take()] == [events.Headed, events.Received]


@pytest.mark.parametrize("kind", ["error", "stream:error"])
def test_an_error_is_the_status(kind: str) -> None:
    """From its payload, or from beside it; with details."""
    asking = Asking()
    asking.ask(Form.STREAM)
    asking.ask(Form.CALL)
    asking.hear()
    body = {"code": "PERMISSION_DENIED", "status": 403, "message": "no", "details": {"why": "x"}}
    asking.answer({"id": f"1:{kind}", "type": kind, "payload": body})
    asking.answer({"id": "3", "type": kind, "code": "OWN", "message": "m"})
    assert asking.take() == [
        events.Ended(1, records.Status("PERMISSION_DENIED", "no", {"why": "x"}), {}),
        events.Ended(3, records.Status("OWN", "m"), {}),
    ]


@pytest.mark.parametrize("kind", ["response", "stream:end", "stream:error"])
def test_an_answer_stops_what_is_still_asked(kind: str) -> None:
    """Whoever sends items learns that nobody takes them, and what was queued is dropped."""
    asking = Asking()
    number = asking.ask(Form.UPLOAD, "sum", is_ended=False)
    asking.hear()
    asking.machine.send(number, [b"1", b"2"])
    asking.answer({"id": "1", "type": kind, "payload": 5 if kind == "response" else None})
    *_, stopped = asking.take()
    assert isinstance(stopped, events.Stopped)
    assert stopped.reason == "the server has answered"
    assert asking.hear() == []
    assert asking.machine.queued_bytes == 0


# -- what crosses on the wire ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["response", "error", "stream:start", "stream:data", "stream:end", "stream:error"])
def test_answers_after_our_cancel_are_dropped(kind: str) -> None:
    """Whether the stream is gone or waits for its own half; nothing of them is kept."""
    asking = Asking()
    gone = asking.ask(Form.STREAM)
    waiting = asking.ask(Form.UPLOAD, is_ended=False)
    asking.hear()
    for number in (gone, waiting):
        asking.machine.stop(number, Code.CANCELLED)
        asking.answer({"id": str(number), "type": kind, "payload": 1})
    assert asking.take() == []
    assert asking.machine.unread_bytes == 0
    assert [one["type"] for one in asking.hear()] == ["cancel", "cancel"]
    assert (asking.machine.state(gone), asking.machine.failure) == (StreamState.CLOSED, None)


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["response", "error", "stream:start", "stream:data", "stream:end", "stream:error"])
@pytest.mark.parametrize("id_", ["3", "2:x", "", None, "x", "0", "-1", "1" * 30, "٣", "p", "px"])
def test_an_answer_that_nobody_asked_for_ends_the_connection(kind: str, id_: str | None) -> None:
    """It may be anybody's: nothing else is safe. The error names the field, and the server's reason where it has one."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": id_, "type": kind, "payload": {"code": "PARSE_ERROR", "message": "Invalid JSON"}})
    error = failure(asking)
    assert error.field == "id"
    assert ("PARSE_ERROR: Invalid JSON" in str(error)) == ("error" in kind)


def test_an_answer_before_the_question_ends_the_connection() -> None:
    """A guess, however good."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.answer({"id": "1", "type": "response", "payload": 1})
    assert failure(asking).field == "id"


@pytest.mark.parametrize("kind", ["response", "stream:data", "stream:end", "stream:error"])
def test_an_answer_that_had_ended_does_not_go_on(kind: str) -> None:
    """While its item is unread the stream is known, and a second end or item is the server's fault."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": "1", "type": "response", "payload": 1}, {"id": "1", "type": kind})
    error = failure(asking)
    assert (error.field, error.size) == ("type", 1)
    assert "had ended" in str(error)


def test_a_start_that_is_late_says_nothing() -> None:
    """It has no meaning of its own."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": "1", "type": "response", "payload": 1}, {"id": "1", "type": "stream:start"})
    assert asking.machine.failure is None


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (b"{nope", "envelope", "Invalid JSON"),
        (b'"\xff"', "envelope", "not UTF-8 at byte 1"),
        (b"", "envelope", "Invalid JSON"),
        (b"[]", "envelope", "Invalid envelope"),
        (b'{"id":1,"type":5}', "type", "Invalid envelope"),
        (b'{"id":"1"}', "type", "type is ''"),
        (b'{"id":"1","type":"request","procedure":"x"}', "type", "type is 'request'"),
        (b'{"jsonrpc":"2.0","id":1,"result":5}', "type", "type is ''"),
        (b'{"type":"event","channel":"room","event":"m","data":1}', "type", "type is 'event'"),
        (b"[" * 100_000, "envelope", "Invalid"),
    ],
)
def test_a_broken_envelope_ends_the_connection(message: bytes, field: str, words: str) -> None:
    """Somebody may wait for it. One line with the field."""
    asking = Asking()
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer_raw(frame(message))
    error = failure(asking)
    assert (error.field, error.code) == (field, Code.PROTOCOL_ERROR)
    assert words in str(error)
    assert asking.hear() == []


def test_metadata_that_are_too_large_end_the_connection() -> None:
    """With the limit."""
    asking = Asking(limits=MessageLimits(max_metadata_bytes=10))
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": "1", "type": "response", "metadata": {"abcde": "123456"}})
    error = failure(asking)
    assert (error.code, error.field) == (Code.MESSAGE_TOO_LARGE, "metadata")
    assert "11 bytes" in str(error)


def test_a_message_that_is_too_long_ends_the_connection() -> None:
    """By its length, before any of it is kept."""
    asking = Asking(limits=MessageLimits(max_message_bytes=100))
    asking.answer_raw((101).to_bytes(4, "big"))
    error = failure(asking)
    assert (error.code, error.size, error.limit) == (Code.MESSAGE_TOO_LARGE, 101, 100)


@pytest.mark.parametrize("kind", ["response", "stream:data"])
def test_an_item_that_is_too_large_ends_its_stream(kind: str) -> None:
    """With field, size and limit behind the items before it; the server is told, and what it still sends is dropped."""
    asking = Asking(ConnectionConfig(max_item_bytes=10, idle_timeout=None))
    number = asking.ask(Form.STREAM)
    asking.hear()
    data = {"id": "1", "type": "stream:data"}
    asking.answer({**data, "payload": 1}, {**data, "type": kind, "payload": "x" * 9}, {**data, "payload": 2})
    received, ended = asking.take()
    assert received == events.Received(number, [b"1"])
    assert isinstance(ended, events.Ended)
    assert ended.status.code == "MESSAGE_TOO_LARGE"
    assert ended.status.details == {"field": "max_item_bytes", "size": 11, "limit": 10}
    assert [one["type"] for one in asking.hear()] == ["cancel"]
    asking.answer({**data, "payload": 3}, {"id": "1", "type": "stream:end"})
    assert asking.take() == []
    assert asking.machine.stream_count == asking.machine.unread_bytes == 0


def test_an_answer_that_has_ended_may_still_be_held_up() -> None:
    """One that nobody reads is dropped for those that wait; there is nothing left to cancel."""
    asking = Asking(limits=MessageLimits(overflow_bytes=1_000, stall_timeout=5))
    full = asking.ask(Form.CALL)
    asking.ask(Form.CALL)
    asking.hear()
    asking.answer({"id": str(full), "type": "response", "payload": "x" * 2_000})
    asking.machine.handle_deadline(5.0)
    assert asking.machine.wants_input
    assert [event.code for event in asking.take() if isinstance(event, events.Reset)] == [Code.RESOURCE_EXHAUSTED]
    assert asking.hear() == []
    assert asking.machine.stream_count == 1


# -- how many, and signs of life ------------------------------------------------------------------------------------


def test_an_answer_makes_room_for_the_next_question() -> None:
    """As many as `max_streams` at once; whoever waits is told, and the driver is woken for it."""
    asking = Asking(ConnectionConfig(max_streams=1, idle_timeout=None))
    asking.ask(Form.CALL)
    asking.hear()
    assert not asking.machine.can_open
    asking.machine.note_wish_to_open()
    asking.answer({"id": "1", "type": "response", "payload": 1})
    assert not asking.machine.can_open
    asking.take()
    asking.consume(1, b"1")
    assert (asking.machine.can_open, asking.machine.has_output) == (True, True)
    assert asking.take() == [events.StreamsAllowed()]
    assert asking.hear() == []


def test_nobody_is_told_of_room_that_nobody_wants() -> None:
    """No event, no wake-up."""
    asking = Asking(ConnectionConfig(max_streams=1, idle_timeout=None))
    asking.ask(Form.EVENT)
    asking.hear()
    asking.answer({"id": "1", "type": "response"})
    assert asking.take() == [events.Ended(1, records.OK, NOTHING)]
    assert asking.machine.can_open
    assert not asking.machine.has_output


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "p1", "type": "pong"},
        {"id": "p1:error", "type": "error", "payload": {"code": "INVALID_TYPE", "message": "Cannot route envelope"}},
    ],
)
def test_a_ping_comes_back(answer: dict[str, Any]) -> None:
    """As a pong, or refused, as the original does; either way its time is known."""
    asking = Asking()
    assert asking.machine.ping(0.0) == 1
    assert [one["id"] for one in asking.hear()] == ["p1"]
    asking.now = 0.5
    asking.answer(
        answer, answer, {"type": "pong"}, {"id": "pfoo", "type": "pong"}, {"id": "p" + "1" * 40, "type": "pong"}
    )
    assert asking.take() == [events.Ponged(1, 0.5)]
    assert asking.machine.round_trip == 0.5
    assert json.loads(json.dumps(answer)) == answer


def test_a_question_that_never_left_is_answered_by_nobody() -> None:
    """Whoever waits is told once, and the driver is woken to tell; after a stop nobody waits."""
    asking = Asking()
    waiting, stopped = asking.ask(Form.CALL), asking.ask(Form.CALL)
    asking.machine.stop(stopped)
    asking.machine.reset(waiting, Code.ABORTED, "no")
    assert asking.machine.has_output
    assert asking.take() == [events.Reset(waiting, Code.ABORTED, "no")]
    half_open = asking.machine.open("thing")
    machine = asking.machine.get(half_open)
    assert machine is not None
    machine.stop(Code.OK, "")
    asking.machine.reset(half_open)
    assert asking.take() == []
    assert asking.machine.stream_count == 0
