"""The peer's unidirectional streams: which there are, and that they stay."""

from __future__ import annotations

from collections import deque

import pytest

from tests.webtransport.protocol.http3_fake import FakeQuic
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_control import PeerControl
from trio_streams.webtransport.protocol.http3_events import Http3Event, SettingsReceived
from trio_streams.webtransport.protocol.http3_frames import encode_settings
from trio_streams.webtransport.protocol.http3_unidirectional import PeerStreams, StreamKind, closed_critical_stream
from trio_streams.webtransport.protocol.qpack import Qpack

INSERT = b"\x3f\xe1\x1f\x41a\x03abc"
SETTINGS = encode_settings({0x21: 0})


class Bed:
    def __init__(self, *, is_client: bool = False) -> None:
        self.quic = FakeQuic(is_client=is_client)
        self.events: deque[Http3Event] = deque()
        self.qpack = Qpack(Http3Config())
        control = PeerControl(Http3Config(), self.events, is_client=is_client)
        self.streams = PeerStreams(self.quic, control, self.qpack, is_client=is_client)

    def receive(self, stream_id: int, wire: bytes, *, size: int = 1_000, is_ended: bool = False) -> list[int]:
        run = [wire[start : start + size] for start in range(0, len(wire), size)]
        return self.streams.receive(stream_id, run, is_ended=is_ended)


@pytest.mark.parametrize("size", [1, 2, 1_000])
@pytest.mark.parametrize("kind", [b"\x00", b"\x40\x00", b"\x80\x00\x00\x00"])
def test_the_three_streams(kind: bytes, size: int) -> None:
    """Each is known by its first number, however that is written; all that comes is consumed at once."""
    bed = Bed()
    bed.receive(2, kind + SETTINGS, size=size)
    assert list(bed.events) == [SettingsReceived({0x21: 0})]
    bed.qpack.decode(0, b"\x02\x00\x80")
    assert bed.receive(6, b"\x02", size=size) == []
    assert bed.receive(6, INSERT, size=size) == [0]
    bed.qpack.apply_settings({1: 4_096, 7: 16})
    for stream_id in (0, 4):
        bed.qpack.encode(stream_id, [(b"x-a", b"b" * 50)])
    assert bed.receive(10, b"\x03\x01", size=size) == []
    assert bed.quic.consumed_bytes == {2: len(kind + SETTINGS), 6: 1 + len(INSERT), 10: 2}
    assert all(stream_id in bed.streams for stream_id in (2, 6, 10))
    assert 14 not in bed.streams


def test_runs_of_many_pieces() -> None:
    """A stream's pieces belong together, the first number may be in any of them."""
    bed = Bed()
    bed.streams.receive(2, [b"\x40", b"\x00", SETTINGS[:1], SETTINGS[1:]], is_ended=False)
    assert list(bed.events) == [SettingsReceived({0x21: 0})]


@pytest.mark.parametrize("kind", [0, 2, 3])
def test_a_second_stream_of_a_kind(kind: int) -> None:
    """H3_STREAM_CREATION_ERROR (RFC 9114 §6.2.1, RFC 9204 §4.2)."""
    bed = Bed()
    bed.receive(2, bytes([kind]))
    with pytest.raises(Http3Error) as caught:
        bed.receive(6, bytes([kind]))
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_STREAM_CREATION_ERROR, True)


@pytest.mark.parametrize("kind", [0, 2, 3])
def test_critical_streams_stay(kind: int) -> None:
    """Neither an end nor a reset of one is anything but H3_CLOSED_CRITICAL_STREAM (RFC 9114 §6.2.1, RFC 9204 §4.2)."""
    for is_reset in (True, False):
        bed = Bed()
        bed.receive(2, bytes([kind]))
        with pytest.raises(Http3Error) as caught:
            if is_reset:
                bed.streams.receive_reset(2)
            else:
                bed.receive(2, b"", is_ended=True)
        assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_CLOSED_CRITICAL_STREAM, True)


@pytest.mark.parametrize(
    ("code", "is_client"), [(Http3Code.H3_ID_ERROR, True), (Http3Code.H3_STREAM_CREATION_ERROR, False)]
)
def test_push_streams(code: Http3Code, *, is_client: bool) -> None:
    """A client allowed no push (§4.6), and nobody pushes to a server (§6.2.2)."""
    with pytest.raises(Http3Error) as caught:
        Bed(is_client=is_client).receive(3, b"\x01\x00")
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)


def test_unknown_streams_are_refused() -> None:
    """They are stopped with H3_STREAM_CREATION_ERROR, and let go (§6.2.3)."""
    bed = Bed()
    assert bed.receive(2, b"\x21data", is_ended=True) == []
    assert bed.quic.released == {2: Http3Code.H3_STREAM_CREATION_ERROR}
    assert 2 not in bed.streams


def test_streams_that_end_before_their_kind() -> None:
    """An end and a reset there are no matter (§6.2); a reset of what is not known is none, either."""
    bed = Bed()
    bed.receive(2, b"\x40")
    assert 2 in bed.streams
    bed.receive(2, b"", is_ended=True)
    bed.receive(6, b"", is_ended=True)
    bed.receive(10, b"\x80")
    bed.streams.receive_reset(10)
    bed.streams.receive_reset(14)
    assert bed.quic.released == {2: 0, 6: 0, 10: 0}
    assert not any(stream_id in bed.streams for stream_id in (2, 6, 10))


def test_what_a_stream_says_before_it_ends_is_heard() -> None:
    """The end is the fault, and not what was before it."""
    bed = Bed()
    with pytest.raises(Http3Error):
        bed.receive(2, b"\x00" + SETTINGS, is_ended=True)
    assert list(bed.events) == [SettingsReceived({0x21: 0})]


def test_the_error_names_the_stream() -> None:
    """By its kind."""
    assert "QPACK_DECODER" in str(closed_critical_stream("stopped our", StreamKind.QPACK_DECODER))
