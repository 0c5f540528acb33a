"""Procedures on a session beside two of our own multiplexers: users see the same."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
from hypothesis import given
from hypothesis import strategies as st

from tests.core.support import CONFIG, Muxes, consume
from tests.webtransport.protocol.session_ends import SessionEnds, Windows
from trio_streams.config import StreamLimits
from trio_streams.core import events, records
from trio_streams.core.mux import Mux
from trio_streams.webtransport.protocol.session_mux import SessionMux

Take = Callable[[], list[events.Event]]

TINY = Windows(stream_bytes=5_000, session_bytes=12_000, buffer_bytes=3_000)


@attrs.frozen
class Seen:
    """What the user of one side saw of a stream."""

    name: str
    items: tuple[bytes, ...]
    headers: tuple[object, ...]
    ends: tuple[object, ...]


class Side:
    """One machine and an application that takes everything, as it is told."""

    def __init__(self, machine: Mux | SessionMux) -> None:
        self.machine = machine
        self.names: dict[int, str] = {}
        self.events: dict[str, list[events.Event]] = {}
        self.left: dict[str, list[bytes]] = {}
        self.ends: set[str] = set()

    def open(self, name: str, payloads: list[bytes]) -> None:
        stream_id = self.machine.open(name, metadata={"n": name}, window_items=3)
        self._begin(stream_id, name, payloads)

    def _begin(self, stream_id: int, name: str, payloads: list[bytes]) -> None:
        self.names[stream_id] = name
        self.events[name] = []
        self.left[name] = list(payloads)
        self.machine.send_header(stream_id, {"head": name})
        self.push(stream_id)

    def push(self, stream_id: int) -> None:
        name = self.names[stream_id]
        if name in self.ends:
            return
        taken = self.machine.send(stream_id, self.left[name])
        del self.left[name][:taken]
        if not self.left[name]:
            self.ends.add(name)
            self.machine.end(stream_id, records.Status("NOT_FOUND", name), {"t": name})

    def take(self, told: list[events.Event]) -> None:
        for event in told:
            stream_id = getattr(event, "stream_id", 0)
            if isinstance(event, events.Opened):
                self._begin(stream_id, event.open.name, [name.encode() * 900 for name in event.open.name * 8])
            if stream_id:
                self.events[self.names[stream_id]].append(event)
            if isinstance(event, events.Received):
                consume(self.machine, stream_id, event.items)
            elif isinstance(event, events.Writable):
                self.push(stream_id)

    def seen(self) -> list[Seen]:
        return [
            Seen(
                name,
                tuple(item for event in told if isinstance(event, events.Received) for item in event.items),
                tuple(event.metadata for event in told if isinstance(event, events.Headed)),
                tuple((event.status, event.trailers) for event in told if isinstance(event, events.Ended)),
            )
            for name, told in sorted(self.events.items())
        ]

    def is_done(self) -> bool:
        return all(not left for left in self.left.values())


def _run(
    client: Side, server: Side, take: tuple[Take, Take], calls: list[list[bytes]]
) -> tuple[list[Seen], list[Seen]]:
    take_client, take_server = take
    for number, payloads in enumerate(calls):
        client.open(chr(ord("a") + number), payloads)
    quiet = 0
    while quiet < 2:
        told = [*(to_server := take_server()), *(to_client := take_client())]
        server.take(to_server)
        client.take(to_client)
        quiet = 0 if told else quiet + 1
    for side in (client, server):
        assert side.is_done()
        for stream_id in list(side.names):
            side.machine.release(stream_id)
    take_server(), take_client(), take_server(), take_client()
    assert client.machine.stream_count == server.machine.stream_count == 0
    return client.seen(), server.seen()


@given(
    st.lists(st.lists(st.binary(max_size=30) | st.integers(0, 40_000).map(bytes), max_size=12), max_size=5),
    st.integers(0, 1 << 32),
    st.sampled_from([Windows(), TINY]),
)
def test_users_see_what_they_see_on_any_carrier(calls: list[list[bytes]], seed: int, windows: Windows) -> None:
    """Whatever the windows, the chunks and the order in which streams move, heads, items and ends are those that two
    multiplexers on one carrier give; and nothing is left of a stream, nor held by it.
    """
    config = attrs.evolve(CONFIG, stream=StreamLimits(window_items=4, window_bytes=20_000))
    muxes = Muxes(config)
    expected = _run(Side(muxes.client), Side(muxes.server), (muxes.take_client, muxes.take_server), calls)
    choices = random.Random(seed)
    ends = SessionEnds(config, windows=windows, choose=choices.randrange)
    got = _run(Side(ends.client), Side(ends.server), (ends.take_client, ends.take_server), calls)
    assert got == expected
    assert ends.client_end.held_bytes == ends.server_end.held_bytes == 0
