"""A handle to a durable stream: created, read and written through one object that owns no task.

Spec: Durable Streams §4.2, §5.1 to §5.5.
"""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from trio_streams.durable.client.astream import AsyncStreamRequest
from trio_streams.durable.client.batching import BatchingOptions, BatchingSender
from trio_streams.durable.client.payloads import encode
from trio_streams.durable.client.requests import Endpoint, RetryOptions
from trio_streams.durable.client.writing import StreamWriter
from trio_streams.durable.headers import (
    STREAM_CLOSED,
    STREAM_EXPIRES_AT,
    STREAM_FORK_OFFSET,
    STREAM_FORK_SUB_OFFSET,
    STREAM_FORKED_FROM,
    STREAM_TTL,
)
from trio_streams.durable.protocol.batcher import Append
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.types import AppendResult, ErrorHandler, HeadersLike, HeadResult, LiveMode, Offset, ParamsLike
from trio_streams.errors import LocalProtocolError

__all__ = ["AsyncDurableStream"]


class AsyncDurableStream:
    """A handle to a durable stream, for one Trio run at a time.

    Making one asks nobody. Leave its `async with`, or call `aclose`, to close its connections.

    Args:
      url: of the stream, absolute.
      headers: of each request; values may be callables, also async ones, which are asked anew for each.
      params: query parameters of each request, likewise.
      content_type: of the stream, where it is known; else the server is asked when it is needed.
      batching: whether appends that are made while a request is under way leave together in the next one; its limits
        may be given in place of True.
      on_error: told of an error before it is raised; returns headers and parameters to try again with, or None.
      tls: the TLS context for https; None for the one that all clients share, which trusts what the system trusts.

    Raises:
      LocalProtocolError: the URL is not one that can be asked.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: HeadersLike | None = None,
        params: ParamsLike | None = None,
        content_type: str | None = None,
        batching: bool | BatchingOptions = True,
        on_error: ErrorHandler | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._headers = headers
        self._params = params
        self._batching = batching
        self._on_error = on_error
        self._tls = tls
        endpoint = self._make_endpoint(url, headers=headers, params=params, on_error=on_error, tls=tls)
        self.writer: StreamWriter = StreamWriter(endpoint, content_type)
        self._sender: BatchingSender | None = None
        if batching is not False:
            options = batching if isinstance(batching, BatchingOptions) else BatchingOptions()
            self._sender = BatchingSender(self.writer.post, options)

    @classmethod
    async def create(
        cls,
        url: str,
        *,
        content_type: str | None = None,
        ttl_seconds: int | None = None,
        headers: HeadersLike | None = None,
        params: ParamsLike | None = None,
        batching: bool | BatchingOptions = True,
        on_error: ErrorHandler | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Create a stream, or find it as it is wanted, and return a handle to it.

        Args:
          url: of the stream, absolute.
          content_type: of its bytes; None for the server's choice, `application/octet-stream`.
          ttl_seconds: how long it lives without being read or written; None for ever.
          headers: as of the class.
          params: as of the class.
          batching: as of the class.
          on_error: as of the class.
          tls: as of the class.

        Raises:
          StreamExistsError: there is one with another configuration.
          DurableStreamError: the server refuses.
          FetchError: no answer came.
        Cancellation: the stream may be there or not.
        """
        handle = cls(
            url,
            headers=headers,
            params=params,
            content_type=content_type,
            batching=batching,
            on_error=on_error,
            tls=tls,
        )
        try:
            await handle.create_stream(ttl_seconds=ttl_seconds)
        except BaseException:
            await handle.aclose()
            raise
        return handle

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        headers: HeadersLike | None = None,
        params: ParamsLike | None = None,
        batching: bool | BatchingOptions = True,
        on_error: ErrorHandler | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Return a handle to a stream that is there, with its content type.

        Args:
          url: of the stream, absolute.
          headers: as of the class.
          params: as of the class.
          batching: as of the class.
          on_error: as of the class.
          tls: as of the class.

        Raises:
          StreamNotFoundError: it is not there.
          DurableStreamError: the server refuses.
          FetchError: no answer came.
        Cancellation: atomic.
        """
        handle = cls(url, headers=headers, params=params, batching=batching, on_error=on_error, tls=tls)
        try:
            await handle.head()
        except BaseException:
            await handle.aclose()
            raise
        return handle

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """Of the stream, as it was given."""
        return self.writer.endpoint.url

    @property
    def content_type(self) -> str | None:
        """Of the stream; None until the server was asked."""
        return self.writer.content_type

    def make_writer(self, *, on_error: ErrorHandler | None = None, retry: RetryOptions | None = None) -> StreamWriter:
        """A writer with connections of its own, for a producer, which closes them.

        Args:
          on_error: in place of this handle's.
          retry: how often and when to try again.
        """
        on_error = on_error or self._on_error
        endpoint = self._make_endpoint(
            self.url, headers=self._headers, params=self._params, on_error=on_error, tls=self._tls, retry=retry
        )
        return StreamWriter(endpoint, self.content_type)

    async def create_stream(
        self,
        *,
        ttl_seconds: int | None = None,
        expires_at: str | None = None,
        body: object = None,
        closed: bool = False,
    ) -> None:
        """Create this handle's stream, or find it as it is wanted.

        Args:
          ttl_seconds: how long it lives without being read or written; None for ever.
          expires_at: when it expires, as RFC 3339; None for never.
          body: what is in it at first: `bytes` as they are, whose array's elements are messages in JSON mode; else
            one message, as for `append`. None for nothing.
          closed: whether nothing more can come.

        Raises and cancellation as `create`.
        """
        fields: dict[str, str] = {}
        if expires_at is not None:
            fields[STREAM_EXPIRES_AT] = expires_at
        if closed:
            fields[STREAM_CLOSED] = "true"
        await self._put(fields, ttl_seconds, _first_body(body, self.content_type))

    async def fork(
        self,
        url: str,
        *,
        offset: Offset | None = None,
        sub_offset: int = 0,
        ttl_seconds: int | None = None,
        expires_at: str | None = None,
    ) -> Self:
        """Create a stream that begins with what this one holds, on the same server, and return a handle to it.

        Args:
          url: of the new stream; it must be on this stream's server.
          offset: where the two part; None for the end.
          sub_offset: messages behind `offset` that both have, in JSON mode; else bytes.
          ttl_seconds: how long it lives without being read or written; None for as this one.
          expires_at: when it expires, as RFC 3339; None for as this one.

        Raises:
          StreamNotFoundError: this stream is not there.
          StreamExistsError: there is one at the URL with another configuration.
          DurableStreamError: the server refuses, such as an offset that this stream does not have.
          FetchError: no answer came.
        Cancellation: the new stream may be there or not.
        """
        fields = {STREAM_FORKED_FROM: urlsplit(self.url).path or "/"}
        if offset is not None:
            fields[STREAM_FORK_OFFSET] = offset
        if sub_offset:
            fields[STREAM_FORK_SUB_OFFSET] = str(sub_offset)
        if expires_at is not None:
            fields[STREAM_EXPIRES_AT] = expires_at
        handle = type(self)(
            url,
            headers=self._headers,
            params=self._params,
            content_type=self.content_type,
            batching=self._batching,
            on_error=self._on_error,
            tls=self._tls,
        )
        try:
            await handle._put(fields, ttl_seconds, None)  # noqa: SLF001 - of the same class
        except BaseException:
            await handle.aclose()
            raise
        return handle

    async def head(self) -> HeadResult:
        """What is known about the stream.

        Raises:
          StreamNotFoundError: it is not there.
          RetentionGoneError: it is deleted, and only forks still read it.
          DurableStreamError: the server refuses.
          FetchError: no answer came.
        Cancellation: atomic.
        """
        return await self.writer.head()

    async def append(self, data: object, *, seq: str | None = None) -> AppendResult:
        """Append one message, or some bytes, and wait until the server has stored it.

        Appends of several tasks leave in the order of the calls, and together while another request is under way;
        one with a `seq` leaves alone. An append is sent once, since doing it twice would be twice: for more, see
        `IdempotentProducer`.

        Args:
          data: what to append. In JSON mode `bytes` that are one JSON text already, or any value that JSON can hold;
            else `bytes`, or a `str` as UTF-8.
          seq: for coordination with other writers: refused unless it is greater than the stream's last one, byte by byte.

        Returns:
          The offset behind the request that it left in.

        Raises:
          LocalProtocolError, CodecError: the data can't be appended to this stream.
          StreamClosedError: the stream is closed.
          SeqConflictError: `seq` is not greater than the last one, or the stream is of another content type.
          StreamNotFoundError: it is not there.
          DurableStreamError: the server refuses.
          FetchError: no answer came: it may be stored or not.
        Cancellation: where it has not left yet, it is not appended; else it may be. Others that left with it learn their
          outcome all the same, for which a cancelled call may wait `finish_timeout` seconds.
        """
        return await self._append(Append(await self.writer.encode(data), seq))

    async def close(self, data: object = None) -> AppendResult:
        """Close the stream for good, behind all appends that were called before, with a last message if there is one.

        Without one it may be closed already.

        Args:
          data: as for `append`; None for nothing.

        Returns:
          The stream's last offset.

        Raises:
          StreamClosedError: there was a last message, and the stream is closed already.
          As for `append`.
        Cancellation: as for `append`.
        """
        payload = None if data is None else await self.writer.encode(data)
        return await self._append(Append(payload, is_closing=True))

    def stream(self, *, offset: Offset | None = None, live: LiveMode = "auto") -> AsyncStreamRequest:
        """Read the stream on this handle's connections, by `async with` or awaited; see `astream`.

        Args:
          offset: where to begin; None for the beginning, `now` for the tail.
          live: how to go on where the stream is up to date.

        Raises:
          LocalProtocolError: the offset or the live mode can't be.
        """
        return AsyncStreamRequest(self.writer.endpoint, offset=offset, live=live)

    async def delete(self) -> None:
        """Delete the stream with all that it holds. Forks keep what they read.

        Raises:
          StreamNotFoundError: it is not there; also where an earlier try, whose answer was lost, has deleted it.
          RetentionGoneError: it is deleted, and only forks still read it.
          DurableStreamError: the server refuses.
          FetchError: no answer came.
        Cancellation: it may be deleted or not.
        """
        await self.writer.endpoint.request("DELETE", "delete")

    async def aclose(self) -> None:
        """Close the connections; the stream stays. Idempotent.

        Cancellation: closes all the same.
        """
        await self.writer.endpoint.aclose()

    @staticmethod
    def _make_endpoint(
        url: str,
        *,
        headers: HeadersLike | None,
        params: ParamsLike | None,
        on_error: ErrorHandler | None,
        tls: ssl.SSLContext | None,
        retry: RetryOptions | None = None,
    ) -> Endpoint:
        return Endpoint(url, headers=headers, params=params, on_error=on_error, tls=tls, retry=retry)

    async def _append(self, append: Append) -> AppendResult:
        if self._sender is None:
            return await self.writer.post([append])
        return await self._sender.append(append)

    async def _put(self, fields: dict[str, str], ttl_seconds: int | None, body: bytes | None) -> None:
        if ttl_seconds is not None:
            fields[STREAM_TTL] = str(ttl_seconds)
        if self.content_type is not None:
            fields["Content-Type"] = self.content_type
        answer = await self.writer.endpoint.request("PUT", "create", headers=fields, body=body)
        self.writer.content_type = answer.header("content-type") or self.content_type or "application/octet-stream"


def _first_body(body: object, content_type: str | None) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    if content_type is None and not isinstance(body, str):
        raise LocalProtocolError("can't create a stream with a value in it without a content type", field="body")
    payload = encode(body, as_json=is_json(content_type))
    return b"[" + payload + b"]" if is_json(content_type) else payload
