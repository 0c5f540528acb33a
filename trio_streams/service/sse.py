"""A run of payloads as the answer to an exchange: server-sent events, many to a write, and how they are resumed.

What is ready is taken together and encoded together. From a stream that is one `receive_many` a batch; an iterator
says nothing about what it has, so its items are added one by one to what waits in the exchange, which leaves as soon
as the iterator waits for something.

A browser's EventSource knows no end: whenever the answer is over it asks again, with the id of the last event. So an
answer that is over for good ends with an event whose id says so, `END_ID`, and a request that brings this id is answered
204, at which an EventSource stops. An answer that is over for now (`max_duration`, a broken connection) ends without
one, and the next request brings the id of the last item.

Spec: HTML Living Standard §9.2.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

import attrs
import msgspec
import trio

from trio_streams.codes import Code, http_status
from trio_streams.config import positive
from trio_streams.errors import LocalProtocolError, RpcError
from trio_streams.service.exchange import Exchange, Headers, RequestHead, as_rpc_error, error_fields
from trio_streams.service.heartbeat import Heartbeat
from trio_streams.service.replay_log import RunEnded
from trio_streams.streams.abc import ReceiveStream
from trio_streams.wire import sse
from trio_streams.wire.sse import END_ID as END_ID
from trio_streams.wire.sse import Event

__all__ = [
    "END_ID",
    "SSE_HEADERS",
    "SseConfig",
    "last_event_id",
    "refuse_ended",
    "respond_sse",
    "send_error",
    "wants_named_events",
]

LAST_EVENT_ID_PARAMETER: Final = "lastEventId"
"""The query's field for clients that can't set headers, as polyfills of EventSource name it."""

SSE_HEADERS: Final[Headers] = (
    ("content-type", sse.CONTENT_TYPE),
    ("cache-control", "no-cache"),
    # nginx and others hold an answer back until a buffer is full, unless told not to.
    ("x-accel-buffering", "no"),
)

_BATCH_ITEMS: Final = 256
"""A stream's window by default, so that one batch can hold all that waits."""

_HEARTBEAT: Final = sse.encode_comment()

_Items: TypeAlias = ReceiveStream[Any] | trio.MemoryReceiveChannel[Any] | AsyncIterable[Any]
"""Of payloads or events. A channel of one is none of the other, which its type can't say."""


@attrs.frozen(kw_only=True)
class SseConfig:
    """How event streams are kept alive and renewed.

    Attributes:
      heartbeat_interval: seconds without an event after which a comment is sent, so that nothing between takes the
        connection for dead, and a client that is gone is noticed; None for never. The standard advises about 15.
      retry_ms: milliseconds that a client shall wait before it comes again; None for what it likes, which is 3 to 5
        seconds in browsers. More than that where thousands of clients would all come at once.
      max_duration: seconds after which the stream ends for now, and the client comes again with its last id, perhaps to
        another server; None for never. Items without ids then start over.
    """

    heartbeat_interval: float | None = attrs.field(default=15.0, validator=positive)
    retry_ms: int | None = attrs.field(default=None)
    max_duration: float | None = attrs.field(default=None, validator=positive)

    @retry_ms.validator
    def _check_retry(self, _: object, value: int | None) -> None:
        if value is not None and not 0 <= value < 10**15:
            raise ValueError(f"retry_ms is 0 to 10**15 - 1, not {value!r}")


_DEFAULTS: Final = SseConfig()


def last_event_id(request: RequestHead) -> str | None:
    """The id of the last event that the client has seen, by header or by query (`lastEventId`); None where it says none.

    It comes from a stranger: an application looks whether it knows it.

    Spec: HTML Living Standard §9.2.4 "The `Last-Event-ID` header".
    """
    header = request.header("last-event-id")
    if header is not None:
        # UTF-8 on the wire, which hosts hand on as ISO 8859-1 like any header.
        value = header.encode("latin-1", "replace").decode("utf-8", "replace")
    else:
        value = request.query.get(LAST_EVENT_ID_PARAMETER, [""])[-1]
    return value or None


async def refuse_ended(exchange: Exchange) -> bool:
    """Answer 204 if the client has already seen the stream's end, so that an EventSource does not come again.

    Returns:
      Whether the exchange is answered.
    """
    if last_event_id(exchange.request) != END_ID:
        return False
    await exchange.send_head(204, [("cache-control", "no-store")])
    exchange.end()
    return True


def wants_named_events(exchange: Exchange) -> bool:
    """Whether the client asks for `event: data` (`?events=named`), instead of what a browser's `onmessage` sees."""
    return exchange.request.query.get("events", [""])[-1] == "named"


async def respond_sse(
    exchange: Exchange,
    items: ReceiveStream[bytes]
    | ReceiveStream[Event]
    | trio.MemoryReceiveChannel[bytes]
    | trio.MemoryReceiveChannel[Event]
    | AsyncIterable[bytes | Event],
    *,
    named: bool | None = None,
    headers: Headers = (),
    debug: bool = False,
    config: SseConfig = _DEFAULTS,
    first_id: str | None = None,
) -> None:
    """Answer with an event for each item, then `end` or, if the source fails, `error`.

    The head leaves at once. HEAD gets the head alone, and the source is not touched. Nor is it where the client has
    seen the stream's end before: it gets 204.

    Args:
      exchange: one without a head yet.
      items: payloads without line ends, such as JSON; or whole events, for those that have ids or types of their own.
        It is iterated and, if it is a generator, closed here.
      named: `event: data` for each item, instead of bare `data:`; None for what the client asks for.
      headers: added to the stream's own.
      debug: whether the error event carries the text of unexpected exceptions.
      config: heartbeats, the client's patience, and how long one answer lasts.
      first_id: what a client brings that is lost before the first item; None for nothing.

    Raises:
      BaseException: what the source raised, after the error event, for whoever keeps the log. The answer is complete.
    Cancellation: the answer stays unfinished; a generator is closed.
    """
    if await refuse_ended(exchange):
        return
    await exchange.send_head(200, [*SSE_HEADERS, *headers])
    if exchange.request.method == "HEAD":
        return
    if config.retry_ms is not None:
        await exchange.send(sse.encode_retry(config.retry_ms))
    if first_id is not None:
        await exchange.send(sse.encode_id(first_id))
    event = "data" if (wants_named_events(exchange) if named is None else named) else None
    try:
        is_over = await _send_items(_Writer(exchange, event, config.heartbeat_interval), items, config)
    except Exception as exc:
        await send_error(exchange, as_rpc_error(exc, debug=debug))
        raise
    if is_over:
        await exchange.send(sse.encode_event(b"{}", event="end", id=_end_id(exchange)))
    exchange.end()


async def send_error(exchange: Exchange, error: RpcError) -> None:
    """End an event stream with an error event. What cannot succeed later ends it for good.

    Args:
      exchange: one whose head has been sent by `respond_sse`.
      error: what the stream ended with.
    """
    fields = {**error_fields(error), "status": http_status(error.code)}
    may_help = Code.from_name(error.code).is_retryable and not isinstance(error, RunEnded)
    end_id = None if may_help else _end_id(exchange)
    await exchange.send(sse.encode_event(msgspec.json.encode(fields), event="error", id=end_id))
    exchange.end()


def _end_id(exchange: Exchange) -> str | None:
    # An EventSource says what it takes, and comes again. Those that don't (`curl`) are spared a line.
    accepted = exchange.request.header("accept") or ""
    return END_ID if sse.CONTENT_TYPE in accepted.lower() else None


class _Writer:
    """Encodes runs of items for an exchange, and tells the heartbeat."""

    __slots__ = ("_event", "_exchange", "heartbeat")

    def __init__(self, exchange: Exchange, event: str | None, heartbeat_interval: float | None) -> None:
        self._exchange = exchange
        self._event = event
        self.heartbeat = Heartbeat(heartbeat_interval, self._beat)

    async def _beat(self) -> None:
        await self._exchange.send(_HEARTBEAT)

    async def send(self, item: bytes | Event) -> None:
        await self._exchange.send(self._encode(item))
        self.heartbeat.is_fresh = True

    async def send_run(self, items: list[Any]) -> None:
        # A run is all of one type, unless somebody mixes them.
        if Event in map(type, items):
            await self._exchange.send(b"".join(map(self._encode, items)))
        else:
            await self._exchange.send(sse.encode_events(items, event=self._event))
        self.heartbeat.is_fresh = True

    def _encode(self, item: bytes | Event) -> bytes:
        if not isinstance(item, Event):
            return sse.encode_event(item, event=self._event)
        if item.id == END_ID:
            raise LocalProtocolError(f"can't send an item with the id {END_ID!r}, which ends a stream", field="id")
        event = self._event if item.event == "message" else item.event
        return sse.encode_event(item.data, event=event, id=item.id or None)


async def _send_items(writer: _Writer, items: _Items, config: SseConfig) -> bool:
    """Whether the source came to its end before the answer's time was over."""
    scope = trio.CancelScope()
    if config.max_duration is not None:
        scope.deadline = trio.current_time() + config.max_duration
    with scope, writer.heartbeat:
        if isinstance(items, AsyncGenerator):
            source = cast("AsyncGenerator[Any, None]", items)
            async with aclosing(source):
                await _send_each(writer.send, source)
        elif isinstance(items, ReceiveStream | trio.MemoryReceiveChannel):
            async for batch in _batches(items):
                await writer.send_run(batch)
        else:
            await _send_each(writer.send, items)
        return True
    return False


async def _send_each(send: Callable[[Any], Any], items: AsyncIterable[Any]) -> None:
    async for item in items:
        await send(item)


async def _batches(items: ReceiveStream[Any] | trio.MemoryReceiveChannel[Any]) -> AsyncIterator[list[Any]]:
    while True:
        try:
            if isinstance(items, ReceiveStream):
                yield await items.receive_many(_BATCH_ITEMS)
            else:
                yield await _drain(items)
        except trio.EndOfChannel:
            return


async def _drain(items: trio.MemoryReceiveChannel[Any]) -> list[Any]:
    batch = [await items.receive()]
    while len(batch) < _BATCH_ITEMS:
        try:
            batch.append(items.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return batch
