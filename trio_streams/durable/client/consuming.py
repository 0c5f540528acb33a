"""What both kinds of response share: how pieces become what somebody wants, and what is known of what was given out.

Nothing here waits. A response asks a `Consumption` for its next item, and feeds it pieces while it has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from trio_streams.durable.client.stream_reader import StreamReader
from trio_streams.durable.errors import DurableStreamError, StreamConsumedError
from trio_streams.durable.protocol.content import decode_batch, decode_text, event_maker, text_decoder
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.protocol.reading import Piece
from trio_streams.durable.types import StreamEvent

__all__ = ["Consumption", "Decode", "EventMode", "Response", "as_bytes", "as_text"]

T = TypeVar("T")

Decode: TypeAlias = Callable[[Any], Any]
"""Makes something of one JSON value."""

EventMode: TypeAlias = Literal["auto", "bytes", "text", "json"]
"""What the data of an event is; `auto` goes by the stream's content type."""


class Consumption(Generic[T]):
    """One way to consume a response: items that are made of pieces.

    Args:
      take: the items of a piece.
      finish: an item at the end, if it is one; None for none.
      decode: makes something of each item, as it is given out.
      give: is told of each piece when its last item is given out.
    """

    def __init__(
        self,
        take: Callable[[Piece], Iterable[T]],
        finish: Callable[[], T] | None,
        decode: Decode | None,
        give: Callable[[Piece], None],
    ) -> None:
        self._take = take
        self._finish = finish
        self._decode = decode
        self._give = give
        self._items: deque[T] = deque()
        self._piece: Piece | None = None  # the one that the items are of
        self._failure: DurableStreamError | None = None

    def needs_piece(self) -> bool:
        """Whether there is no item to take.

        Raises:
          DurableStreamError: a piece was not what it should be: what follows it is not given out either.
        """
        if self._items:
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def take_item(self) -> T:
        """The next item."""
        item = self._items.popleft()
        made = item if self._decode is None else self._decode(item)  # what it raises about was not given out
        if not self._items and self._piece is not None:
            self._give(self._piece)
        return made

    def receive(self, piece: Piece) -> None:
        """Take the next piece.

        Raises:
          DurableStreamError: it is not what it should be; none of it is given out.
        """
        self._piece = piece
        try:
            self._items.extend(self._take(piece))
        except DurableStreamError as exc:
            self._failure = exc
            raise
        if not self._items:
            self._give(piece)

    def receive_end(self) -> None:
        """There are no more pieces.

        Raises:
          DurableStreamError: what there was is not whole.
        """
        self._piece = None
        finish, self._finish = self._finish, None
        if finish is not None and (rest := finish()):
            self._items.append(rest)


class Response:
    """What was read of a stream, and in which way it is consumed.

    All properties are about what was given out so far, and not about what has merely arrived.
    """

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._machine = reader.machine
        self._offset = reader.machine.offset
        self._is_up_to_date = False
        self._is_closed = False
        self._cursor: str | None = reader.machine.cursor
        self._consumed_by = ""
        self._collected: list[Piece] | None = None

    @property
    def url(self) -> str:
        """What is read, as it was given."""
        return self._reader.endpoint.url

    @property
    def content_type(self) -> str | None:
        """The stream's; None where the server has not said."""
        return self._machine.content_type

    @property
    def offset(self) -> str:
        """Where another reader has to begin to miss nothing of what was not given out."""
        return self._offset

    @property
    def up_to_date(self) -> bool:
        """Whether what was given out goes up to the tail, as the server saw it then."""
        return self._is_up_to_date

    @property
    def closed(self) -> bool:
        """Whether the stream is closed and all of it was given out."""
        return self._is_closed

    @property
    def cursor(self) -> str | None:
        """The server's last one."""
        return self._cursor

    @property
    def status(self) -> int:
        """Of the last answer that was no refusal."""
        return self._machine.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the last answer that was no refusal; names in lower case."""
        return self._machine.fields

    def _bytes(self) -> Consumption[bytes]:
        return self._begin("iteration", lambda piece: [data] if (data := piece.data) else [])

    def _text(self, encoding: str) -> Consumption[str]:
        decoder = text_decoder(encoding)
        return self._begin(
            "iter_text",
            lambda piece: [text] if (text := decode_text(decoder, piece.data)) else [],
            finish=lambda: decode_text(decoder, b"", final=True),
        )

    def _json(self, decode: Decode | None) -> Consumption[Any]:
        return self._begin("iter_json", self._batch, whole=True, decode=decode)

    def _json_batches(self, decode: Decode | None) -> Consumption[list[Any]]:
        return self._begin(
            "iter_json_batches",
            lambda piece: [batch] if (batch := self._batch(piece)) else [],
            whole=True,
            decode=None if decode is None else lambda batch: [decode(value) for value in batch],
        )

    def _events(self, mode: EventMode) -> Consumption[StreamEvent[Any]]:
        make = event_maker(mode, self.content_type)
        was_up_to_date = False

        def take(piece: Piece) -> list[StreamEvent[Any]]:
            nonlocal was_up_to_date
            event = make(piece)
            is_news = bool(event.data) or piece.is_closed or (piece.is_up_to_date and not was_up_to_date)
            was_up_to_date = piece.is_up_to_date
            return [event] if is_news else []

        return self._begin("iter_events", take, whole=True)

    def _begin(
        self,
        how: str,
        take: Callable[[Piece], Iterable[T]],
        *,
        finish: Callable[[], T] | None = None,
        whole: bool = False,
        decode: Decode | None = None,
    ) -> Consumption[T]:
        self._consume(how, whole=whole)
        return Consumption(take, finish, decode, self._give)

    def _begin_collecting(self, how: str, *, whole: bool) -> list[Piece]:
        """The pieces so far: there are some where the same call was cancelled before."""
        if self._collected is None or self._consumed_by != how:
            self._consume(how, whole=whole)
            self._machine.is_following = False
            self._collected = []
        return self._collected

    def _end_collecting(self, make: Callable[[list[Piece]], T]) -> T:
        """All pieces are here: make something of them, which gives them out."""
        pieces, self._collected = self._collected or [], None
        made = make(pieces)
        if pieces:
            self._give(pieces[-1])
        return made

    def _consume(self, how: str, *, whole: bool) -> None:
        if self._consumed_by:
            what = f"{how} of a response that was consumed by {self._consumed_by} before: ask for another one"
            raise StreamConsumedError(what, code="ALREADY_CONSUMED")
        if "json" in how and self.content_type is not None and not is_json(self.content_type):
            raise DurableStreamError(f"{how} of a stream of type {self.content_type[:100]!r}", code="NOT_JSON")
        self._consumed_by = how
        self._machine.takes_whole = whole

    def _give(self, piece: Piece) -> None:
        self._offset = piece.next_offset
        self._is_up_to_date = piece.is_up_to_date
        self._is_closed = piece.is_closed
        self._cursor = piece.cursor

    def _batch(self, piece: Piece) -> list[Any]:
        return decode_batch(piece.parts, self.url)

    def _as_values(self, pieces: list[Piece], decode: Decode | None) -> list[Any]:
        values = [value for piece in pieces for value in self._batch(piece)]
        return values if decode is None else [decode(value) for value in values]

    def _as_batches(self, pieces: list[Piece], decode: Decode | None) -> list[list[Any]]:
        batches = [batch for piece in pieces if (batch := self._batch(piece))]
        return batches if decode is None else [[decode(value) for value in batch] for batch in batches]


def as_bytes(pieces: list[Piece]) -> bytes:
    """All bytes of pieces."""
    return b"".join(part for piece in pieces for part in piece.parts)


def as_text(pieces: list[Piece], encoding: str) -> str:
    """All text of pieces.

    Raises:
      DurableStreamError: with code PARSE_ERROR: it is no such text.
      LocalProtocolError: nobody knows this encoding.
    """
    return decode_text(text_decoder(encoding), as_bytes(pieces), final=True)
