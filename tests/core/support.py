"""What the tests of the machines share: a pair of muxes, and shorthands for what they say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.flow import cost
from trio_streams.core.mux import Mux
from trio_streams.streams.machine import Machine
from trio_streams.testing import Link, Pair
from trio_streams.wire.binary import PREFACE, BinaryWire

EventT = TypeVar("EventT")

CONFIG = ConnectionConfig()


def make_mux(*, is_client: bool, config: ConnectionConfig = CONFIG, now: float = 0.0) -> Mux:
    return Mux(
        BinaryWire(), is_client=is_client, config=config, session_id="client" if is_client else "server", now=now
    )


class Muxes:
    """A client and a server that have greeted each other."""

    def __init__(
        self, client: ConnectionConfig = CONFIG, server: ConnectionConfig | None = None, link: Link | None = None
    ) -> None:
        self.client = make_mux(is_client=True, config=client)
        self.server = make_mux(is_client=False, config=server or client)
        self.pair: Pair[events.Event] = Pair(self.client, self.server, link)
        self.run()
        self.take_client()
        self.take_server()

    def run(self) -> None:
        self.pair.run_until_idle()

    def take_client(self) -> list[events.Event]:
        self.run()
        return take(self.pair.client_events)

    def take_server(self) -> list[events.Event]:
        self.run()
        return take(self.pair.server_events)


def take(collected: list[events.Event]) -> list[events.Event]:
    taken = list(collected)
    collected.clear()
    return taken


def only(kind: type[EventT], happened: Sequence[events.Event]) -> list[EventT]:
    return [event for event in happened if isinstance(event, kind)]


def items(happened: Sequence[events.Event], stream_id: int) -> list[bytes]:
    return [item for event in only(events.Received, happened) if event.stream_id == stream_id for item in event.items]


def consume(mux: Machine, stream_id: int, taken: Sequence[bytes]) -> None:
    mux.consume(stream_id, len(taken), cost(taken))


def frame(kind: int, stream_id: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame by hand; too long ones are announced as they are."""
    return struct.pack(">BBHQ", kind, flags, len(payload), stream_id) + payload


HELLO = frame(
    1,
    0,
    b'{"session_id":"peer","window_items":256,"window_bytes":262144,"connection_bytes":16777216,"max_streams":1024,'
    b'"max_item_bytes":16777216,"idle_timeout_ms":60000}',
)
GREETING = PREFACE + HELLO


def greeted(config: ConnectionConfig = CONFIG, *, is_client: bool = False) -> Mux:
    """One mux whose peer is the test; its own greeting is taken away."""
    mux = make_mux(is_client=is_client, config=config)
    mux.receive(GREETING, 0.0)
    assert [type(event) for event in mux.events()] == [events.Greeted]
    mux.to_send(0.0, 65_536)
    return mux
