"""The two forms of our client, behind one face that the client suite's adapter calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import attrs
import trio

from trio_streams.durable import (
    AppendResult,
    AsyncDurableStream,
    DurableStream,
    FetchError,
    HeadResult,
    LiveMode,
    StreamEvent,
    StreamResponse,
    astream,
    stream,
)
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.nursery import open_bare_nursery

Fields: TypeAlias = Mapping[str, Any] | None


@attrs.frozen(kw_only=True)
class Reading:
    """What is asked of a read.

    Attributes:
      offset: where to begin.
      live: how to go on at the tail.
      timeout: seconds until what has come is all.
      max_chunks: as many, and no more are waited for.
      waits_for_tail: whether it ends where it is up to date.
      headers: of each request.
      params: of each request.
    """

    offset: str | None
    live: LiveMode
    timeout: float
    max_chunks: int
    waits_for_tail: bool
    headers: Fields
    params: Fields


class Response(Protocol):
    """What both forms of a response say of themselves."""

    @property
    def status(self) -> int: ...
    @property
    def offset(self) -> str: ...
    @property
    def up_to_date(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def content_type(self) -> str | None: ...


@attrs.define
class Found:
    """What a read has brought so far, in the suite's words."""

    reading: Reading
    status: int = 200
    chunks: list[dict[str, Any]] = attrs.Factory(list)
    offset: str | None = None
    is_up_to_date: bool = False
    is_closed: bool = False

    @staticmethod
    def mode(response: Response) -> Literal["json", "bytes"]:
        """What the data of events is to be: the suite compares JSON as values, and the rest byte by byte."""
        return "json" if is_json(response.content_type) else "bytes"

    def take(self, event: StreamEvent[Any], response: Response) -> bool:
        """Keep an event; whether more are wanted."""
        if event.data:
            self.chunks.append({"offset": event.next_offset} | _chunk(event.data))
        if self.reading.live is False:
            return True
        if self.reading.waits_for_tail and event.up_to_date:
            return False
        return len(self.chunks) < self.reading.max_chunks

    def look(self, response: Response) -> None:
        """Keep what a response says of what it gave out."""
        self.status = response.status
        self.offset = response.offset
        self.is_up_to_date = response.up_to_date
        self.is_closed = response.closed


def _chunk(data: object) -> dict[str, Any]:
    if isinstance(data, list):
        return {"data": json.dumps(data, separators=(",", ":"), ensure_ascii=False)}
    assert isinstance(data, bytes)
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data": base64.b64encode(data).decode(), "binary": True}


def try_again_after_500(error: Exception) -> dict[str, Any] | None:
    """The suite wants appends to be sent again after a 500. The client leaves that to its user, who may know whether
    anything was done; this one knows the suite's server."""
    return {} if isinstance(error, FetchError) and error.status == 500 else None


class Face(Protocol):
    """A form of the client."""

    async def create(
        self,
        url: str,
        content_type: str,
        headers: Fields,
        *,
        ttl_seconds: int | None,
        expires_at: str | None,
        body: bytes | None,
        closed: bool,
    ) -> None: ...
    async def connect(self, url: str, headers: Fields) -> HeadResult: ...
    async def head(self, url: str, headers: Fields) -> HeadResult: ...
    async def append(
        self, url: str, data: bytes, content_type: str | None, headers: Fields, params: Fields, *, seq: str | None
    ) -> AppendResult: ...
    async def close(self, url: str, data: bytes | None, content_type: str | None) -> AppendResult: ...
    async def delete(self, url: str, headers: Fields) -> None: ...
    async def read(self, url: str, reading: Reading) -> Found: ...


class TrioFace:
    """The client that is native on Trio."""

    async def create(
        self,
        url: str,
        content_type: str,
        headers: Fields,
        *,
        ttl_seconds: int | None,
        expires_at: str | None,
        body: bytes | None,
        closed: bool,
    ) -> None:
        async with AsyncDurableStream(url, content_type=content_type, headers=headers) as handle:
            await handle.create_stream(ttl_seconds=ttl_seconds, expires_at=expires_at, body=body, closed=closed)

    async def connect(self, url: str, headers: Fields) -> HeadResult:
        async with await AsyncDurableStream.connect(url, headers=headers) as handle:
            return await handle.head()

    async def head(self, url: str, headers: Fields) -> HeadResult:
        async with AsyncDurableStream(url, headers=headers) as handle:
            return await handle.head()

    async def append(
        self, url: str, data: bytes, content_type: str | None, headers: Fields, params: Fields, *, seq: str | None
    ) -> AppendResult:
        handle = AsyncDurableStream(
            url, content_type=content_type, headers=headers, params=params, on_error=try_again_after_500
        )
        async with handle:
            return await handle.append(data, seq=seq)

    async def close(self, url: str, data: bytes | None, content_type: str | None) -> AppendResult:
        async with AsyncDurableStream(url, content_type=content_type) as handle:
            return await handle.close(data)

    async def delete(self, url: str, headers: Fields) -> None:
        async with AsyncDurableStream(url, headers=headers) as handle:
            await handle.delete()

    async def read(self, url: str, reading: Reading) -> Found:
        found = Found(reading)
        fields: dict[str, Any] = {"headers": reading.headers, "params": reading.params}
        with trio.move_on_after(reading.timeout):
            async with astream(url, offset=reading.offset, live=reading.live, **fields) as response:
                try:
                    async for event in response.iter_events(found.mode(response)):
                        if not found.take(event, response):
                            break
                finally:
                    found.look(response)
        return found


class BlockingFace:
    """The client that blocks, in threads of its own."""

    async def create(
        self,
        url: str,
        content_type: str,
        headers: Fields,
        *,
        ttl_seconds: int | None,
        expires_at: str | None,
        body: bytes | None,
        closed: bool,
    ) -> None:
        def blocking() -> None:
            with DurableStream(url, content_type=content_type, headers=headers) as handle:
                handle.create_stream(ttl_seconds=ttl_seconds, expires_at=expires_at, body=body, closed=closed)

        await trio.to_thread.run_sync(blocking)

    async def connect(self, url: str, headers: Fields) -> HeadResult:
        def blocking() -> HeadResult:
            with DurableStream.connect(url, headers=headers) as handle:
                return handle.head()

        return await trio.to_thread.run_sync(blocking)

    async def head(self, url: str, headers: Fields) -> HeadResult:
        def blocking() -> HeadResult:
            with DurableStream(url, headers=headers) as handle:
                return handle.head()

        return await trio.to_thread.run_sync(blocking)

    async def append(
        self, url: str, data: bytes, content_type: str | None, headers: Fields, params: Fields, *, seq: str | None
    ) -> AppendResult:
        def blocking() -> AppendResult:
            handle = DurableStream(
                url, content_type=content_type, headers=headers, params=params, on_error=try_again_after_500
            )
            with handle:
                return handle.append(data, seq=seq)

        return await trio.to_thread.run_sync(blocking)

    async def close(self, url: str, data: bytes | None, content_type: str | None) -> AppendResult:
        def blocking() -> AppendResult:
            with DurableStream(url, content_type=content_type) as handle:
                return handle.close(data)

        return await trio.to_thread.run_sync(blocking)

    async def delete(self, url: str, headers: Fields) -> None:
        def blocking() -> None:
            with DurableStream(url, headers=headers) as handle:
                handle.delete()

        await trio.to_thread.run_sync(blocking)

    async def read(self, url: str, reading: Reading) -> Found:
        found = Found(reading)
        responses: list[StreamResponse] = []

        def blocking() -> None:
            fields: dict[str, Any] = {"headers": reading.headers, "params": reading.params}
            with stream(url, offset=reading.offset, live=reading.live, **fields) as response:
                responses.append(response)
                for event in response.iter_events(found.mode(response)):
                    if not found.take(event, response):
                        break
                found.look(response)

        async def stop() -> None:
            await trio.sleep(reading.timeout)
            for response in responses:
                response.cancel()

        async with open_bare_nursery() as nursery:
            nursery.start_soon(stop)
            await trio.to_thread.run_sync(blocking)
            nursery.cancel_scope.cancel()
        return found
