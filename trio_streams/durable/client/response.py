"""A stream that is being read, on Trio."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from trio_streams.durable.client.consuming import Consumption, Decode, EventMode, Response, as_bytes, as_text
from trio_streams.durable.client.stream_reader import StreamReader
from trio_streams.durable.protocol.failures import public_url
from trio_streams.durable.protocol.reading import Piece
from trio_streams.durable.types import StreamEvent
from trio_streams.streams.pace import Pace

__all__ = ["AsyncStreamResponse"]

T = TypeVar("T")


class AsyncStreamResponse(Response):
    """A stream that is being read. It can be consumed once, in one way; leaving its block closes it.

    There is no task behind it: who iterates it reads the connection, and waits for the next attempt where one failed.
    A cancelled iteration loses nothing: `anext` of the same iterator goes on. So does a `read_…` that was cancelled, when
    it is called again.

    All its properties are about what was given out so far, and not about what has merely arrived: `offset` is where
    another reader has to begin to miss nothing of what follows. While a long answer is given out in pieces, that is where
    the answer began.
    """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over its bytes, in chunks as they come; see `iter_text` for what ends it, and what it raises.

        Server-sent events carry text with one kind of line end: of a stream of type `text/…`, CR and CRLF come as LF then.
        """
        return _Items(self._reader, self._bytes())

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
        return _Items(self._reader, self._text(encoding))

    def iter_json(self, decode: Decode | None = None) -> AsyncIterator[Any]:
        """Iterate over its JSON values; the arrays that answers are made of are flattened, one level.

        Args:
          decode: makes something of each value, as it is given out.

        Raises:
          Exception: as `iter_text`.
        Cancellation: loses nothing; the iterator goes on.
        """
        return _Items(self._reader, self._json(decode))

    def iter_json_batches(self, decode: Decode | None = None) -> AsyncIterator[list[Any]]:
        """As `iter_json`, with the values of an answer, or of an event, as one list; there is no empty one."""
        return _Items(self._reader, self._json_batches(decode))

    def iter_events(self, mode: EventMode = "auto") -> AsyncIterator[StreamEvent[Any]]:
        """Iterate over events: the data of an answer, or of a server-sent event, with the offset right behind it.

        An event without data says that the stream has become up to date, or closed.

        Args:
          mode: what the data is: bytes, text, or a list of JSON values.

        Raises:
          Exception: as `iter_text`; or the data of one answer is larger than is taken at once.
        Cancellation: loses nothing; the iterator goes on.
        """
        return _Items(self._reader, self._events(mode))

    async def read_bytes(self) -> bytes:
        """All bytes up to where the stream is up to date, whatever `live` is.

        Raises:
          Exception: as `iter_text`.
        Cancellation: loses nothing, if it is called again.
        """
        return await self._read("read_bytes", as_bytes)

    async def read_text(self, encoding: str = "utf-8") -> str:
        """As `read_bytes`, as text."""
        return await self._read("read_text", lambda pieces: as_text(pieces, encoding))

    async def read_json(self, decode: Decode | None = None) -> list[Any]:
        """As `read_bytes`, as a list of its JSON values.

        Args:
          decode: makes something of each value.
        """
        return await self._read("read_json", lambda pieces: self._as_values(pieces, decode), whole=True)

    async def read_json_batches(self, decode: Decode | None = None) -> list[list[Any]]:
        """As `read_json`, with the values of each answer as a list of their own."""
        return await self._read("read_json_batches", lambda pieces: self._as_batches(pieces, decode), whole=True)

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
        if self._reader.abandon():
            warnings.warn(
                f"a response of {public_url(self.url)} was never closed: use `async with`, or `aclose`",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    async def _read(self, how: str, make: Callable[[list[Piece]], T], *, whole: bool = False) -> T:
        pieces = self._begin_collecting(how, whole=whole)
        while (piece := await self._reader.next_piece()) is not None:
            pieces.append(piece)
        return self._end_collecting(make)


class _Items(AsyncIterator[T], Generic[T]):
    """An iteration. It is no generator, for a generator that is cancelled is over."""

    def __init__(self, reader: StreamReader, consumption: Consumption[T]) -> None:
        self._reader = reader
        self._consumption = consumption
        self._pace = Pace()

    async def __anext__(self) -> T:
        await self._pace.step()
        consumption = self._consumption
        while consumption.needs_piece():
            piece = await self._reader.next_piece()
            self._pace.restart()
            if piece is not None:
                consumption.receive(piece)
                continue
            consumption.receive_end()
            if consumption.needs_piece():
                raise StopAsyncIteration
        return consumption.take_item()
