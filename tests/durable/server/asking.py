"""Asks a server without a network: exchanges as a host makes them, and their answers whole."""

from __future__ import annotations

import json
from typing import Any

import attrs
import trio

from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Change, Commit, StoreError
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.service.exchange import ExchangeConfig, RequestHead
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire.sse import Event, SseParser

ROOT = "/v1/stream/"
CONFIG = ExchangeConfig()


@attrs.frozen
class Reply:
    """An answer: its status, its headers and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        return json.loads(self.body)

    @property
    def events(self) -> list[Event]:
        return SseParser().receive(self.body)

    @property
    def controls(self) -> list[Any]:
        return [json.loads(event.data) for event in self.events if event.event == "control"]


def begin(
    method: str, path: str, body: bytes = b"", *, query: str = "", peer: str = "10.0.0.1:1", **headers: str
) -> HostedExchange:
    """An exchange with its whole body; header names have `_` for `-`."""
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    head = RequestHead(method=method, path=ROOT + path, query_string=query, headers=fields, peer=peer)
    exchange = HostedExchange(head, CONFIG)
    exchange.feed_nowait(body, is_last=True)
    return exchange


async def ask(server: DurableServer, method: str, path: str, body: bytes = b"", **rest: str) -> Reply:
    """An answer, when it is over."""
    exchange = begin(method, path, body, **rest)
    received: list[bytes] = []

    async def take() -> None:
        while (piece := await exchange.take_body()) is not None:
            received.append(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await run_handler(exchange, server.handle)
    head = exchange.head
    assert head is not None
    assert len({name for name, _ in head.headers}) == len(head.headers)
    return Reply(head.status, dict(head.headers), b"".join(received))


class HeldStore(MemoryStore):
    """A store whose commits wait to be let through, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held: bool = False
        self.gate: trio.Event = trio.Event()
        self.is_broken: bool = False

    def submit(self, change: Change) -> Commit | None:  # type: ignore[override]
        if not self.is_held:
            return super().submit(change)
        return _Held(self, change, self.gate)

    def keep(self, change: Change) -> None:
        """Make a change durable."""
        super().submit(change)


class _Held:
    def __init__(self, store: HeldStore, change: Change, gate: trio.Event) -> None:
        self._store = store
        self._change: Change | None = change
        self._gate = gate

    async def wait(self) -> None:
        await self._gate.wait()
        if self._store.is_broken:
            raise StoreError("broken")
        if self._change is not None:
            self._store.keep(self._change)
            self._change = None
