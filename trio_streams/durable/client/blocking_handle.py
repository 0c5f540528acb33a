"""Handles and producers for code that blocks, in scripts, notebooks and threads: the same ones, run in the portal's thread.

handle = DurableStream.create("https://streams.example.com/orders", content_type="application/json")
handle.append({"order": 1})
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import trio

from trio_streams.durable.client.batching import BatchingOptions
from trio_streams.durable.client.blocking import StreamResponse, blocking_endpoint, open_response
from trio_streams.durable.client.handle import AsyncDurableStream
from trio_streams.durable.client.portal import Call, portal
from trio_streams.durable.client.producing import IdempotentProducer, ProducerOptions
from trio_streams.durable.client.requests import Endpoint, RetryOptions
from trio_streams.durable.protocol.sequencer import ProducerProgress
from trio_streams.durable.types import (
    AppendResult,
    ErrorHandler,
    HeadersLike,
    HeadResult,
    LiveMode,
    Offset,
    ParamsLike,
)
from trio_streams.errors import LocalProtocolError

__all__ = ["BlockingProducer", "DurableStream"]


class _PortalHandle(AsyncDurableStream):
    """A handle in the portal: what it is given to call may block, and is called in worker threads."""

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
        return blocking_endpoint(url, headers=headers, params=params, on_error=on_error, tls=tls, retry=retry)


class DurableStream:
    """A handle to a durable stream, for code that blocks. Any number of threads may use it.

    Making one asks nobody. Leave its `with`, or call `close_connections`, to close its connections. Interrupted, by Ctrl-C for
    instance, a call is as one of `AsyncDurableStream` that is cancelled.

    Args:
      url: of the stream, absolute.
      headers: of each request; values may be callables, which are asked anew for each.
      params: query parameters of each request, likewise.
      content_type: of the stream, where it is known; else the server is asked when it is needed.
      batching: whether appends that threads make while a request is under way leave together in the next one; its limits
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
        self._handle: AsyncDurableStream = _PortalHandle(
            url,
            headers=headers,
            params=params,
            content_type=content_type,
            batching=batching,
            on_error=on_error,
            tls=tls,
        )

    @classmethod
    def create(
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
        """Create a stream, or find it as it is wanted; see `AsyncDurableStream.create`."""
        handle = cls(
            url,
            headers=headers,
            params=params,
            content_type=content_type,
            batching=batching,
            on_error=on_error,
            tls=tls,
        )
        handle._or_close(partial(handle.create_stream, ttl_seconds=ttl_seconds))
        return handle

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        headers: HeadersLike | None = None,
        params: ParamsLike | None = None,
        batching: bool | BatchingOptions = True,
        on_error: ErrorHandler | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Find a stream that is there; see `AsyncDurableStream.connect`."""
        handle = cls(url, headers=headers, params=params, batching=batching, on_error=on_error, tls=tls)
        handle._or_close(handle.head)
        return handle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_connections()

    @property
    def url(self) -> str:
        """Of the stream, as it was given."""
        return self._handle.url

    @property
    def content_type(self) -> str | None:
        """Of the stream; None until the server was asked."""
        return self._handle.content_type

    def create_stream(
        self,
        *,
        ttl_seconds: int | None = None,
        expires_at: str | None = None,
        body: object = None,
        closed: bool = False,
    ) -> None:
        """Create this handle's stream, or find it as it is wanted; see `AsyncDurableStream.create_stream`."""
        create = self._handle.create_stream
        portal.call(partial(create, ttl_seconds=ttl_seconds, expires_at=expires_at, body=body, closed=closed))

    def fork(
        self,
        url: str,
        *,
        offset: Offset | None = None,
        sub_offset: int = 0,
        ttl_seconds: int | None = None,
        expires_at: str | None = None,
    ) -> Self:
        """Create a stream that begins with what this one holds; see `AsyncDurableStream.fork`."""
        fork = partial(
            self._handle.fork,
            url,
            offset=offset,
            sub_offset=sub_offset,
            ttl_seconds=ttl_seconds,
            expires_at=expires_at,
        )
        made = type(self)(url)
        made._handle = portal.call(fork)  # noqa: SLF001 - of the same class
        return made

    def head(self) -> HeadResult:
        """What is known about the stream; see `AsyncDurableStream.head`."""
        return portal.call(self._handle.head)

    def append(self, data: object, *, seq: str | None = None) -> AppendResult:
        """Append one message, or some bytes, and wait until the server has stored it; see `AsyncDurableStream.append`."""
        return portal.call(partial(self._handle.append, data, seq=seq))

    def close(self, data: object = None) -> AppendResult:
        """Close the stream for good, with a last message if there is one; see `AsyncDurableStream.close`."""
        return portal.call(self._handle.close, data)

    def stream(self, *, offset: Offset | None = None, live: LiveMode = "auto") -> StreamResponse:
        """Read the stream on this handle's connections; see `stream`."""
        return open_response(self._handle.stream(offset=offset, live=live))

    def delete(self) -> None:
        """Delete the stream with all that it holds; see `AsyncDurableStream.delete`."""
        portal.call(self._handle.delete)

    def producer(
        self,
        producer_id: str,
        *,
        epoch: int = 0,
        auto_claim: bool = False,
        max_batch_bytes: int = 1_048_576,
        linger: float = 0.005,
        max_in_flight: int = 5,
        on_error: ErrorHandler | None = None,
        options: ProducerOptions | None = None,
    ) -> BlockingProducer:
        """A producer for this stream, to be used in a `with`; see `IdempotentProducer` for the arguments."""
        producer = IdempotentProducer(
            self._handle,
            producer_id,
            epoch=epoch,
            auto_claim=auto_claim,
            max_batch_bytes=max_batch_bytes,
            linger=linger,
            max_in_flight=max_in_flight,
            on_error=on_error,
            options=options,
        )
        return BlockingProducer(producer)

    def close_connections(self) -> None:
        """Close the connections; the stream stays. Idempotent."""
        portal.call(self._handle.aclose)

    def _or_close(self, ask: Callable[[], object]) -> None:
        try:
            ask()
        except BaseException:
            self.close_connections()
            raise


class BlockingProducer:
    """An `IdempotentProducer` for code that blocks, of `DurableStream.producer`. Any number of threads may use it.

    Left normally, the `with` waits until all is stored; left by an exception, it gives up what is not.

    Args:
      producer: what runs in the portal.
    """

    def __init__(self, producer: IdempotentProducer) -> None:
        self._producer = producer
        self._is_entered = trio.Event()
        self._is_left = trio.Event()
        self._call: Call[None] | None = None

    def __enter__(self) -> Self:
        if self._call is not None:
            raise LocalProtocolError("a producer can be entered once")
        self._call = portal.start(self._host)
        try:
            portal.call(self._is_entered.wait)
        except BaseException:
            portal.run_soon(self._call.stop)
            raise
        if not self._producer.is_open:
            portal.wait(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._call is not None
        if exc is not None:
            self._producer.explain(exc)
            portal.run_soon(self._call.stop)
            portal.call(self._is_left.wait)
        else:
            portal.run_soon(self._is_left.set)
            portal.wait(self._call)

    @property
    def epoch(self) -> int:
        """Of the batches to come."""
        return self._producer.epoch

    @property
    def next_seq(self) -> int:
        """The number of the next new batch."""
        return self._producer.next_seq

    @property
    def progress(self) -> ProducerProgress:
        """How far it is; also after the block."""
        return self._producer.progress

    def append(self, data: object) -> None:
        """Have a message stored; waits only while too much is not acknowledged yet."""
        portal.call(self._producer.append, data)

    def flush(self) -> None:
        """Wait until all that was appended before is stored."""
        portal.call(self._producer.flush)

    def close(self, data: object = None) -> AppendResult:
        """Close the stream for good, once all that was appended before is stored; see `IdempotentProducer.close`."""
        return portal.call(self._producer.close, data)

    def detach(self) -> None:
        """Take no more messages, and wait until all is stored; the stream stays open."""
        portal.call(self._producer.detach)

    def restart(self) -> None:
        """Begin the next epoch; see `IdempotentProducer.restart`."""
        portal.call(self._producer.restart)

    async def _host(self) -> None:
        try:
            async with self._producer:
                self._is_entered.set()
                await self._is_left.wait()
        finally:
            self._is_entered.set()
            self._is_left.set()
