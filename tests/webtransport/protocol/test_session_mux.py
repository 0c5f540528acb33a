"""Procedures on a session: two machines against each other, and beside two of our own multiplexers."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import CONFIG, consume, items, only
from tests.webtransport.protocol.port_log import PortLog
from tests.webtransport.protocol.session_ends import SessionEnds, Windows
from trio_streams.codes import Code
from trio_streams.config import StreamLimits
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.mux import make_hello
from trio_streams.core.states import HalfState
from trio_streams.streams.machine import Multiplexer
from trio_streams.webtransport.protocol.session_mux import SessionMux

TINY = Windows(stream_bytes=5_000, session_bytes=12_000, buffer_bytes=3_000)


def test_it_is_a_multiplexer() -> None:
    """It has all that a connection asks of a machine; the type checker compares the signatures here."""
    machine: Multiplexer = SessionMux(PortLog(), config=CONFIG, session_id="me", now=0.0)
    asked = {name for protocol in Multiplexer.__mro__ for name in vars(protocol) if not name.startswith("_")}
    assert all(hasattr(machine, name) for name in asked)
    assert (machine.carries_metadata, machine.has_addresses, machine.client_id) == (True, False, None)


def test_each_side_greets_with_its_limits() -> None:
    """Nothing can be opened before."""
    ends = SessionEnds(starts=False)
    assert (ends.client.can_open, ends.client.has_output, ends.client.is_flushed) == (False, True, False)
    with pytest.raises(LocalProtocolError, match="the peer takes none now") as caught:
        ends.client.open("x")
    assert caught.value.code is Code.UNAVAILABLE
    assert ends.take_client() == [events.Greeted(make_hello(CONFIG, "s"))]
    assert ends.client.peer_hello == make_hello(CONFIG, "s")
    assert (ends.client.can_open, ends.client.has_output, ends.client.is_flushed) == (True, False, True)


def test_a_stream_carries_head_items_and_end_both_ways() -> None:
    """Everything of a call arrives in order, and nothing remains, on the session neither."""
    ends = SessionEnds()
    client, server = ends.client, ends.server
    stream_id = client.open("add", metadata={"k": "v"}, priority=3, timeout_ms=99, window_items=7, window_bytes=700)
    client.send(stream_id, [b"1", b"2"])
    client.end(stream_id)
    assert ends.take_server() == [
        events.Opened(stream_id, records.Open("add", {"k": "v"}, 3, 99, 7, 700)),
        events.Received(stream_id, [b"1", b"2"]),
        events.Ended(stream_id, records.OK, {}),
    ]
    assert (ends.client_end.priorities[stream_id], ends.server_end.priorities[stream_id]) == (3, 3)
    server.send_header(stream_id, {"h": "1"})
    server.send(stream_id, [b"3"])
    status = records.Status("NOT_FOUND", "no", {"x": 1})
    server.end(stream_id, status, {"t": "2"})
    consume(server, stream_id, [b"1", b"2"])
    assert ends.take_client() == [
        events.Headed(stream_id, {"h": "1"}),
        events.Received(stream_id, [b"3"]),
        events.Ended(stream_id, status, {"t": "2"}),
    ]
    assert (client.stream_count, server.stream_count) == (1, 1)
    consume(client, stream_id, [b"3"])
    server.release(stream_id)
    server.release(stream_id)
    ends.run()
    assert (client.get(stream_id), server.get(stream_id)) == (None, None)
    assert (client.stream_count, server.stream_count) == (0, 0)
    assert (client.queued_bytes, client.unread_bytes) == (0, 0)
    assert ends.client_end.held_bytes == ends.server_end.held_bytes == 0
    assert stream_id in ends.client_end.released & ends.server_end.released
    assert (client.bytes_sent, client.bytes_received) == (server.bytes_received, server.bytes_sent)


def test_both_sides_open_streams() -> None:
    """A stream of the server's is one like any other."""
    ends = SessionEnds()
    stream_id = ends.server.open("push")
    ends.server.send(stream_id, [b"a"])
    opened, received = ends.take_client()
    assert isinstance(opened, events.Opened)
    assert received == events.Received(stream_id, [b"a"])


def test_a_stream_stops_at_its_window_and_goes_on_when_it_was_read() -> None:
    """The producer of an unread stream stops at exactly its window; a quarter consumed makes it writable again."""
    ends = SessionEnds(attrs.evolve(CONFIG, stream=StreamLimits(window_items=8)))
    stream_id = ends.client.open("x")
    payloads = [bytes([n]) for n in range(20)]
    assert ends.client.send(stream_id, payloads) == 8
    assert not ends.client.is_writable(stream_id)
    got = items(ends.take_server(), stream_id)
    assert got == payloads[:8]
    consume(ends.server, stream_id, got[:1])
    assert ends.take_client() == []
    consume(ends.server, stream_id, got[1:2])
    assert ends.take_client() == [events.Writable(stream_id)]
    assert ends.client.is_writable(stream_id)
    assert ends.client.send(stream_id, payloads[8:]) == 2


def test_an_item_of_no_bytes_owes_quic_nothing() -> None:
    """It costs one of the window's items, and no byte of the session's."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    ends.client.send(stream_id, [b""])
    assert items(ends.take_server(), stream_id) == [b""]
    consume(ends.server, stream_id, [b""])
    assert ends.server_end.held_bytes == 0
    assert ends.server.unread_bytes == 0


def test_credit_comes_where_our_half_is_over() -> None:
    """The answer's reader may have ended, reset or been asked to stop its own half long ago."""
    for how in ("end", "reset", "stop"):
        ends = SessionEnds(attrs.evolve(CONFIG, stream=StreamLimits(window_items=4)))
        stream_id = ends.client.open("x")
        ends.take_server()
        if how == "end":
            ends.client.end(stream_id)
        elif how == "reset":
            ends.client.reset(stream_id)
        else:
            ends.server.stop(stream_id)
        assert ends.server.send(stream_id, [b"a"] * 9) == 4
        got = items(ends.take_client(), stream_id)
        consume(ends.client, stream_id, got)
        assert only(events.Writable, ends.take_server()) == [events.Writable(stream_id)], how


def test_an_unread_stream_holds_its_windows_and_up_no_other() -> None:
    """What waits unread holds QUIC's credit, as many bytes as its items have; another stream's items pass."""
    ends = SessionEnds()
    full, other = ends.client.open("full"), ends.client.open("other")
    while ends.client.send(full, [bytes(1_000)] * 50):
        ends.flush()
    ends.client.send(other, [b"a"])
    told = ends.take_server()
    assert items(told, other) == [b"a"]
    assert ends.server_end.held_bytes == 256 * 1_000 + 1
    assert ends.server.unread_bytes == 256 * 1_064 + 65
    consume(ends.server, full, items(told, full))
    assert ends.server_end.held_bytes == 1


@pytest.mark.parametrize("windows", [Windows(), TINY])
def test_large_items_pass_whatever_the_windows(windows: Windows) -> None:
    """Streams with items larger than all windows together do not wait for one another."""
    ends = SessionEnds(windows=windows)
    item = bytes(range(256)) * 200
    streams = [ends.client.open("x") for _ in range(5)]
    for stream_id in streams:
        assert ends.client.send(stream_id, [item]) == 1
    told = ends.take_server()
    assert [items(told, stream_id) for stream_id in streams] == [[item]] * 5


def test_a_sender_waits_for_the_sessions_stream() -> None:
    """What queues here is bounded; the sender is told when it may go on, and everything arrives."""
    ends = SessionEnds(attrs.evolve(CONFIG, max_send_buffer_bytes=65_536), windows=TINY)
    stream_id = ends.client.open("x")
    payloads = [bytes([n]) * 3_000 for n in range(100)]
    sent = ends.client.send(stream_id, payloads)
    assert sent == 22  # 64 KiB and an item
    assert not ends.client.is_writable(stream_id)
    ends.flush()
    assert ends.client.queued_bytes < 70_000
    got: list[bytes] = []
    while len(got) < len(payloads):
        new = items(ends.take_server(), stream_id)
        got += new
        consume(ends.server, stream_id, new)
        if only(events.Writable, ends.take_client()):
            sent += ends.client.send(stream_id, payloads[sent:])
    assert got == payloads


def test_a_half_that_is_over_is_writable() -> None:
    """It refuses by raising, so nobody has to wait for it."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    assert ends.client.is_writable(stream_id)
    ends.client.end(stream_id)
    assert ends.client.is_writable(stream_id)
    assert ends.client.is_writable(4_000)
    with pytest.raises(LocalProtocolError, match="can't send in state closing"):
        ends.client.send(stream_id, [b"a"])


def test_a_reset_overtakes_and_drops_what_is_queued() -> None:
    """Code for code; too late is no fault. A stream that is reset before its OPEN left is nobody's."""
    ends = SessionEnds(windows=TINY)
    stream_id = ends.client.open("x")
    ends.run()
    ends.take_server()
    ends.client.send(stream_id, [bytes(50_000)])
    ends.flush()
    ends.client.reset(stream_id, Code.ABORTED, "words stay here")
    ends.client.reset(stream_id)
    assert only(events.Reset, ends.take_server()) == [events.Reset(stream_id, Code.ABORTED, "")]
    assert ends.client.queued_bytes == 0
    never = ends.client.open("never")
    ends.client.release(never)
    assert ends.take_server() == []
    assert ends.client.stream_count == 1
    ends.client.reset(never)


def test_a_stop_is_answered_with_the_end_of_the_half() -> None:
    """The peer's code is told; what was queued is dropped, and what had arrived is given back."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    ends.client.send(stream_id, [b"abc"])
    ends.take_server()
    assert ends.server_end.held_bytes == 3
    ends.server.stop(stream_id, Code.RESOURCE_EXHAUSTED, "words stay here")
    ends.server.stop(stream_id)
    assert ends.server_end.held_bytes == 0
    assert ends.take_client() == [events.Stopped(stream_id, Code.RESOURCE_EXHAUSTED, "")]
    state = ends.client.get(stream_id)
    assert state is not None
    assert state.send_state is HalfState.ERRORED
    ends.server.stop(4_000)


def test_a_stop_behind_the_end_drops_what_is_unread() -> None:
    """Nothing is said of it: the peer's half is complete."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    ends.client.send(stream_id, [b"abc"])
    ends.client.end(stream_id)
    ends.take_server()
    ends.server.stop(stream_id)
    assert ends.server_end.held_bytes == 0
    assert ends.take_client() == []
    consume(ends.server, stream_id, [b"abc"])
    ends.server.release(stream_id)
    ends.run()
    assert (ends.client.stream_count, ends.server.stream_count) == (0, 0)


def test_what_is_released_is_reset_and_stopped() -> None:
    """The other side hears both."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    ends.take_server()
    ends.server.release(stream_id)
    told = ends.take_client()
    assert sorted(type(event).__name__ for event in told) == ["Reset", "Stopped"]
    assert (ends.client.stream_count, ends.server.stream_count) == (0, 0)


def test_streams_are_opened_as_quic_allows() -> None:
    """Who asks beyond that is told, and told again when a stream was released."""
    ends = SessionEnds(windows=Windows(bidirectional=2))
    first = ends.client.open("x")
    ends.client.open("x")
    assert not ends.client.can_open
    with pytest.raises(LocalProtocolError, match="the peer allows no more now") as caught:
        ends.client.open("x")
    assert caught.value.code is Code.STREAM_LIMIT_ERROR
    ends.client.end(first)
    ends.take_server()
    ends.server.release(first)
    assert only(events.StreamsAllowed, ends.take_client()) == [events.StreamsAllowed()]
    assert ends.client.can_open


def test_a_control_stream_waits_for_quics_credit() -> None:
    """It is opened as soon as it may be."""
    port = PortLog()
    port.allowed = [True, False]
    mux = SessionMux(port, config=CONFIG, session_id="me", now=0.0)
    mux.flush()
    assert (port.sent, mux.has_output) == ({}, False)
    port.allowed = [True, True]
    mux.allowed()
    assert mux.has_output
    mux.flush()
    assert list(port.sent) == [2]
    port.room[2] = 0
    mux.ping(0.0)
    mux.flush()
    del port.room[2]
    mux.writable(2)
    mux.writable(4_000)
    assert mux.has_output


def test_going_away_is_the_sessions_drain() -> None:
    """Once; the peer opens no more streams, and one that crosses it is refused."""
    ends = SessionEnds()
    open_ = ends.client.open("before")
    ends.take_server()
    ends.server.go_away()
    ends.server.go_away(Code.OK, "again")
    crossing = ends.client.open("crossing")
    ends.flush()
    told = ends.take_client()
    assert only(events.WentAway, told) == [events.WentAway(Code.OK, "")]
    assert {(type(e), e.code) for e in told if isinstance(e, events.Reset | events.Stopped)} == {
        (events.Reset, Code.UNAVAILABLE), (events.Stopped, Code.UNAVAILABLE),
    }  # fmt: skip
    assert ends.client.peer_went_away
    assert ends.client.get(crossing) is None
    ends.client.send(open_, [b"a"])
    assert items(ends.take_server(), open_) == [b"a"]


def test_a_ping_comes_back() -> None:
    """With its number, and how long it took."""
    ends = SessionEnds()
    number = ends.client.ping(0.0)
    ends.now = 0.25
    assert ends.take_client() == [events.Ponged(number, 0.25)]
    assert ends.client.round_trip == 0.25


def test_a_silence_is_asked_for_a_sign_of_life() -> None:
    """At half of `idle_timeout`; an answer keeps the session, and none ends it."""
    ends = SessionEnds(attrs.evolve(CONFIG, idle_timeout=10.0))
    assert ends.client.next_deadline() == 5.0
    ends.now = 5.0
    ends.client.handle_deadline(5.0)
    ends.run()
    assert ends.client.round_trip == 0.0
    ends.client.handle_deadline(10.0)
    assert ends.client.next_deadline() == 15.0
    ends.client.handle_deadline(15.0)
    (failed,) = ends.client.events()
    assert isinstance(failed, events.Failed)
    assert failed.error.code is Code.IDLE_TIMEOUT
    assert ends.client.next_deadline() is None
    ends.client.handle_deadline(99.0)
    assert list(ends.client.events()) == []


def test_a_peer_that_never_greets_is_given_up() -> None:
    """After `handshake_timeout`."""
    mux = SessionMux(PortLog(), config=CONFIG, session_id="me", now=3.0)
    assert mux.next_deadline() == 13.0
    mux.handle_deadline(12.0)
    assert list(mux.events()) == []
    mux.handle_deadline(13.0)
    assert mux.failure is not None
    assert mux.failure.code is Code.HANDSHAKE_TIMEOUT


def test_after_a_failure_streams_are_only_dropped() -> None:
    """Even an END that is queued: whoever drives the session closes it."""
    ends = SessionEnds()
    stream_id = ends.client.open("x")
    ends.take_server()
    ends.client.send(stream_id, [b"a"])
    ends.client.end(stream_id)
    ends.client.was_reset(2 + 4 + 1, None)  # the server's control stream
    assert ends.client.failure is not None
    ends.client.flush()
    assert (ends.client.can_open, ends.client.has_output) == (False, False)
    ends.client.release(stream_id)
    assert ends.client.queued_bytes == 0


def test_what_does_not_fit_into_a_frame_is_refused_before_anything_has_changed() -> None:
    """OPEN, head and end; no stream of the session is spent on it."""
    ends = SessionEnds()
    long = {"k": "x" * 20_000}
    opened = list(ends.client_end.opened)
    with pytest.raises(LocalProtocolError, match="OPEN of"):
        ends.client.open("x", metadata=long)
    assert ends.client_end.opened == opened
    stream_id = ends.client.open("x")
    with pytest.raises(LocalProtocolError, match="HEADER of"):
        ends.client.send_header(stream_id, long)
    with pytest.raises(LocalProtocolError, match="END of"):
        ends.client.end(stream_id, records.OK, long)
    ends.client.send_header(stream_id, {})
    ends.client.end(stream_id)


def test_commands_on_a_stream_that_is_gone() -> None:
    """Those that send raise, those that give up are too late, and so is what was taken."""
    ends = SessionEnds()
    for command in (
        lambda: ends.client.send(4_000, [b""]),
        lambda: ends.client.send_header(4_000, {}),
        lambda: ends.client.end(4_000),
    ):
        with pytest.raises(LocalProtocolError, match="on stream 4000: it is over"):
            command()
    ends.client.consume(4_000, 1, 65)
    ends.client.release(4_000)


def test_an_item_larger_than_the_peer_takes_is_refused() -> None:
    """Each side heeds the smaller of the two limits."""
    ends = SessionEnds(CONFIG, attrs.evolve(CONFIG, max_item_bytes=10))
    stream_id = ends.client.open("x")
    with pytest.raises(LocalProtocolError, match="an item of 11 bytes passes max_item_bytes of 10"):
        ends.client.send(stream_id, [b"", bytes(11)])
    assert ends.client.send(stream_id, [bytes(10)]) == 1


def test_commands_say_whether_there_is_something_to_hand_on() -> None:
    """It is asked after each of them; what leaves nothing to hand on is no news."""
    ends = SessionEnds()
    client = ends.client
    assert not client.take_news()
    stream_id = client.open("x")
    assert (client.take_news(), client.take_news()) == (True, False)
    client.send(stream_id, [b"1"])
    assert not client.take_news()  # it leaves with the OPEN
    ends.run()
    client.send(stream_id, [b"2"])
    assert client.take_news()
    ends.run()
    client.end(stream_id)
    assert client.take_news()
    ends.run()
    client.stop(stream_id)
    assert not client.take_news()
    client.ping(1.0)
    assert client.take_news()
