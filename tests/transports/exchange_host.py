"""A host of exchanges that is nothing but a list of writes."""

from __future__ import annotations

import json

import attrs
import trio

from trio_streams.service.exchange import (
    Exchange,
    ExchangeConfig,
    ExchangeHandler,
    RequestHead,
    ResponseHead,
    respond,
)
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange


@attrs.define
class Answer:
    head: ResponseHead | None
    writes: list[bytes]
    is_whole: bool

    @property
    def status(self) -> int:
        assert self.head is not None
        return self.head.status

    @property
    def headers(self) -> dict[str, str]:
        assert self.head is not None
        return dict(self.head.headers)

    @property
    def error(self) -> dict[str, object]:
        document = json.loads(b"".join(self.writes))
        assert list(document) == ["error"]
        error: dict[str, object] = document["error"]
        return error


async def drive(
    handler: ExchangeHandler,
    request: RequestHead | None = None,
    *,
    body: tuple[bytes, ...] = (),
    config: ExchangeConfig | None = None,
) -> Answer:
    exchange = HostedExchange(request or RequestHead(method="GET", path="/"), config or ExchangeConfig())
    writes: list[bytes] = []

    async def pump() -> None:
        await exchange.take_head()
        while (data := await exchange.take_body()) is not None:
            writes.append(data)

    async def feed() -> None:
        for chunk in body:
            await exchange.feed(chunk, is_last=False)
        await exchange.feed(b"", is_last=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        async with trio.open_nursery() as inner:
            inner.start_soon(pump)
            await run_handler(exchange, handler)
        nursery.cancel_scope.cancel()
    head = await exchange.take_head()
    return Answer(head, writes, exchange.is_ended)


def post(length: int | None = None) -> RequestHead:
    headers = () if length is None else (("content-length", str(length)),)
    return RequestHead(method="POST", path="/", headers=headers)


async def echo(exchange: Exchange) -> None:
    await respond(exchange, 200, await exchange.receive_body(max_bytes=10))
