"""Datagrams: whose they are, and which of them are dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.datagrams import (
    DatagramQueue,
    decode_datagram,
    encode_datagram,
    max_payload_bytes,
    runs_by_session,
)
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error


@given(st.integers(0, 2**60 - 1).map(lambda number: number * 4), st.binary(max_size=50))
def test_datagrams_survive_the_round_trip(session_id: int, payload: bytes) -> None:
    """A datagram arrives at its session as it was sent."""
    assert decode_datagram(encode_datagram(session_id, payload, 100)) == (session_id, payload)


def test_the_bytes_on_the_wire() -> None:
    """In front is a quarter of the session's id."""
    assert encode_datagram(8, b"hi", 3) == b"\x02hi"


def test_a_datagram_that_is_too_large() -> None:
    """The sender hears of it, with the size and the limit."""
    assert max_payload_bytes(256, 100) == 98
    assert max_payload_bytes(256, 1) == 0
    with pytest.raises(LocalProtocolError) as caught:
        encode_datagram(256, bytes(99), 100)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_datagram_size", 99, 98)


@pytest.mark.parametrize("data", [b"", b"\x40", b"\xd0" + bytes(7)])
def test_a_datagram_of_no_stream(data: bytes) -> None:
    """A number that is cut, or of no stream that can be, ends the connection with H3_DATAGRAM_ERROR."""
    with pytest.raises(Http3Error) as caught:
        decode_datagram(data)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_DATAGRAM_ERROR, True)


def test_datagrams_are_sorted_by_their_sessions() -> None:
    """Each session has its own, in order, also those with large ids; one of no stream is told behind what came before it."""
    runs = runs_by_session([b"\x02a", b"\x40\x50b", b"\x02", b"\x02c", b"\x40", b"\x02late"])
    assert [next(runs), next(runs)] == [(8, [b"a", b"", b"c"]), (320, [b"b"])]
    with pytest.raises(Http3Error, match="names no stream"):
        next(runs)
    assert list(runs_by_session([])) == []


def test_the_oldest_makes_room() -> None:
    """More datagrams, or more bytes, than there is room for drop the oldest, as many as it takes."""
    queue = DatagramQueue(max_items=3, max_bytes=10)
    for payload in (b"aaaa", b"b", b"c"):
        assert queue.put_run([payload], 0.0) == 0
    assert queue.put_run([b"d"], 0.0) == 1
    assert queue.put_run([b"eeeeeeeee"], 0.0) == 2
    assert (len(queue), queue.waiting_bytes, queue.dropped_items) == (2, 10, 3)
    assert [queue.take(0.0), queue.take(0.0), queue.take(0.0)] == [b"d", b"eeeeeeeee", None]


def test_one_that_is_larger_than_the_queue() -> None:
    """It is dropped itself, and costs no other its place."""
    queue = DatagramQueue(max_items=3, max_bytes=10)
    queue.put_run([b"a"], 0.0)
    assert queue.put_run([bytes(11)], 0.0) == 1
    assert (len(queue), queue.dropped_items, queue.peek(0.0)) == (1, 1, b"a")
    assert queue.put_run([b"b", bytes(11), b"c", b"d"], 0.0) == 2
    assert [queue.take(0.0) for _ in range(4)] == [b"b", b"c", b"d", None]


def test_the_old_are_dropped() -> None:
    """Past its age a datagram is not taken any more, and counted apart."""
    queue = DatagramQueue(max_items=9, max_bytes=90, max_age=1.0)
    queue.put_run([b"a"], 0.0)
    queue.put_run([b"b"], 0.5)
    assert queue.peek(1.0) == b"a"
    assert queue.take(1.2) == b"b"
    assert (queue.expired_items, queue.dropped_items, queue.waiting_bytes) == (1, 0, 0)
    assert queue.peek(1.2) is None


SIZES = st.lists(st.integers(0, 25), max_size=6)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["put", "take"]), SIZES, st.floats(0, 2)), max_size=40)


@given(OPERATIONS)
def test_the_queue_is_a_bounded_line(operations: list[tuple[str, list[int], float]]) -> None:
    """Never past its limits, always in order, nothing older than allowed, and every datagram accounted for."""
    queue = DatagramQueue(max_items=4, max_bytes=20, max_age=3.0)
    now = 0.0
    born: dict[bytes, float] = {}
    taken: list[int] = []
    for what, sizes, passed in operations:
        now += passed
        if what == "put":
            run = [bytes([len(born) + number]) + bytes(size) for number, size in enumerate(sizes)]
            born |= dict.fromkeys(run, now)
            queue.put_run(run, now)
        elif (found := queue.take(now)) is not None:
            assert now - born[found] <= 3.0
            taken.append(found[0])
        assert len(queue) <= 4
        assert queue.waiting_bytes <= 20
    assert taken == sorted(taken)
    assert len(born) == len(taken) + len(queue) + queue.dropped_items + queue.expired_items
