"""The bounded buffer for incomplete frames."""

from __future__ import annotations

import pytest

from trio_streams.core.buffer import FrameBuffer
from trio_streams.core.errors import RemoteProtocolError


def test_a_chunk_is_passed_through_while_nothing_is_kept() -> None:
    """With an empty buffer a chunk is not even copied."""
    buffer = FrameBuffer(10, "max_frame_bytes")
    chunk = b"abc"
    assert buffer.join(chunk) is chunk
    assert len(buffer) == 0


def test_bytes_come_out_when_enough_are_there() -> None:
    """Until the frame's length is reached chunks are only appended; then everything comes out, in order, once."""
    buffer = FrameBuffer(10, "max_frame_bytes")
    buffer.keep(b"ab", 5)
    assert (buffer.join(b"c"), buffer.join(b""), buffer.join(b"d"), len(buffer)) == (None, None, None, 4)
    assert buffer.join(b"efg") == b"abcdefg"
    assert len(buffer) == 0
    buffer.keep(b"", 5)
    assert buffer.join(b"x") == b"x"


def test_a_kept_frame_takes_no_more_of_a_chunk_than_it_lacks() -> None:
    """The frame comes out as soon as it is whole; the chunk behind it is left where it is."""
    buffer = FrameBuffer(10, "max_frame_bytes")
    buffer.keep(b"ab", 5)
    assert buffer.complete(b"_c", 1) == (None, 2)
    assert buffer.complete(b"", 0) == (None, 0)
    assert buffer.complete(b"defgh", 0) == (b"abcde", 2)
    assert len(buffer) == 0
    buffer.keep(b"ab", 5)
    assert (buffer.complete(b"_cde", 1), len(buffer)) == ((b"abcde", 4), 0)


def test_a_frame_beyond_the_limit_is_refused_before_it_is_kept() -> None:
    """The limit is judged by what a frame announces: nothing is stored for one that is too long."""
    buffer = FrameBuffer(10, "max_frame_bytes")
    buffer.keep(b"", 10)
    with pytest.raises(RemoteProtocolError) as caught:
        buffer.keep(b"abc", 11)
    error = caught.value
    assert (error.field, error.size, error.limit, len(buffer)) == ("max_frame_bytes", 11, 10, 0)
