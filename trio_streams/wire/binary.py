"""Our own dialect, `trio-streams.v1`: length-prefixed binary frames.

Each side sends the preface and then frames of a 12-byte header and at most 16 KiB of payload, in network byte order:

    type u8 | flags u8 | length u16 | stream u64 | payload

    HELLO   0x01  JSON (see `_Hello`); the first frame of each side
    OPEN    0x02  JSON (see `_Open`)
    HEADER  0x03  JSON object of strings
    DATA    0x04  flags 0: one item
                  RUN   0x01: count u16, that many lengths u16, the items one behind the other
                  FIRST 0x02: total u32, the first bytes of an item larger than a frame
                  PIECE 0x04: further bytes of it
    END     0x05  empty for OK without trailers, else JSON (see `_End`)
    RESET   0x06  code u32, reason in UTF-8
    STOP    0x07  code u32, reason in UTF-8
    CREDIT  0x08  stream: items u64, bytes u64; stream 0: streams u64, bytes u64; absolute limits
    PING    0x09  number u64
    PONG    0x0a  number u64
    ACK     0x0b  frames u64
    GOAWAY  0x0c  code u32, last stream u64, reason in UTF-8

A packed run is the reason for its speed: one header, one `struct` call for all lengths, one slice an item. Unknown
frame types and JSON fields are an error and ignored, respectively: types are negotiated by `features`, fields may grow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final, TypeVar

import msgspec

from trio_streams.codes import Code
from trio_streams.config import MAX_FRAME_PAYLOAD_BYTES
from trio_streams.core import records
from trio_streams.core.buffer import FrameBuffer
from trio_streams.core.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from trio_streams.core.stream_machine import Piece
from trio_streams.core.wire import Frame

__all__ = ["PREFACE", "PROTOCOL", "BinaryWire"]

PROTOCOL: Final = "trio-streams.v1"
"""The name of the dialect: WebSocket subprotocol and ALPN token."""

PREFACE: Final = b"trio-streams.v1\n"

_HEADER: Final = struct.Struct(">BBHQ")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_TWO_U64: Final = struct.Struct(">QQ")
_CODE_AND_U64: Final = struct.Struct(">IQ")

_HELLO, _OPEN, _HEAD, _DATA, _END, _RESET, _STOP, _CREDIT, _PING, _PONG, _ACK, _GOAWAY = range(1, 13)
_CONNECTION_KINDS: Final = frozenset({_HELLO, _PING, _PONG, _ACK, _GOAWAY})
_RUN, _FIRST, _PIECE = 1, 2, 4
_NAMES: Final = (
    "",
    "HELLO",
    "OPEN",
    "HEADER",
    "DATA",
    "END",
    "RESET",
    "STOP",
    "CREDIT",
    "PING",
    "PONG",
    "ACK",
    "GOAWAY",
)
_RUN_TABLES: Final = {n: struct.Struct(f">{n}H") for n in range(1, 257)}
_MAX_REASON_BYTES: Final = 1_024


class _Hello(msgspec.Struct, omit_defaults=True):
    session_id: str
    frames_received: int = 0
    window_items: int = 0
    window_bytes: int = 0
    connection_bytes: int = 0
    max_streams: int = 0
    max_item_bytes: int = 0
    idle_timeout_ms: int = 0
    agent: str = ""
    features: list[str] = []


class _Open(msgspec.Struct, omit_defaults=True):
    name: str
    metadata: dict[str, str] = {}
    priority: int = 0
    timeout_ms: int | None = None
    window_items: int = 0
    window_bytes: int = 0


class _End(msgspec.Struct, omit_defaults=True):
    code: str = "OK"
    message: str = ""
    details: object = None
    trailers: dict[str, str] = {}


_T = TypeVar("_T")
_encode_json: Final = msgspec.json.Encoder().encode
_hello_decoder: Final = msgspec.json.Decoder(_Hello)
_open_decoder: Final = msgspec.json.Decoder(_Open)
_end_decoder: Final = msgspec.json.Decoder(_End)
_metadata_decoder: Final = msgspec.json.Decoder(dict[str, str])


def _text(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise RemoteProtocolError(
            f"{field} is not UTF-8 at byte {exc.start} of {len(data)}", field=field, size=len(data)
        ) from exc


def _json(decoder: msgspec.json.Decoder[_T], data: bytes, field: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(
            f"{field} of {len(data)} bytes can't be decoded: {exc}", field=field, size=len(data)
        ) from exc


def _numbers(layout: struct.Struct, data: bytes, field: str) -> tuple[int, ...]:
    if len(data) != layout.size:
        raise RemoteProtocolError(
            f"{field} has {len(data)} bytes of payload, not {layout.size}",
            field=field,
            size=len(data),
            limit=layout.size,
        )
    return layout.unpack(data)


def _non_negative(value: int, field: str) -> int:
    if value < 0 or value >= 1 << 63:
        raise RemoteProtocolError(
            f"{field} is {value}, outside 0 to 2^63-1", field=field, size=value, limit=(1 << 63) - 1
        )
    return value


class BinaryWire:
    """Encodes and decodes `trio-streams.v1`; one instance for each connection."""

    preface = PREFACE
    max_frame_bytes = MAX_FRAME_PAYLOAD_BYTES

    def __init__(self) -> None:
        self._buffer = FrameBuffer(_HEADER.size + MAX_FRAME_PAYLOAD_BYTES, "max_frame_bytes")
        self._has_preface = False
        self._is_broken = False

    # -- out --------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> bytes:
        if len(payload) > MAX_FRAME_PAYLOAD_BYTES:
            field = _NAMES[kind]
            raise LocalProtocolError(
                f"{field} of {len(payload)} bytes does not fit into a frame of {MAX_FRAME_PAYLOAD_BYTES}",
                code=Code.MESSAGE_TOO_LARGE,
                field=field,
                size=len(payload),
                limit=MAX_FRAME_PAYLOAD_BYTES,
            )
        return _HEADER.pack(kind, flags, len(payload), stream_id) + payload

    def encode(self, stream_id: int, record: records.Record) -> bytes:
        """A record as a whole frame.

        Raises:
          LocalProtocolError: it does not fit into a frame, or holds what JSON can't express.
        """
        kind, encoder = _ENCODERS[type(record)]
        try:
            payload = encoder(record)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise LocalProtocolError(f"{_NAMES[kind]} can't be encoded: {exc}", field=_NAMES[kind]) from exc
        return self._frame(kind, stream_id, payload)

    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of whole items as one frame; the caller keeps it within the frame's size."""
        count = len(items)
        if count == 1:
            item = items[0]
            return _HEADER.pack(_DATA, 0, len(item), stream_id) + item
        table = _RUN_TABLES.get(count) or struct.Struct(f">{count}H")
        lengths = table.pack(*map(len, items))
        body = b"".join(items)
        size = 2 + len(lengths) + len(body)
        return _HEADER.pack(_DATA, _RUN, size, stream_id) + count.to_bytes(2, "big") + lengths + body

    def encode_piece(self, stream_id: int, piece: Piece) -> bytes:
        """A piece of a large item as one frame."""
        if piece.total is None:
            return self._frame(_DATA, stream_id, piece.data, _PIECE)
        return self._frame(_DATA, stream_id, _U32.pack(piece.total) + piece.data, _FIRST)

    # -- in ---------------------------------------------------------------------------------------------------

    def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
        """Every frame that is complete with this chunk; an error comes last, and nothing after it."""
        frames: list[tuple[int, Frame]] = []
        if self._is_broken:
            return frames
        data = self._buffer.join(chunk)
        if data is None:
            return frames
        try:
            self._decode(data, frames)
        except ProtocolError as exc:
            self._is_broken = True
            frames.append((0, exc))
        return frames

    def _decode(self, data: bytes, frames: list[tuple[int, Frame]]) -> None:
        position = 0 if self._has_preface else self._decode_preface(data)
        if position < 0:
            return
        size = len(data)
        unpack = _HEADER.unpack_from
        needed = _HEADER.size
        while size - position >= 12:
            kind, flags, length, stream_id = unpack(data, position)
            end = position + 12 + length
            if end > size or length > MAX_FRAME_PAYLOAD_BYTES:
                # The buffer's limit refuses what is too long, whether or not all of it is here.
                needed = 12 + length
                break
            payload = data[position + 12 : end]
            position = end
            if kind == _DATA:
                frames.append((stream_id, _decode_data(flags, payload) if flags else [payload]))
            else:
                frames.append((stream_id, self._decode_record(kind, flags, stream_id, payload)))
        self._buffer.keep(data[position:], needed)

    def _decode_preface(self, data: bytes) -> int:
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise _not_ours(data)
            self._buffer.keep(data, len(data) + 1)
            return -1
        if not data.startswith(PREFACE):
            raise _not_ours(data)
        self._has_preface = True
        return len(PREFACE)

    def _decode_record(self, kind: int, flags: int, stream_id: int, payload: bytes) -> records.Record:
        if flags and 0 < kind < len(_NAMES):
            raise RemoteProtocolError(f"{_NAMES[kind]} has unknown flags {flags}", field="flags", size=flags)
        if stream_id and kind in _CONNECTION_KINDS:
            raise RemoteProtocolError(
                f"the peer sent {_NAMES[kind]} on stream {stream_id}, not on 0", field="stream_id", size=stream_id
            )
        if kind == _CREDIT:
            first, second = _numbers(_TWO_U64, payload, "CREDIT")
            return records.Credit(first, second) if stream_id else records.ConnectionCredit(second, first)
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise RemoteProtocolError(f"the peer sent a frame of unknown type {kind}", field="type", size=kind)
        return decoder(payload)


def _not_ours(data: bytes) -> RemoteProtocolError:
    if data.startswith(b"trio-streams."):
        spoken = data[:24].split(b"\n")[0].decode("ascii", "replace")
        message = f"the peer speaks {spoken}, this end {PROTOCOL}"
    else:
        message = f"the peer does not speak {PROTOCOL}: its first {min(len(data), 16)} bytes are not the preface"
    return RemoteProtocolError(message, field="preface", size=len(data), limit=len(PREFACE))


def _decode_data(flags: int, payload: bytes) -> list[bytes] | Piece:
    if flags == _RUN:
        return _decode_run(payload)
    if flags == _PIECE:
        return Piece(payload)
    if flags == _FIRST:
        if len(payload) < 4:
            raise RemoteProtocolError(
                f"a first piece of {len(payload)} bytes lacks its total", field="DATA", size=len(payload), limit=4
            )
        return Piece(payload[4:], _U32.unpack_from(payload)[0])
    raise RemoteProtocolError(f"DATA has unknown flags {flags}", field="flags", size=flags)


def _decode_run(payload: bytes) -> list[bytes]:
    count = int.from_bytes(payload[:2], "big")
    start = 2 + 2 * count
    if not count or start > len(payload):
        raise RemoteProtocolError(
            f"a run of {count} items does not fit into {len(payload)} bytes",
            field="DATA",
            size=count,
            limit=len(payload),
        )
    table = _RUN_TABLES.get(count) or struct.Struct(f">{count}H")
    bounds = list(accumulate(table.unpack_from(payload, 2), initial=start))
    if bounds[-1] != len(payload):
        raise RemoteProtocolError(
            f"a run's lengths add up to {bounds[-1]}, its frame has {len(payload)} bytes",
            field="DATA",
            size=bounds[-1],
            limit=len(payload),
        )
    return [payload[a:b] for a, b in pairwise(bounds)]


# -- one line a record: how it becomes payload, and how payload becomes it ---------------------------------------


def _encode_hello(r: records.Hello) -> bytes:
    return _encode_json(
        _Hello(
            r.session_id,
            r.frames_received,
            r.window_items,
            r.window_bytes,
            r.connection_bytes,
            r.max_streams,
            r.max_item_bytes,
            r.idle_timeout_ms,
            r.agent,
            sorted(r.features),
        )
    )


def _decode_hello(payload: bytes) -> records.Hello:
    h = _json(_hello_decoder, payload, "HELLO")
    numbers = {
        field: _non_negative(getattr(h, field), f"HELLO.{field}")
        for field in (
            "frames_received",
            "window_items",
            "window_bytes",
            "connection_bytes",
            "max_streams",
            "max_item_bytes",
            "idle_timeout_ms",
        )
    }
    return records.Hello(session_id=h.session_id, agent=h.agent, features=frozenset(h.features), **numbers)


def _encode_open(r: records.Open) -> bytes:
    return _encode_json(_Open(r.name, dict(r.metadata), r.priority, r.timeout_ms, r.window_items, r.window_bytes))


def _decode_open(payload: bytes) -> records.Open:
    o = _json(_open_decoder, payload, "OPEN")
    if not -128 <= o.priority <= 127:
        raise RemoteProtocolError(
            f"OPEN.priority is {o.priority}, outside -128 to 127", field="OPEN.priority", size=o.priority, limit=127
        )
    return records.Open(
        o.name,
        o.metadata,
        o.priority,
        None if o.timeout_ms is None else _non_negative(o.timeout_ms, "OPEN.timeout_ms"),
        _non_negative(o.window_items, "OPEN.window_items"),
        _non_negative(o.window_bytes, "OPEN.window_bytes"),
    )


def _decode_header(payload: bytes) -> records.Header:
    metadata = _json(_metadata_decoder, payload, "HEADER")
    return records.Header(metadata)


def _encode_end(r: records.End) -> bytes:
    status = r.status
    if status == records.OK and not r.trailers:
        return b""
    return _encode_json(_End(status.code, status.message, status.details, dict(r.trailers)))


def _decode_end(payload: bytes) -> records.End:
    if not payload:
        return records.End()
    e = _json(_end_decoder, payload, "END")
    return records.End(records.Status(e.code, e.message, e.details), e.trailers)


def _encode_code(code: Code, reason: str) -> bytes:
    return _U32.pack(code.value) + _cut_reason(reason)


def _cut_reason(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


def _decode_code(payload: bytes, field: str) -> tuple[Code, str]:
    if len(payload) < 4:
        raise RemoteProtocolError(
            f"{field} of {len(payload)} bytes lacks its code", field=field, size=len(payload), limit=4
        )
    return Code.from_number(_U32.unpack_from(payload)[0]), _text(payload[4:], f"{field}.reason")


def _decode_go_away(payload: bytes) -> records.GoAway:
    if len(payload) < _CODE_AND_U64.size:
        raise RemoteProtocolError(
            f"GOAWAY of {len(payload)} bytes lacks its code and stream",
            field="GOAWAY",
            size=len(payload),
            limit=_CODE_AND_U64.size,
        )
    code, last = _CODE_AND_U64.unpack_from(payload)
    return records.GoAway(Code.from_number(code), _text(payload[_CODE_AND_U64.size :], "GOAWAY.reason"), last)


_ENCODERS: Final[dict[type, tuple[int, Callable[..., bytes]]]] = {
    records.Hello: (_HELLO, _encode_hello),
    records.Open: (_OPEN, _encode_open),
    records.Header: (_HEAD, lambda r: _encode_json(dict(r.metadata))),
    records.End: (_END, _encode_end),
    records.Reset: (_RESET, lambda r: _encode_code(r.code, r.reason)),
    records.Stop: (_STOP, lambda r: _encode_code(r.code, r.reason)),
    records.Credit: (_CREDIT, lambda r: _TWO_U64.pack(r.items, r.bytes)),
    records.ConnectionCredit: (_CREDIT, lambda r: _TWO_U64.pack(r.streams, r.bytes)),
    records.Ping: (_PING, lambda r: _U64.pack(r.number)),
    records.Pong: (_PONG, lambda r: _U64.pack(r.number)),
    records.Ack: (_ACK, lambda r: _U64.pack(r.frames)),
    records.GoAway: (
        _GOAWAY,
        lambda r: _CODE_AND_U64.pack(r.code.value, r.last_stream) + _cut_reason(r.reason),
    ),
}

_DECODERS: Final[dict[int, Callable[[bytes], records.Record]]] = {
    _HELLO: _decode_hello,
    _OPEN: _decode_open,
    _HEAD: _decode_header,
    _END: _decode_end,
    _RESET: lambda p: records.Reset(*_decode_code(p, "RESET")),
    _STOP: lambda p: records.Stop(*_decode_code(p, "STOP")),
    _PING: lambda p: records.Ping(_numbers(_U64, p, "PING")[0]),
    _PONG: lambda p: records.Pong(_numbers(_U64, p, "PONG")[0]),
    _ACK: lambda p: records.Ack(_numbers(_U64, p, "ACK")[0]),
    _GOAWAY: _decode_go_away,
}
