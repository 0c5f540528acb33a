"""Recorded conversations of our dialect, with every kind of frame, and what each cut of them has said so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.wire.binary import PREFACE, BinaryWire

__all__ = ["FROM_CLIENT", "FROM_SERVER", "KINDS", "Said", "Spoken", "join", "offsets", "said_by"]

_WIDE: Final = 1 << 40
_WIRE: Final = BinaryWire()

KINDS: Final = frozenset(
    {
        "HELLO",
        "OPEN",
        "HEADER",
        "DATA",
        "RUN",
        "PIECE",
        "END",
        "RESET",
        "STOP",
        "CREDIT",
        "PING",
        "PONG",
        "ACK",
        "GOAWAY",
    }
)
"""What a conversation must have in it, if its side may say it."""


@attrs.frozen
class Spoken:
    """One frame of a conversation.

    Attributes:
      kind: of the frame.
      data: its bytes.
      stream_id: of its stream.
      items: those that are complete with it.
      ending: how its stream is over for a reader, once it is here.
    """

    kind: str
    data: bytes
    stream_id: int = 0
    items: tuple[bytes, ...] = ()
    ending: str = ""


@attrs.define
class Said:
    """What a reader knows of one stream."""

    items: list[bytes] = attrs.field(factory=list)
    ending: str = ""


def _spoken(stream_id: int, record: records.Record, ending: str = "") -> Spoken:
    kind = type(record).__name__.removeprefix("Connection").upper()
    return Spoken(kind, _WIRE.encode(stream_id, record), stream_id, ending=ending)


def _run(stream_id: int, *items: bytes) -> Spoken:
    return Spoken("RUN" if len(items) > 1 else "DATA", _WIRE.encode_run(stream_id, items), stream_id, items)


def _cut(stream_id: int, *parts: bytes) -> list[Spoken]:
    whole = b"".join(parts)
    pieces = [Piece(parts[0], len(whole)), *map(Piece, parts[1:])]
    last = len(parts) - 1
    return [
        Spoken("PIECE", b"".join(_WIRE.encode_piece(stream_id, piece)), stream_id, (whole,) if n == last else ())
        for n, piece in enumerate(pieces)
    ]


def _hello() -> list[Spoken]:
    hello = records.Hello("recorded", 0, 256, 262_144, _WIDE, 100, 1 << 20)
    return [Spoken("HELLO", PREFACE), _spoken(0, hello)]


def _open(stream_id: int, name: str) -> Spoken:
    return _spoken(stream_id, records.Open(name, window_items=256, window_bytes=262_144))


_NOT_OK: Final = records.End(records.Status("OUT_OF_STOCK", "none left"), {"a": "b"})

FROM_CLIENT: Final[Sequence[Spoken]] = (
    *_hello(),
    _open(1, "collect"),
    _run(1, b"one"),
    _spoken(0, records.Ping(7)),
    _run(1, b"two", b"", b"three"),
    *_cut(1, b"a long item, ", b"cut into ", b"three parts"),
    _open(3, "collect"),
    _run(3, b"forgotten"),
    _spoken(1, records.End(), "end"),
    _spoken(3, records.Reset(Code.CANCELLED, "never mind"), "reset"),
    _open(5, "produce"),
    _spoken(5, records.Credit(300, 300_000)),
    _spoken(5, records.Stop(Code.CANCELLED, "enough")),
    _spoken(0, records.ConnectionCredit(_WIDE + 1, 200)),
    _spoken(0, records.Ack(3)),
    _spoken(0, records.Pong(1)),
    _open(7, "collect"),
    *_cut(7, b"x" * 20, b"y" * 20),
    _spoken(7, _NOT_OK, "status"),
    _open(9, "collect"),
    _run(9, b"still", b"open"),
    _spoken(0, records.GoAway(Code.OK, "closed", 0)),
)
"""What a client says to handlers `collect`, which read all they get, and `produce`, which send."""

FROM_SERVER: Final[Sequence[Spoken]] = (
    *_hello(),
    _spoken(1, records.Header({"head": "of the answer"})),
    _run(1, b"one"),
    _spoken(0, records.Ping(7)),
    _run(1, b"two", b"", b"three"),
    *_cut(1, b"a long item, ", b"cut into ", b"three parts"),
    _run(3, b"forgotten"),
    _spoken(1, records.End(), "end"),
    _spoken(3, records.Reset(Code.INTERNAL, "oh dear"), "reset"),
    _spoken(5, records.Credit(300, 300_000)),
    _spoken(5, records.Stop(Code.OK, "enough")),
    _spoken(0, records.ConnectionCredit(_WIDE + 1, 200)),
    _spoken(0, records.Ack(3)),
    _spoken(0, records.Pong(1)),
    *_cut(7, b"x" * 20, b"y" * 20),
    _spoken(7, _NOT_OK, "status"),
    _run(9, b"still", b"open"),
    _spoken(0, records.GoAway(Code.OK, "closed", 9)),
)
"""What a server says to a client that has opened the streams 1 to 9 and reads them all."""


def join(conversation: Sequence[Spoken]) -> bytes:
    return b"".join(one.data for one in conversation)


def offsets(conversation: Sequence[Spoken]) -> range:
    """After how many bytes a conversation may be cut: every one."""
    return range(len(join(conversation)) + 1)


def said_by(conversation: Sequence[Spoken], size: int) -> dict[int, Said]:
    """What the first bytes of a conversation have said of each stream, by frames that are whole."""
    streams: dict[int, Said] = {}
    for one in conversation:
        size -= len(one.data)
        if size < 0:
            break
        said = streams.setdefault(one.stream_id, Said())
        if one.ending == "reset":
            said.items.clear()
        said.items += one.items
        said.ending = said.ending or one.ending
    streams.pop(0, None)
    return streams
