"""What a peer says in ts-signal-rpc's messages: each kind, and what it may not do."""

from __future__ import annotations

import pytest

from tests.wire.signal_peer import Peered
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.signal_names import REQUEST, SEND, STREAM, STREAM_ID

NOTHING = records.NO_METADATA


def data(stream_id: str, payload: object = 1) -> dict[str, object]:
    """An item."""
    return {"type": "StreamData", "streamId": stream_id, "payload": payload}


def end(stream_id: str, error: str | None = None) -> dict[str, object]:
    """An end."""
    if error is None:
        return {"type": "StreamEnd", "streamId": stream_id}
    return {"type": "StreamError", "streamId": stream_id, "error": error}


def request(request_id: str = "r", **fields: object) -> dict[str, object]:
    """A request."""
    return {"category": "request", "requestId": request_id, "data": 1, **fields}


def opened(happened: list[events.Event]) -> list[int]:
    """The numbers of the streams that were opened."""
    return [event.stream_id for event in happened if isinstance(event, events.Opened)]


# -- streams --------------------------------------------------------------------------------------------------


def test_a_stream_begins_with_its_first_message() -> None:
    """Items come in runs, then the end; the id is what the peers agreed on."""
    peer = Peered()
    happened = peer.hear(data("s"), data("s", {"x": 2}), end("s"))
    assert happened == [
        events.Opened(2, records.Open(STREAM, {STREAM_ID: "s"})),
        events.Received(2, [b"1", b'{"x": 2}']),
        events.Ended(2, records.OK, NOTHING),
    ]


def test_items_as_the_original_writes_them_come_in_runs() -> None:
    """Without blanks an item takes the short way, and is no different."""
    peer = Peered()
    items = [b'{"type":"StreamData","streamId":"%s","payload":%d}' % one for one in ((b"s", 1), (b"s", 2), (b"t", 3))]
    assert peer.hear(*items) == [
        events.Opened(2, records.Open(STREAM, {STREAM_ID: "s"})),
        events.Received(2, [b"1", b"2"]),
        events.Opened(4, records.Open(STREAM, {STREAM_ID: "t"})),
        events.Received(4, [b"3"]),
    ]


def test_streams_interleave() -> None:
    """Each item reaches its own stream, in order."""
    peer = Peered(is_client=False)
    happened = peer.hear(data("a", 1), data("b", 2), data("a", 3), end("b", "Something went wrong"), data("a", 4))
    assert [event.items for event in happened if isinstance(event, events.Received) and event.stream_id == 1] == [
        [b"1"],
        [b"3"],
        [b"4"],
    ]
    assert events.Ended(3, records.Status("UNKNOWN", "Something went wrong"), NOTHING) in happened


def test_an_end_alone_is_an_empty_stream() -> None:
    """A stream without items exists, and its id may be used again at once."""
    peer = Peered()
    happened = peer.hear(end("s"), end("s", "why"))
    assert opened(happened) == [2, 4]


def test_a_stream_that_was_closed_here_is_dropped_until_its_end() -> None:
    """The sender is told; what it sends all the same begins no new stream, until it has ended."""
    peer = Peered()
    (number,) = opened(peer.hear(data("s")))
    peer.machine.release(number)
    assert peer.said() == [
        {
            "category": "error",
            "error": "The stream was closed by its receiver",
            "details": {"code": "OK", "streamId": "s"},
        }
    ]
    assert peer.machine.stream_count == 0
    assert peer.hear(data("s"), data("s"), end("s")) == []
    assert opened(peer.hear(data("s"))) == [4]


def test_a_stream_that_was_stopped_but_is_held_takes_nothing_more() -> None:
    """Items behind our stop are dropped while the stream is still held, and its end ends it."""
    peer = Peered()
    (number,) = opened(peer.hear(data("s")))
    peer.machine.stop(number)
    assert peer.hear(data("s"), end("s")) == []
    peer.machine.release(number)
    assert peer.machine.stream_count == 0
    assert opened(peer.hear(data("s"))) == [4]


def test_ids_of_refused_streams_are_bounded() -> None:
    """Of more than 1,024 refused streams the oldest is forgotten, and would begin again."""
    peer = Peered()
    for count in range(1_025):
        (number,) = opened(peer.hear(data(f"s{count}")))
        peer.machine.release(number)
    peer.said()
    assert opened(peer.hear(data("s1"))) == []
    assert len(opened(peer.hear(data("s0")))) == 1


def test_too_many_streams_are_refused_each_whole() -> None:
    """Past `max_streams` a stream is refused once, by its id, and none of its items appears."""
    peer = Peered(config=ConnectionConfig(max_streams=1))
    assert opened(peer.hear(data("a"))) == [2]
    assert peer.hear(data("b"), data("b"), end("b")) == []
    assert peer.hear(end("c")) == []
    told = peer.said()
    assert [one["details"]["streamId"] for one in told] == ["b", "c"]
    assert told[0]["error"] == "More than max_streams of 1 streams"


def test_a_stream_is_refused_once_we_go_away() -> None:
    """A drain takes no new streams and no new calls."""
    peer = Peered()
    peer.machine.go_away()
    assert peer.hear(data("a"), request()) == []
    refused, answered = peer.said()
    assert (refused["details"]["code"], refused["details"]["streamId"]) == ("UNAVAILABLE", "a")
    assert answered["error"]["code"] == "UNAVAILABLE"


def test_an_item_that_is_too_large_ends_its_stream_alone() -> None:
    """`max_item_bytes` is kept, and the reader and the sender learn why."""
    peer = Peered(config=ConnectionConfig(max_item_bytes=10))
    happened = peer.hear(data("s"), data("s", "x" * 20), data("other"))
    resets = [event for event in happened if isinstance(event, events.Reset)]
    assert [(one.stream_id, one.code) for one in resets] == [(2, Code.MESSAGE_TOO_LARGE)]
    assert opened(happened) == [2, 4]
    (told,) = peer.said()
    assert told["details"] == {"code": "MESSAGE_TOO_LARGE", "streamId": "s"}


def test_what_nobody_reads_pauses_and_then_ends() -> None:
    """Past `overflow_bytes` reading pauses; past `stall_timeout` the full stream ends, with one error, and reading goes on."""
    peer = Peered(limits=MessageLimits(overflow_bytes=100, stall_timeout=3.0))
    (number,) = opened(peer.hear(data("s"), data("s")))
    assert not peer.machine.wants_input
    assert peer.machine.next_deadline() == 3.0
    peer.machine.handle_deadline(3.0)
    (reset,) = peer.events()
    assert isinstance(reset, events.Reset)
    assert (reset.stream_id, reset.code) == (number, Code.RESOURCE_EXHAUSTED)
    assert peer.machine.wants_input
    assert peer.said()[0]["details"]["streamId"] == "s"


@pytest.mark.parametrize("is_over", [False, True])
def test_the_window_of_all_streams_is_kept_too(is_over: bool) -> None:
    """The stream that holds most is ended; a sender that has said its last word need not be told."""
    peer = Peered(config=ConnectionConfig(connection_window_bytes=150), limits=MessageLimits(stall_timeout=3.0))
    (number,) = opened(peer.hear(data("s"), data("s"), data("s"), *([end("s")] if is_over else [])))
    peer.machine.handle_deadline(3.0)
    assert [type(event) for event in peer.events()] == [events.Reset]
    assert len(peer.said()) == (0 if is_over else 1)
    assert peer.machine.wants_input
    peer.machine.release(number)
    assert peer.machine.stream_count == 0


def test_streams_of_the_peer_leave_our_own_limit_alone() -> None:
    """Only the end of a stream of ours makes room for another, and wakes who waits for it."""
    peer = Peered(config=ConnectionConfig(max_streams=1))
    number = peer.machine.open(REQUEST)
    peer.machine.note_wish_to_open()
    (theirs,) = opened(peer.hear(end("s")))
    peer.machine.release(theirs)
    assert not peer.machine.can_open
    happened = peer.hear({"category": "error", "error": "no", "details": {"requestId": "id-1"}})
    peer.machine.release(number)
    assert events.StreamsAllowed() in [*happened, *peer.events()]
    assert peer.machine.can_open


# -- calls ----------------------------------------------------------------------------------------------------


def test_a_request_is_a_stream_with_one_item() -> None:
    """Its data is the item, and who asks is in its metadata; the answer names it."""
    peer = Peered(name="me")
    happened = peer.hear(request(to="me", **{"from": "b", "fromName": "B"}))
    assert happened == [
        events.Opened(2, records.Open(REQUEST, {"from": "b", "from-name": "B", "to": "me"})),
        events.Received(2, [b"1"]),
        events.Ended(2, records.OK, NOTHING),
    ]
    peer.machine.consume(2, 1, 65)
    peer.machine.send(2, [b"7"])
    peer.machine.end(2)
    peer.machine.release(2)
    assert peer.said() == [
        {"category": "response", "fromName": "me", "requestId": "r", "to": "b", "toName": "B", "data": 7}
    ]
    assert peer.machine.stream_count == 0


def test_a_request_that_is_too_large_is_refused() -> None:
    """Its stream is reset, and whoever serves it answers with the failure."""
    peer = Peered(config=ConnectionConfig(max_item_bytes=10))
    happened = peer.hear(request(data="x" * 20))
    assert [type(event) for event in happened] == [events.Opened, events.Reset]


def test_a_message_of_ours_is_not_answered() -> None:
    """What was sent to be heard has no call; a response to it is dropped."""
    peer = Peered()
    peer.machine.open(SEND)
    peer.events()
    assert peer.hear({"category": "response", "requestId": "id-1", "data": 1}) == []


def test_a_request_without_data_asks_with_null() -> None:
    """Missing data is null."""
    peer = Peered()
    happened = peer.hear({"category": "request", "requestId": "r"})
    assert events.Received(2, [b"null"]) in happened


def test_a_failed_response_is_the_end_of_its_call() -> None:
    """The code and the words of a failure are the status of the call."""
    peer = Peered()
    number = peer.machine.open(REQUEST)
    happened = peer.hear({"category": "response", "requestId": "id-1", "error": {"code": "NOT_FOUND", "message": "no"}})
    assert happened == [events.Ended(number, records.Status("NOT_FOUND", "no"), NOTHING)]


def test_responses_that_nobody_awaits_are_dropped() -> None:
    """Unknown, late and second responses change nothing; through a relay they are the rule."""
    peer = Peered()
    number = peer.machine.open(REQUEST)
    response = {"category": "response", "requestId": "id-1", "data": 1}
    assert len(peer.hear(response, response)) == 2
    assert peer.hear({**response, "requestId": "somebody else's"}) == []
    peer.machine.release(number)
    assert peer.hear(response) == []
    assert peer.said() == []


@pytest.mark.parametrize("field", ["requestId", "from", "fromName", "to"])
def test_ids_of_requests_have_a_limit(field: str) -> None:
    """Every answer repeats them."""
    peer = Peered(limits=MessageLimits(max_id_bytes=8))
    assert peer.hear({**request(), field: "x" * 9}) == []
    (told,) = peer.said()
    assert told["details"] == {"code": "MESSAGE_TOO_LARGE", "field": field, "size": 9, "limit": 8}


def test_other_ids_have_a_limit() -> None:
    """So have those of streams and of our own in a welcome."""
    peer = Peered(limits=MessageLimits(max_id_bytes=8))
    assert peer.hear(data("é" * 5), {"category": "welcome", "clientId": "x" * 9}) == []
    assert [one["details"]["field"] for one in peer.said()] == ["streamId", "clientId"]
    assert peer.machine.welcome is None


# -- what belongs to no stream --------------------------------------------------------------------------------


def test_a_welcome_tells_who_we_are() -> None:
    """What is sent from then on says so."""
    peer = Peered()
    peer.hear({"category": "welcome", "clientId": "a", "sessionId": "s", "restoredSession": True})
    assert peer.machine.welcome is not None
    assert peer.machine.welcome.restored_session is True
    peer.machine.send(peer.machine.open(REQUEST), [b"1"])
    assert peer.said()[0]["from"] == "a"


def test_whoever_waits_for_a_welcome_is_greeted_by_the_first() -> None:
    """Later ones change the name, and greet nobody."""
    peer = Peered(awaits_welcome=True)
    welcomes = [{"category": "welcome", "clientId": name} for name in ("a", "b")]
    assert [type(one) for one in peer.hear(*welcomes)] == [events.Greeted]
    assert peer.machine.client_id == "b"


def test_a_ping_is_answered_while_a_stream_is_full() -> None:
    """The answer comes from the machine, and needs no reader."""
    peer = Peered()
    peer.hear(data("s"), {"category": "ping", "timestamp": 17})
    assert peer.said() == [{"category": "pong", "timestamp": 17}]


def test_a_pong_measures_the_round_trip() -> None:
    """The pong of a ping is told of once; any other is dropped."""
    peer = Peered()
    number = peer.machine.ping(0.0)
    (ping,) = peer.said()
    peer.now = 0.5
    pong = {"category": "pong", "timestamp": ping["timestamp"]}
    assert peer.hear(pong, pong, {"category": "pong", "timestamp": 9}) == [events.Ponged(number, 0.5)]


def test_an_error_that_names_a_call_ends_it() -> None:
    """A relay says so of a peer that is not there; what an error has no code for is UNKNOWN."""
    peer = Peered()
    number = peer.machine.open(REQUEST)
    details = {"code": "UNAVAILABLE", "requestId": "id-1"}
    happened = peer.hear({"category": "error", "error": "Target peer not found", "details": details})
    status = records.Status("UNAVAILABLE", "Target peer not found", details)
    assert happened == [events.Ended(number, status, NOTHING)]


def test_an_error_that_names_a_stream_stops_it() -> None:
    """The sender learns that nobody takes more, what it had queued is gone, and a second word changes nothing."""
    peer = Peered()
    number = peer.machine.open(STREAM, metadata={STREAM_ID: "s"})
    peer.events()
    peer.machine.send(number, [b"1", b"2"])
    error = {"category": "error", "error": "closed", "details": {"code": "CANCELLED", "streamId": "s"}}
    assert peer.hear(error, error) == [events.Stopped(number, Code.CANCELLED, "closed")]
    assert peer.said() == [{"type": "StreamError", "streamId": "s", "error": "closed", "code": "CANCELLED"}]
    assert peer.machine.queued_bytes == 0


def test_an_error_that_names_a_call_of_the_peer_gives_it_up() -> None:
    """Whoever answers is told to stop; what it says then is an answer nobody waits for."""
    caller, other = Peered(), Peered(is_client=False)
    number = caller.machine.open(REQUEST)
    caller.machine.send(number, [b"1"])
    (asked,) = caller.said()
    (heard,) = opened(other.hear(asked))
    caller.machine.reset(number)
    caller.machine.stop(number, Code.CANCELLED)
    (given_up,) = caller.said()
    assert given_up["details"] == {"code": "CANCELLED", "requestId": "id-1"}
    assert other.hear(given_up, given_up) == [events.Stopped(heard, Code.CANCELLED, "The call was given up")]
    assert caller.hear(*other.said()) == []


def test_what_ends_a_stream_may_have_a_code() -> None:
    """Ours is taken as it is; an end with an error is never OK."""
    peer = Peered()
    for code, expected in (("ABORTED", "ABORTED"), ("OK", "UNKNOWN"), ("", "UNKNOWN")):
        happened = peer.hear(data("s"), {**end("s", "why"), "code": code})
        assert [one.status.code for one in happened if isinstance(one, events.Ended)] == [expected]


def test_an_error_that_comes_too_late_changes_nothing() -> None:
    """A stream whose end is queued is over for its sender."""
    peer = Peered()
    number = peer.machine.open(STREAM, metadata={STREAM_ID: "s"})
    peer.events()
    peer.machine.send(number, [b"1"])
    peer.machine.reset(number)
    peer.machine.end(peer.machine.open(STREAM, metadata={STREAM_ID: "s"}))
    peer.events()
    error = {"category": "error", "error": "closed", "details": {"streamId": "s"}}
    peer.hear(error)
    peer.said()
    assert peer.hear(error) == []
    assert peer.machine.stream_count == 0


@pytest.mark.parametrize("details", [None, [1], {"streamId": 7, "requestId": 7}, {"streamId": "x", "code": "OK"}])
def test_an_error_of_nobody_changes_nothing(details: object) -> None:
    """An error that names no call and no stream of ours is for people."""
    peer = Peered()
    assert peer.hear({"category": "error", "error": "why", "details": details}) == []
    assert peer.machine.failure is None


def test_what_is_broken_is_told_and_the_rest_goes_on() -> None:
    """A broken message between two items is answered, and both items arrive."""
    peer = Peered()
    happened = peer.hear(data("s", 1), b"nonsense", data("s", 2))
    assert [event.items for event in happened if isinstance(event, events.Received)] == [[b"1", b"2"]]
    (told,) = peer.said()
    assert told["details"] == {"code": "INVALID_ARGUMENT"}


def test_a_message_that_announces_a_gibibyte_ends_the_connection() -> None:
    """It is refused by its length, before any of it is kept."""
    peer = Peered()
    peer.machine.receive((1 << 30).to_bytes(4, "big"), 0.0)
    assert peer.machine.failure is not None
    assert peer.machine.failure.code is Code.MESSAGE_TOO_LARGE
    assert peer.said()[0]["details"]["code"] == "MESSAGE_TOO_LARGE"
    peer.machine.receive(frame(b'{"type":"StreamEnd","streamId":"s"}'), 0.0)
    assert opened(peer.events()) == []
