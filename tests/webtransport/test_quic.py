"""Streams of two connections, in virtual time: credit, send buffers, resets, stops, places, the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.webtransport.quic_pair import Pair, Side
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events as happened
from trio_streams.webtransport.quic_config import QuicLimits

WINDOW: Final = 16_384
SMALL: Final = QuicLimits(
    window_bytes=WINDOW, connection_window_bytes=4 * WINDOW, max_send_buffer_bytes=8_192, send_low_mark_bytes=2_048
)
DATA: Final = bytes(range(251)) * 2_000


def _never(stream_id: int) -> bool:
    return False


def _pair(limits: QuicLimits = SMALL, **options: Any) -> Pair:
    pair = Pair(limits, **options)
    pair.shake_hands()
    return pair


def _all_is_credited(side: Side) -> bool:
    """Whether the connection's window is as if all that arrived had been read."""
    return side.quic._consumed_bytes == side.quic._connection.data_limit.used


def test_bytes_go_both_ways_whole_and_in_order() -> None:
    """A stream carries more than every window and buffer, both ways, and its end comes once."""
    pair = _pair(verify=True)
    there, back = DATA, DATA[::-1]
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, there)
    pair.run_until(lambda: stream_id in pair.server.received)
    pair.server.write(stream_id, back)
    pair.run_until(lambda: stream_id in pair.server.ended and stream_id in pair.client.ended)
    assert pair.server.received[stream_id] == there
    assert pair.client.received[stream_id] == back


def test_an_unread_stream_holds_its_window_and_the_sender_its_buffer() -> None:
    """The receiver holds exactly its window, and the sender at most its send buffer, however long nobody reads."""
    pair = _pair()
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream(unidirectional=True)
    pair.client.write(stream_id, DATA)
    pair.run_for(50)
    assert len(pair.server.received[stream_id]) == pair.server.quic.unread_bytes(stream_id) == WINDOW
    pair.client.quic.send(stream_id, DATA)
    assert pair.client.quic.unsent_bytes(stream_id) == SMALL.max_send_buffer_bytes
    assert pair.client.quic.send(stream_id, b"one more") == 0
    kept = pair.client.quic._streams[stream_id]
    assert kept.waiting_bytes + len(kept.stream.sender._buffer) <= WINDOW + SMALL.max_send_buffer_bytes


def test_a_reader_that_comes_back_gets_the_rest() -> None:
    """A sender that was stopped by a peer that did not read goes on when it reads, and loses nothing."""
    pair = _pair()
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, DATA)
    pair.run_for(20)
    pair.server.reads = lambda stream_id: True
    pair.server.quic.consumed(stream_id, WINDOW)
    pair.run_until(lambda: stream_id in pair.server.ended)
    assert pair.server.received[stream_id] == DATA


def test_limits_travel_at_half_a_window() -> None:
    """Less than half a window read lets nothing more come; half of it lets half a window come."""
    pair = _pair()
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, DATA)
    pair.run_for(10)
    pair.server.quic.consumed(stream_id, WINDOW // 2 - 1)
    pair.run_for(10)
    assert len(pair.server.received[stream_id]) == WINDOW
    pair.server.quic.consumed(stream_id, 1)
    pair.run_for(10)
    assert len(pair.server.received[stream_id]) == WINDOW * 3 // 2


def test_unread_neighbours_do_not_stop_a_stream() -> None:
    """Three streams that nobody reads hold three quarters of the connection's window, and a fourth still gets through."""
    pair = _pair()
    unread = [pair.client.quic.open_stream(unidirectional=True) for _ in range(3)]
    pair.server.reads = lambda stream_id: stream_id not in unread
    for stream_id in unread:
        pair.client.write(stream_id, DATA)
    pair.run_for(10)
    busy = pair.client.quic.open_stream()
    pair.client.write(busy, DATA)
    pair.run_until(lambda: busy in pair.server.ended)
    assert pair.server.received[busy] == DATA
    assert [len(pair.server.received[stream_id]) for stream_id in unread] == [WINDOW] * 3


def _reset(pair: Pair, stream_id: int) -> None:
    pair.client.quic.reset(stream_id, 7)


def _stop(pair: Pair, stream_id: int) -> None:
    pair.server.quic.stop(stream_id, 8)


def _cancel(pair: Pair, stream_id: int) -> None:
    pair.server.quic.stop(stream_id, 9)
    pair.server.quic.reset(stream_id, 9)
    pair.server.quic.release(stream_id)


@pytest.mark.parametrize("leave", [_reset, _stop, _cancel])
def test_credit_comes_back_when_a_stream_is_left(leave: Callable[[Pair, int], None]) -> None:
    """Twenty streams full of unread bytes are left, five windows of the connection together, and a new one gets through."""
    pair = _pair()
    pair.server.reads = _never
    for _ in range(20):
        stream_id = pair.client.quic.open_stream()
        pair.client.write(stream_id, DATA)
        pair.run_until(lambda sid=stream_id: len(pair.server.received.get(sid, b"")) == WINDOW)  # type: ignore[misc]
        leave(pair, stream_id)
        pair.run_for(1)
        assert _all_is_credited(pair.server)
    pair.server.reads = lambda stream_id: True
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, DATA)
    pair.run_until(lambda: stream_id in pair.server.ended)
    assert pair.server.received[stream_id] == DATA


def test_a_reset_reaches_the_reader_with_its_code() -> None:
    """The peer's reader learns the code, once, and later credit for the stream is no matter."""
    pair = _pair()
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, DATA)
    pair.run_for(1)
    pair.client.quic.reset(stream_id, 0x52E4A40FA8DB)
    pair.client.quic.reset(stream_id, 1)
    pair.run_for(1)
    assert pair.server.resets == {stream_id: 0x52E4A40FA8DB}
    pair.server.quic.consumed(stream_id, WINDOW)
    assert _all_is_credited(pair.server)
    assert pair.client.quic.unsent_bytes(stream_id) == 0
    with pytest.raises(LocalProtocolError, match="was reset"):
        pair.client.quic.send(stream_id, b"x")


def test_a_stop_reaches_the_writer_with_its_code() -> None:
    """The peer's writer learns the code, may send no more, and nothing more of the stream is told to who stopped it."""
    pair = _pair()
    stream_id = pair.client.quic.open_stream()
    pair.client.write(stream_id, DATA)
    pair.run_until(lambda: stream_id in pair.server.received)
    pair.server.quic.stop(stream_id, 33)
    pair.server.quic.stop(stream_id, 34)
    size = len(pair.server.received[stream_id])
    pair.run_for(5)
    assert pair.client.stops == {stream_id: 33}
    assert len(pair.server.received[stream_id]) == size
    assert pair.server.resets == {}
    with pytest.raises(LocalProtocolError, match="was stopped"):
        pair.client.quic.send(stream_id, b"x")


def test_a_late_reset_lets_the_header_through() -> None:
    """A reset that promises some bytes comes after they were acknowledged, and drops what is behind them."""
    pair = _pair()
    stream_id = pair.client.quic.open_stream()
    pair.client.quic.send(stream_id, b"header" + bytes(8_000))
    pair.client.quic.reset(stream_id, 5, after_bytes=6)
    assert pair.client.quic.unsent_bytes(stream_id) == 6
    with pytest.raises(LocalProtocolError, match="was reset"):
        pair.client.quic.send(stream_id, b"more")
    pair.run_until(lambda: stream_id in pair.server.resets)
    assert pair.server.received[stream_id] == b"header"
    assert pair.server.resets == {stream_id: 5}


def test_a_late_reset_after_the_end_ends_nothing_early() -> None:
    """What a late reset drops takes the end with it: the peer never takes the header for the whole."""
    pair = _pair()
    stream_id = pair.client.quic.open_stream()
    pair.client.quic.send(stream_id, b"header")
    pair.client.quic.send(stream_id, bytes(8_000))
    pair.client.quic.end(stream_id)
    pair.client.quic.reset(stream_id, 5, after_bytes=6)
    pair.run_until(lambda: stream_id in pair.server.resets)
    assert pair.server.received[stream_id] == b"header"
    assert pair.server.ended == set()


def test_resets_do_not_use_up_credit() -> None:
    """Bytes that were about to be sent when their stream was reset don't count against the connection."""
    pair = _pair()
    for _ in range(30):
        stream_id = pair.client.quic.open_stream()
        pair.client.quic.send(stream_id, bytes(8_192))
        pair.client.quic._feed()
        pair.client.quic.reset(stream_id, 1)
        pair.run_for(0.1)
    assert pair.client.quic._fed_bytes == pair.client.quic._connection.sent_data_bytes


def test_releasing_an_unread_stream_frees_its_sender() -> None:
    """A sender whose reader left in the middle is stopped, and does not wait for credit that nobody will give."""
    pair = _pair()
    pair.server.reads = _never
    stream_id = pair.client.quic.open_stream(unidirectional=True)
    pair.client.write(stream_id, DATA)
    pair.run_for(1)
    pair.server.quic.release(stream_id, 4)
    pair.client.quic.release(stream_id)
    pair.run_for(1)
    assert pair.server.quic.stream_count == pair.client.quic.stream_count == 0


def test_a_full_stream_is_writable_once_below_its_low_mark() -> None:
    """Only a stream that refused bytes says that it is writable, once, when what waits is at the low mark."""
    pair = _pair()
    pair.server.reads = _never
    full, other = pair.client.quic.open_stream(), pair.client.quic.open_stream()
    assert pair.client.quic.send(full, DATA) == SMALL.max_send_buffer_bytes
    assert pair.client.quic.send(other, b"a little") == 8
    pair.run_for(2)
    assert pair.client.writable == [full]
    assert pair.client.quic.unsent_bytes(full) <= SMALL.send_low_mark_bytes


def test_a_slice_does_not_keep_a_large_object() -> None:
    """What a stream takes of an object is all that it keeps of it."""
    pair = _pair()
    stream_id = pair.client.quic.open_stream()
    large = bytes(10_000_000)
    references = sys.getrefcount(large)
    pair.client.quic.send(stream_id, large)
    assert sys.getrefcount(large) == references


def test_a_buffer_that_changes_later_is_sent_as_it_was() -> None:
    """A bytearray may be used again after it was sent."""
    pair = _pair()
    stream_id = pair.client.quic.open_stream()
    data = bytearray(b"before")
    pair.client.quic.send(stream_id, data)
    data[:] = b"behind"
    pair.run_until(lambda: stream_id in pair.server.received)
    assert pair.server.received[stream_id] == b"before"


def test_a_place_is_given_back_when_a_stream_is_over_and_released() -> None:
    """A stream that is over on the wire keeps its place until it is released: empty streams are not free."""
    limits = QuicLimits(max_bidirectional_streams=0, max_unidirectional_streams=2)
    pair = _pair(limits)
    quic = pair.client.quic
    assert (quic.streams_available(), quic.streams_available(unidirectional=True)) == (0, 2)
    first, second = (quic.open_stream(unidirectional=True) for _ in range(2))
    with pytest.raises(LocalProtocolError, match="the peer allows 2"):
        quic.open_stream(unidirectional=True)
    quic.end(first)
    quic.end(second)
    pair.run_for(5)
    assert pair.server.ended == {first, second}
    assert quic.streams_available(unidirectional=True) == 0
    pair.server.quic.release(second)
    pair.server.quic.release(first)
    pair.run_for(5)
    assert quic.streams_available(unidirectional=True) == 2
    allowed = [event for event in pair.client.events if isinstance(event, happened.StreamsAllowed)]
    assert allowed[0] == happened.StreamsAllowed(0, 2)
    assert allowed[-1] == happened.StreamsAllowed(0, 4)


def test_places_come_back_together_and_never_too_late() -> None:
    """A few places of many wait for more, but a peer that comes to its limit gets them."""
    pair = _pair(QuicLimits(max_unidirectional_streams=8))
    quic = pair.client.quic

    def open_and_end() -> int:
        stream_id = quic.open_stream(unidirectional=True)
        quic.end(stream_id)
        return stream_id

    first, *_ = [open_and_end() for _ in range(4)]
    pair.run_for(5)
    pair.server.quic.release(first)
    pair.run_for(5)
    assert quic.streams_available(unidirectional=True) == 4
    for _ in range(4):
        open_and_end()
    assert quic.streams_available(unidirectional=True) == 0
    pair.run_for(5)
    assert quic.streams_available(unidirectional=True) == 1


def test_many_streams_come_and_go_and_leave_nothing() -> None:
    """Five hundred echoes, a hundred at a time, and then neither side nor aioquic remembers a stream."""
    pair = _pair(QuicLimits(max_bidirectional_streams=100))
    client, server = pair.client, pair.server
    echoed: set[int] = set()

    def echo() -> None:
        for stream_id in server.ended - echoed:
            echoed.add(stream_id)
            server.write(stream_id, bytes(server.received[stream_id]))
            server.quic.release(stream_id)

    opened = 0
    while len(client.ended) < 500:
        while opened < 500 and client.quic.streams_available():
            opened += 1
            client.write(client.quic.open_stream(), b"%d" % opened * 300)
        assert pair.step()
        echo()
    assert client.received == server.received
    assert len(client.received) == 500
    for stream_id in client.ended:
        client.quic.release(stream_id)
    pair.run_for(5)
    assert client.received == server.received
    for side in (client, server):
        assert side.quic.stream_count == 0
        assert not side.quic._connection._streams


def test_a_higher_priority_goes_first() -> None:
    """Of two streams with much to send the one with the higher priority is through when the other has hardly begun."""
    pair = _pair(QuicLimits(max_send_buffer_bytes=1_048_576))
    low, high = pair.client.quic.open_stream(), pair.client.quic.open_stream()
    pair.client.write(low, DATA)
    pair.client.write(high, DATA)
    pair.client.quic.set_priority(high, 1)
    pair.run_until(lambda: high in pair.server.ended)
    assert len(pair.server.received[low]) < len(DATA) // 4


def _calls(action: Callable[[], object]) -> int:
    """How many Python calls something takes: its cost on a quiet machine, and on a busy one."""
    count = 0

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_idle_streams_cost_nothing_to_send() -> None:
    """A thousand idle streams make a transfer less than a tenth dearer."""
    costs = []
    for idle in (0, 1_000):
        pair = _pair(QuicLimits())
        for _ in range(idle):
            pair.client.quic.send(pair.client.quic.open_stream(), b"x")
        pair.run_for(20)
        assert len(pair.server.received) == idle
        stream_id = pair.client.quic.open_stream(unidirectional=True)
        pair.client.write(stream_id, DATA[:100_000])
        costs.append(_calls(lambda p=pair, s=stream_id: p.run_until(lambda: s in p.server.ended)))  # type: ignore[misc]
    assert costs[1] < costs[0] * 1.1


def test_what_is_wrong_is_said() -> None:
    """Misuse names the stream, and changes nothing."""
    pair = _pair()
    quic, server = pair.client.quic, pair.server.quic
    one_way = quic.open_stream(unidirectional=True)
    quic.send(one_way, b"abc")
    pair.run_for(1)
    with pytest.raises(LocalProtocolError, match="no stream 400"):
        quic.send(400, b"x")
    with pytest.raises(LocalProtocolError, match="no half of ours"):
        server.send(one_way, b"x")
    with pytest.raises(LocalProtocolError, match="no half of ours"):
        server.reset(one_way, 0)
    with pytest.raises(LocalProtocolError, match="the peer has no half"):
        quic.stop(one_way, 0)
    with pytest.raises(LocalProtocolError, match="0 are unread") as caught:
        server.consumed(one_way, 1)
    assert (caught.value.size, caught.value.limit) == (1, 0)
    quic.end(one_way)
    with pytest.raises(LocalProtocolError, match="was ended"):
        quic.send(one_way, b"x")
    quic.release(one_way)
    with pytest.raises(LocalProtocolError, match="no stream"):
        quic.release(one_way)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_bytes": 10, "connection_window_bytes": 10}, "above window_bytes"),
        ({"max_send_buffer_bytes": 5, "send_low_mark_bytes": 5}, "below max_send_buffer_bytes"),
        ({"max_queued_datagrams": 0}, "max_queued_datagrams"),
    ],
)
def test_limits_that_cannot_work_are_refused(options: dict[str, int], message: str) -> None:
    """Limits are looked at when they are made."""
    with pytest.raises(ValueError, match=message):
        QuicLimits(**options)
