"""`trio-streams.v1`: vectors written by hand, every way to cut them, and what is not a frame."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_streams
from tests.core.support import frame
from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.wire import Frame
from trio_streams.wire.binary import PREFACE, BinaryWire

HELLO = records.Hello("id", 7, 1, 2, 3, 4, 5, 6, "me", frozenset({"resume"}))
OPEN = records.Open("logs.tail", {"k": "ü"}, -5, 1500, 16, 4096)
END = records.End(records.Status("NOT_FOUND", "no", {"a": [1, None]}), {"t": "1"})

VECTORS: list[tuple[str, bytes, int, Frame]] = [
    (
        "hello",
        (
            b"\x01\x00\x00\xb8\x00\x00\x00\x00\x00\x00\x00\x00"
            b'{"session_id":"id","frames_received":7,"window_items":1,"window_bytes":2,"connection_bytes":3,"max_streams":4,'
            b'"max_item_bytes":5,"idle_timeout_ms":6,"agent":"me","features":["resume"]}'
        ),
        0,
        HELLO,
    ),
    (
        "open",
        (
            b"\x02\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00\x03"
            b'{"name":"logs.tail","metadata":{"k":"\xc3\xbc"},"priority":-5,"timeout_ms":1500,"window_items":16,'
            b'"window_bytes":4096}'
        ),
        3,
        OPEN,
    ),
    ("header", b'\x03\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x02{"a":"b"}', 2, records.Header({"a": "b"})),
    ("item", b"\x04\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01hello", 1, [b"hello"]),
    ("empty item", b"\x04\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08", 0x0102030405060708, [b""]),
    (
        "run",
        b"\x04\x01\x00\x0e\x00\x00\x00\x00\x00\x00\x00\x01\x00\x03\x00\x01\x00\x00\x00\x05aworld",
        1,
        [b"a", b"", b"world"],
    ),
    ("first", b"\x04\x02\x00\x06\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00ab", 1, Piece(b"ab", 65_536)),
    ("piece", b"\x04\x04\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01cd", 1, Piece(b"cd")),
    ("end", b"\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", 1, records.End()),
    (
        "end with a status",
        (
            b"\x05\x00\x00\x51\x00\x00\x00\x00\x00\x00\x00\x01"
            b'{"code":"NOT_FOUND","message":"no","details":{"a":[1,null]},"trailers":{"t":"1"}}'
        ),
        1,
        END,
    ),
    (
        "reset",
        b"\x06\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0dwhy",
        1,
        records.Reset(Code.INTERNAL, "why"),
    ),
    ("stop", b"\x07\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00", 1, records.Stop()),
    (
        "credit",
        b"\x08\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04\x00\x00",
        1,
        records.Credit(256, 262_144),
    ),
    (
        "connection credit",
        b"\x08\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05",
        0,
        records.ConnectionCredit(5, 9),
    ),
    ("ping", b"\x09\x00\x00\x08" + bytes(8) + b"\x00\x00\x00\x00\x00\x00\x00\x2a", 0, records.Ping(42)),
    ("pong", b"\x0a\x00\x00\x08" + bytes(8) + b"\xff\xff\xff\xff\xff\xff\xff\xff", 0, records.Pong(2**64 - 1)),
    ("ack", b"\x0b\x00\x00\x08" + bytes(8) + b"\x00\x00\x00\x00\x00\x00\x01\x00", 0, records.Ack(256)),
    (
        "goaway",
        b"\x0c\x00\x00\x0f" + bytes(8) + b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05bye",
        0,
        records.GoAway(Code.OK, "bye", 5),
    ),
]
STREAM = PREFACE + b"".join(data for _, data, _, _ in VECTORS)
EXPECTED = [(stream_id, content) for _, _, stream_id, content in VECTORS]


def decode(*chunks: bytes) -> list[tuple[int, Frame]]:
    wire = BinaryWire()
    return [decoded for chunk in chunks for decoded in wire.decode(chunk)]


def fault(*chunks: bytes) -> RemoteProtocolError:
    """The error that ends the input; nothing comes after it."""
    wire = BinaryWire()
    decoded = [found for chunk in chunks for found in wire.decode(chunk)]
    error = decoded[-1][1]
    assert isinstance(error, RemoteProtocolError)
    assert wire.decode(frame(9, 0, bytes(8))) == []
    return error


@pytest.mark.parametrize(("data", "stream_id", "content"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_vectors_decode(data: bytes, stream_id: int, content: Frame) -> None:
    """Each kind of frame, byte by byte as the module's docstring says."""
    assert decode(PREFACE, data) == [(stream_id, content)]


@pytest.mark.parametrize(("data", "stream_id", "content"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_vectors_encode(data: bytes, stream_id: int, content: Frame) -> None:
    """What is sent are the same bytes."""
    wire = BinaryWire()
    if isinstance(content, list):
        assert wire.encode_run(stream_id, content) == data
    elif isinstance(content, Piece):
        assert b"".join(wire.encode_piece(stream_id, content)) == data
    else:
        assert not isinstance(content, Exception)
        assert wire.encode(stream_id, content) == data


def joined(found: list[tuple[int, Frame]]) -> list[tuple[int, Frame]]:
    """What was decoded, with pieces that follow each other as one: how many come joined depends on the cuts."""
    frames: list[tuple[int, Frame]] = []
    for stream_id, content in found:
        last_id, last = frames[-1] if frames else (0, None)
        if isinstance(content, Piece) and isinstance(last, Piece) and last_id == stream_id and content.total is None:
            data = bytes(last.data) + bytes(content.data)
            frames[-1] = stream_id, Piece(data, last.total, last.frames + content.frames)
        else:
            frames.append((stream_id, content))
    return frames


def test_input_may_be_cut_anywhere() -> None:
    """Whole, by single bytes and in two parts at every point: the same frames."""
    assert decode(STREAM) == joined(EXPECTED)
    assert decode(*(STREAM[n : n + 1] for n in range(len(STREAM)))) == EXPECTED
    for n in range(len(STREAM) + 1):
        assert joined(decode(STREAM[:n], b"", STREAM[n:])) == joined(EXPECTED)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_input_may_be_cut_into_any_parts(points: list[int]) -> None:
    """Any number of cuts: the same frames."""
    bounds = [0, *sorted(points), len(STREAM)]
    assert joined(decode(*(STREAM[a:b] for a, b in pairwise(bounds)))) == joined(EXPECTED)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=400), st.integers(1, 2**64 - 1))
def test_runs_come_back(payloads: list[bytes], stream_id: int) -> None:
    """Any run of items, below and above the 256 lengths with a table of their own."""
    assert decode(PREFACE, BinaryWire().encode_run(stream_id, payloads)) == [(stream_id, payloads)]


def test_a_full_frame_has_16_kib() -> None:
    """Payloads of exactly 16 KiB travel, and a piece that is longer becomes full frames and one more."""
    wire = BinaryWire()
    assert decode(PREFACE, wire.encode_run(1, [bytes(16_384)])) == [(1, [bytes(16_384)])]
    first = Piece(bytes(16_380), 99_999)
    assert decode(PREFACE, b"".join(wire.encode_piece(1, first))) == [(1, first)]
    for piece, sizes in ((Piece(bytes(40_000), 99_999), [16_384] * 2 + [7_236]), (Piece(bytes(16_385)), [16_384, 1])):
        data, found = b"".join(wire.encode_piece(1, piece)), []
        while data:
            found.append(int.from_bytes(data[2:4], "big"))
            data = data[12 + found[-1] :]
        assert found == sizes


@given(st.binary(min_size=2, max_size=300), st.lists(st.integers(1, 300), max_size=30), st.lists(st.integers(0, 900)))
def test_pieces_that_follow_each_other_come_joined(item: bytes, cuts: list[int], chunks: list[int]) -> None:
    """However an item and the input are cut: the pieces give the item back, and the frames are counted right."""
    wire = BinaryWire()
    bounds = sorted({0, len(item), *(cut for cut in cuts if cut < len(item))})
    pieces = [Piece(item[a:b], None if a else len(item)) for a, b in pairwise(bounds)]
    line = b"".join(b"".join(wire.encode_piece(1, piece)) for piece in pieces)
    line = PREFACE + line * 2 + frame(9, 0, bytes(8))
    points = [0, *sorted(min(point, len(line)) for point in chunks), len(line)]
    *found, last = decode(*(line[a:b] for a, b in pairwise(points)))
    assert last == (0, records.Ping(0))
    got = [piece for _, piece in found if isinstance(piece, Piece)]
    assert len(got) == len(found)
    assert b"".join(piece.data for piece in got) == item * 2
    assert sum(piece.frames for piece in got) == 2 * len(pieces)
    assert [piece.total for piece in got if piece.total is not None] == [len(item)] * 2


def test_an_item_in_one_chunk_is_one_piece() -> None:
    """Four frames of one item that arrive together are a whole; those of another stream between them part them."""
    wire = BinaryWire()
    item = bytes(range(256)) * 200
    line = b"".join(wire.encode_piece(1, Piece(item, len(item))))
    ((_, piece),) = decode(PREFACE + line)
    assert isinstance(piece, Piece)
    assert (piece.data, piece.frames, piece.is_whole) == (item, 4, True)
    parted = decode(PREFACE + line[:16_396] + frame(4, 3, b"x") + line[16_396:])
    assert [(stream_id, type(content)) for stream_id, content in parted] == [(1, Piece), (3, list), (1, Piece)]


def test_a_record_beyond_a_frame_is_refused() -> None:
    """What is no item is not cut."""
    with pytest.raises(LocalProtocolError) as caught:
        BinaryWire().encode(1, records.Header({"a": "x" * 16_384}))
    error = caught.value
    assert (error.code, error.field, error.limit) == (Code.MESSAGE_TOO_LARGE, "HEADER", 16_384)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (frame(4, 1, b"\x00\x00\x00\x02ab", 2) + frame(4, 1, b"c", 4), [Piece(b"ab", 2), Piece(b"c")]),
        (frame(4, 1, b"\x00\x00\x00\x03ab", 2) + frame(4, 1, b"", 4), [Piece(b"ab", 3), Piece(b"")]),
        (frame(4, 1, b"\x00\x00\x00\x03ab", 2) + frame(4, 1, b"cd", 4), [Piece(b"ab", 3), Piece(b"cd")]),
        (frame(4, 1, b"\x00\x00\x00\x01ab", 2) + frame(4, 1, b"cd", 4), [Piece(b"ab", 1), Piece(b"cd")]),
    ],
)
def test_joining_hides_no_fault(line: bytes, found: list[Piece]) -> None:
    """A first piece that is all, an empty one and one too long stand alone, for others to judge."""
    assert [piece for _, piece in decode(PREFACE + line)] == found


@pytest.mark.parametrize(
    ("data", "wrong_at"),
    [
        (b"GET /streams HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"trio-streams.v2\n", 14),
        (b"trio-streams.v10\n", 15),
        (b"\x16\x03\x01\x02\x00", 0),
        (b"\x00" * 40, 0),
        (b"trio-streams.v1\r\n", 15),
    ],
)
def test_another_protocol_is_refused_at_its_first_wrong_byte(data: bytes, wrong_at: int) -> None:
    """An HTTP request, TLS, another version: however it is cut, the error says where it stopped being ours."""
    for chunks in ([data], [data[n : n + 1] for n in range(len(data))]):
        error = fault(*chunks)
        assert (error.code, error.field) == (Code.PROTOCOL_ERROR, "preface")
        assert (error.size, error.limit) == (wrong_at, 16)
    assert ("speaks" in str(fault(data))) is data.startswith(b"trio-streams.")


BAD_FRAMES: list[tuple[str, bytes, str, int | None, int | None]] = [
    ("too long", b"\x04\x00\x40\x01" + bytes(8), "max_frame_bytes", 16_385 + 12, 16_384 + 12),
    ("type 0", frame(0, 1), "type", 0, None),
    ("type 13", frame(13, 1), "type", 13, None),
    ("type 255", frame(255, 0, b"", 255), "type", 255, None),
    ("flags 3", frame(4, 1, b"abc", 3), "flags", 3, None),
    ("flags 8", frame(4, 1, b"abc", 8), "flags", 8, None),
    ("flags on OPEN", frame(2, 1, b'{"name":"x"}', 1), "flags", 1, None),
    ("flags on CREDIT", frame(8, 1, bytes(16), 128), "flags", 128, None),
    ("PING on a stream", frame(9, 1, bytes(8)), "stream_id", 1, None),
    ("HELLO on a stream", frame(1, 4, b'{"session_id":"x"}'), "stream_id", 4, None),
    ("run without a count", frame(4, 1, b"", 1), "DATA", 0, 0),
    ("run with half a count", frame(4, 1, b"\x01", 1), "DATA", 1, 1),
    ("run of nothing", frame(4, 1, b"\x00\x00", 1), "DATA", 0, 2),
    ("run longer than its table", frame(4, 1, b"\x00\x02\x00\x01", 1), "DATA", 2, 4),
    ("run longer than its frame", frame(4, 1, b"\x00\x01\x00\x05abcd", 1), "DATA", 9, 8),
    ("run shorter than its frame", frame(4, 1, b"\x00\x01\x00\x03abcd", 1), "DATA", 7, 8),
    ("first piece without a total", frame(4, 1, b"abc", 2), "DATA", 3, 4),
    ("RESET without a code", frame(6, 1, b"\x00\x00\x00"), "RESET", 3, 4),
    ("STOP without a code", frame(7, 1), "STOP", 0, 4),
    ("RESET's reason", frame(6, 1, b"\x00\x00\x00\x01ab\xff"), "RESET.reason", 3, None),
    ("GOAWAY's reason", frame(12, 0, bytes(12) + b"\xc3"), "GOAWAY.reason", 1, None),
    ("GOAWAY too short", frame(12, 0, bytes(11)), "GOAWAY", 11, 12),
    ("PING too short", frame(9, 0, bytes(7)), "PING", 7, 8),
    ("PONG too long", frame(10, 0, bytes(9)), "PONG", 9, 8),
    ("ACK empty", frame(11, 0), "ACK", 0, 8),
    ("CREDIT too short", frame(8, 1, bytes(8)), "CREDIT", 8, 16),
    ("OPEN empty", frame(2, 1), "OPEN", 0, None),
    ("OPEN broken UTF-8", frame(2, 1, b'{"name":"\xff"}'), "OPEN", 12, None),
    ("OPEN surrogate", frame(2, 1, b'{"name":"\\ud800"}'), "OPEN", 17, None),
    ("OPEN no object", frame(2, 1, b"[]"), "OPEN", 2, None),
    ("OPEN nameless", frame(2, 1, b"{}"), "OPEN", 2, None),
    ("OPEN wrong type", frame(2, 1, b'{"name":5}'), "OPEN", 10, None),
    ("OPEN NaN", frame(2, 1, b'{"name":"x","priority":NaN}'), "OPEN", 27, None),
    ("OPEN huge number", frame(2, 1, b'{"name":"x","priority":' + b"9" * 6_000 + b"}"), "OPEN", 6_024, None),
    ("OPEN priority", frame(2, 1, b'{"name":"x","priority":128}'), "OPEN.priority", 128, 127),
    ("OPEN low priority", frame(2, 1, b'{"name":"x","priority":-129}'), "OPEN.priority", -129, 127),
    ("OPEN timeout", frame(2, 1, b'{"name":"x","timeout_ms":-1}'), "OPEN.timeout_ms", -1, 2**63 - 1),
    ("OPEN window", frame(2, 1, b'{"name":"x","window_items":-1}'), "OPEN.window_items", -1, 2**63 - 1),
    ("OPEN wide", frame(2, 1, b'{"name":"x","window_bytes":%d}' % 2**63), "OPEN.window_bytes", 2**63, 2**63 - 1),
    ("HELLO window", frame(1, 0, b'{"session_id":"x","max_streams":-5}'), "HELLO.max_streams", -5, 2**63 - 1),
    ("HEADER of numbers", frame(3, 1, b'{"a":1}'), "HEADER", 7, None),
    ("END NaN", frame(5, 1, b'{"details":NaN}'), "END", 15, None),
    ("END infinite", frame(5, 1, b'{"details":1e999}'), "END", 17, None),
    ("END deep", frame(5, 1, b'{"details":' + b"[" * 16_000 + b"]" * 300 + b"}"), "END", 16_312, None),
    ("END cut", frame(5, 1, b'{"code":'), "END", 8, None),
]


@pytest.mark.parametrize(
    ("data", "field", "size", "limit"), [b[1:] for b in BAD_FRAMES], ids=[b[0] for b in BAD_FRAMES]
)
def test_bad_frames_are_named(data: bytes, field: str, size: int | None, limit: int | None) -> None:
    """Each fault has its field, size and limit, however the input is cut; the frames before it are there."""
    before = frame(9, 0, bytes(8))
    whole = PREFACE + before + data + frame(9, 0, bytes(8))
    for chunks in ([whole], [whole[n : n + 1] for n in range(len(whole))], [whole[:30], whole[30:]]):
        assert decode(*chunks)[0] == (0, records.Ping(0))
        assert len(decode(*chunks)) == 2
        error = fault(*chunks)
        assert (error.code, error.field, error.size, error.limit) == (Code.PROTOCOL_ERROR, field, size, limit)


def test_a_frame_that_never_completes_costs_its_own_size() -> None:
    """What is kept of unfinished input is less than one frame."""
    wire = BinaryWire()
    wire.decode(PREFACE)
    whole = frame(4, 1, bytes(16_384)) * 3
    for n in range(0, len(whole), 100):
        wire.decode(whole[n : n + 100])
        assert len(wire._buffer) < 16_396 + 100


def test_frames_of_a_session_are_told_from_those_of_a_carrier() -> None:
    """HELLO, PING, PONG and ACK belong to a carrier; all others count, and are found where they are."""
    data = b"".join(data for _, data, _, _ in VECTORS)
    kinds = [data[start] for start, _ in BinaryWire().find_counted(data)]
    assert kinds == [vector[0] for _, vector, _, _ in VECTORS if vector[0] not in {0x01, 0x09, 0x0A, 0x0B}]
    assert b"".join(data[start:end] for start, end in BinaryWire().find_counted(data)) == b"".join(
        vector for _, vector, _, _ in VECTORS if vector[0] not in {0x01, 0x09, 0x0A, 0x0B}
    )
    assert BinaryWire().find_counted(b"") == []


def test_input_begins_anew_on_another_carrier() -> None:
    """Half a frame, a fault and the preface are forgotten."""
    wire = BinaryWire()
    wire.decode(PREFACE + frame(9, 0, bytes(8))[:-1])
    wire.reset_input()
    assert wire.decode(PREFACE + frame(9, 0, bytes(8))) == [(0, records.Ping(0))]
    assert isinstance(wire.decode(frame(99))[0][1], RemoteProtocolError)
    wire.reset_input()
    assert wire.decode(PREFACE + frame(9, 0, bytes(8))) == [(0, records.Ping(0))]


def test_neither_wire_nor_core_needs_trio() -> None:
    """The machines import and talk where `trio` is blocked; the package's own `__init__` is the users' face."""
    package = list(trio_streams.__path__)
    program = f"""
import sys, types
sys.modules["trio"] = None
sys.modules["trio_streams"] = types.ModuleType("trio_streams")
sys.modules["trio_streams"].__path__ = {package!r}
from trio_streams.config import ConnectionConfig
from trio_streams.core.mux import Mux
from trio_streams.testing import Pair
from trio_streams.wire.binary import BinaryWire
pair = Pair(*(
    Mux(BinaryWire(), is_client=c, config=ConnectionConfig(), session_id=str(c), now=0.0) for c in (True, False)
))
pair.run_until_idle()
assert pair.client.can_open and pair.server.can_open
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_stream_of_its_own_has_no_preface() -> None:
    """Where another stream has said it, frames come first; a preface is no frame then."""
    assert BinaryWire(expects_preface=False).decode(frame(4, 1, b"a")) == [(1, [b"a"])]
    ((_, error),) = BinaryWire(expects_preface=False).decode(PREFACE)
    assert isinstance(error, RemoteProtocolError)
