"""What a multiplexer asks of a wire format: bytes for records, records for bytes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from trio_streams.core.assembly import Piece
from trio_streams.core.errors import ProtocolError
from trio_streams.core.records import Record

__all__ = ["Frame", "ResumableWire", "Wire"]

Frame: TypeAlias = "list[bytes] | Piece | Record | ProtocolError"
"""A run of whole items, a piece of a large one, a record, or, as the last of all, what is wrong with the input."""


class Wire(Protocol):
    """One wire format; it keeps the state of one direction of input."""

    preface: bytes
    """What each side sends before its first frame."""

    max_frame_bytes: int
    """The most payload one frame carries."""

    def encode(self, stream_id: int, record: Record) -> bytes:
        """A record as a whole frame. Raises LocalProtocolError where it does not fit into one."""
        ...

    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of whole items as one frame."""
        ...

    def encode_piece(self, stream_id: int, piece: Piece) -> Sequence[bytes | memoryview]:
        """A piece of a large item as frames, in chunks to be joined: the item's bytes are not copied here."""
        ...

    def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
        """Every frame that is complete with this chunk, with its stream; 0 is the connection itself.

        Pieces of one item that follow each other are joined into one `Piece`, which says how many frames it was.

        It never raises for the peer's fault: the error comes last in the list, and nothing is decoded after it.
        """
        ...


class ResumableWire(Wire, Protocol):
    """A wire whose sessions can go on with another carrier."""

    def reset_input(self) -> None:
        """Forget what was decoded: a preface comes next. Half a frame is dropped."""
        ...

    def find_counted(self, data: bytes) -> list[tuple[int, int]]:
        """Where in some whole frames those begin and end that belong to the session, not to one carrier."""
        ...
