"""What the view knows: the live streams of this process, and how fast each of them moves.

Figures come from `statistics()` alone. The demo's own clients say which streams they have opened; what strangers have
opened is found on the server's connections. A stream of the demo's own is seen from its client, where items queue,
and left out on the server: `OWN` in its metadata tells.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Mapping
from typing import Final, Protocol

import attrs

from trio_streams.connection import Connection
from trio_streams.dashboard.meter import Connections, Meter
from trio_streams.procedures.client import Client, ConnectionClient
from trio_streams.streams.abc import StreamStatistics

__all__ = ["OWN", "Row", "Session", "Watch"]

OWN: Final[Mapping[str, str]] = {"demo": "own"}
"""Metadata by which the server knows the demo's own streams."""


class HasStatistics(Protocol):
    """A stream, as far as the view is concerned."""

    def statistics(self) -> StreamStatistics:
        """A snapshot."""
        ...


@attrs.frozen(kw_only=True)
class Row:
    """One stream, as the view shows it.

    Attributes:
      transport: `tcp`, `ws` or `sse`.
      name: the procedure.
      who: which end this is: `demo` for its own client, or the stranger's address.
      out: the state of the half we send on; `-` if there is none.
      into: the state of the half we receive on; likewise.
      window: items that may wait on this side; 0 where we only send.
      queue: items that wait; None where we only send.
      items: in both directions, so far.
      rate: items a second.
      size: bytes in both directions; None where nobody counts them.
      is_held: whether a task waits to send, because the reader is slow.
    """

    transport: str
    name: str
    who: str
    out: str
    into: str
    window: int
    queue: int | None
    items: int
    rate: float
    size: int | None
    is_held: bool


@attrs.frozen
class _Own:
    number: int
    transport: str
    name: str
    stream: HasStatistics


@attrs.frozen(kw_only=True)
class Session:
    """A connection of the demo's own that goes on when its network is cut.

    Attributes:
      transport: `tcp` or `ws`.
      is_attached: whether it has a network now.
      resumes: how often it went on over another one.
      retained_bytes: kept until the server has acknowledged them.
    """

    transport: str
    is_attached: bool
    resumes: int
    retained_bytes: int


class Watch:
    """The live streams of a process."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._own: dict[int, _Own] = {}
        self._sessions: dict[str, Connection] = {}
        self._connections = Connections()
        self._meter = Meter()

    @contextlib.contextmanager
    def own(self, transport: str, name: str, stream: HasStatistics) -> Generator[None, None, None]:
        """Show a stream of the demo's own client for as long as the block."""
        number = next(self._numbers)
        self._own[number] = _Own(number, transport, name, stream)
        try:
            yield
        finally:
            del self._own[number]

    def goes_on(self, transport: str, client: Client) -> None:
        """Show how a client of the demo's own outlives its networks."""
        if isinstance(client, ConnectionClient):
            self._sessions[transport] = client.connection

    def sessions(self) -> list[Session]:
        """Those clients, as they are now."""
        statistics = {transport: connection.statistics() for transport, connection in self._sessions.items()}
        return [
            Session(
                transport=transport,
                is_attached=it.is_attached,
                resumes=it.resumes,
                retained_bytes=it.retained_bytes,
            )
            for transport, it in statistics.items()
        ]

    def connected(self, connection: Connection) -> None:
        """Show the streams that strangers open on a connection; it is forgotten when it is over."""
        self._connections.add(connection)

    def rows(self, now: float) -> list[Row]:
        """Every live stream, the demo's own first.

        Args:
          now: the time, in seconds of any steady clock.
        """
        rows = {f"own {own.number}": (own.transport, own.name, "demo", own.stream) for own in self._own.values()}
        for number, connection in self._connections:
            for stream in connection.streams:
                if not OWN.items() <= stream.metadata.items():
                    rows[f"{number} {stream.id}"] = (connection.transport, stream.name, connection.peer, stream)
        self._meter.keep(set(rows))
        return [self._row(key, *row, now) for key, row in rows.items()]

    def _row(self, key: str, transport: str, name: str, who: str, stream: HasStatistics, now: float) -> Row:
        it = stream.statistics()
        if transport == "sse":
            # Behind an HTTP client is a stream within this process, which counts each item on its way in, too.
            it = attrs.evolve(it, items_sent=0, send_state=None)
        items = it.items_sent + it.items_received
        queue = it.buffered_items if it.receive_state in {"open", "closing"} else None
        sizes = [size for size in (it.bytes_sent, it.bytes_received) if size is not None]
        return Row(
            transport=transport,
            name=name,
            who=who,
            out=it.send_state or "-",
            into=it.receive_state or "-",
            window=it.window_items if queue is not None else 0,
            queue=queue,
            items=items,
            rate=self._meter.rate(key, items, now),
            size=sum(sizes) if sizes else None,
            is_held=it.tasks_waiting_send > 0,
        )
