"""The pair: two machines in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.support import Muxes, make_mux, only
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.testing import Link, NotIdleError, Pair


class Talker:
    """A machine that repeats what it hears, as often as it is told, and has a deadline every second if it is told."""

    def __init__(self, echoes: int = 0, *, ticks: bool = False, stuck: bool = False) -> None:
        self.echoes = echoes
        self.output = b""
        self.heard: list[tuple[float, bytes]] = []
        self.wants_input = True
        self._deadline = 1.0 if ticks or stuck else None
        self._stuck = stuck
        self._said: list[str] = []

    @property
    def has_output(self) -> bool:
        return bool(self.output)

    def receive(self, data: bytes, now: float) -> None:
        self.heard.append((now, data))
        self._said.append(data.decode())
        if self.echoes:
            self.echoes -= 1
            self.output += data

    def events(self) -> Iterator[str]:
        said, self._said = self._said, []
        return iter(said)

    def to_send(self, now: float, max_bytes: int) -> bytes:
        data, self.output = self.output[:max_bytes], self.output[max_bytes:]
        return data

    def next_deadline(self) -> float | None:
        return self._deadline

    def handle_deadline(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline and not self._stuck:
            self._said.append(f"tick {self._deadline:g}")
            self._deadline += 1.0


def test_events_are_collected_by_side() -> None:
    """Each side's events are kept in order, and time moves as far as the bytes need it."""
    client, server = Talker(), Talker(echoes=1)
    pair: Pair[str] = Pair(client, server, Link(latency=(0.5, 0.5)))
    client.output = b"hello"
    assert not pair.is_idle
    pair.run_until_idle()
    assert (pair.server_events, pair.client_events, pair.now, pair.is_idle) == (["hello"], ["hello"], 1.0, True)


def test_deliver_takes_single_chunks() -> None:
    """A test can stop between two chunks, and look."""
    client, server = Talker(), Talker()
    pair: Pair[str] = Pair(client, server, Link(max_chunk=1))
    client.output = b"abc"
    assert pair.flush() is True
    assert pair.flush() is False
    assert (pair.deliver(), pair.server_events) == (1, ["a"])
    assert (pair.deliver(5), pair.server_events) == (2, ["a", "b", "c"])


def test_max_bytes_bounds_one_write() -> None:
    """What one `to_send` is asked for is the test's choice."""
    client, server = Talker(), Talker()
    pair: Pair[str] = Pair(client, server, max_bytes=2)
    client.output = b"abcde"
    pair.run_until_idle()
    assert pair.server_events == ["ab", "cd", "e"]


def test_a_machine_that_wants_no_input_gets_none() -> None:
    """What arrives for a machine that has stopped reading stays on the line until it reads again."""
    client, server = Talker(), Talker()
    pair: Pair[str] = Pair(client, server)
    server.wants_input = False
    client.output = b"x"
    pair.run_until_idle()
    assert (pair.server_events, pair.link.to_server.in_flight, pair.is_idle) == ([], 1, True)
    server.wants_input = True
    assert not pair.is_idle
    pair.run_until_idle()
    assert pair.server_events == ["x"]


def test_deadlines_are_kept_on_time_and_in_order() -> None:
    """`advance` keeps each deadline at its own time, between the bytes that arrive before and after it."""
    client, server = Talker(), Talker(ticks=True)
    pair: Pair[str] = Pair(client, server, Link(latency=(1.5, 1.5)))
    client.output = b"x"
    pair.advance(2.5)
    assert (pair.server_events, pair.now) == (["tick 1", "x", "tick 2"], 2.5)
    assert server.heard == [(1.5, b"x")]
    pair.advance(0.25)
    assert (len(pair.server_events), pair.now) == (3, 2.75)


def test_bytes_that_are_slow_let_deadlines_pass() -> None:
    """`run_until_idle` keeps the deadlines before an arrival, and none after it."""
    client, server = Talker(), Talker(ticks=True)
    pair: Pair[str] = Pair(client, server, Link(latency=(3.5, 3.5)))
    client.output = b"x"
    pair.run_until_idle()
    assert (pair.server_events, pair.now) == (["tick 1", "tick 2", "tick 3", "x"], 3.5)


def test_what_arrives_later_stays_on_the_line() -> None:
    """`advance` stops at its time, however much is under way."""
    client, server = Talker(), Talker()
    pair: Pair[str] = Pair(client, server, Link(latency=(2.0, 2.0)))
    client.output = b"x"
    pair.advance(1.0)
    assert (pair.server_events, pair.now) == ([], 1.0)
    pair.advance(1.0)
    assert pair.server_events == ["x"]


def test_two_that_never_rest_are_a_failure() -> None:
    """After `max_steps` the pair gives up instead of hanging, on echoes and on a deadline that is never moved."""
    client = Talker(echoes=10**9)
    pair: Pair[str] = Pair(client, Talker(echoes=10**9), max_steps=100)
    client.output = b"x"
    with pytest.raises(NotIdleError, match="100 steps"):
        pair.run_until_idle()
    with pytest.raises(NotIdleError, match="100 steps"):
        Pair(Talker(stuck=True), Talker(), max_steps=100).advance(5)


@pytest.mark.parametrize("max_chunk", [None, 1, 7])
def test_muxes_talk_over_any_link(max_chunk: int | None) -> None:
    """Two muxes greet each other and pass items over a link that splits, delays and narrows."""
    muxes = Muxes(link=Link(4, latency=(0.001, 0.2), max_chunk=max_chunk, bandwidth=10_000))
    stream_id = muxes.client.open("x")
    muxes.client.send(stream_id, [b"a", bytes(20_000)])
    received = only(events.Received, muxes.take_server())
    assert [item for event in received for item in event.items] == [b"a", bytes(20_000)]


@pytest.mark.parametrize("start", [0.1 * n for n in range(0, 200, 7)])
def test_a_cut_link_is_found_out_by_both_at_idle_timeout(start: float) -> None:
    """A half-open connection ends exactly when its silence reaches `idle_timeout`, on whatever clock; a ping tried."""
    config = ConnectionConfig(idle_timeout=0.7)
    client = make_mux(is_client=True, config=config, now=start)
    server = make_mux(is_client=False, config=config, now=start)
    pair: Pair[events.Event] = Pair(client, server, now=start, max_steps=100)
    pair.advance(5.0)
    assert client.failure is None
    pair.link.to_server.cut()
    pair.advance(0.0)
    cut_at = pair.now
    while not only(events.Failed, pair.server_events):
        pair.advance(0.05)
    assert pair.now - cut_at < 0.7 + 0.051
    assert only(events.Failed, pair.server_events)[0].error.field == "idle_timeout"
