"""The payloads of `trio-streams.v1`: every record but DATA as bytes, and bytes as records.

What has a fixed shape is packed numbers, what grows is JSON. A record is checked on its way out with the decoder that
the peer will use: a wrong type in one of them is the caller's fault, and must not cost the connection.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["CARRIER_KINDS", "DATA", "NAMES", "decode_record", "encode_record"]

NAMES: Final = (
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
"""The names of the frame types, which number them."""

_HELLO, _OPEN, _HEAD, DATA, _END, _RESET, _STOP, _CREDIT, _PING, _PONG, _ACK, _GOAWAY = range(1, len(NAMES))
_CHECKED_KINDS: Final = frozenset({_OPEN, _HEAD, _END})
_CONNECTION_KINDS: Final = frozenset({_HELLO, _PING, _PONG, _ACK, _GOAWAY})

CARRIER_KINDS: Final = _CONNECTION_KINDS - {_GOAWAY}
"""The types of frames that belong to a carrier, not to the session: they are not counted, and a replay leaves them out."""

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_TWO_U64: Final = struct.Struct(">QQ")
_CODE_AND_U64: Final = struct.Struct(">IQ")
_MAX_REASON_BYTES: Final = 1_024


def encode_record(record: records.Record) -> tuple[int, bytes]:
    """A record's type and payload.

    Raises:
      LocalProtocolError: it holds what JSON can't express, or what the peer would refuse.
    """
    kind, encoder = _ENCODERS[type(record)]
    try:
        payload = encoder(record)
        if kind in _CHECKED_KINDS:
            _DECODERS[kind](payload)
    except (TypeError, ValueError, OverflowError, RecursionError, RemoteProtocolError) as exc:
        raise LocalProtocolError(f"{NAMES[kind]} can't be encoded: {exc}", field=NAMES[kind]) from exc
    return kind, payload


def decode_record(kind: int, flags: int, stream_id: int, payload: bytes) -> records.Record:
    """The record of a frame that is not DATA.

    Raises:
      RemoteProtocolError: the frame is not one of ours, or its payload is malformed.
    """
    if flags and 0 < kind < len(NAMES):
        raise RemoteProtocolError(f"{NAMES[kind]} has unknown flags {flags}", field="flags", size=flags)
    if stream_id and kind in _CONNECTION_KINDS:
        raise RemoteProtocolError(
            f"the peer sent {NAMES[kind]} on stream {stream_id}, not on 0", field="stream_id", size=stream_id
        )
    if kind == _CREDIT:
        first, second = _numbers(_TWO_U64, payload, "CREDIT")
        return records.Credit(first, second) if stream_id else records.ConnectionCredit(second, first)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise RemoteProtocolError(f"the peer sent a frame of unknown type {kind}", field="type", size=kind)
    return decoder(payload)


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
    features = frozenset(h.features) if h.features else records.NO_FEATURES
    return records.Hello(session_id=h.session_id, agent=h.agent, features=features, **numbers)


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
    if status.details is not None and not _is_finite(msgspec.to_builtins(status.details)):
        raise ValueError("its details hold NaN or an infinity, which JSON has no number for")
    return _encode_json(_End(status.code, status.message, status.details, dict(r.trailers)))


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))


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
