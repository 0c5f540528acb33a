"""Compression: what goes in comes out, and no more than is allowed."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.errors import RemoteProtocolError
from trio_streams.peer.deflate import Deflater, Inflater


@given(st.lists(st.binary(max_size=2_000), max_size=20))
def test_a_stream_of_items_comes_back(items: list[bytes]) -> None:
    """Items of any bytes come back one by one, in order."""
    deflater, inflater = Deflater(), Inflater(2_000)
    assert [inflater.inflate(deflater.compress(item)) for item in items] == items


def test_items_share_a_window() -> None:
    """What was said before costs almost nothing the second time."""
    deflater = Deflater()
    item = bytes(range(256)) * 4
    first, second = len(deflater.compress(item)), len(deflater.compress(item))
    assert second * 4 < first


def test_a_bomb_is_refused_by_its_limit() -> None:
    """An item of 10 MB in 10 kB is refused before it is inflated, naming the limit; and so is everything behind it."""
    bomb = Deflater().compress(bytes(10_000_000))
    assert len(bomb) < 12_000
    inflater = Inflater(100_000)
    for data in (bomb, b""):
        with pytest.raises(RemoteProtocolError, match="inflates to more than max_item_bytes of 100000") as caught:
            inflater.inflate(data)
        assert caught.value.code is Code.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("size", [99, 100])
def test_the_limit_itself_passes(size: int) -> None:
    """`max_item_bytes` is allowed."""
    assert Inflater(100).inflate(Deflater().compress(bytes(size))) == bytes(size)


def test_one_byte_more_does_not_pass() -> None:
    """A byte more is not, whatever it is made of."""
    with pytest.raises(RemoteProtocolError, match="max_item_bytes"):
        Inflater(100).inflate(Deflater().compress(bytes(101)))


def test_what_is_no_deflate_is_refused() -> None:
    """Text, and a stream of DEFLATE that is over."""
    with pytest.raises(RemoteProtocolError, match="an item of 5 bytes is not DEFLATE"):
        Inflater(100).inflate(b"hello")
    ended = zlib.compressobj(6, zlib.DEFLATED, -15)
    with pytest.raises(RemoteProtocolError, match="ends the DEFLATE stream"):
        Inflater(100).inflate(ended.compress(b"x") + ended.flush())


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    """Any bytes are an item within the limit, or the peer's fault."""
    try:
        assert len(Inflater(50).inflate(data)) <= 50
    except RemoteProtocolError as exc:
        field = exc.field
        assert field in {"content-encoding", "max_item_bytes"}
