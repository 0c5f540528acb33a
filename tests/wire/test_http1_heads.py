"""Heads as they arrive, and those that are known already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.wire import http1_heads
from trio_streams.wire.http1_head import HeadFault, parse_head
from trio_streams.wire.http1_heads import HeadReader
from trio_streams.wire.http1_records import Http1Limits

HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"


def count_parses(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    parsed: list[bytes] = []

    def counting(data: bytes, *, max_headers: int) -> object:
        parsed.append(data)
        return parse_head(data, max_headers=max_headers)

    monkeypatch.setattr(http1_heads, "parse_head", counting)
    return parsed


def test_a_head_that_comes_in_pieces() -> None:
    """Nothing until it is whole; then its request, and where it ends."""
    reader = HeadReader(Http1Limits())
    for end in range(1, len(HEAD)):
        assert reader.read(HEAD[:end]) is None
        assert reader.is_begun
    assert reader.read(HEAD + b"12345") == parse_head(HEAD, max_headers=9)
    assert (reader.end, reader.is_begun) == (len(HEAD), False)


def test_the_same_head_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that repeats the last one is that request; one that differs in a byte is parsed, and is then the last one."""
    parsed = count_parses(monkeypatch)
    reader = HeadReader(Http1Limits())
    first = reader.read(HEAD)
    assert reader.read(HEAD + b"12345" + HEAD) is first
    assert reader.end == len(HEAD)
    assert parsed == [HEAD]
    other = HEAD.replace(b"5", b"6")
    assert reader.read(other) != first
    assert reader.read(HEAD) == first
    assert parsed == [HEAD, other, HEAD]


def test_a_known_head_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known when it is whole, and what comes next is looked at from its beginning."""
    parsed = count_parses(monkeypatch)
    reader = HeadReader(Http1Limits())
    first = reader.read(HEAD)
    assert reader.read(HEAD[:30]) is None
    assert reader.read(HEAD) is first
    assert parsed == [HEAD]
    assert reader.read(HEAD[:-2] + b"a: b\r\n\r\n") != first


def test_what_is_forgotten_is_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an answer takes long nothing is kept for the next one."""
    parsed = count_parses(monkeypatch)
    reader = HeadReader(Http1Limits())
    reader.read(HEAD)
    reader.forget()
    reader.read(HEAD)
    assert parsed == [HEAD, HEAD]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large head is parsed each time."""
    parsed = count_parses(monkeypatch)
    reader = HeadReader(Http1Limits())
    large = HEAD[:-2] + b"a: " + b"b" * 2_048 + b"\r\n\r\n"
    reader.read(large)
    reader.read(large)
    assert parsed == [large, large]


@pytest.mark.parametrize("limit", [4, 5])
def test_a_body_that_is_too_large(limit: int) -> None:
    """It is refused with its head, each time."""
    reader = HeadReader(Http1Limits(max_body_bytes=limit))
    for _ in range(2):
        if limit == 5:
            assert reader.read(HEAD)
        else:
            with pytest.raises(HeadFault) as info:
                reader.read(HEAD)
            assert info.value.status == 413


def test_a_chunked_body_has_no_length_to_refuse() -> None:
    """It is refused when it is too long, not before."""
    chunked = HEAD.replace(b"content-length: 5", b"transfer-encoding: chunked")
    request = HeadReader(Http1Limits(max_body_bytes=1)).read(chunked)
    assert request is not None
    assert request.length is None


@given(
    st.lists(st.sampled_from([HEAD, HEAD.replace(b"/a", b"/b"), HEAD[:-2] + b"a: b\r\n\r\n"]), max_size=8), st.data()
)
def test_memory_changes_nothing(heads: list[bytes], data: st.DataObject) -> None:
    """Whatever repeats, and however it is split: the same requests as from a reader that has seen nothing."""
    reader = HeadReader(Http1Limits())
    for head in heads:
        split = data.draw(st.integers(0, len(head) - 1))
        if split:
            assert reader.read(head[:split]) is None
        assert reader.read(head) == HeadReader(Http1Limits()).read(head)
