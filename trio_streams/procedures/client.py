"""Calls procedures: over a connection of our own dialect, every direction; over HTTP, calls and server streams.

Both clients have the same methods. Inputs and items are encoded by what they are; results are decoded to the
type asked for with `returns`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, cast

import trio
from typing_extensions import TypeVar  # its `default` is in typing from 3.13 on

from trio_streams.codecs import Codec, json_codec
from trio_streams.connection import Connection
from trio_streams.core.records import NO_METADATA
from trio_streams.errors import ConnectionLost, RpcError, StreamStopped
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.coding import ACCEPT, BYTES, CONTENT_TYPE, JSON, MSGPACK, any_codec, codec_of
from trio_streams.procedures.durable.following import DurableItems, Redial, Request, follow
from trio_streams.procedures.procedure import Kind
from trio_streams.streams.abc import ReceiveStream, Stream
from trio_streams.streams.wire import WireStream

__all__ = ["Client", "ConnectionClient", "any_json", "result_codec"]

T = TypeVar("T", default=object)
R = TypeVar("R", default=object)

any_json: Final[Codec[object]] = json_codec(object)


def result_codec(returns: type[T] | None) -> Codec[T]:
    """The codec of the type that a caller asks for; without one, any JSON."""
    return cast("Codec[T]", any_json if returns is None else json_codec(returns))


class Client(Protocol):
    """What `connect` gives: the ways to use a procedure, whatever the transport."""

    async def call(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[T] | None = ...,
        metadata: Mapping[str, str] = ...,
    ) -> T:
        """Call a procedure: one input, one result.

        Args:
          name: the procedure.
          input: anything JSON can say, attrs classes and dataclasses included, or bytes; None for no input.
          returns: the type of the result; `bytes` asks for bytes as they are.
          metadata: string pairs for the handler.

        Raises:
          RpcError: the status that ended the call.
          CodecError: the result is not of the type asked for.
          ConnectionLost: the connection broke; whether the handler ran is unknown.

        Cancellation: the handler is cancelled too. A deadline around the call travels with it.
        """
        ...

    async def event(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        metadata: Mapping[str, str] = ...,
    ) -> None:
        """Tell of an event: returns as soon as the server has taken it.

        Args:
          name: the procedure.
          input: as for `call`.
          metadata: string pairs for the handler.

        Raises:
          RpcError: the server did not take it; what the handler raises later stays with the server.
          ConnectionLost: the connection broke; whether the server has taken it is unknown.

        Cancellation: whether the server has taken it is unknown.
        """
        ...

    def stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = ...,
        metadata: Mapping[str, str] = ...,
        high_water_mark: int | None = ...,
        priority: int = ...,
    ) -> AbstractAsyncContextManager[ReceiveStream[R]]:
        """Start a server stream; it lives as long as the block, and leaving the block stops the handler.

        Args:
          name: the procedure.
          input: as for `call`.
          returns: the type of each item.
          metadata: string pairs for the handler.
          high_water_mark: items the server may send ahead of what is taken here.
          priority: higher goes first, -128 to 127.

        Raises:
          Exception: taking items raises as `call`.
        """
        ...

    def durable_stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = ...,
        metadata: Mapping[str, str] = ...,
        after: str | None = ...,
        high_water_mark: int | None = ...,
        priority: int = ...,
    ) -> AbstractAsyncContextManager[DurableItems[R]]:
        """Read a durable stream: one whose run goes on without its callers, and keeps its items.

        What was read can be gone on with: later with `after`, and by itself where the connection is lost and this client
        may connect again (`connect(…, reconnect=…)`, over HTTP `event_source`). Either way every item comes once.

        Args:
          name: the procedure.
          input: as for `call`; the same one again for the same run.
          returns: the type of each item.
          metadata: string pairs for the handler.
          after: the `last_id` of an earlier reading; None for the beginning.
          high_water_mark: items the server may send ahead of what is taken here.
          priority: higher goes first, -128 to 127.

        Raises:
          RpcError: the server refuses; FAILED_PRECONDITION: the stream is an ordinary one; NOT_FOUND: the run of `after`
            is not kept any more. What ended the run is raised where items are taken.
          Exception: else as `call`.

        Cancellation: the reading ends, the run goes on.
        """
        ...

    async def upload(
        self,
        name: str,
        items: Iterable[object] | AsyncIterable[object],
        *,
        returns: type[T] | None = ...,
        metadata: Mapping[str, str] = ...,
        priority: int = ...,
        content_type: str | None = ...,
    ) -> T:
        """Run a client stream: send every item, take one result.

        Args:
          name: the procedure.
          items: what to send; it is not read to its end if the handler answers before. An asynchronous generator is
            closed, by the task that iterates it.
          returns: the type of the result.
          metadata: string pairs for the handler.
          priority: higher goes first, -128 to 127.
          content_type: how items travel: `application/octet-stream` for bytes as they are, where the procedure declares
            `bytes`; None for JSON.

        Raises:
          Exception: as `call`; and what `items` raises, after which the handler is cancelled.

        Cancellation: as `call`.
        """
        ...

    def bidi(
        self,
        name: str,
        *,
        returns: type[R] | None = ...,
        metadata: Mapping[str, str] = ...,
        high_water_mark: int | None = ...,
        priority: int = ...,
        content_type: str | None = ...,
    ) -> AbstractAsyncContextManager[Stream[object, R]]:
        """Start a bidirectional stream: send, receive and `end()` as you like, for as long as the block.

        Args:
          name: the procedure.
          returns: the type of each item received.
          metadata: string pairs for the handler.
          high_water_mark: items the server may send ahead of what is taken here.
          priority: higher goes first, -128 to 127.
          content_type: how items sent travel, as for `upload`.

        Raises:
          Exception: taking items raises as `call`.
        """
        ...


class ConnectionClient:
    """A client over a connection.

    Args:
      connection: open; whoever made it closes it.
      content_type: how items travel where a call says nothing else: `application/json` or `application/msgpack`.
      redial: how durable streams come by another connection when this one is lost; None for not at all.
    """

    def __init__(self, connection: Connection, *, content_type: str = JSON, redial: Redial | None = None) -> None:
        self.connection = connection
        any_codec(content_type)
        self._redial = redial
        self._content_type = content_type

    def _open(
        self,
        kind: Kind,
        name: str,
        metadata: Mapping[str, str],
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AbstractAsyncContextManager[WireStream[bytes, bytes]]:
        """Open a stream; our own dialect has the same words for every kind."""
        return self.connection.open_stream(name, metadata=metadata, high_water_mark=high_water_mark, priority=priority)

    def _prepare(
        self, metadata: Mapping[str, str], sent: str | None, returns: type[T] | None
    ) -> tuple[Codec[object], Codec[T], Mapping[str, str]]:
        """How items are encoded and decoded, and the metadata that says so."""
        sent = self._content_type if sent is None else sent
        wanted = BYTES if returns is bytes else MSGPACK if self._content_type == MSGPACK else JSON
        encoder = any_codec(sent)
        decoder = cast(
            "Codec[T]", any_json if returns is None and wanted == JSON else codec_of(returns or object, wanted)
        )
        if sent != JSON or wanted != JSON:
            metadata = {**metadata, CONTENT_TYPE: sent, ACCEPT: wanted}
        return encoder, decoder, metadata

    async def call(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[T] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> T:
        """Call a procedure; see `Client.call`."""
        encoder, decoder, metadata = self._prepare(metadata, _type_of(input), returns)
        payload = None if input is None else encoder.encode(input)
        async with self._open(Kind.CALL, name, metadata) as stream:
            if payload is not None:
                await stream.send_last(payload)
            stream.end()
            return decoder.decode(await _only_item(stream, name))

    async def event(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        """Tell of an event; see `Client.event`."""
        encoder, _, metadata = self._prepare(metadata, _type_of(input), None)
        payload = None if input is None else encoder.encode(input)
        async with self._open(Kind.EVENT, name, metadata) as stream:
            if payload is not None:
                await stream.send_last(payload)
            stream.end()
            try:
                await stream.receive()
            except trio.EndOfChannel:
                return
            raise RpcError("FAILED_PRECONDITION", f"{name!r} is no event: it answers")

    @contextlib.asynccontextmanager
    async def stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AsyncIterator[ReceiveStream[R]]:
        """Start a server stream; see `Client.stream`."""
        encoder, decoder, metadata = self._prepare(metadata, _type_of(input), returns)
        payload = None if input is None else encoder.encode(input)
        async with self._open(Kind.SERVER, name, metadata, high_water_mark, priority) as stream:
            if payload is not None:
                await stream.send_last(payload)
            stream.end()
            yield stream.typed(None, decoder.decode)

    def durable_stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        after: str | None = None,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AbstractAsyncContextManager[DurableItems[R]]:
        """Read a durable stream; see `Client.durable_stream`. A stream that has lost its connection gets one of its own."""
        encoder, decoder, metadata = self._prepare(metadata, _type_of(input), returns)
        request = Request(
            name=name,
            payload=None if input is None else encoder.encode(input),
            metadata=metadata,
            after=after,
            high_water_mark=high_water_mark,
            priority=priority,
        )
        return follow(self.connection, request, self._redial, decoder.decode)

    async def upload(
        self,
        name: str,
        items: Iterable[object] | AsyncIterable[object],
        *,
        returns: type[T] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        priority: int = 0,
        content_type: str | None = None,
    ) -> T:
        """Run a client stream; see `Client.upload`."""
        encoder, decoder, metadata = self._prepare(metadata, content_type, returns)
        async with self._open(Kind.CLIENT, name, metadata, None, priority) as stream:
            sender: WireStream[object, bytes] = stream.typed(encoder.encode, None)
            # A child sends, so that an answer is seen while `items` has nothing to give.
            async with open_bare_nursery() as nursery:
                nursery.start_soon(_send_all, sender, items)
                answer = await _only_item(sender, name)
                nursery.cancel_scope.cancel()
            return decoder.decode(answer)

    @contextlib.asynccontextmanager
    async def bidi(
        self,
        name: str,
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
        content_type: str | None = None,
    ) -> AsyncIterator[Stream[object, R]]:
        """Start a bidirectional stream; see `Client.bidi`."""
        encoder, decoder, metadata = self._prepare(metadata, content_type, returns)
        async with self._open(Kind.BIDIRECTIONAL, name, metadata, high_water_mark, priority) as stream:
            yield stream.typed(encoder.encode, decoder.decode)


def _type_of(value: object) -> str | None:
    """Bytes go as they are; what else there is goes as the client's other items."""
    return BYTES if isinstance(value, bytes | bytearray | memoryview) else None


async def _send_all(stream: WireStream[object, bytes], items: Iterable[object] | AsyncIterable[object]) -> None:
    try:
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(items, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(items))
            await stream.send_many(items)
        stream.end()
    except (StreamStopped, ConnectionLost):
        if not stream.is_refused:
            raise  # it comes from `items`
        # The handler has answered, or failed, or nobody will: which of them, the answer says.


async def _only_item(stream: ReceiveStream[bytes], name: str) -> bytes:
    """The one item of an answer, once the END behind it says that it was all."""
    try:
        item = await stream.receive()
    except trio.EndOfChannel:
        raise RpcError("INTERNAL", f"{name!r} answered without a result") from None
    try:
        await stream.receive()
    except trio.EndOfChannel:
        return item
    raise RpcError("FAILED_PRECONDITION", f"{name!r} answers with a run of items: use stream() or bidi()")
