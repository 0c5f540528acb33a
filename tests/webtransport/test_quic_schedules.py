"""Whatever the network and the applications do: bytes arrive whole and in order, and credit is neither lost nor made."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webtransport.quic_pair import LOSSLESS, LOST, Fate, Pair, unsteady
from trio_streams.webtransport.quic_config import QuicLimits

WINDOW: Final = 8_192
SMALL: Final = QuicLimits(
    window_bytes=WINDOW, connection_window_bytes=3 * WINDOW, max_send_buffer_bytes=4_096, send_low_mark_bytes=1_024
)


def _pattern(stream_id: int, size: int) -> bytes:
    return bytes((stream_id * 31 + position * 7 + position // 256) % 256 for position in range(size))


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_ten_streams_survive_a_bad_link(loss: float, seed: int) -> None:
    """Ten streams both ways over a link that loses, doubles and reorders arrive whole, and all credit is back at the end."""
    pair = Pair(SMALL, link=unsteady(seed, loss))
    pair.shake_hands()
    ours = [pair.client.quic.open_stream() for _ in range(10)]
    sent = {stream_id: _pattern(stream_id, 3_000 * number) for number, stream_id in enumerate(ours)}
    for stream_id, data in sent.items():
        pair.client.write(stream_id, data)
    answered: set[int] = set()

    def is_done() -> bool:
        for stream_id in pair.server.ended - answered:
            answered.add(stream_id)
            pair.server.write(stream_id, bytes(pair.server.received[stream_id])[::-1])
        return len(pair.client.ended) == len(ours)

    pair.run_until(is_done)
    for stream_id, data in sent.items():
        assert pair.server.received[stream_id] == data
        assert pair.client.received[stream_id] == data[::-1]
    for side in (pair.client, pair.server):
        for stream_id in ours:
            side.quic.release(stream_id)
    pair.run_until(lambda: pair.client.quic.stream_count == pair.server.quic.stream_count == 0)
    for side in (pair.client, pair.server):
        assert side.quic._consumed_bytes == side.quic._connection.data_limit.used
        assert len(side.quic._connection.table) == 0


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
        what=st.sampled_from(["send", "send", "send", "read", "read", "end", "reset", "late reset", "stop", "release"]),
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
    """What four streams of a client should have done."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.ids = [pair.client.quic.open_stream(unidirectional=True) for _ in range(4)]
        self.sent: dict[int, int] = dict.fromkeys(self.ids, 0)
        self.over: set[int] = set()
        self.left: set[int] = set()
        self.reset: set[int] = set()
        self.stopped: set[int] = set()

    def do(self, step: _Step) -> None:
        stream_id = self.ids[step.stream]
        client, server = self.pair.client, self.pair.server
        is_open = stream_id not in self.over and stream_id not in client.stops
        is_known = stream_id in server.received and stream_id not in self.left
        match step.what:
            case "send" if is_open:
                data = _pattern(stream_id, self.sent[stream_id] + step.size)[self.sent[stream_id] :]
                self.sent[stream_id] += client.quic.send(stream_id, data)
            case "end" if is_open:
                client.quic.end(stream_id)
                self.over.add(stream_id)
            case "reset" | "late reset" if stream_id not in self.reset:
                client.quic.reset(stream_id, step.size, after_bytes=100 if step.what == "late reset" else 0)
                self.over.add(stream_id)
                self.reset.add(stream_id)
            case "read" if is_known:
                server.quic.consumed(stream_id, min(step.size, max(0, server.quic.unread_bytes(stream_id))))
            case "stop" if is_known:
                server.quic.stop(stream_id, step.size)
                self.stopped.add(stream_id)
            case "release" if is_known:
                server.quic.release(stream_id)
                self.left.add(stream_id)
            case _:
                pass

    def check(self) -> None:
        """What holds at every moment."""
        client, server = self.pair.client.quic, self.pair.server.quic
        for stream_id in self.ids:
            halves = client._streams[stream_id]
            assert 0 <= halves.unsent_bytes <= SMALL.max_send_buffer_bytes
            got = bytes(self.pair.server.received.get(stream_id, b""))
            assert got == _pattern(stream_id, len(got))
        assert client._fed_bytes <= client._connection.peer_data_limit
        ahead = sum(halves.fed_bytes for halves in client._streams.values() if not halves.is_reset)
        assert client._fed_bytes == client._connection.sent_data_bytes + ahead
        limit = server._connection.data_limit
        assert limit.used <= limit.value <= server._consumed_bytes + SMALL.connection_window_bytes
        # A stream whose first bytes are missing is known to aioquic alone.
        streams = {h.stream: h.consumed_bytes for h in server._streams.values()}
        streams |= {stream: 0 for stream in dict.values(server._connection.table) if stream not in streams}
        unread = [stream.receiver.highest_offset - consumed for stream, consumed in streams.items()]
        assert all(0 <= size <= WINDOW for size in unread)
        assert limit.used == server._consumed_bytes + sum(unread)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS, fates=_FATES)
def test_any_schedule_keeps_the_invariants(steps: list[_Step], fates: list[Fate]) -> None:
    """At every moment: what arrived is a prefix of what was sent, no buffer is past its limit, and each byte that counts
    against the connection's window was consumed or is unread. At the end, once all is left, all credit is back."""
    pair = Pair(SMALL)
    pair.shake_hands()
    pair.server.reads = lambda stream_id: False
    model = _Model(pair)
    remaining = iter(fates)
    pair.link = lambda: next(remaining, LOSSLESS)
    for step in steps:
        model.do(step)
        pair.run_for(step.wait)
        pair.flush()
        model.check()
    _finish(pair, model)


def _finish(pair: Pair, model: _Model) -> None:
    pair.server.reads = lambda stream_id: stream_id not in model.left
    for stream_id in model.ids:
        if stream_id not in model.over and stream_id not in pair.client.stops:
            pair.client.quic.end(stream_id)
        if stream_id in pair.server.received and stream_id not in model.left:
            pair.server.quic.consumed(stream_id, max(0, pair.server.quic.unread_bytes(stream_id)))
        pair.client.quic.release(stream_id)
    pair.run_until(lambda: pair.client.quic.stream_count == 0)
    pair.run_for(5)
    pair.flush()
    for stream_id in set(model.ids) - model.left - model.stopped:
        # A reset that comes after all was acknowledged changes nothing.
        assert (stream_id in pair.server.ended) != (stream_id in pair.server.resets)
        if stream_id in pair.server.ended:
            assert len(pair.server.received[stream_id]) == model.sent[stream_id]
    assert set(pair.server.resets) <= model.reset
    assert pair.server.quic._consumed_bytes == pair.server.quic._connection.data_limit.used
    assert pair.server.terminated is None
