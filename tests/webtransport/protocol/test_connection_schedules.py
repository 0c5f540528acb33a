"""Whatever the network and two applications do: a session's bytes arrive whole, its counts are true, and nothing is left."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webtransport.machine_pair import MachinePair, MachineSide
from tests.webtransport.quic_pair import LOSSLESS, LOST, Fate, unsteady
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.session import SessionConfig
from trio_streams.webtransport.protocol.settings import SessionLimits
from trio_streams.webtransport.quic_config import QuicLimits

WINDOW: Final = 8_192
QUIC: Final = QuicLimits(
    window_bytes=WINDOW, connection_window_bytes=4 * WINDOW, max_send_buffer_bytes=4_096, send_low_mark_bytes=1_024
)
SESSION: Final = SessionConfig(
    limits=SessionLimits(window_bytes=2 * WINDOW, max_bidirectional_streams=8, max_unidirectional_streams=8)
)
LIMITS: Final = WebTransportLimits(session=SESSION)


def _pattern(stream_id: int, size: int) -> bytes:
    return bytes((stream_id * 31 + position * 7 + position // 256) % 256 for position in range(size))


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_two_sessions_survive_a_bad_link(loss: float, seed: int) -> None:
    """Streams of both kinds from both sides, over a link that loses, doubles and reorders, arrive whole; then all is closed."""
    pair = MachinePair(LIMITS, QUIC, link=unsteady(seed, loss))
    pair.shake_hands()
    sessions = [pair.connect(), pair.connect()]
    sent: dict[int, tuple[MachineSide, bytes]] = {}
    for number, session_id in enumerate(sessions * 2):
        for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
            for is_unidirectional in (False, True):
                stream_id = side.machine.open_stream(session_id, is_unidirectional=is_unidirectional)
                sent[stream_id] = other, _pattern(stream_id, 7_000 * number)
                side.write(stream_id, sent[stream_id][1])
    pair.run_until(lambda: all(stream_id in other.ended for stream_id, (other, _) in sent.items()))
    for stream_id, (other, data) in sent.items():
        assert other.received[stream_id] == data
    for stream_id in sent:
        pair.client.machine.release(stream_id)
        pair.server.machine.release(stream_id)
    pair.run_for(5)
    for session_id in sessions:
        pair.client.machine.close_session(session_id, 3, "done", pair.now)
    pair.run_until(lambda: pair.client.machine.is_settled and pair.server.machine.is_settled)
    pair.run_for(5)
    for side in (pair.client, pair.server):
        assert [event.code for event in side.find(events.SessionClosed)] == [3, 3]
        assert side.machine._streams.table == {}
        assert side.quic.stream_count == 6


@attrs.frozen
class _Step:
    """Something that an application does to a stream, and how long it waits then."""

    what: str
    stream: int
    size: int
    wait: float


_STEPS: Final = st.lists(
    st.builds(
        _Step,
        what=st.sampled_from(["send", "send", "send", "read", "read", "end", "reset", "stop", "leave", "leave other"]),
        stream=st.integers(0, 3),
        size=st.integers(0, 20_000),
        wait=st.sampled_from([0.0, 0.0, 0.005, 0.05, 1.0]),
    ),
    max_size=25,
)
_FATES: Final = st.lists(
    st.sampled_from([LOSSLESS] * 6 + [LOST, Fate((0.03,)), Fate((0.08,)), Fate((0.01, 0.02)), Fate((0.0,))]),
    max_size=60,
)


class _Model:
    """Four streams of a client's session, two of each kind, and what was done to them."""

    def __init__(self, pair: MachinePair) -> None:
        self.pair = pair
        self.session_id = pair.connect()
        self.ids = [pair.client.open(self.session_id, is_unidirectional=bool(number % 2)) for number in range(4)]
        self.sent: dict[int, int] = dict.fromkeys(self.ids, 0)
        self.read: dict[int, int] = dict.fromkeys(self.ids, 0)
        self.over: set[int] = set()
        self.cut: set[int] = set()
        self.left: set[int] = set()
        self.refused: set[int] = set()

    def do(self, step: _Step) -> None:
        stream_id = self.ids[step.stream]
        client, server = self.pair.client, self.pair.server
        is_open = stream_id not in self.over and stream_id not in client.stream_stops
        is_known = stream_id in server.opened and stream_id not in self.refused
        match step.what:
            case "send" if is_open:
                data = _pattern(stream_id, self.sent[stream_id] + step.size)[self.sent[stream_id] :]
                self.sent[stream_id] += client.machine.send(stream_id, data)
            case "end" if is_open:
                client.machine.end(stream_id)
                self.over.add(stream_id)
            case "reset" if stream_id not in self.left:
                client.machine.reset(stream_id, step.size)
                self.over.add(stream_id)
                self.cut.add(stream_id)
            case "read" if is_known:
                unread = len(server.received.get(stream_id, b"")) - self.read[stream_id]
                self.read[stream_id] += min(step.size, unread)
                server.machine.consumed(stream_id, min(step.size, unread))
            case "stop" if is_known:
                server.machine.stop(stream_id, step.size)
                self.refused.add(stream_id)
            case "leave" if stream_id not in self.left:
                client.machine.release(stream_id, step.size)
                self.cut |= {stream_id} - self.over
                self.over.add(stream_id)
                self.left.add(stream_id)
            case "leave other" if is_known:
                server.machine.release(stream_id, step.size)
                self.refused.add(stream_id)
            case _:
                pass

    def check(self) -> None:
        """What holds at every moment."""
        for side in (self.pair.client, self.pair.server):
            session = side.machine.session(self.session_id)
            assert session is not None
            credit, data = session._flow._granted[2], session._flow.data
            assert 0 <= credit.bytes - credit.consumed_bytes <= 2 * WINDOW
            assert 0 <= data.used <= data.limit
            assert side.quic._unsent_bytes >= 0
        for stream_id in self.ids:
            got = bytes(self.pair.server.received.get(stream_id, b""))
            assert got == _pattern(stream_id, len(got))

    def finish(self) -> None:
        """Let everything come to its end; then both sides count alike, and forget all."""
        pair = self.pair
        for stream_id in self.ids:
            if stream_id not in self.over and stream_id not in pair.client.stream_stops:
                pair.client.machine.end(stream_id)
            if stream_id not in self.refused:
                pair.server.machine.consumed(
                    stream_id, len(pair.server.received.get(stream_id, b"")) - self.read[stream_id]
                )
        pair.server.reads = lambda stream_id: True
        pair.run_for(30)
        for stream_id in self.ids:
            pair.client.machine.release(stream_id)
            pair.server.machine.release(stream_id)
        pair.run_for(30)
        for stream_id in set(self.ids) - self.refused - self.cut:
            assert len(pair.server.received.get(stream_id, b"")) == self.sent[stream_id]
            assert stream_id in pair.server.ended
        sender, receiver = (side.machine.session(self.session_id) for side in (pair.client, pair.server))
        assert sender is not None
        assert receiver is not None
        credit = receiver._flow._granted[2]
        assert sender._flow.data.used == credit.bytes == credit.consumed_bytes
        assert pair.client.machine._streams.table == pair.server.machine._streams.table == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS, fates=_FATES)
def test_any_schedule_keeps_the_invariants(steps: list[_Step], fates: list[Fate]) -> None:
    """At every moment no session is past its window and what arrived is a prefix of what was sent. At the end the bytes that
    the sender counts, those that arrived and those that were consumed or dropped are the same number, and no stream is left."""
    pair = MachinePair.ready(LIMITS, QUIC)
    pair.server.reads = lambda stream_id: False
    model = _Model(pair)
    remaining = iter(fates)
    pair.link = lambda: next(remaining, LOSSLESS)
    for step in steps:
        model.do(step)
        pair.run_for(step.wait)
        pair.flush()
        model.check()
    model.finish()
