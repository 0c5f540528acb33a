"""What the page is told a few times a second: one picture of everything that lives, in plain figures."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import attrs
import msgspec

from trio_streams.connection import Connection, ConnectionStatistics
from trio_streams.dashboard.config import DashboardConfig
from trio_streams.dashboard.exchanges import ExchangeRow, Exchanges
from trio_streams.dashboard.meter import Connections, Meter
from trio_streams.streams.abc import StreamStatistics

__all__ = ["Sampler", "Snapshot"]

_STALE: Final = 2.0
"""Seconds without a look, after which the rates begin anew: they would be those of the time when nobody looked."""


@attrs.frozen(kw_only=True)
class ConnectionRow:
    """One connection; sizes in bytes, rates in bytes a second, `round_trip` in seconds.

    Attributes:
      is_attached: whether there is a carrier; False while a session waits for its client.
      resumes: how often the session went on with another one.
      retained_bytes: written, and not acknowledged.
    """

    id: str
    transport: str
    peer: str
    streams: int
    streams_ever: int
    queued_bytes: int
    unread_bytes: int
    bytes_sent: int
    bytes_received: int
    sent_rate: float
    received_rate: float
    round_trip: float | None
    is_attached: bool
    resumes: int
    retained_bytes: int


@attrs.frozen(kw_only=True)
class StreamRow:
    """One stream, or one HTTP exchange under way, from the server's side.

    Attributes:
      id: of the stream, unique in the life of the server.
      connection: the id of its connection; empty for an HTTP exchange.
      transport: what carries it: `tcp`, `ws`, `sse`, `http`, …
      peer: the other end.
      name: the procedure, or method and path.
      out: the state of the half that the server sends on; None if there is none.
      into: of the half that it receives on.
      is_held: whether a handler waits to send, because the reader is slow or gives no credit.
      queued_items: accepted from the handler, not yet sent.
      credit_items: how many more the peer lets us send; None where HTTP's own buffers are the limit.
      credit_window_items: the peer's window as far as it can be told, see `_peer_window`; 0 if nothing is known yet.
      buffered_items: received, not yet taken by the handler.
      window_items: how many may be.
      buffered_bytes: received and not yet taken, items at their cost.
      window_bytes: how many may be; 0 for no such limit.
      items: in both directions.
      bytes: in both directions.
      items_rate: items a second.
      bytes_rate: bytes a second.
    """

    id: str
    connection: str
    transport: str
    peer: str
    name: str
    out: str | None
    into: str | None
    is_held: bool
    queued_items: int
    credit_items: int | None
    credit_window_items: int
    buffered_items: int
    window_items: int
    buffered_bytes: int
    window_bytes: int
    items: int
    bytes: int
    items_rate: float
    bytes_rate: float


@attrs.frozen(kw_only=True)
class Totals:
    """Of the whole server; rates are those of what lives."""

    connections: int
    streams: int
    exchanges: int
    exchanges_ever: int
    viewers: int
    bytes_sent_rate: float
    bytes_received_rate: float
    items_rate: float
    queued_bytes: int
    held: int


@attrs.frozen(kw_only=True)
class Snapshot:
    """One picture.

    Attributes:
      time: seconds since 1970.
      uptime: seconds since the page's server began.
      totals: of everything, rows that are left out included.
      connections: those that live, the oldest first, up to the limit.
      streams: their streams and the HTTP exchanges under way, up to the limit.
      recent: the last HTTP exchanges that are over, the newest first.
    """

    time: float
    uptime: float
    totals: Totals
    connections: list[ConnectionRow]
    streams: list[StreamRow]
    recent: list[ExchangeRow]


class Sampler:
    """Takes pictures for all who look: whoever asks first in an interval has it built, the others get the same.

    Args:
      connections: the live ones.
      exchanges: HTTP's.
      config: limits, and the interval.
    """

    def __init__(self, connections: Connections, exchanges: Exchanges, config: DashboardConfig) -> None:
        self._connections = connections
        self._exchanges = exchanges
        self._config = config
        self._began = time.monotonic()
        self._meter = Meter()
        self._credits: dict[str, int] = {}
        self._turn = -1
        self._looked_at = 0.0
        self._encoded = b""
        self.viewers: int = 0

    def payload(self, now: float) -> bytes:
        """The picture of this interval as JSON.

        Args:
          now: the time, on Trio's clock.
        """
        turn = int(now / self._config.interval)
        if turn != self._turn or not self._encoded:
            self._turn = turn
            self._encoded = msgspec.json.encode(self.take(now))
        return self._encoded

    def next_turn(self, now: float) -> float:
        """When the next picture is due."""
        return (int(now / self._config.interval) + 1) * self._config.interval

    def take(self, now: float) -> Snapshot:
        """A new picture.

        Args:
          now: the time, on Trio's clock.
        """
        if now - self._looked_at > _STALE:
            self._meter = Meter()
        self._looked_at = now
        live = [(str(number), connection) for number, connection in self._connections]
        statistics = [(key, connection, connection.statistics()) for key, connection in live]
        connections = [self._connection(key, it, now) for key, _, it in statistics]
        streams = [row for key, connection, it in statistics for row in self._streams(key, connection, it, now)]
        streams += [self._exchange(row, now) for row in self._exchanges.live.values()]
        totals = self._totals(connections, streams, now)
        self._keep(connections, streams)
        return Snapshot(
            time=round(time.time(), 3),
            uptime=round(time.monotonic() - self._began, 1),
            totals=totals,
            connections=connections[: self._config.max_connections],
            streams=streams[: self._config.max_streams],
            recent=list(reversed(self._exchanges.recent)),
        )

    def _connection(self, key: str, it: ConnectionStatistics, now: float) -> ConnectionRow:
        return ConnectionRow(
            id=key,
            transport=it.transport,
            peer=it.peer,
            streams=len(it.streams),
            streams_ever=it.streams_opened + it.streams_accepted,
            queued_bytes=it.queued_bytes,
            unread_bytes=it.unread_bytes,
            bytes_sent=it.bytes_sent,
            bytes_received=it.bytes_received,
            sent_rate=self._rate(f"{key} sent", it.bytes_sent, now),
            received_rate=self._rate(f"{key} received", it.bytes_received, now),
            round_trip=it.round_trip,
            is_attached=it.is_attached,
            resumes=it.resumes,
            retained_bytes=it.retained_bytes,
        )

    def _streams(self, key: str, connection: Connection, it: ConnectionStatistics, now: float) -> Iterable[StreamRow]:
        # Nothing awaits between the two, so that the statistics are those of these streams.
        for stream, its in zip(connection.streams, it.streams, strict=True):
            yield self._stream(f"{key}/{its.id}", key, it, stream.name, its, now)

    def _stream(
        self, id_: str, connection: str, of: ConnectionStatistics, name: str, it: StreamStatistics, now: float
    ) -> StreamRow:
        items = it.items_sent + it.items_received
        size = (it.bytes_sent or 0) + (it.bytes_received or 0)
        self._credits[id_] = max(self._credits.get(id_, 0), _peer_window(it))
        return StreamRow(
            id=id_,
            connection=connection,
            transport=of.transport,
            peer=of.peer,
            name=name,
            out=it.send_state,
            into=it.receive_state,
            is_held=it.tasks_waiting_send > 0,
            queued_items=it.queued_items,
            credit_items=it.credit_items,
            credit_window_items=self._credits[id_],
            buffered_items=it.buffered_items,
            window_items=it.window_items,
            buffered_bytes=it.buffered_bytes or 0,
            window_bytes=it.window_bytes or 0,
            items=items,
            bytes=size,
            items_rate=self._rate(f"{id_} items", items, now),
            bytes_rate=self._rate(f"{id_} bytes", size, now),
        )

    def _exchange(self, row: ExchangeRow, now: float) -> StreamRow:
        id_ = f"http/{row.number}"
        size = row.bytes_sent + row.bytes_received
        return StreamRow(
            id=id_,
            connection="",
            transport="sse" if row.is_events else "http",
            peer=row.peer,
            name=row.path.removeprefix("/streams/") if row.is_events else f"{row.method} {row.path}",
            out="open",
            into=None,
            is_held=row.is_held(now),
            queued_items=0,
            credit_items=None,
            credit_window_items=0,
            buffered_items=0,
            window_items=0,
            buffered_bytes=0,
            window_bytes=0,
            items=row.items,
            bytes=size,
            items_rate=self._rate(f"{id_} items", row.items, now),
            bytes_rate=self._rate(f"{id_} bytes", size, now),
        )

    def _totals(self, connections: list[ConnectionRow], streams: list[StreamRow], now: float) -> Totals:
        exchanges = self._exchanges
        sent = self._rate("exchanges sent", exchanges.bytes_sent, now)
        received = self._rate("exchanges received", exchanges.bytes_received, now)
        return Totals(
            connections=len(connections),
            streams=len(streams) - len(exchanges.live),
            exchanges=len(exchanges.live),
            exchanges_ever=exchanges.count,
            viewers=self.viewers,
            bytes_sent_rate=round(sent + sum(row.sent_rate for row in connections), 1),
            bytes_received_rate=round(received + sum(row.received_rate for row in connections), 1),
            items_rate=round(sum(row.items_rate for row in streams), 2),
            queued_bytes=sum(row.queued_bytes for row in connections),
            held=sum(row.is_held for row in streams),
        )

    def _rate(self, key: str, count: int, now: float) -> float:
        return round(self._meter.rate(key, count, now), 2)

    def _keep(self, connections: list[ConnectionRow], streams: list[StreamRow]) -> None:
        ids = {row.id for row in streams}
        keys = {f"{row.id} {what}" for row in streams for what in ("items", "bytes")}
        keys |= {f"{row.id} {what}" for row in connections for what in ("sent", "received")}
        self._meter.keep(keys | {"exchanges sent", "exchanges received"})
        self._credits = {key: credit for key, credit in self._credits.items() if key in ids}


def _peer_window(it: StreamStatistics) -> int:
    """The window that our credit is a part of, or what is known to be less.

    A grant is due when a quarter of the window was taken. As long as less than that can have been taken, the limit is
    the window itself; later the window is at least as large as what is left of it.
    """
    credit = it.credit_items or 0
    limit = it.items_sent + credit
    return limit if it.items_sent * 5 < limit else credit
