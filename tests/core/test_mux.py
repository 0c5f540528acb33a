"""Many streams on one carrier."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import CONFIG, Muxes, consume, greeted, items, make_mux, only
from trio_streams.codes import Code
from trio_streams.config import StreamLimits
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError, StreamsError
from trio_streams.core.states import StreamState
from trio_streams.testing import Link
from trio_streams.wire.binary import PREFACE, BinaryWire

TINY = attrs.evolve(CONFIG, stream=StreamLimits(window_items=1, window_bytes=1))


def test_each_side_greets_with_its_limits() -> None:
    """Preface and HELLO are the first bytes, with every limit of the configuration."""
    config = attrs.evolve(CONFIG, idle_timeout=None, max_streams=3)
    mux = make_mux(is_client=True, config=config)
    assert (mux.has_output, mux.can_open, mux.peer_hello) == (True, False, None)
    said = mux.to_send(0.0, 1)
    assert said.startswith(PREFACE)
    expected = records.Hello("client", 0, 256, 1_048_576, 16_777_216, 3, 16_777_216, 0, "trio_streams")
    assert BinaryWire().decode(said) == [(0, expected)]
    peer = make_mux(is_client=False)
    peer.receive(said, 0.0)
    assert list(peer.events()) == [events.Greeted(expected)]
    assert peer.peer_hello == expected


def test_a_stream_carries_head_items_and_end_both_ways() -> None:
    """Everything of a call arrives in order, ids are odd for clients and even for servers, and nothing remains."""
    muxes = Muxes()
    client, server = muxes.client, muxes.server
    stream_id = client.open("add", metadata={"k": "v"}, priority=3, timeout_ms=99, window_items=7, window_bytes=700)
    assert (stream_id, client.open("next"), server.open("push")) == (1, 3, 2)
    client.send(stream_id, [b"1", b"2"])
    client.end(stream_id)
    opened, *rest = [event for event in muxes.take_server() if getattr(event, "stream_id", 0) == 1]
    assert opened == events.Opened(1, records.Open("add", {"k": "v"}, 3, 99, 7, 700))
    assert rest == [events.Received(1, [b"1", b"2"]), events.Ended(1, records.OK, {})]
    server.send_header(1, {"h": "1"})
    server.send(1, [b"3"])
    status = records.Status("NOT_FOUND", "no", {"x": 1})
    server.end(1, status, {"t": "2"})
    consume(server, 1, [b"1", b"2"])
    server.release(1)
    answer = [event for event in muxes.take_client() if getattr(event, "stream_id", 0) == 1]
    assert answer == [
        events.Headed(1, {"h": "1"}),
        events.Received(1, [b"3"]),
        events.Ended(1, status, {"t": "2"}),
    ]
    assert (client.state(1), server.state(1)) == (StreamState.HALF_CLOSED_LOCAL, StreamState.CLOSED)
    consume(client, 1, [b"3"])
    assert (client.state(1), client.get(1), server.get(1)) == (StreamState.CLOSED, None, None)
    assert client.state(3) is StreamState.OPEN


def test_streams_that_end_after_several_turns_are_forgotten() -> None:
    """Two streams that share one write, in several turns each, are both gone with it."""
    muxes = Muxes()
    client = muxes.client
    for stream_id in (client.open("a"), client.open("b")):
        client.send(stream_id, [bytes(30_000)])
        client.end(stream_id)
        client.stop(stream_id)
    muxes.run()
    assert len(only(events.Ended, muxes.take_server())) == 2
    assert client.stream_count == 0


def test_a_stream_stops_at_its_window_and_goes_on_when_it_was_read() -> None:
    """The producer of an unread stream stops at exactly its window; a quarter consumed makes it writable again."""
    muxes = Muxes(attrs.evolve(CONFIG, stream=StreamLimits(window_items=8)))
    stream_id = muxes.client.open("x")
    payloads = [bytes([n]) for n in range(20)]
    assert muxes.client.send(stream_id, payloads) == 8
    assert not muxes.client.is_writable(stream_id)
    got = items(muxes.take_server(), stream_id)
    assert got == payloads[:8]
    consume(muxes.server, stream_id, got[:1])
    assert muxes.take_client() == []
    consume(muxes.server, stream_id, got[1:2])
    assert muxes.take_client() == [events.Writable(stream_id)]
    assert muxes.client.is_writable(stream_id)
    assert muxes.client.send(stream_id, payloads[8:]) == 2


def test_items_sent_one_by_one_leave_as_one_run() -> None:
    """Single sends between two writes join into one frame, in order; a stream that is queued is not queued twice."""
    muxes = Muxes()
    stream = muxes.client.open("x")
    payloads = [str(n).encode() for n in range(9)]
    assert [muxes.client.send(stream, [payload]) for payload in payloads] == [1] * 9
    assert items(muxes.take_server(), stream) == payloads


def test_an_item_larger_than_the_window_passes() -> None:
    """The item that crosses the byte limit is taken; the next one waits until it was read."""
    muxes = Muxes(TINY)
    stream_id = muxes.client.open("x")
    large = bytes(100_000)
    assert muxes.client.send(stream_id, [large, b"next"]) == 1
    assert items(muxes.take_server(), stream_id) == [large]
    consume(muxes.server, stream_id, [large])
    assert muxes.take_client() == [events.Writable(stream_id)]
    assert muxes.client.send(stream_id, [b"next"]) == 1


def test_an_unread_stream_holds_up_no_other() -> None:
    """With one stream full and unread, another one's items pass."""
    muxes = Muxes()
    full, other = muxes.client.open("full"), muxes.client.open("other")
    while muxes.client.send(full, [bytes(1_000)] * 100):
        muxes.run()
    assert muxes.client.send(other, [b"x"]) == 1
    assert items(muxes.take_server(), other) == [b"x"]


@pytest.mark.parametrize(("kind", "value"), [("window_items", 0), ("window_items", -3), ("window_bytes", 0)])
def test_a_window_is_at_least_one(kind: str, value: int) -> None:
    """A mark of 0 asks for the nearest thing that a wire has: one item ahead; None is the configuration's."""
    muxes = Muxes()
    muxes.client.open("x", window_items=value if kind == "window_items" else None, window_bytes=0)
    [opened] = only(events.Opened, muxes.take_server())
    assert opened.open.window_bytes == 1
    assert opened.open.window_items == (1 if kind == "window_items" else 256)


@pytest.mark.parametrize(("asked", "sent"), [(-5, 0), (0, 0), (None, None), (10**300, 2**53 - 1)])
def test_a_deadline_travels_whatever_it_is(asked: int | None, sent: int | None) -> None:
    """One that has passed is 0, one beyond all numbers the largest; none is none."""
    muxes = Muxes()
    muxes.client.open("x", timeout_ms=asked)
    [opened] = only(events.Opened, muxes.take_server())
    assert opened.open.timeout_ms == sent


@pytest.mark.parametrize("priority", [-129, 128])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    """Priorities are -128 to 127."""
    muxes = Muxes()
    with pytest.raises(LocalProtocolError) as caught:
        muxes.client.open("x", priority=priority)
    assert (caught.value.field, caught.value.size) == ("priority", priority)


def test_an_open_that_does_not_fit_changes_nothing() -> None:
    """A name of 20 kB is refused, and the next stream has the id that it would have had."""
    muxes = Muxes()
    with pytest.raises(LocalProtocolError) as caught:
        muxes.client.open("x" * 20_000)
    assert caught.value.code is Code.MESSAGE_TOO_LARGE
    assert muxes.client.open("x") == 1


def test_streams_are_limited_and_allowed_again() -> None:
    """The peer's `max_streams` is refused by name; when one is over, `StreamsAllowed` says so, once."""
    muxes = Muxes(attrs.evolve(CONFIG, max_streams=2))
    client, server = muxes.client, muxes.server
    first, _ = client.open("a"), client.open("b")
    assert not client.can_open
    with pytest.raises(LocalProtocolError) as caught:
        client.open("c")
    error = caught.value
    assert (error.code, error.field, error.size, error.limit) == (Code.STREAM_LIMIT_ERROR, "max_streams", 3, 2)
    client.reset(first)
    client.stop(first)
    assert muxes.take_client() == []
    server.release(first)
    assert muxes.take_client() == [events.StreamsAllowed()]
    assert client.open("c") == 5
    assert muxes.take_client() == []


def test_a_stream_whose_end_waits_still_counts() -> None:
    """A peer that takes no data can't have more than `max_streams` handlers' answers wait for it: the slot comes
    back when the stream is gone, not when its handler is done."""
    muxes = Muxes(attrs.evolve(CONFIG, max_streams=1))
    stream_id = muxes.client.open("x")
    muxes.run()
    muxes.server.send(stream_id, [b"a"])
    muxes.run()
    muxes.server._out.credit.byte_limit = 0
    muxes.server.send(stream_id, [b"b"])
    muxes.server.end(stream_id)
    muxes.server.release(stream_id)
    muxes.run()
    assert (muxes.client.can_open, muxes.server.stream_count) == (False, 1)
    muxes.server._out.raise_credit(10_000)
    muxes.run()
    assert (muxes.client.can_open, muxes.server.stream_count) == (True, 0)


def test_before_the_hello_and_after_the_end_nothing_opens() -> None:
    """Without a hello, after GOAWAY and after a failure the refusal is UNAVAILABLE."""
    unready, gone, failed = make_mux(is_client=True), greeted(is_client=True), greeted(is_client=True)
    gone.receive(BinaryWire().encode(0, records.GoAway()), 0.0)
    failed.receive(b"\xff" * 20, 0.0)
    assert gone.peer_went_away
    for mux in (unready, gone, failed):
        assert not mux.can_open
        with pytest.raises(LocalProtocolError) as caught:
            mux.open("x")
        assert caught.value.code is Code.UNAVAILABLE


def test_an_item_larger_than_the_peer_takes_is_refused() -> None:
    """The smaller limit of both sides holds, and nothing of the run is queued."""
    muxes = Muxes(attrs.evolve(CONFIG, max_item_bytes=500), attrs.evolve(CONFIG, max_item_bytes=100))
    stream_id = muxes.client.open("x")
    with pytest.raises(LocalProtocolError) as caught:
        muxes.client.send(stream_id, [b"a", bytes(101)])
    error = caught.value
    assert (error.code, error.field, error.size, error.limit) == (Code.MESSAGE_TOO_LARGE, "max_item_bytes", 101, 100)
    assert muxes.client.queued_bytes == 0
    assert muxes.client.send(stream_id, [bytes(100)]) == 1


def test_commands_on_a_stream_that_is_over() -> None:
    """Sending is refused; abandoning, consuming and releasing too late are no fault."""
    muxes = Muxes()
    client = muxes.client
    stream_id = client.open("x")
    client.reset(stream_id)
    client.reset(stream_id)
    with pytest.raises(LocalProtocolError, match="in state errored"):
        client.send(stream_id, [b"x"])
    client.stop(stream_id)
    for command in (lambda: client.send(1, [b"x"]), lambda: client.send_header(1, {}), lambda: client.end(1)):
        with pytest.raises(LocalProtocolError, match="stream 1: it is over"):
            command()
    client.reset(stream_id)
    client.stop(stream_id)
    client.consume(stream_id, 1, 65)
    client.release(stream_id)
    assert client.is_writable(stream_id)
    assert (client.unread_bytes, client.queued_bytes, client.stream_count) == (0, 0, 0)


def test_a_reset_drops_what_is_queued_and_reaches_the_peer() -> None:
    """Queued items are gone, RESET overtakes them, and unread ones on the other side are given back."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    muxes.client.send(stream_id, [b"a"])
    muxes.run()
    muxes.client.send(stream_id, [b"b"] * 9)
    muxes.client.reset(stream_id, Code.INTERNAL, "why")
    assert muxes.client.queued_bytes == 0
    happened = muxes.take_server()
    assert items(happened, stream_id) == [b"a"]
    assert happened[-1] == events.Reset(stream_id, Code.INTERNAL, "why")
    assert muxes.server.unread_bytes == 0
    muxes.server.consume(stream_id, 1, 65)
    assert muxes.server.unread_bytes == 0


def test_a_stop_is_answered_by_a_reset_and_discards_what_is_under_way() -> None:
    """The sender learns that nobody listens; what crossed the STOP is counted and given back (RFC 9000 §3.5)."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    muxes.client.send(stream_id, [b"a"])
    muxes.take_server()
    muxes.server.stop(stream_id, Code.CANCELLED, "enough")
    muxes.server.stop(stream_id)
    muxes.client.send(stream_id, [b"b", bytes(50_000)])
    assert muxes.take_client() == [events.Stopped(stream_id, Code.CANCELLED, "enough")]
    assert muxes.take_server() == []
    assert (muxes.client.queued_bytes, muxes.server.unread_bytes, muxes.client.failure) == (0, 0, None)
    assert muxes.client.is_writable(stream_id)
    muxes.server.reset(stream_id)
    muxes.server.release(stream_id)
    muxes.run()
    assert (muxes.client.stream_count, muxes.server.stream_count) == (0, 0)


def test_releasing_leaves_nothing() -> None:
    """A handler that returns without a word resets its half and stops the peer's; twice is once."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    muxes.client.send(stream_id, [b"a"])
    muxes.run()
    muxes.server.release(stream_id)
    muxes.server.release(stream_id)
    kinds = [type(event) for event in muxes.take_client()]
    assert kinds == [events.Reset, events.Stopped]
    assert (muxes.client.stream_count, muxes.server.stream_count, muxes.server.unread_bytes) == (0, 0, 0)


def test_a_full_send_buffer_makes_senders_wait() -> None:
    """Past `max_send_buffer_bytes` a stream with something queued waits; one with nothing may queue one item."""
    muxes = Muxes(attrs.evolve(CONFIG, max_send_buffer_bytes=1_000))
    busy, urgent = muxes.client.open("busy"), muxes.client.open("urgent", priority=10)
    assert muxes.client.send(busy, [bytes(436)] * 10) == 2
    assert not muxes.client.is_writable(busy)
    assert muxes.client.is_writable(urgent)
    assert muxes.client.send(urgent, [b"!", b"?"]) == 1
    assert muxes.client.queued_bytes == 1_065
    assert sorted(event.stream_id for event in only(events.Writable, muxes.take_client())) == [busy, urgent]
    assert muxes.client.is_writable(busy)


def test_a_stream_that_ends_while_it_waits_for_room_harms_nobody() -> None:
    """It is over when its end has left, even while the buffer is still full of others' items."""
    muxes = Muxes(attrs.evolve(CONFIG, max_send_buffer_bytes=1_000))
    client = muxes.client
    urgent, bulk = client.open("urgent", priority=10), client.open("bulk")
    client.stop(urgent)
    client.to_send(0.0, 1)
    client.send(bulk, [bytes(900)])
    assert client.send(urgent, [bytes(900)]) == 1
    client._out.queued_bytes += 5_000
    assert client.send(urgent, [b"x"]) == 0
    client.end(urgent)
    client.to_send(0.0, 1)
    assert client.get(urgent) is None
    client._out.queued_bytes -= 5_000


def test_a_silent_peer_is_pinged_and_given_up() -> None:
    """At half of `idle_timeout` a ping goes out, at all of it the connection fails; before the hello, the
    handshake's timeout holds."""
    mux = greeted()
    assert mux.next_deadline() == 30.0
    mux.handle_deadline(29.0)
    assert not mux.has_output
    mux.handle_deadline(30.0)
    assert BinaryWire().decode(PREFACE + mux.to_send(30.0, 1)) == [(0, records.Ping(1))]
    mux.handle_deadline(60.0)
    [failed] = list(mux.events())
    assert isinstance(failed, events.Failed)
    assert failed.error.code is Code.IDLE_TIMEOUT
    assert mux.next_deadline() is None
    silent = make_mux(is_client=False)
    silent.handle_deadline(10.0)
    assert silent.failure is not None
    assert silent.failure.code is Code.HANDSHAKE_TIMEOUT
    silent.handle_deadline(20.0)
    assert len(only(events.Failed, list(silent.events()))) == 1


def test_pings_and_frames_are_counted() -> None:
    """A ping measures the round trip; both sides count the same frames, without those of the carrier."""
    muxes = Muxes(link=Link(latency=(0.25, 0.25)))
    number = muxes.client.ping(muxes.pair.now)
    muxes.client.open("x")
    assert only(events.Ponged, muxes.take_client()) == [events.Ponged(number, 0.5)]
    assert muxes.client.round_trip == 0.5
    assert muxes.server.frames_received == 1


def test_after_a_goaway_streams_go_on_and_none_is_opened() -> None:
    """The peer is told once; what is open goes on to its end."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    muxes.run()
    muxes.server.go_away(Code.OK, "later")
    muxes.server.go_away(Code.INTERNAL, "never mind")
    assert muxes.take_client() == [events.WentAway(Code.OK, "later")]
    assert not muxes.client.can_open
    muxes.server.end(stream_id)
    muxes.client.end(stream_id)
    assert [type(event) for event in muxes.take_client()] == [events.Ended]
    muxes.server.release(stream_id)
    assert (muxes.client.stream_count, muxes.server.stream_count) == (0, 0)


def test_two_that_are_silent_keep_each_other_alive() -> None:
    """Over an idle hour, pings and pongs keep a connection, at two frames in half an `idle_timeout`."""
    muxes = Muxes()
    before = muxes.pair.link.to_server.sent_bytes
    muxes.pair.advance(3_600.0)
    assert (muxes.client.failure, muxes.server.failure) == (None, None)
    assert muxes.pair.link.to_server.sent_bytes - before <= 120 * 2 * 20


def test_a_stream_that_ends_in_a_write_of_many_turns_is_gone() -> None:
    """A large item and its end in one write: the stream is forgotten once, however many turns it had."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    muxes.client.stop(stream_id)
    muxes.client.send(stream_id, [bytes(50_000)])
    muxes.client.end(stream_id)
    muxes.client.to_send(0.0, 100_000)
    assert muxes.client.stream_count == 0


def test_grants_coalesce() -> None:
    """However often something is consumed between two writes, one grant a stream goes out: the newest limits."""
    muxes = Muxes(attrs.evolve(CONFIG, stream=StreamLimits(window_items=4)))
    streams = [muxes.client.open("x") for _ in range(3)]
    for stream_id in streams:
        muxes.client.send(stream_id, [b"x"] * 4)
    muxes.run()
    for stream_id in streams:
        for _ in range(4):
            consume(muxes.server, stream_id, [b"x"])
    muxes.client.reset(streams[2])
    muxes.server.stop(streams[1])
    granted = BinaryWire().decode(PREFACE + muxes.server.to_send(0.0, 1))
    grants = [(stream_id, record) for stream_id, record in granted if isinstance(record, records.Credit)]
    assert grants == [(1, records.Credit(8, 1_048_576 + 260)), (5, records.Credit(8, 1_048_576 + 260))]


def test_grants_of_streams_that_are_gone_are_forgotten() -> None:
    """A stream that was consumed and is over before the next write gets no grant."""
    muxes = Muxes(TINY)
    stream_id = muxes.client.open("x")
    muxes.client.send(stream_id, [b"x"])
    muxes.run()
    consume(muxes.server, stream_id, [b"x"])
    muxes.server.release(stream_id)
    decoded = BinaryWire().decode(PREFACE + muxes.server.to_send(0.0, 1))
    assert [record for _, record in decoded if isinstance(record, records.Credit)] == []


def test_a_plain_connection_ends_with_its_carrier() -> None:
    """It is flushed when everything was given to the carrier, and nothing outlives that."""
    mux = greeted()
    assert (mux.is_flushed, mux.outlives(StreamsError("gone"))) == (True, False)
