"""Reading a stream: `astream`, and the request that it makes.

async with astream("https://streams.example.com/orders") as res:
    async for order in res.iter_json():
        ...
"""

from __future__ import annotations

import ssl
from collections.abc import Generator
from types import TracebackType
from typing import Any, Final

from trio_streams.durable.client.requests import Endpoint
from trio_streams.durable.client.response import AsyncStreamResponse
from trio_streams.durable.client.stream_reader import StreamReader
from trio_streams.durable.errors import StreamConsumedError
from trio_streams.durable.protocol.follower import Follower
from trio_streams.durable.protocol.reading import ReaderConfig
from trio_streams.durable.types import ErrorHandler, HeadersLike, LiveMode, Offset, ParamsLike
from trio_streams.errors import LocalProtocolError

__all__ = ["AsyncStreamRequest", "astream"]

_LIVE_MODES: Final = (False, True, "auto", "long-poll", "sse")


class AsyncStreamRequest:
    """What `astream` returns: enter it, or await it, once. Both wait for the head of the first answer.

    Entered, it gives a response that is closed with the block. Awaited, it gives one that is to be closed by `aclose`, or
    by being read to its end; one that is not is warned of. There is no task either way.

    Args:
      endpoint: where to ask, with its own retries, headers and connections.
      offset: where to begin; None for the beginning, `now` for the tail.
      live: how to go on there.
      config: limits and patience; None for the defaults.
      owns_endpoint: whether the endpoint is closed with the response.

    Raises:
      LocalProtocolError: there is no such live mode, or no such offset.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        offset: Offset | None = None,
        live: LiveMode = "auto",
        config: ReaderConfig | None = None,
        owns_endpoint: bool = False,
    ) -> None:
        if live not in _LIVE_MODES:
            raise LocalProtocolError(f"live is one of {_LIVE_MODES}, not {live!r}", field="live")
        if offset is not None and (not isinstance(offset, str) or not offset):
            raise LocalProtocolError(f"an offset is a str that is not empty, not {offset!r}", field="offset")
        machine = Follower(
            live,
            offset=offset,
            config=ReaderConfig() if config is None else config,
            attempts=endpoint.attempts(),
        )
        self._reader = StreamReader(endpoint, machine, owns_endpoint=owns_endpoint)
        self._was_sent = False
        self._entered: AsyncStreamResponse | None = None  # kept for the block, also where nobody else does

    def __await__(self) -> Generator[Any, Any, AsyncStreamResponse]:
        """Ask, and wait for the head of the first answer; see `__aenter__`."""
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStreamResponse:
        """Ask, and wait for the head of the first answer.

        Raises:
          StreamNotFoundError: there is no such stream.
          DurableStreamError: the server refuses otherwise; `code` says why.
          FetchError: nobody answers, or not in the protocol's words.
          StreamConsumedError: this request was sent before.
        Cancellation: the connection is closed.
        """
        self._entered = await self._open()
        return self._entered

    async def open_reader(self) -> StreamReader:
        """As `__aenter__`, for whoever makes another kind of response of it."""
        if self._was_sent:
            raise StreamConsumedError("this request was sent before: make another one", code="ALREADY_CONSUMED")
        self._was_sent = True
        is_open = False
        try:
            await self._reader.start()
            is_open = True
        finally:
            if not is_open:
                await self._reader.aclose()
        return self._reader

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._reader.aclose()

    async def _open(self) -> AsyncStreamResponse:
        return AsyncStreamResponse(await self.open_reader())


def astream(
    url: str,
    *,
    offset: Offset | None = None,
    live: LiveMode = "auto",
    headers: HeadersLike | None = None,
    params: ParamsLike | None = None,
    on_error: ErrorHandler | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncStreamRequest:
    """Read a stream, by `async with` or awaited: what this returns is both.

    For other limits, retries or connections make an `Endpoint`, and an `AsyncStreamRequest` of it.

    Args:
      url: absolute, `http` or `https`.
      offset: where to begin; None for the beginning, `now` for the tail.
      live: how to go on where the stream is up to date. False: not at all. `auto`: by long polls. `long-poll`, `sse`: so.
        True: by server-sent events for JSON and text, else by long polls. `read_…` methods stop there in any case.
      headers: of each request; values may be callables, also async ones, which are asked anew for each.
      params: query parameters of each request, likewise.
      on_error: told of an error before it is raised; may return `{"headers": …, "params": …}` to have it tried again.
      tls: the TLS context for https; None for the one that all clients share, which trusts what the system trusts.

    Raises:
      LocalProtocolError: the URL, the offset or the live mode can't be.
    """
    endpoint = Endpoint(url, headers=headers, params=params, on_error=on_error, tls=tls)
    return AsyncStreamRequest(endpoint, offset=offset, live=live, owns_endpoint=True)
