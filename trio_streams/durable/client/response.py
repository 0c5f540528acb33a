"""What has been read of a stream, in the shape that somebody wants it in: bytes, text, JSON, or events with metadata."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

from trio_streams.durable.client.reader import StreamReader
from trio_streams.durable.errors import DurableStreamError, StreamConsumedError
from trio_streams.durable.protocol.content import decode_batch, decode_text, event_maker, text_decoder
from trio_streams.durable.protocol.reading import Piece, is_json
from trio_streams.durable.protocol.refusals import public_url
from trio_streams.durable.types import StreamEvent
from trio_streams.streams.pace import Pace

__all__ = ["AsyncStreamResponse", "Decode", "EventMode"]

T = TypeVar("T")

Decode: TypeAlias = Callable[[Any], Any]
"""Makes something of one JSON value."""

EventMode: TypeAlias = Literal["auto", "bytes", "text", "json"]
"""What the data of an event is; `auto` goes by the stream's content type."""


class AsyncStreamResponse:
    """A stream that is being read. It can be consumed once, in one way; leaving its block closes it.

    There is no task behind it: who iterates it reads the connection, and waits for the next attempt where one failed.
    A cancelled iteration loses nothing: `anext` of the same iterator goes on. So does a `read_…` that was cancelled, when
    it is called again.

    All its properties are about what was given out so far, and not about what has merely arrived: `offset` is where
    another reader has to begin to miss nothing of what follows.
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
        """Where to go on to miss nothing of what was not given out."""
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

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over its bytes, in chunks as they come; see `iter_text` for what ends it, and what it raises."""
        return self._iterate("async for", _as_bytes)

    def iter_text(self, encoding: str = "utf-8") -> AsyncIterator[str]:
        """Iterate over its text, in pieces as it comes. A character may span two appends; it comes in one piece.

        Iteration ends where the stream is closed, or, with `live=False`, where it is up to date.

        Args:
          encoding: of the stream's bytes.

        Raises:
          StreamConsumedError: this response was consumed before.
          DurableStreamError: the server refuses or breaks the protocol; or, with code PARSE_ERROR, this is no such text.
          FetchError: nobody answers any more.
        Cancellation: loses nothing; the iterator goes on.
        """
        decoder = text_decoder(encoding)
        return self._iterate(
            "iter_text",
            lambda piece: [text] if (text := decode_text(decoder, piece.data)) else [],
            finish=lambda: decode_text(decoder, b"", final=True),
        )

    def iter_json(self, decode: Decode | None = None) -> AsyncIterator[Any]:
        """Iterate over its JSON values; the arrays that answers are made of are flattened, one level.

        Args:
          decode: makes something of each value, as it is given out.

        Raises:
          Exception: as `iter_text`.
        Cancellation: loses nothing; the iterator goes on.
        """
        return self._iterate("iter_json", self._batch, whole=True, decode=decode)

    def iter_json_batches(self, decode: Decode | None = None) -> AsyncIterator[list[Any]]:
        """As `iter_json`, with the values of an answer, or of an event, as one list; there is no empty one."""
        return self._iterate(
            "iter_json_batches",
            lambda piece: [batch] if (batch := self._batch(piece)) else [],
            whole=True,
            decode=_for_each(decode),
        )

    def iter_events(self, mode: EventMode = "auto") -> AsyncIterator[StreamEvent[Any]]:
        """Iterate over events: the data of an answer, or of a server-sent event, with the offset right behind it.

        An event without data says that the stream has become up to date, or closed.

        Args:
          mode: what the data is: bytes, text, or a list of JSON values.

        Raises:
          Exception: as `iter_text`; or the data of one answer is larger than is taken at once.
        Cancellation: loses nothing; the iterator goes on.
        """
        make = event_maker(mode, self.content_type)
        was_up_to_date = False

        def take(piece: Piece) -> list[StreamEvent[Any]]:
            nonlocal was_up_to_date
            event = make(piece)
            is_news = bool(event.data) or piece.is_closed or (piece.is_up_to_date and not was_up_to_date)
            was_up_to_date = piece.is_up_to_date
            return [event] if is_news else []

        return self._iterate("iter_events", take, whole=True)

    async def read_bytes(self) -> bytes:
        """All bytes up to where the stream is up to date, whatever `live` is.

        Raises:
          Exception: as `iter_text`.
        Cancellation: loses nothing, if it is called again.
        """
        pieces = await self._collect("read_bytes", whole=False)
        return b"".join(part for piece in pieces for part in piece.parts)

    async def read_text(self, encoding: str = "utf-8") -> str:
        """As `read_bytes`, as text."""
        pieces = await self._collect("read_text", whole=False)
        data = b"".join(part for piece in pieces for part in piece.parts)
        return decode_text(text_decoder(encoding), data, final=True)

    async def read_json(self, decode: Decode | None = None) -> list[Any]:
        """As `read_bytes`, as a list of its JSON values.

        Args:
          decode: makes something of each value.
        """
        pieces = await self._collect("read_json", whole=True)
        values = [value for piece in pieces for value in self._batch(piece)]
        return values if decode is None else [decode(value) for value in values]

    async def read_json_batches(self, decode: Decode | None = None) -> list[list[Any]]:
        """As `read_json`, with the values of each answer as a list of their own."""
        pieces = await self._collect("read_json_batches", whole=True)
        batches = [batch for piece in pieces if (batch := self._batch(piece))]
        return batches if decode is None else [[decode(value) for value in batch] for batch in batches]

    def cancel(self) -> None:
        """Want no more: iteration ends, also in another task that waits in it. What is open is closed by `aclose`."""
        self._reader.stop()

    async def aclose(self) -> None:
        """Close the connection. Idempotent.

        Cancellation: closes all the same.
        """
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if (reader := getattr(self, "_reader", None)) is not None and reader.abandon():
            warnings.warn(
                f"a response of {public_url(self.url)} was never closed: use `async with`, or `aclose`",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def _batch(self, piece: Piece) -> list[Any]:
        return decode_batch(piece.parts, self._reader.endpoint.url)

    def _consume(self, how: str, *, whole: bool, is_following: bool) -> None:
        if self._consumed_by:
            what = f"{how} of a response that was consumed by {self._consumed_by}"
            raise StreamConsumedError(what, code="ALREADY_CONSUMED")
        if "json" in how and self.content_type is not None and not is_json(self.content_type):
            raise DurableStreamError(f"{how} of a stream of type {self.content_type[:100]!r}", code="NOT_JSON")
        self._consumed_by = how
        self._machine.takes_whole = whole
        self._machine.is_following = is_following and self._machine.is_following

    def _iterate(
        self,
        how: str,
        take: Callable[[Piece], Iterable[T]],
        *,
        finish: Callable[[], T] | None = None,
        whole: bool = False,
        decode: Decode | None = None,
    ) -> AsyncIterator[T]:
        self._consume(how, whole=whole, is_following=True)
        return _Items(self._reader.next_piece, take, finish, decode, self._give)

    async def _collect(self, how: str, *, whole: bool) -> list[Piece]:
        if self._collected is None or self._consumed_by != how:
            self._consume(how, whole=whole, is_following=False)
            self._collected = []
        pieces = self._collected
        while (piece := await self._reader.next_piece()) is not None:
            pieces.append(piece)
            self._give(piece)
        self._collected = None
        return pieces

    def _give(self, piece: Piece) -> None:
        self._offset = piece.next_offset
        self._is_up_to_date = piece.is_up_to_date
        self._is_closed = piece.is_closed
        self._cursor = piece.cursor


class _Items(AsyncIterator[T], Generic[T]):
    """An iteration. It is no generator, for a generator that is cancelled is over."""

    def __init__(
        self,
        next_piece: Callable[[], Any],
        take: Callable[[Piece], Iterable[T]],
        finish: Callable[[], T] | None,
        decode: Decode | None,
        give: Callable[[Piece], None],
    ) -> None:
        self._next_piece = next_piece
        self._take = take
        self._finish = finish
        self._decode = decode
        self._give = give
        self._items: deque[T] = deque()
        self._piece: Piece | None = None  # the one that the items are of
        self._pace = Pace()

    async def __anext__(self) -> T:
        await self._pace.step()
        items = self._items
        while not items:
            await self._fill()
        item = items.popleft()
        if not items and self._piece is not None:
            self._give(self._piece)
        return item if self._decode is None else self._decode(item)

    async def _fill(self) -> None:
        piece = self._piece = await self._next_piece()
        self._pace.restart()
        if piece is None:
            finish, self._finish = self._finish, None
            rest = None if finish is None else finish()
            if not rest:
                raise StopAsyncIteration
            self._items.append(rest)
            return
        self._items.extend(self._take(piece))
        if not self._items:
            self._give(piece)


def _as_bytes(piece: Piece) -> list[bytes]:
    return [data] if (data := piece.data) else []


def _for_each(decode: Decode | None) -> Decode | None:
    return None if decode is None else lambda batch: [decode(value) for value in batch]
