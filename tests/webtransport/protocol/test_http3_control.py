"""The peer's control stream: a row for each rule."""

from __future__ import annotations

from collections import deque

import pytest

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_control import PeerControl
from trio_streams.webtransport.protocol.http3_events import Http3Event, PriorityUpdated, SettingsReceived, WentAway
from trio_streams.webtransport.protocol.http3_frames import encode_frame, encode_settings
from trio_streams.webtransport.protocol.priority import Priority
from trio_streams.webtransport.protocol.varint import encode_varint

SETTINGS = encode_settings({0x06: 1_000, 0x21: 5})


def number(kind: int, value: int) -> bytes:
    return encode_frame(kind, encode_varint(value))


def read(wire: bytes, *, is_client: bool, size: int = 1_000, config: Http3Config | None = None) -> list[Http3Event]:
    events: deque[Http3Event] = deque()
    control = PeerControl(config or Http3Config(), events, is_client=is_client)
    for start in range(0, len(wire), size):
        control.receive([wire[start : start + size]])
    return list(events)


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_what_a_server_says(size: int) -> None:
    """Settings, unknown frames, GOAWAY with ids that only fall, in any split."""
    wire = SETTINGS + encode_frame(0x21, bytes(99)) + number(0x07, 2**62 - 4) + number(0x07, 8) + number(0x07, 8)
    assert read(wire, is_client=True, size=size) == [
        SettingsReceived({0x06: 1_000, 0x21: 5}),
        WentAway(2**62 - 4),
        WentAway(8),
        WentAway(8),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_what_a_client_says(size: int) -> None:
    """Pushes it would allow, priorities of requests, GOAWAY with a push's id."""
    update = encode_frame(0xF0700, b"\x08u=1, i")
    wire = SETTINGS + number(0x0D, 5) + number(0x0D, 5) + update + encode_frame(0xF0700, b"\x0c") + number(0x07, 3)
    assert read(wire, is_client=False, size=size) == [
        SettingsReceived({0x06: 1_000, 0x21: 5}),
        PriorityUpdated(8, Priority(1, is_incremental=True)),
        PriorityUpdated(12, Priority()),
        WentAway(3),
    ]


UNEXPECTED = Http3Code.H3_FRAME_UNEXPECTED


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        # §6.2.1, §7.2.4
        (number(0x07, 0), Http3Code.H3_MISSING_SETTINGS),
        (encode_frame(0x21, b""), Http3Code.H3_MISSING_SETTINGS),
        (encode_frame(0x00, b""), Http3Code.H3_MISSING_SETTINGS),
        (SETTINGS * 2, UNEXPECTED),
        (encode_settings({0x02: 1}), Http3Code.H3_SETTINGS_ERROR),
        (encode_frame(0x04, b"\x33\x00\x33\x00"), Http3Code.H3_SETTINGS_ERROR),
        (encode_frame(0x04, b"\x33"), Http3Code.H3_FRAME_ERROR),
        (b"\x04\x80\x00\x40\x01", Http3Code.H3_EXCESSIVE_LOAD),
        # §7.2.1, §7.2.2, §7.2.5, §7.2.8
        (SETTINGS + encode_frame(0x00, b""), UNEXPECTED),
        (SETTINGS + encode_frame(0x01, b""), UNEXPECTED),
        (SETTINGS + encode_frame(0x05, b"\x00"), UNEXPECTED),
        (SETTINGS + encode_frame(0x06, b""), UNEXPECTED),
        (SETTINGS + b"\x40\x41\x00", Http3Code.H3_FRAME_ERROR),
        # §7.2.3: a client allowed no push, and a server has promised none
        (SETTINGS + number(0x03, 0), Http3Code.H3_ID_ERROR),
        (SETTINGS + encode_frame(0x03, b""), Http3Code.H3_FRAME_ERROR),
        # §5.2, §7.2.6
        (SETTINGS + number(0x07, 4) + number(0x07, 8), Http3Code.H3_ID_ERROR),
        (SETTINGS + encode_frame(0x07, b""), Http3Code.H3_FRAME_ERROR),
        (SETTINGS + encode_frame(0x07, b"\x00\x00"), Http3Code.H3_FRAME_ERROR),
        (SETTINGS + b"\x07\x09", Http3Code.H3_FRAME_ERROR),
    ],
)
@pytest.mark.parametrize("is_client", [True, False])
@pytest.mark.parametrize("size", [1, 1_000])
def test_faults_of_both(wire: bytes, code: Http3Code, size: int, *, is_client: bool) -> None:
    """Each ends the connection, in any split."""
    with pytest.raises(Http3Error) as caught:
        read(wire, is_client=is_client, size=size)
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (number(0x07, 1), Http3Code.H3_ID_ERROR),
        (number(0x07, 6), Http3Code.H3_ID_ERROR),
        (number(0x0D, 0), UNEXPECTED),
        (encode_frame(0xF0700, b"\x00"), UNEXPECTED),
        (encode_frame(0xF0701, b"\x00"), UNEXPECTED),
    ],
)
def test_faults_of_a_server(wire: bytes, code: Http3Code) -> None:
    """GOAWAY names a request (§7.2.6); MAX_PUSH_ID and priorities are a client's to send (§7.2.7, RFC 9218 §7.1)."""
    with pytest.raises(Http3Error) as caught:
        read(SETTINGS + wire, is_client=True)
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (number(0x0D, 5) + number(0x0D, 4), Http3Code.H3_ID_ERROR),
        (encode_frame(0x0D, b""), Http3Code.H3_FRAME_ERROR),
        (encode_frame(0xF0700, b"\x02u=1"), Http3Code.H3_ID_ERROR),
        (encode_frame(0xF0700, b"\x01u=1"), Http3Code.H3_ID_ERROR),
        (encode_frame(0xF0701, b"\x00u=1"), Http3Code.H3_ID_ERROR),
        (encode_frame(0xF0700, b""), Http3Code.H3_FRAME_ERROR),
        (encode_frame(0xF0700, b"\x40"), Http3Code.H3_FRAME_ERROR),
        (b"\x80\x0f\x07\x00\x80\x00\x40\x01", Http3Code.H3_EXCESSIVE_LOAD),
    ],
)
def test_faults_of_a_client(wire: bytes, code: Http3Code) -> None:
    """MAX_PUSH_ID never falls (§7.2.7); priorities are those of requests (RFC 9218 §7.1), and have a limit."""
    with pytest.raises(Http3Error) as caught:
        read(SETTINGS + wire, is_client=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)


@pytest.mark.parametrize(
    "idle", [encode_frame(0x21, b"a"), number(0x0D, 0), number(0x07, 0), encode_frame(0xF0700, b"\x00u=1")]
)
def test_frames_without_end(idle: bytes) -> None:
    """More than so many with no request between them are H3_EXCESSIVE_LOAD (§10.5)."""
    config = Http3Config(max_idle_frames=10)
    read(SETTINGS + idle * 10, is_client=False, config=config)
    with pytest.raises(Http3Error) as caught:
        read(SETTINGS + idle * 11, is_client=False, config=config)
    assert (caught.value.http3_code, caught.value.field) == (Http3Code.H3_EXCESSIVE_LOAD, "max_idle_frames")


def test_a_frame_above_its_limit_says_so() -> None:
    """It names the limit before any byte of the frame is kept."""
    with pytest.raises(Http3Error) as caught:
        read(b"\x04\x40\x65", is_client=True, config=Http3Config(max_control_frame_bytes=100))
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_control_frame_bytes", 101, 100)
