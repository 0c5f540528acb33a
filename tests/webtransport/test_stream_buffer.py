"""What arrived on a stream and was not read."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.errors import FlowControlError
from trio_streams.webtransport.stream_buffer import StreamBuffer


def test_bytes_come_out_in_order_in_any_pieces() -> None:
    """What was pushed in chunks is taken in pieces of any size, and what is taken last is shorter."""
    buffer = StreamBuffer(100)
    assert buffer.push([b"abc", b"", b"defg"]) == 7
    assert [buffer.take(2), buffer.take(3), buffer.take(9), buffer.take(1)] == [b"ab", b"cde", b"fg", b""]


def test_all_can_be_taken_at_once() -> None:
    """Without a size everything is taken."""
    buffer = StreamBuffer(10_000)
    buffer.push([bytes(600), b"tail"])
    assert buffer.take() == bytes(600) + b"tail"
    assert not buffer


def test_it_is_bounded() -> None:
    """What passes the bound is refused whole, and the error names it."""
    buffer = StreamBuffer(4)
    buffer.push([b"abc"])
    with pytest.raises(FlowControlError) as caught:
        buffer.push([b"d", b"e"])
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_bytes", 5, 4)
    assert buffer.take() == b"abc"


def test_a_bound_is_a_number_of_bytes() -> None:
    """A bound below one byte is refused where it is written."""
    with pytest.raises(ValueError, match="max_bytes must be at least 1, not 0"):
        StreamBuffer(0)


def test_what_was_taken_can_be_put_back_past_the_bound() -> None:
    """Whoever has held bytes may put them back, in front of those that came meanwhile."""
    buffer = StreamBuffer(4)
    buffer.push([b"abcd"])
    taken = buffer.take()
    buffer.push([b"efgh"])
    buffer.put_back(taken)
    buffer.put_back(b"")
    assert (len(buffer), buffer.returned_bytes) == (8, 4)
    with pytest.raises(FlowControlError):
        buffer.push([b"i"])
    assert buffer.take(1) == b"a"
    assert buffer.returned_bytes == 3
    buffer.put_back(b"a")
    assert buffer.take() == b"abcdefgh"


def test_clearing_says_how_much_was_there() -> None:
    """What is dropped is counted, once."""
    buffer = StreamBuffer(10)
    buffer.push([b"abc"])
    assert [buffer.clear(), buffer.clear(), len(buffer)] == [3, 0, 0]


def test_single_bytes_cost_no_object_each() -> None:
    """A peer that sends a window in single bytes has us hold a few objects, not a window of them."""
    buffer = StreamBuffer(65_536)
    for _ in range(65_536):
        buffer.push([b"x"])
    assert len(buffer._chunks) < 10
    assert buffer.take() == b"x" * 65_536


def _held_bytes(buffer: StreamBuffer, *sizes: int) -> int:
    """What the process holds more once a buffer is full of chunks of these sizes, in turn."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for size in itertools.cycle(sizes):
            buffer.push([bytes(min(size, buffer.max_bytes - len(buffer)))])
            if len(buffer) == buffer.max_bytes:
                break
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "sizes", [(1,), (511,), (512,), (1_150,), (1_400,), (1, 512), (511, 512), (65_537,), (131_072,)]
)
def test_an_unread_window_costs_little_more_than_its_bytes(sizes: tuple[int, ...]) -> None:
    """However a peer cuts up a window that nobody reads, holding it costs at most a third more than its bytes."""
    window_bytes = 131_072
    assert window_bytes <= _held_bytes(StreamBuffer(window_bytes), *sizes) < window_bytes * 4 / 3


def test_what_was_taken_of_a_large_chunk_is_not_held() -> None:
    """A window that arrived as one chunk is let go of as it is read, since the peer may send as much again meanwhile."""
    buffer = StreamBuffer(1_048_576)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffer.push([bytes(1_048_576)])
        while len(buffer) > 100_000:
            assert buffer.take(8_192) == bytes(8_192)
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.lists(st.binary(max_size=1_000), max_size=4), st.integers(1, 1_500)), max_size=30))
def test_it_is_a_queue_of_bytes(steps: list[tuple[list[bytes], int]]) -> None:
    """Whatever is pushed and taken in whatever order: what comes out is what went in."""
    buffer = StreamBuffer(1_000_000)
    there, back = b"", b""
    for run, size in steps:
        there += b"".join(run)
        buffer.push(run)
        taken = buffer.take(size)
        assert len(taken) == min(size, len(there) - len(back))
        back += taken
        assert len(buffer) == len(there) - len(back)
    assert back + buffer.take() == there
