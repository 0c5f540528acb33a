"""Stream headers: ours or HTTP/3's, at every split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.stream_headers import (
    Passed,
    SessionNamed,
    StreamHeaderReader,
    encode_stream_header,
)
from trio_streams.webtransport.protocol.varint import encode_varint

SESSIONS = st.integers(0, 2**60 - 1).map(lambda number: number * 4)


def read(data: bytes, sizes: list[int], *, is_unidirectional: bool) -> tuple[SessionNamed | Passed | None, bytes]:
    """Feed a reader until it has said its last word; what was not fed is the rest."""
    reader = StreamHeaderReader(is_unidirectional=is_unidirectional)
    start = turn = 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        word = reader.receive(data[start : start + size])
        start += size
        turn += 1
        if word is not None:
            return word, data[start:]
    return None, b""


@pytest.mark.parametrize(("is_unidirectional", "encoded"), [(True, "405404"), (False, "404104")])
def test_the_bytes_on_the_wire(encoded: str, *, is_unidirectional: bool) -> None:
    """The headers of session 4, put down by hand."""
    header = encode_stream_header(4, is_unidirectional=is_unidirectional)
    assert header == bytes.fromhex(encoded)


@given(SESSIONS, st.booleans(), st.binary(max_size=20), st.lists(st.integers(1, 5), min_size=1))
def test_every_split_names_the_session(session_id: int, kind: bool, body: bytes, sizes: list[int]) -> None:
    """A header that comes in pieces names its session, and no byte behind it is lost."""
    data = encode_stream_header(session_id, is_unidirectional=kind) + body
    word, rest = read(data, sizes, is_unidirectional=kind)
    assert isinstance(word, SessionNamed)
    assert word.session_id == session_id
    assert word.data + rest == body


@given(st.integers(0, 2**62 - 1), st.booleans(), st.binary(max_size=20), st.lists(st.integers(1, 5), min_size=1))
def test_what_is_not_ours_passes_whole(signal: int, kind: bool, body: bytes, sizes: list[int]) -> None:
    """Every other stream goes on to HTTP/3 with all its bytes; the other kind's signal is not ours, either."""
    ours = 0x54 if kind else 0x41
    data = encode_varint(signal if signal != ours else 0x95 - ours) + body
    word, rest = read(data, sizes, is_unidirectional=kind)
    assert isinstance(word, Passed)
    assert word.data + rest == data


@pytest.mark.parametrize("session_id", [1, 2, 3, 7, 2**62 - 1])
@pytest.mark.parametrize("is_unidirectional", [True, False])
def test_a_session_is_a_clients_bidirectional_stream(session_id: int, *, is_unidirectional: bool) -> None:
    """Any other id ends the connection with H3_ID_ERROR, and we do not send it."""
    header = encode_varint(0x54 if is_unidirectional else 0x41) + encode_varint(session_id)
    with pytest.raises(Http3Error) as caught:
        read(header, [1], is_unidirectional=is_unidirectional)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_ID_ERROR, True)
    with pytest.raises(LocalProtocolError):
        encode_stream_header(session_id, is_unidirectional=is_unidirectional)


@pytest.mark.parametrize("session_id", [-4, 2**62])
def test_ids_have_62_bits(session_id: int) -> None:
    """What is no id of a stream at all names no session."""
    with pytest.raises(LocalProtocolError):
        encode_stream_header(session_id, is_unidirectional=True)


@pytest.mark.parametrize("is_unidirectional", [True, False])
@pytest.mark.parametrize("data", [b"", b"\x40", b"\x80\x00\x00"])
def test_a_stream_that_ends_before_its_signal_is_http3s(data: bytes, *, is_unidirectional: bool) -> None:
    """HTTP/3 gets what there was."""
    reader = StreamHeaderReader(is_unidirectional=is_unidirectional)
    assert reader.receive(data) is None
    assert reader.receive_end() == Passed(data)


def test_a_stream_that_ends_before_its_session() -> None:
    """A unidirectional stream of ours that was cut is nobody's; a bidirectional one is a cut frame."""
    reader = StreamHeaderReader(is_unidirectional=True)
    assert reader.receive(b"\x40\x54\x40") is None
    assert reader.receive_end() is None
    reader = StreamHeaderReader(is_unidirectional=False)
    assert reader.receive(b"\x40\x41") is None
    with pytest.raises(Http3Error) as caught:
        reader.receive_end()
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_FRAME_ERROR, True)
