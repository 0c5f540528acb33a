"""What both sides' encoders of envelopes have in common; a `core.wire.Wire` of which only the encoding side is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.wire import Frame
from trio_streams.wire.message_stream import MAX_FRAME_BYTES

__all__ = ["MessageWire"]


class MessageWire(ABC):
    """Encodes what one connection's streams say."""

    preface: bytes = b""
    max_frame_bytes: int = MAX_FRAME_BYTES

    def encode(self, stream_id: int, record: records.Record) -> bytes:
        """A record as a whole frame; empty for one that this dialect has no word for.

        Raises:
          LocalProtocolError: it holds what JSON can't express, or is longer than the peer takes.
        """
        try:
            return self._encode_record(stream_id, record)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            field = type(record).__name__.upper()
            raise LocalProtocolError(f"{field} can't be encoded: {exc}", field=field) from exc

    @abstractmethod
    def _encode_record(self, stream_id: int, record: records.Record) -> bytes:
        """The same; whatever JSON's encoder raises passes through."""

    @abstractmethod
    def encode_run(self, stream_id: int, items: Sequence[bytes]) -> bytes:
        """A run of items, each as an envelope of its own."""

    @abstractmethod
    def forget(self, stream_id: int) -> None:
        """A stream is over: nothing more is written for it."""

    def encode_piece(self, stream_id: int, piece: Piece) -> list[bytes]:
        """Not in this dialect: an item is one message."""
        raise LocalProtocolError("an envelope can't hold a piece of an item", field="piece")

    def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
        """Not here: messages are parsed by `envelope_records`."""
        return []
