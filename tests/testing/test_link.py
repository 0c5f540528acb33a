"""The link in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.testing import Link, Pipe

DATA = bytes(range(256)) * 4


def drain(pipe: Pipe) -> tuple[list[bytes], list[float]]:
    """Every chunk under way, and when it arrives."""
    chunks, times = [], []
    while (arrival := pipe.next_arrival) is not None:
        times.append(arrival)
        chunks.append(pipe.receive(arrival))
    return chunks, times


def test_a_perfect_link_delivers_at_once_and_whole() -> None:
    """Without latency and splitting, what is sent arrives in the same instant, as it was."""
    link = Link()
    link.to_server.send(b"abc", 5.0)
    assert (link.to_server.next_arrival, link.to_server.in_flight) == (5.0, 3)
    assert link.to_server.receive(5.0) == b"abc"
    assert (link.to_server.next_arrival, link.to_server.in_flight, link.to_server.receive(6.0)) == (None, 0, b"")
    assert link.to_client.next_arrival is None


@given(seed=st.integers(), parts=st.lists(st.binary(max_size=50), max_size=10), max_chunk=st.integers(1, 20))
def test_nothing_is_lost_reordered_or_doubled(seed: int, parts: list[bytes], max_chunk: int) -> None:
    """Whatever the delays and splits, the bytes arrive in order, each once, in chunks of at most `max_chunk`."""
    pipe = Link(seed, latency=(0.1, 0.9), max_chunk=max_chunk, bandwidth=1_000).to_client
    for number, part in enumerate(parts):
        pipe.send(part, number / 10)
    chunks, times = drain(pipe)
    assert b"".join(chunks) == b"".join(parts)
    assert all(1 <= len(chunk) <= max_chunk for chunk in chunks)
    assert times == sorted(times)


def test_a_seed_brings_everything_back() -> None:
    """The same seed gives the same chunks at the same times, another one does not; directions differ, too."""

    def run(seed: int) -> tuple[list[bytes], list[float]]:
        pipe = Link(seed, latency=(0.0, 1.0), max_chunk=9).to_server
        pipe.send(DATA, 0.0)
        return drain(pipe)

    assert run(1) == run(1)
    assert run(1) != run(2)
    link = Link(1, max_chunk=9)
    link.to_server.send(DATA, 0.0)
    link.to_client.send(DATA, 0.0)
    assert drain(link.to_server) != drain(link.to_client)


def test_chunks_are_late_within_the_latency() -> None:
    """A chunk that nothing holds up arrives between the shortest and the longest latency, not always the same."""
    pipe = Link(3, latency=(0.25, 0.5)).to_server
    delays = set()
    for number in range(50):
        pipe.send(b"x", float(number))
        arrival = pipe.next_arrival
        assert arrival is not None
        assert pipe.receive(arrival - 0.001) == b""
        assert pipe.receive(arrival) == b"x"
        assert 0.25 <= arrival - number <= 0.5
        delays.add(round(arrival - number, 6))
    assert len(delays) > 10


def test_bandwidth_stretches_what_is_sent_at_once() -> None:
    """At 1,000 bytes a second the last of 1,000 bytes arrives after one second, and the line is then free again."""
    pipe = Link(bandwidth=1_000, max_chunk=10).to_server
    pipe.send(bytes(1_000), 0.0)
    _, times = drain(pipe)
    assert times[-1] == pytest.approx(1.0)
    pipe.send(bytes(10), 5.0)
    assert drain(pipe)[1][-1] == pytest.approx(5.01)


@pytest.mark.parametrize("after_bytes", [0, 1, 5, 6, 7, 11, 12, 20])
def test_a_cut_loses_everything_from_a_point_on(after_bytes: int) -> None:
    """What lies beyond the point is lost, whether it was under way or is sent later; the other direction works on."""
    link = Link(latency=(1.0, 1.0))
    pipe = link.to_server
    pipe.send(b"abcdef", 0.0)
    pipe.cut(after_bytes)
    pipe.send(b"ghijkl", 0.0)
    arrived = b"".join(drain(pipe)[0])
    assert arrived == b"abcdefghijkl"[:after_bytes]
    assert pipe.lost_bytes == 12 - len(arrived)
    assert pipe.is_cut is (after_bytes <= 12)
    assert (pipe.in_flight, pipe.sent_bytes) == (0, 12)
    link.to_client.send(b"x", 0.0)
    assert drain(link.to_client)[0] == [b"x"]


def test_a_whole_link_can_be_cut() -> None:
    """`Link.cut` silences both directions."""
    link = Link()
    link.to_client.send(b"x", 0.0)
    link.cut()
    assert (link.to_client.is_cut, link.to_server.is_cut, link.to_client.next_arrival) == (True, True, None)


def test_what_lets_nothing_through_is_refused() -> None:
    """Arguments that make no sense fail where they were written, and say which."""
    for latency in [(-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)]:
        with pytest.raises(ValueError, match="latency"):
            Link(latency=latency)
    with pytest.raises(ValueError, match="max_chunk"):
        Link(max_chunk=0)
    with pytest.raises(ValueError, match="bandwidth"):
        Link(bandwidth=0)
