"""What a connection of WebTransport costs and holds: windows, floods, turns, idle streams, and peers that do not answer."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.webtransport.machine_pair import REQUEST, MachinePair
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.settings import SessionLimits
from trio_streams.webtransport.quic_config import QuicLimits

UNCOUNTED = WebTransportLimits(session=SessionConfig())
DATA = bytes(range(251)) * 1_000


@pytest.fixture(params=[None, UNCOUNTED], ids=["counted", "uncounted"])
def pair(request: pytest.FixtureRequest) -> MachinePair:
    """A pair that is ready, with sessions that count what they carry, and with sessions that do not."""
    return MachinePair.ready(request.param)


def test_unread_bytes_stop_the_sender_and_reading_lets_it_go_on() -> None:
    """An unread stream holds its window and no more, both where sessions count and where they do not."""
    limits = QuicLimits(window_bytes=16_384, connection_window_bytes=65_536, max_send_buffer_bytes=8_192,
                        send_low_mark_bytes=2_048)  # fmt: skip
    pair = MachinePair.ready(None, limits)
    session_id = pair.connect()
    pair.server.reads = lambda stream_id: False
    stream_id = pair.client.open(session_id, data=DATA)
    pair.run_for(5)
    assert len(pair.server.received[stream_id]) <= 16_384
    assert pair.client.machine.unsent_bytes(stream_id) <= 8_192
    pair.server.reads = lambda stream_id: True
    pair.server.machine.consumed(stream_id, len(pair.server.received[stream_id]))
    pair.run_until(lambda: stream_id in pair.server.ended)
    assert pair.server.received[stream_id] == DATA


def test_the_sessions_window_stops_all_its_streams() -> None:
    """Where both sides ask for it, a session's streams together carry no more than its window until they are read."""
    config = SessionConfig(
        limits=SessionLimits(window_bytes=10_000, max_bidirectional_streams=5, max_unidirectional_streams=5)
    )
    pair = MachinePair.ready(WebTransportLimits(session=config))
    session_id = pair.connect()
    pair.server.reads = lambda stream_id: False
    streams = [pair.client.open(session_id, data=DATA[:6_000]) for _ in range(3)]
    pair.run_for(1)
    assert sum(map(len, pair.server.received.values())) == 10_000
    pair.server.reads = lambda stream_id: True
    for stream_id, data in list(pair.server.received.items()):
        pair.server.machine.consumed(stream_id, len(data))
    pair.run_until(lambda: set(streams) <= pair.server.ended)
    assert all(pair.server.received[stream_id] == DATA[:6_000] for stream_id in streams)


def test_a_flood_of_one_session_drops_nothing_of_another(pair: MachinePair) -> None:
    """Of two sessions the one that sends ten thousand datagrams in a moment loses its own oldest, and the other none."""
    noisy, quiet = pair.connect(), pair.connect()
    for number in range(10_000):
        pair.client.machine.send_datagram(noisy, b"%d" % number, pair.now)
        if number % 1_000 == 0:
            pair.client.machine.send_datagram(quiet, b"%d" % number, pair.now)
    pair.run_for(1)
    assert pair.server.session_datagrams[quiet] == [b"%d" % number for number in range(0, 10_000, 1_000)]
    assert pair.server.session_datagrams[noisy][-1] == b"9999"
    assert len(pair.server.session_datagrams[noisy]) < 300


def test_a_peer_that_never_ends_a_session_is_cut_at_the_deadline() -> None:
    """Who closes waits `close_timeout` for the peer's end of CONNECT; then it resets the stream and is settled."""
    pair = MachinePair.ready()
    session_id = pair.connect()
    closer = pair.client.machine
    closer.close_session(session_id, 0, "", pair.now)
    held = pair.server.machine._inbound.take
    pair.server.machine._inbound.take = lambda event, now: None  # type: ignore[method-assign]
    start = pair.now
    pair.run_until(lambda: closer.is_settled)
    assert pair.now - start == pytest.approx(2.0, abs=0.1)
    pair.server.machine._inbound.take = held  # type: ignore[method-assign]


def test_a_session_that_crosses_goaway_is_rejected() -> None:
    """One that was asked for when the GOAWAY was under way is over with a code that lets the client try elsewhere."""
    pair = MachinePair.ready()
    pair.server.machine.go_away()
    session_id = pair.client.machine.connect_session(REQUEST, pair.now)
    pair.run_for(1)
    (closed,) = pair.client.find(events.SessionClosed)
    assert (closed.session_id, closed.code, closed.closer) == (
        session_id,
        Http3Code.H3_REQUEST_REJECTED,
        events.Closer.LOST,
    )
    assert pair.server.find(events.SessionRequested) == []


def test_going_away_before_the_handshake_is_said_after_it() -> None:
    """A server that goes away at once says so as soon as it can say anything."""
    pair = MachinePair()
    pair.server.machine.go_away()
    pair.shake_hands()
    assert pair.client.machine.peer_went_away


def test_priorities_are_strict_within_a_session(pair: MachinePair) -> None:
    """Of two streams of a session the one with the higher priority is through while the other has hardly begun."""
    session_id = pair.connect()
    low = pair.client.machine.open_stream(session_id, is_unidirectional=True, priority=-5)
    high = pair.client.machine.open_stream(session_id, is_unidirectional=True)
    pair.client.machine.set_priority(high, 3)
    pair.client.write(low, DATA)
    pair.client.write(high, DATA)
    pair.run_until(lambda: high in pair.server.ended)
    assert len(pair.server.received.get(low, b"")) < len(DATA) // 4


def _calls(action: Callable[[], object]) -> int:
    """How many Python calls something takes: its cost on a quiet machine, and on a busy one."""
    count = 0

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_idle_streams_cost_nothing() -> None:
    """A thousand idle streams of a session make a transfer on another one less than a tenth dearer."""
    costs = []
    for idle in (0, 1_000):
        pair = MachinePair.ready()
        session_id = pair.connect()
        for _ in range(idle):
            pair.client.machine.send(pair.client.open(session_id), b"x")
        pair.run_for(20)
        assert len(pair.server.received) == idle
        stream_id = pair.client.open(session_id, is_unidirectional=True, data=DATA[:100_000])
        costs.append(_calls(lambda p=pair, s=stream_id: p.run_until(lambda: s in p.server.ended)))  # type: ignore[misc]
    assert costs[1] < costs[0] * 1.1
