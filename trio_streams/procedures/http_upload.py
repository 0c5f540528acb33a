"""The items of a client stream over HTTP: lines of JSON, or bytes as they come, read as fast as the handler takes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, cast

import trio

from trio_streams.codecs import ndjson
from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import CodecError, RpcError, StreamError
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.coding import BYTES
from trio_streams.procedures.procedure import Procedure
from trio_streams.service.exchange import Exchange
from trio_streams.service.interceptor import Invocation
from trio_streams.streams import LocalStream, ReceiveStream, open_stream

__all__ = ["receive_items"]

_READ_AHEAD_ITEMS: Final = 16


@asynccontextmanager
async def receive_items(
    exchange: Exchange, procedure: Procedure, invocation: Invocation
) -> AsyncGenerator[ReceiveStream[Any], None]:
    """The items of a request's body, for as long as the block.

    A body of `application/octet-stream` is for procedures whose items are `bytes`: each chunk is one, as it comes. Any
    other body is lines of JSON.

    Args:
      exchange: its body is read as far ahead as a few items.
      procedure: a client stream.
      invocation: whose interceptors see each item.

    Raises:
      RpcError: INVALID_ARGUMENT: bytes for a procedure that takes something else. What is wrong with an item is raised
        where the handler takes it.
    Cancellation: what was read ahead is lost.
    """
    media_type = (exchange.request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type == BYTES and procedure.input_type is not bytes:
        raise RpcError(Code.INVALID_ARGUMENT, f"{procedure.name!r} takes lines of JSON, not {BYTES}")
    parse: Callable[[bytes], list[Any]]
    finish: Callable[[], list[Any]]
    if media_type == BYTES:
        parse, finish = (lambda chunk: [chunk]), list
    else:
        reader = ndjson(procedure.input_type).reader()
        parse, finish = reader.receive, reader.end
    async with open_bare_nursery() as nursery, open_stream[Any](high_water_mark=_READ_AHEAD_ITEMS) as items:
        nursery.start_soon(_feed, exchange, items, parse, finish, invocation)
        yield items
        nursery.cancel_scope.cancel()


async def _feed(
    exchange: Exchange,
    items: LocalStream[Any],
    parse: Callable[[bytes], list[Any]],
    finish: Callable[[], list[Any]],
    invocation: Invocation,
) -> None:
    try:
        async with aclosing(cast("AsyncGenerator[bytes, None]", exchange.iter_body())) as chunks:
            async for chunk in chunks:
                await items.send_many(map(invocation.received, parse(chunk)))
        await items.send_many(map(invocation.received, finish()))
        items.end()
    except CodecError as exc:
        items.end(Status(Code.INVALID_ARGUMENT.name, str(exc), {"path": exc.path}))
    except RpcError as exc:  # an interceptor's
        items.end(Status(exc.code, exc.message, exc.details))
    except (StreamError, trio.ClosedResourceError):
        pass  # the handler wants no more
