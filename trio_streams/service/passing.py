"""An exchange and a source that pass everything on to another one, for those that change or watch a part of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from trio_streams.service.exchange import BodyEncoder, BodySource, Exchange, Headers, RequestHead

__all__ = ["CountedSource", "PassingExchange"]


class PassingExchange:
    """Stands before an `Exchange`, and is one; a subclass overrides what it has something to say to.

    Args:
      inner: what everything is passed on to.
    """

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner

    @property
    def request(self) -> RequestHead:
        """See `Exchange`."""
        return self._inner.request

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """See `Exchange`."""
        return self._inner.cancel_scope

    @property
    def has_head(self) -> bool:
        """See `Exchange`."""
        return self._inner.has_head

    async def receive_some(self) -> bytes:
        """See `Exchange`."""
        return await self._inner.receive_some()

    def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See `Exchange`."""
        return self._inner.iter_body(max_bytes=max_bytes)

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """See `Exchange`."""
        return await self._inner.receive_body(max_bytes=max_bytes)

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        """See `Exchange`."""
        await self._inner.send_head(status, headers)

    async def send(self, data: bytes) -> None:
        """See `Exchange`."""
        await self._inner.send(data)

    async def send_from(self, source: BodySource) -> None:
        """See `Exchange`."""
        await self._inner.send_from(source)

    def end(self) -> None:
        """See `Exchange`."""
        self._inner.end()

    def encode_body(self, encoder: BodyEncoder) -> None:
        """See `Exchange`."""
        self._inner.encode_body(encoder)


class CountedSource:
    """Stands before a `BodySource`, and tells of what is taken from it.

    Args:
      inner: what everything is passed on to.
      on_taken: told of each piece that is not empty; must not wait.
    """

    __slots__ = ("_inner", "_on_taken")

    def __init__(self, inner: BodySource, on_taken: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._on_taken = on_taken

    @property
    def is_ended(self) -> bool:
        """See `BodySource`."""
        return self._inner.is_ended

    def attach(self, pull: Callable[[], None]) -> None:
        """See `BodySource`."""
        self._inner.attach(pull)

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        """See `BodySource`."""
        data = self._inner.take_nowait(is_chunked=is_chunked)
        if data:
            self._on_taken(data)
        return data
