"""Reading a stream from code that blocks: `stream`, over the same machines as `astream`.

    with stream("https://streams.example.com/orders") as res:
        for order in res.iter_json():
            ...

What waits happens in the portal's thread; what is made of it (text, JSON, what `decode` makes of it) is made here. It works
in scripts, in notebooks, and in a thread that runs a loop of Trio's or asyncio's, which it blocks, as such code does.
Callables among headers and parameters, and `on_error`, are called in worker threads, so that they may block, too.
"""

from __future__ import annotations

import inspect
import ssl
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

from trio_streams.durable.client.astream import AsyncStreamRequest
from trio_streams.durable.client.consuming import Consumption, Decode, EventMode, Response, as_bytes, as_text
from trio_streams.durable.client.portal import Call, portal
from trio_streams.durable.client.requests import Endpoint, RetryOptions
from trio_streams.durable.client.stream_reader import StreamReader
from trio_streams.durable.protocol.failures import public_url
from trio_streams.durable.protocol.reading import Piece
from trio_streams.durable.types import ErrorHandler, HeadersLike, LiveMode, Offset, ParamsLike, StreamEvent

__all__ = ["StreamResponse", "blocking_endpoint", "open_response", "stream"]

T = TypeVar("T")


class StreamResponse(Response):
    """A stream that is being read. It can be consumed once, in one way; leaving its block closes it.

    One thread at a time uses it; `cancel` may come from any. Where Ctrl-C interrupts an iteration, nothing is lost: `next`
    of the same iterator goes on. So does a `read_…` that was interrupted, when it is called again.

    Its properties are about what was given out so far; see `AsyncStreamResponse`.
    """

    def __init__(self, reader: StreamReader) -> None:
        super().__init__(reader)
        self._call: Call[Piece | None] | None = None  # one that was interrupted, and may have brought something

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over its bytes, in chunks as they come; see `iter_text` for what ends it, and what it raises."""
        return _Items(self._next_piece, self._bytes())

    def iter_text(self, encoding: str = "utf-8") -> Iterator[str]:
        """Iterate over its text; see `AsyncStreamResponse.iter_text`."""
        return _Items(self._next_piece, self._text(encoding))

    def iter_json(self, decode: Decode | None = None) -> Iterator[Any]:
        """Iterate over its JSON values; see `AsyncStreamResponse.iter_json`."""
        return _Items(self._next_piece, self._json(decode))

    def iter_json_batches(self, decode: Decode | None = None) -> Iterator[list[Any]]:
        """Iterate over lists of its JSON values; see `AsyncStreamResponse.iter_json_batches`."""
        return _Items(self._next_piece, self._json_batches(decode))

    def iter_events(self, mode: EventMode = "auto") -> Iterator[StreamEvent[Any]]:
        """Iterate over events; see `AsyncStreamResponse.iter_events`."""
        return _Items(self._next_piece, self._events(mode))

    def read_bytes(self) -> bytes:
        """All bytes up to where the stream is up to date; see `AsyncStreamResponse.read_bytes`."""
        return self._read("read_bytes", as_bytes)

    def read_text(self, encoding: str = "utf-8") -> str:
        """As `read_bytes`, as text."""
        return self._read("read_text", lambda pieces: as_text(pieces, encoding))

    def read_json(self, decode: Decode | None = None) -> list[Any]:
        """As `read_bytes`, as a list of its JSON values."""
        return self._read("read_json", lambda pieces: self._as_values(pieces, decode), whole=True)

    def read_json_batches(self, decode: Decode | None = None) -> list[list[Any]]:
        """As `read_json`, with the values of each answer as a list of their own."""
        return self._read("read_json_batches", lambda pieces: self._as_batches(pieces, decode), whole=True)

    def cancel(self) -> None:
        """Want no more: iteration ends, also in another thread that waits in it. What is open is closed by `close`."""
        portal.run_soon(self._reader.stop)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        portal.call(self._reader.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._reader.abandon():
            warnings.warn(
                f"a response of {public_url(self.url)} was never closed: use `with`, or `close`",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def _next_piece(self) -> Piece | None:
        if self._call is None and self._machine.pieces:
            return self._machine.pieces.popleft()  # nothing runs in the portal that could touch them
        if self._call is None:
            self._call = portal.start(self._reader.next_piece)
        call = self._call
        try:
            piece = portal.wait(call)
        finally:
            if not call.has_value:
                self._call = None
        self._call = None
        return piece

    def _read(self, how: str, make: Callable[[list[Piece]], T], *, whole: bool = False) -> T:
        pieces = self._begin_collecting(how, whole=whole)
        while (piece := self._next_piece()) is not None:
            pieces.append(piece)
        return self._end_collecting(make)


class _Items(Iterator[T], Generic[T]):
    """An iteration."""

    def __init__(self, next_piece: Callable[[], Piece | None], consumption: Consumption[T]) -> None:
        self._next_piece = next_piece
        self._consumption = consumption

    def __next__(self) -> T:
        consumption = self._consumption
        while consumption.needs_piece():
            piece = self._next_piece()
            if piece is not None:
                consumption.receive(piece)
                continue
            consumption.receive_end()
            if consumption.needs_piece():
                raise StopIteration
        return consumption.take_item()


def stream(
    url: str,
    *,
    offset: Offset | None = None,
    live: LiveMode = "auto",
    headers: HeadersLike | None = None,
    params: ParamsLike | None = None,
    on_error: ErrorHandler | None = None,
    tls: ssl.SSLContext | None = None,
) -> StreamResponse:
    """Read a stream; waits for the head of the first answer.

    Args:
      url: absolute, `http` or `https`.
      offset: where to begin; None for the beginning, `now` for the tail.
      live: how to go on where the stream is up to date; see `astream`.
      headers: of each request; values may be callables, which are asked anew for each.
      params: query parameters of each request, likewise.
      on_error: told of an error before it is raised; may return `{"headers": …, "params": …}` to have it tried again.
      tls: the TLS context for https; None for the one that all clients share, which trusts what the system trusts.

    Raises:
      StreamNotFoundError: there is no such stream.
      DurableStreamError: the server refuses otherwise; `code` says why.
      FetchError: nobody answers, or not in the protocol's words.
      LocalProtocolError: the URL, the offset or the live mode can't be.
    """
    endpoint = blocking_endpoint(url, headers=headers, params=params, on_error=on_error, tls=tls)
    return open_response(AsyncStreamRequest(endpoint, offset=offset, live=live, owns_endpoint=True))


def open_response(request: AsyncStreamRequest) -> StreamResponse:
    """Send a request for a reader that blocks.

    Args:
      request: one that was not sent.

    Raises:
      Exception: as `stream`.
    """
    return StreamResponse(portal.call(request.open_reader))


def blocking_endpoint(
    url: str,
    *,
    headers: HeadersLike | None = None,
    params: ParamsLike | None = None,
    on_error: ErrorHandler | None = None,
    tls: ssl.SSLContext | None = None,
    retry: RetryOptions | None = None,
) -> Endpoint:
    """An endpoint whose callables may block: they are called in worker threads.

    Args:
      url: absolute, `http` or `https`.
      headers: of each request.
      params: query parameters of each request.
      on_error: told of an error before it is raised.
      tls: the TLS context for https; None for the one that all clients share, which trusts what the system trusts.
      retry: how often and when to try again; None for the defaults.
    """
    return Endpoint(
        url,
        headers=_in_threads(headers),
        params=_in_threads(params),
        on_error=None if on_error is None else _error_handler_in_threads(on_error),
        retry=retry,
        tls=tls,
    )


def _error_handler_in_threads(on_error: ErrorHandler) -> ErrorHandler:
    async def ask(error: Exception) -> object:
        changes = await _called_in_thread(on_error, error)
        if not isinstance(changes, Mapping):
            return changes
        return {kind: _in_threads(values) for kind, values in changes.items()}

    return ask


def _in_threads(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _in_thread(value) if callable(value) else value for name, value in (values or {}).items()}


def _in_thread(fn: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def call() -> object:
        return await _called_in_thread(fn)

    return call


async def _called_in_thread(fn: Callable[..., Any], *args: object) -> object:
    found = await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True)
    return await found if inspect.isawaitable(found) else found
