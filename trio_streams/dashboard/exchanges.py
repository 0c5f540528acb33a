"""HTTP exchanges as they pass by: who asks for what, and how much of the answer has left."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import attrs
import trio

from trio_streams.dashboard.config import DashboardConfig
from trio_streams.errors import ConnectionLost
from trio_streams.service.exchange import BodySource, Exchange, ExchangeHandler, Headers
from trio_streams.service.passing import CountedSource, PassingExchange
from trio_streams.wire import sse

__all__ = ["ExchangeRow", "Exchanges"]

_EVENT_END: Final = b"\n\n"
_NO_EVENTS: Final = (b":", b"retry:")
_BEGIN_BYTES: Final = 16
"""How heartbeats and advice begin, which travel by themselves."""

_HELD: Final = 0.1
"""Seconds from which on waiting is the client's doing; a schedule point on a busy machine takes less."""


@attrs.define(kw_only=True)
class ExchangeRow:
    """One exchange, as far as it has come.

    Attributes:
      number: its own, in the order in which they began.
      method: of the request.
      path: of the request, cut if it is long.
      peer: who asks.
      began: when, on Trio's clock.
      status: of the answer; 0 before its head.
      is_events: whether the answer is server-sent events.
      waits_since: when the handler began to wait for room, on Trio's clock; None while it does not.
      items: events sent.
      bytes_sent: of the answer's body, before any compression.
      bytes_received: of the request's body.
      seconds: how long it took, once it is over.
      outcome: empty while it lives; `done`, `left` (cancelled, mostly by a client that has gone) or `failed`.
    """

    number: int
    method: str
    path: str
    peer: str
    began: float
    status: int = 0
    is_events: bool = False
    waits_since: float | None = None
    items: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    outcome: str = ""

    def is_held(self, now: float) -> bool:
        """Whether the handler waits because the client reads slowly, rather than for its turn."""
        return self.waits_since is not None and now - self.waits_since >= _HELD


class Exchanges:
    """Those that are under way, the last few that are over, and what all of them have moved.

    Args:
      config: how much is remembered.
    """

    def __init__(self, config: DashboardConfig) -> None:
        self._config = config
        self._numbers = itertools.count(1)
        self.live: dict[int, ExchangeRow] = {}
        self.recent: deque[ExchangeRow] = deque(maxlen=config.max_recent_exchanges)
        self.count: int = 0
        self.bytes_sent: int = 0
        self.bytes_received: int = 0
        self.items: int = 0

    def wrap(self, handler: ExchangeHandler) -> ExchangeHandler:
        """A handler whose exchanges are counted."""

        async def handle(exchange: Exchange) -> None:
            row = self._begin(exchange)
            outcome = "left"
            try:
                await handler(_CountedExchange(exchange, row, self))
                outcome = "done"
            except ConnectionLost:
                raise
            except Exception:
                outcome = "failed"
                raise
            finally:
                row.outcome = outcome
                row.seconds = trio.current_time() - row.began
                del self.live[row.number]
                self.recent.append(row)

        return handle

    def _begin(self, exchange: Exchange) -> ExchangeRow:
        request = exchange.request
        row = ExchangeRow(
            number=next(self._numbers),
            method=request.method[:16],
            path=request.path[: self._config.max_path_characters],
            peer=request.peer,
            began=trio.current_time(),
        )
        self.count += 1
        self.live[row.number] = row
        return row


class _CountedExchange(PassingExchange):
    def __init__(self, inner: Exchange, row: ExchangeRow, totals: Exchanges) -> None:
        super().__init__(inner)
        self._row = row
        self._totals = totals

    async def receive_some(self) -> bytes:
        chunk = await self._inner.receive_some()
        self._count_received(chunk)
        return chunk

    async def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in self._inner.iter_body(max_bytes=max_bytes):
            self._count_received(chunk)
            yield chunk

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        body = await self._inner.receive_body(max_bytes=max_bytes)
        self._count_received(body)
        return body

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        await self._inner.send_head(status, headers)
        self._row.status = status
        self._row.is_events = any(
            name == "content-type" and value.startswith(sse.CONTENT_TYPE) for name, value in headers
        )

    async def send(self, data: bytes) -> None:
        row = self._row
        row.waits_since = trio.current_time()
        try:
            await self._inner.send(data)
        finally:
            row.waits_since = None
        self._count_sent(data)

    async def send_from(self, source: BodySource) -> None:
        await self._inner.send_from(CountedSource(source, self._count_sent))

    def _count_sent(self, data: bytes) -> None:
        row = self._row
        row.bytes_sent += len(data)
        self._totals.bytes_sent += len(data)
        if row.is_events:
            # Of a source the lean host takes whole chunks, whose content is behind a line with its length.
            begin = data[:_BEGIN_BYTES].split(b"\r\n", 1)[-1]
            events = 0 if begin.startswith(_NO_EVENTS) else data.count(_EVENT_END)
            row.items += events
            self._totals.items += events

    def _count_received(self, chunk: bytes) -> None:
        self._row.bytes_received += len(chunk)
        self._totals.bytes_received += len(chunk)
