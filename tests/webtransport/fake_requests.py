"""A connection of HTTP/3 that is nothing but a list of what was said on it, and streams with as much room as a test gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from trio_streams.core.errors import LocalProtocolError
from trio_streams.errors import ConnectionLost
from trio_streams.service.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.http3_host import Http3Host
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.sinks import RequestSink

__all__ = ["FakeLink", "head", "serving"]

Row = tuple[Any, ...]


def head(
    method: str = "GET", path: str = "/", *fields: tuple[str, str], authority: str | None = "example.org"
) -> RawHeaders:
    pseudo = [(":method", method), (":scheme", "https"), (":path", path)]
    if authority is not None:
        pseudo.append((":authority", authority))
    return [(name.encode(), value.encode("latin-1")) for name, value in [*pseudo, *fields]]


@attrs.define
class FakeLink:
    """The link and its machine; each row is a verb, a stream and what was said.

    Attributes:
      rows: what the exchange did, bodies joined.
      room: bytes that each stream takes now.
      unsent: of each stream, until `leave`.
    """

    rows: list[Row] = attrs.field(factory=list)
    room: dict[int, int] = attrs.field(factory=dict)
    unsent: dict[int, int] = attrs.field(factory=dict)
    sinks: dict[int, RequestSink] = attrs.field(factory=dict)
    kicks: int = 0
    peer: str = "192.0.2.1:4433"
    on_request: Callable[[int, RawHeaders, bool], None] | None = None
    fault: str | None = None

    @property
    def machine(self) -> FakeLink:
        return self

    def kick(self) -> None:
        self.kicks += 1

    def take_request(self, stream_id: int, sink: RequestSink) -> None:
        self.sinks[stream_id] = sink

    # The machine.

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool = False) -> None:
        self._check()
        fields = {name.decode(): value.decode("latin-1") for name, value in headers if name != b"date"}
        self.rows.append(("head", stream_id, fields))

    def send_body(self, stream_id: int, data: bytes | memoryview) -> int:
        self._check()
        taken = min(len(data), self.room.get(stream_id, 1 << 30))
        if stream_id in self.room:
            self.room[stream_id] -= taken
        self.unsent[stream_id] = self.unsent.get(stream_id, 0) + taken
        if taken:
            mine = [index for index, row in enumerate(self.rows) if row[1] == stream_id]
            if self.rows[mine[-1]][0] == "body":
                self.rows[mine[-1]] = ("body", stream_id, self.rows[mine[-1]][2] + bytes(data[:taken]))
            else:
                self.rows.append(("body", stream_id, bytes(data[:taken])))
        return taken

    def end_body(self, stream_id: int) -> None:
        self._check()
        self.rows.append(("end", stream_id))

    def abandon(self, stream_id: int, code: Http3Code) -> None:
        self.unsent[stream_id] = 0
        self.rows.append(("abandon", stream_id, code.name))

    def unsent_bytes(self, stream_id: int) -> int:
        return self.unsent.get(stream_id, 0)

    def consumed(self, stream_id: int, size: int) -> None:
        self.rows.append(("consumed", stream_id, size))

    def release_request(self, stream_id: int) -> None:
        del self.sinks[stream_id]
        self.release(stream_id)

    def release(self, stream_id: int) -> None:
        self.rows.append(("release", stream_id))

    def _check(self) -> None:
        if self.fault is not None:
            raise LocalProtocolError(self.fault)

    # The client.

    def ask(self, headers: RawHeaders, *body: bytes, stream_id: int = 0, is_ended: bool = True) -> RequestSink | None:
        """A request, with its whole body unless it is not ended."""
        assert self.on_request is not None
        self.on_request(stream_id, headers, is_ended and not body)
        sink = self.sinks.get(stream_id)
        if body and sink is not None:
            sink.on_body(body, sum(map(len, body)), is_ended)
        return sink

    def leave(self, stream_id: int = 0, size: int | None = None) -> None:
        """What was taken, or a part of it, has left."""
        self.unsent[stream_id] = 0 if size is None else self.unsent[stream_id] - size

    def deliver(self, stream_id: int = 0) -> None:
        """The client has acknowledged the whole answer."""
        self.leave(stream_id)
        self.sinks[stream_id].on_delivered()

    def give_room(self, size: int, stream_id: int = 0) -> None:
        self.room[stream_id] = size
        self.sinks[stream_id].on_writable()

    def lose(self) -> None:
        for sink in list(self.sinks.values()):
            sink.on_lost(lambda: ConnectionLost("gone"))
        self.sinks.clear()

    def said(self, stream_id: int = 0) -> Sequence[Row]:
        """The rows of a stream, without it."""
        return [(row[0], *row[2:]) for row in self.rows if row[1] == stream_id]


@asynccontextmanager
async def serving(
    handler: ExchangeHandler,
    config: ExchangeConfig | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
) -> AsyncIterator[tuple[FakeLink, Http3Host]]:
    """A host with one connection. What the block leaves is cancelled; then nothing is left of any exchange."""
    host = Http3Host(handler, config=config or ExchangeConfig(), on_access=on_access)
    link = FakeLink()
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.attach(link)
        yield link, host
        nursery.cancel_scope.cancel()
