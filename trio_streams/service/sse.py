"""A run of payloads as the answer to an exchange: server-sent events, many to a write.

What is ready is taken together and encoded together. From a stream that is one `receive_many` a batch; an iterator
says nothing about what it has, so its items are added one by one to what waits in the exchange, which leaves as soon
as the iterator waits for something.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Final, cast

import msgspec
import trio

from trio_streams.codes import http_status
from trio_streams.errors import RpcError
from trio_streams.service.exchange import Exchange, Headers, as_rpc_error, error_fields
from trio_streams.streams.abc import ReceiveStream
from trio_streams.wire import sse

__all__ = ["SSE_HEADERS", "respond_sse", "send_error", "wants_named_events"]

SSE_HEADERS: Final[Headers] = (
    ("content-type", sse.CONTENT_TYPE),
    ("cache-control", "no-cache"),
    # nginx and others hold an answer back until a buffer is full, unless told not to.
    ("x-accel-buffering", "no"),
)

_BATCH_ITEMS: Final = 256
"""A stream's window by default, so that one batch can hold all that waits."""

_END: Final = sse.encode_event(b"{}", event="end")


def wants_named_events(exchange: Exchange) -> bool:
    """Whether the client asks for `event: data` (`?events=named`), instead of what a browser's `onmessage` sees."""
    return exchange.request.query.get("events", [""])[-1] == "named"


async def respond_sse(
    exchange: Exchange,
    items: ReceiveStream[bytes] | trio.MemoryReceiveChannel[bytes] | AsyncIterable[bytes],
    *,
    named: bool | None = None,
    headers: Headers = (),
    debug: bool = False,
) -> None:
    """Answer with an event for each item, then `end` or, if the source fails, `error`.

    The head leaves at once. HEAD gets the head alone, and the source is not touched.

    Args:
      exchange: one without a head yet.
      items: payloads without line ends, such as JSON. It is iterated and, if it is a generator, closed here.
      named: `event: data` for each item, instead of bare `data:`; None for what the client asks for.
      headers: added to the stream's own.
      debug: whether the error event carries the text of unexpected exceptions.

    Raises:
      BaseException: what the source raised, after the error event, for whoever keeps the log. The answer is complete.
    Cancellation: the answer stays unfinished; a generator is closed.
    """
    await exchange.send_head(200, [*SSE_HEADERS, *headers])
    if exchange.request.method == "HEAD":
        return
    event = "data" if (wants_named_events(exchange) if named is None else named) else None
    try:
        if isinstance(items, AsyncGenerator):
            source = cast("AsyncGenerator[bytes, None]", items)
            async with aclosing(source):
                await _send_each(exchange, source, event)
        elif isinstance(items, ReceiveStream | trio.MemoryReceiveChannel):
            await _send_batches(exchange, items, event)
        else:
            await _send_each(exchange, items, event)
    except Exception as exc:
        await send_error(exchange, as_rpc_error(exc, debug=debug))
        raise
    await exchange.send(_END)
    exchange.end()


async def send_error(exchange: Exchange, error: RpcError) -> None:
    """End an event stream with an error event.

    Args:
      exchange: one whose head has been sent by `respond_sse`.
      error: what the stream ended with.
    """
    fields = {**error_fields(error), "status": http_status(error.code)}
    await exchange.send(sse.encode_event(msgspec.json.encode(fields), event="error"))
    exchange.end()


async def _send_each(exchange: Exchange, items: AsyncIterable[bytes], event: str | None) -> None:
    async for item in items:
        await exchange.send(sse.encode_event(item, event=event))


async def _send_batches(
    exchange: Exchange, items: ReceiveStream[bytes] | trio.MemoryReceiveChannel[bytes], event: str | None
) -> None:
    async for batch in _batches(items):
        await exchange.send(sse.encode_events(batch, event=event))


async def _batches(items: ReceiveStream[bytes] | trio.MemoryReceiveChannel[bytes]) -> AsyncIterator[list[bytes]]:
    while True:
        try:
            if isinstance(items, ReceiveStream):
                yield await items.receive_many(_BATCH_ITEMS)
            else:
                yield await _drain(items)
        except trio.EndOfChannel:
            return


async def _drain(items: trio.MemoryReceiveChannel[bytes]) -> list[bytes]:
    batch = [await items.receive()]
    while len(batch) < _BATCH_ITEMS:
        try:
            batch.append(items.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return batch
