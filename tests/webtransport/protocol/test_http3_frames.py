"""Frames at every split, and those that have no place anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_frames import (
    FrameReader,
    FrameType,
    encode_frame,
    encode_settings,
    parse_number,
    parse_settings,
    unexpected,
)
from trio_streams.webtransport.protocol.varint import encode_varint

KINDS = st.sampled_from([0x00, 0x01, 0x21, 0x40, 0x42, 0xF0700, 2**62 - 1])


class Sink:
    """Keeps frames, and waits behind those of one kind."""

    def __init__(self, waits_for: int | None = None) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.ended = 0
        self.pieces: list[bytes] = []
        self.is_waiting = False
        self._waits_for = waits_for

    def begin_frame(self, kind: int, size: int) -> None:
        assert self.ended == len(self.frames)
        self.frames.append((kind, size, b""))

    def take_payload(self, data: bytes) -> None:
        assert data
        self.pieces.append(data)
        kind, size, payload = self.frames[-1]
        self.frames[-1] = kind, size, payload + data

    def end_frame(self) -> None:
        self.ended += 1
        self.is_waiting = self.frames[-1][0] == self._waits_for


@given(st.lists(st.tuples(KINDS, st.binary(max_size=70)), max_size=5), st.lists(st.integers(1, 9), min_size=1))
def test_every_split_gives_the_same_frames(parts: list[tuple[int, bytes]], sizes: list[int]) -> None:
    """Types, lengths and payloads may be cut anywhere, and a stream may end where a frame has."""
    wire = b"".join(encode_frame(kind, payload) for kind, payload in parts)
    sink = Sink()
    reader = FrameReader(sink)
    start = turn = 0
    while start < len(wire):
        size = sizes[turn % len(sizes)]
        piece = wire[start : start + size]
        assert reader.receive(piece) == len(piece)
        start += size
        turn += 1
    assert sink.frames == [(kind, len(payload), payload) for kind, payload in parts]
    assert sink.ended == len(parts)
    assert not reader.is_inside


@pytest.mark.parametrize("wire", [b"\x40", b"\x00", b"\x00\x40", b"\x00\x02", b"\x00\x02a"])
def test_a_cut_frame_is_noticed(wire: bytes) -> None:
    """Within a type, behind one, within a length and within a payload a stream must not end (§7.1)."""
    reader = FrameReader(Sink())
    reader.receive(wire)
    assert reader.is_inside


def test_a_piece_of_payload_is_not_copied() -> None:
    """A piece that is all payload goes on as the very object."""
    sink = Sink()
    reader = FrameReader(sink)
    reader.receive(b"\x00\x44\x00")
    piece = bytes(1_000)
    reader.receive(piece)
    assert sink.pieces[0] is piece


def test_a_sink_that_waits_is_not_told_more() -> None:
    """What is behind a frame that waits stays unread, and is read when it does no longer."""
    wire = encode_frame(1, b"head") + encode_frame(0, b"body")
    sink = Sink(waits_for=1)
    reader = FrameReader(sink)
    read = reader.receive(wire)
    assert read == 6
    sink.is_waiting = False
    assert reader.receive(wire[read:]) == 6
    assert [payload for _, _, payload in sink.frames] == [b"head", b"body"]
    sink = Sink(waits_for=1)
    assert FrameReader(sink).receive(encode_frame(1, b"") + b"\x00") == 2


def test_a_huge_frame_is_only_a_number() -> None:
    """A frame of 2**62 - 1 bytes can begin; nobody makes room for it."""
    sink = Sink()
    FrameReader(sink).receive(b"\x21" + encode_varint(2**62 - 1) + b"a")
    assert sink.frames == [(0x21, 2**62 - 1, b"a")]


@pytest.mark.parametrize("kind", [0x02, 0x06, 0x08, 0x09])
def test_frames_of_http2(kind: int) -> None:
    """PRIORITY, PING, WINDOW_UPDATE and CONTINUATION are H3_FRAME_UNEXPECTED wherever they are (§7.2.8)."""
    with pytest.raises(Http3Error) as caught:
        FrameReader(Sink()).receive(encode_varint(kind))
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_FRAME_UNEXPECTED, True)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=9)), max_size=4))
def test_the_signal_of_webtransport_is_no_frame(parts: list[tuple[int, bytes]]) -> None:
    """WT_STREAM behind whatever else is H3_FRAME_ERROR (draft-ietf-webtrans-http3 §4.3); in a payload it means nothing."""
    sink = Sink()
    reader = FrameReader(sink)
    reader.receive(b"".join(encode_frame(*part) for part in [*parts, (0, b"\x40\x41\x00")]))
    with pytest.raises(Http3Error) as caught:
        reader.receive(b"\x40\x41")
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_FRAME_ERROR, True)


def test_errors_name_the_frame() -> None:
    """A frame that we know by its name, another by its number."""
    assert "GOAWAY" in str(unexpected(FrameType.GOAWAY, "twice"))
    assert "0x21" in str(unexpected(0x21, "twice"))


@given(st.dictionaries(st.integers(6, 2**62 - 1), st.integers(0, 2**62 - 1), max_size=9))
def test_settings_survive_the_round_trip(settings: dict[int, int]) -> None:
    """What is sent is what is read, known or not."""
    sink = Sink()
    FrameReader(sink).receive(encode_settings(settings))
    ((kind, _, payload),) = sink.frames
    assert kind == FrameType.SETTINGS
    assert parse_settings(payload) == settings


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x00\x00", Http3Code.H3_SETTINGS_ERROR),
        (b"\x02\x00", Http3Code.H3_SETTINGS_ERROR),
        (b"\x03\x00", Http3Code.H3_SETTINGS_ERROR),
        (b"\x04\x00", Http3Code.H3_SETTINGS_ERROR),
        (b"\x05\x00", Http3Code.H3_SETTINGS_ERROR),
        (b"\x33\x01\x33\x01", Http3Code.H3_SETTINGS_ERROR),
        (b"\x33", Http3Code.H3_FRAME_ERROR),
        (b"\x33\x40", Http3Code.H3_FRAME_ERROR),
        (b"\x40", Http3Code.H3_FRAME_ERROR),
    ],
)
def test_malformed_settings(payload: bytes, code: Http3Code) -> None:
    """HTTP/2's settings and repeated ones are H3_SETTINGS_ERROR (§7.2.4), cut ones H3_FRAME_ERROR (§7.1)."""
    with pytest.raises(Http3Error) as caught:
        parse_settings(payload)
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)


@pytest.mark.parametrize("payload", [b"", b"\x40", b"\x00\x00"])
def test_a_frame_of_one_number_has_one_number(payload: bytes) -> None:
    """A cut number, or bytes behind it, are H3_FRAME_ERROR (§7.1)."""
    assert parse_number(b"\x40\x04", FrameType.GOAWAY) == 4
    with pytest.raises(Http3Error) as caught:
        parse_number(payload, FrameType.GOAWAY)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_FRAME_ERROR, True)
