"""What a reader is configured by, and the pieces that it gives out."""

from __future__ import annotations

import attrs

from trio_streams.config import positive

__all__ = ["Piece", "ReaderConfig"]


@attrs.frozen(kw_only=True)
class ReaderConfig:
    """Limits and patience of a reader.

    Attributes:
      max_piece_bytes: bytes and text are given out in pieces of about this much.
      max_answer_bytes: the largest answer that is taken where it has to be here as a whole: JSON, events with metadata.
        Servers may answer the whole rest of a stream at once.
      idle_timeout: seconds without a byte after which an answer counts as lost; None for never. More than servers hold
        a long poll, and than they keep a stream of events open.
      max_outage: seconds for which a reader that follows live, and was answered before, goes on trying while nobody
        answers or the server is overloaded; None for ever. Others try as often as `RetryOptions` says.
      short_stream_seconds: a stream of events that lasts less is short.
      max_short_streams: so many of them in a row, and it goes on by long polls.
    """

    max_piece_bytes: int = attrs.field(default=1_048_576, validator=positive)
    max_answer_bytes: int = attrs.field(default=134_217_728, validator=positive)
    idle_timeout: float | None = attrs.field(default=120.0, validator=positive)
    max_outage: float | None = attrs.field(default=300.0, validator=positive)
    short_stream_seconds: float = attrs.field(default=1.0, validator=positive)
    max_short_streams: int = attrs.field(default=3, validator=positive)


@attrs.frozen
class Piece:
    """What has arrived, and what is known behind it.

    Attributes:
      parts: its bytes; of JSON each part is an array of its own. None at all where only what follows is news.
      next_offset: go on here to miss nothing.
      is_whole: whether that is right behind the bytes; else they will be had again there.
      is_up_to_date: whether it was the tail when the server said this.
      is_closed: whether nothing more can come.
      cursor: for caches on the way.
    """

    parts: tuple[bytes, ...]
    next_offset: str
    is_whole: bool
    is_up_to_date: bool
    is_closed: bool
    cursor: str | None

    @property
    def data(self) -> bytes:
        """All bytes of it."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
