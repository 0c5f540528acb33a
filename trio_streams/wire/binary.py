"""Our own dialect, `trio-streams.v1`: length-prefixed binary frames.

Each side sends the preface and then frames of a 12-byte header and at most 16 KiB of payload, in network byte order:

    type u8 | flags u8 | length u16 | stream u64 | payload

    HELLO   0x01  JSON (see `binary_records`); the first frame of each side
    OPEN    0x02  JSON (see `binary_records`)
    HEADER  0x03  JSON object of strings
    DATA    0x04  flags 0: one item
                  RUN   0x01: count u16, that many lengths u16, the items one behind the other
                  FIRST 0x02: total u32, the first bytes of an item larger than a frame
                  PIECE 0x04: further bytes of it
    END     0x05  empty for OK without trailers, else JSON (see `binary_records`)
    RESET   0x06  code u32, reason in UTF-8
    STOP    0x07  code u32, reason in UTF-8
    CREDIT  0x08  stream: items u64, bytes u64; stream 0: streams u64, bytes u64; absolute limits
    PING    0x09  number u64
    PONG    0x0a  number u64
    ACK     0x0b  frames u64
    GOAWAY  0x0c  code u32, last stream u64, reason in UTF-8

A packed run is the reason for its speed: one header, one `struct` call for all lengths, one slice an item. Unknown
frame types and JSON fields are an error and ignored, respectively: types are negotiated by `features`, fields may grow.

All frames but HELLO, PING, PONG and ACK are counted, without a number of their own: that is what a session is resumed by
(docs/topics/resuming.md says how).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from trio_streams.codes import Code
from trio_streams.config import MAX_FRAME_PAYLOAD_BYTES
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.buffer import FrameBuffer
from trio_streams.core.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from trio_streams.core.wire import Frame
from trio_streams.wire.binary_records import CARRIER_KINDS, NAMES, decode_record, encode_record
from trio_streams.wire.binary_records import DATA as _DATA

__all__ = ["PREFACE", "PROTOCOL", "BinaryWire"]

PROTOCOL: Final = "trio-streams.v1"
"""The name of the dialect: WebSocket subprotocol and ALPN token."""

PREFACE: Final = b"trio-streams.v1\n"

_HEADER: Final = struct.Struct(">BBHQ")
_U32: Final = struct.Struct(">I")

_RUN, _FIRST, _PIECE = 1, 2, 4
_PIECES: Final = frozenset({_FIRST, _PIECE})
_RUN_TABLES: Final = {n: struct.Struct(f">{n}H") for n in range(1, 257)}


class BinaryWire:
    """Encodes and decodes `trio-streams.v1`; one instance for each direction of input.

    Args:
      expects_preface: whether the input begins with the preface; it does not on a single stream of QUIC's, where a stream
        of the session's has said it for all of them.
    """

    preface = PREFACE
    max_frame_bytes = MAX_FRAME_PAYLOAD_BYTES

    __slots__ = ("_buffer", "_has_preface", "_is_broken")

    def __init__(self, *, expects_preface: bool = True) -> None:
        self.reset_input()
        self._has_preface = not expects_preface

    def reset_input(self) -> None:
        """Forget what was decoded: a preface comes next. Half a frame is dropped."""
        self._buffer = FrameBuffer(_HEADER.size + MAX_FRAME_PAYLOAD_BYTES, "max_frame_bytes")
        self._has_preface = False
        self._is_broken = False

    # -- out --------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> bytes:
        if len(payload) > MAX_FRAME_PAYLOAD_BYTES:
            field = NAMES[kind]
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
        kind, payload = encode_record(record)
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

    def encode_piece(self, stream_id: int, piece: Piece) -> list[bytes | memoryview]:
        """A piece of a large item, of any length, as full frames and one that may be shorter; in chunks to be joined."""
        data = memoryview(piece.data)
        size = len(data)
        chunks: list[bytes | memoryview] = []
        start = 0
        if piece.total is not None:
            start = min(size, MAX_FRAME_PAYLOAD_BYTES - 4)
            head = _HEADER.pack(_DATA, _FIRST, start + 4, stream_id) + _U32.pack(piece.total)
            chunks = [head, data[:start]]
        for position in range(start, size, MAX_FRAME_PAYLOAD_BYTES):
            part = data[position : position + MAX_FRAME_PAYLOAD_BYTES]
            chunks.append(_HEADER.pack(_DATA, _PIECE, len(part), stream_id))
            chunks.append(part)
        return chunks

    def find_counted(self, data: bytes) -> list[tuple[int, int]]:
        """Where in some whole frames those begin and end that belong to the session, not to one carrier."""
        spans: list[tuple[int, int]] = []
        position, size = 0, len(data)
        unpack = _HEADER.unpack_from
        while position < size:
            kind, _, length, _ = unpack(data, position)
            start, position = position, position + 12 + length
            if kind not in CARRIER_KINDS:
                spans.append((start, position))
        return spans

    # -- in ---------------------------------------------------------------------------------------------------

    def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
        """Every frame that is complete with this chunk; an error comes last, and nothing after it."""
        frames: list[tuple[int, Frame]] = []
        if self._is_broken:
            return frames
        buffer = self._buffer
        start = 0
        try:
            while buffer:
                data, start = buffer.complete(chunk, start)
                if data is None:
                    return frames
                self._decode(data, 0, frames)  # keeps it again where it was but the head of a frame
            self._decode(chunk, start, frames)
        except ProtocolError as exc:
            self._is_broken = True
            frames.append((0, exc))
        return frames

    def _decode(self, data: bytes, position: int, frames: list[tuple[int, Frame]]) -> None:
        if not self._has_preface:
            position = self._decode_preface(data)
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
            start, position = position + 12, end
            if kind == _DATA and flags in _PIECES:
                piece, position = _decode_pieces(data, start, end, stream_id, flags)
                frames.append((stream_id, piece))
                continue
            payload = data[start:end]
            if kind == _DATA:
                frames.append((stream_id, _decode_data(flags, payload) if flags else [payload]))
            else:
                frames.append((stream_id, decode_record(kind, flags, stream_id, payload)))
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


def _not_ours(data: bytes) -> RemoteProtocolError:
    wrong_at = next(n for n, (ours, theirs) in enumerate(zip(PREFACE, data, strict=False)) if ours != theirs)
    if data.startswith(b"trio-streams."):
        spoken = data[:24].split(b"\n")[0].decode("ascii", "replace")
        message = f"the peer speaks {spoken}, this end {PROTOCOL}"
    else:
        message = f"the peer does not speak {PROTOCOL}: its byte {wrong_at} is not the preface's"
    return RemoteProtocolError(message, field="preface", size=wrong_at, limit=len(PREFACE))


def _decode_data(flags: int, payload: bytes) -> list[bytes] | Piece:
    if flags == _RUN:
        return _decode_run(payload)
    raise RemoteProtocolError(f"DATA has unknown flags {flags}", field="flags", size=flags)


def _decode_pieces(data: bytes, start: int, end: int, stream_id: int, flags: int) -> tuple[Piece, int]:
    """A piece whose payload is `data[start:end]`, joined with those that follow it, and where those end.

    A piece that begins and completes an item is left to stand alone, as is an empty one: whether they may be is not judged
    here, and joining must not hide them.
    """
    total = None
    left = MAX_FRAME_PAYLOAD_BYTES * len(data)  # more than there can be
    if flags == _FIRST:
        if end - start < 4:
            raise RemoteProtocolError(
                f"a first piece of {end - start} bytes lacks its total", field="DATA", size=end - start, limit=4
            )
        (total,) = _U32.unpack_from(data, start)
        start += 4
        left = total
    left -= end - start
    parts: list[bytes | memoryview] = []
    size = len(data)
    unpack = _HEADER.unpack_from
    position = end
    view: memoryview | None = None
    while size - position >= 12:
        kind, further, length, of = unpack(data, position)
        after = position + 12 + length
        is_next = kind == _DATA and further == _PIECE and of == stream_id
        if not is_next or not 0 < length <= min(left, MAX_FRAME_PAYLOAD_BYTES) or after > size:
            break
        if view is None:
            view = memoryview(data)
            parts.append(view[start:end])
        parts.append(view[position + 12 : after])
        left -= length
        position = after
    if not parts:
        return Piece(data[start:end], total), end
    return Piece(b"".join(parts), total, len(parts)), position


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
