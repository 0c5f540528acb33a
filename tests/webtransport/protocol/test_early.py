"""What comes before its session: held within limits, claimed, or rejected."""

from __future__ import annotations

import random

import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.early import EarlyArrivals, EarlyLimits
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.session_events import Rejected

LIMITS = EarlyLimits(
    max_early_streams=2,
    max_early_stream_bytes=10,
    max_early_datagrams=2,
    max_early_datagram_bytes=10,
    max_early_age=5.0,
)


def test_a_session_claims_what_is_its_own() -> None:
    """Its streams with all their bytes and their end, its datagrams in order; others go on waiting."""
    early = EarlyArrivals(LIMITS)
    early.hold_stream(0, 2, 0.0)
    early.hold_stream(4, 6, 1.0)
    early.receive(2, b"ab")
    early.receive(2, b"", is_ended=False)
    early.receive(2, b"c", is_ended=True)
    early.hold_datagram(0, b"x", 0.0)
    early.hold_datagram(4, b"y", 0.0)
    streams, datagrams = early.claim(0)
    assert [(stream.stream_id, stream.chunks, stream.is_ended) for stream in streams] == [(2, [b"ab", b"c"], True)]
    assert datagrams == [b"x"]
    assert (early.waiting_streams, early.waiting_bytes) == (1, 1)
    assert early.claim(0) == ([], [])


def test_an_end_stays() -> None:
    """An end is not taken back by an empty piece that comes late."""
    early = EarlyArrivals(LIMITS)
    early.hold_stream(0, 2, 0.0)
    early.receive(2, b"", is_ended=True)
    early.receive(2, b"")
    assert early.claim(0)[0][0].is_ended


def test_one_stream_too_many() -> None:
    """Past the number of streams the newest is rejected with 0x3994bd84."""
    early = EarlyArrivals(LIMITS)
    assert early.hold_stream(0, 2, 0.0) is None
    assert early.hold_stream(0, 6, 0.0) is None
    assert early.hold_stream(0, 10, 0.0) == Rejected(10, Http3Code(0x3994BD84))
    assert early.waiting_streams == 2


def test_one_byte_too_many() -> None:
    """A stream whose bytes find no room is rejected, and what it held makes room; what comes later on it is dropped."""
    early = EarlyArrivals(LIMITS)
    early.hold_stream(0, 2, 0.0)
    early.hold_stream(0, 6, 0.0)
    assert early.receive(2, bytes(8)) is None
    assert early.receive(6, bytes(2)) is None
    assert early.receive(2, b"x") == Rejected(2)
    assert early.receive(2, b"x") is None
    assert early.waiting_bytes == 2


def test_a_stream_is_held_once() -> None:
    """Holding one twice is the driver's error."""
    early = EarlyArrivals()
    early.hold_stream(0, 2, 0.0)
    with pytest.raises(LocalProtocolError):
        early.hold_stream(0, 2, 0.0)


def test_a_reset_stream_is_forgotten() -> None:
    """Its bytes make room; an unknown one is nobody's fault."""
    early = EarlyArrivals(LIMITS)
    early.hold_stream(0, 2, 0.0)
    early.receive(2, b"abc")
    early.forget_stream(2)
    early.forget_stream(2)
    assert (early.waiting_streams, early.waiting_bytes) == (0, 0)


def test_datagrams_drop_the_oldest() -> None:
    """By number and by bytes; one that is larger than all room is dropped itself."""
    early = EarlyArrivals(LIMITS)
    for payload in (b"a", b"b", b"c"):
        early.hold_datagram(0, payload, 0.0)
    early.hold_datagram(0, bytes(11), 0.0)
    assert early.dropped_datagrams == 2
    early.hold_datagram(0, bytes(10), 0.0)
    assert early.claim(0)[1] == [bytes(10)]
    assert early.dropped_datagrams == 4


def test_a_refused_session_rejects_its_streams() -> None:
    """They end with WT_SESSION_GONE, and its datagrams are gone."""
    early = EarlyArrivals(LIMITS)
    early.hold_stream(0, 2, 0.0)
    early.hold_datagram(0, b"x", 0.0)
    assert early.refuse(0) == [Rejected(2, Http3Code.WT_SESSION_GONE)]
    assert early.waiting_bytes == 0


@pytest.mark.parametrize("start", [0.0, 0.1, 1_000_000.7])
def test_nothing_waits_for_ever(start: float) -> None:
    """At the deadline of the oldest it is given up, and the next deadline is the next one's."""
    early = EarlyArrivals(LIMITS)
    assert early.next_deadline() is None
    early.hold_datagram(0, b"x", start)
    early.hold_stream(0, 2, start + 1)
    early.hold_stream(0, 6, start + 2)
    first = early.next_deadline()
    assert first == start + 5
    assert early.handle_deadline(first) == []
    assert early.dropped_datagrams == 1
    second = early.next_deadline()
    assert second == start + 1 + 5
    assert early.handle_deadline(second) == [Rejected(2)]
    assert early.waiting_streams == 1


@pytest.mark.parametrize("name", ["max_early_streams", "max_early_stream_bytes", "max_early_age"])
def test_limits_are_positive(name: str) -> None:
    """A wrong limit fails where it was written."""
    with pytest.raises(ValueError, match=name):
        EarlyLimits(**{name: 0})


@pytest.mark.parametrize("seed", range(100))
def test_a_flood_stays_within_the_limits(seed: int) -> None:
    """Whatever comes in whatever order, no more is held than the limits say, and the books agree with what is held."""
    source = random.Random(seed)
    early = EarlyArrivals(LIMITS)
    held: set[int] = set()
    for turn in range(200):
        session_id = source.choice([0, 4, 8])
        stream_id = source.choice([held.copy().pop() if held else 2, 2 + 4 * turn])
        match source.randrange(6):
            case 0 if stream_id not in held and early.hold_stream(session_id, stream_id, turn) is None:
                held.add(stream_id)
            case 1 if early.receive(stream_id, source.randbytes(source.randrange(7))) is not None:
                held.remove(stream_id)
            case 2:
                early.hold_datagram(session_id, source.randbytes(source.randrange(13)), turn)
            case 3 if source.random() < 0.3:
                held -= {stream.stream_id for stream in early.claim(session_id)[0]}
            case 4:
                held -= {rejected.stream_id for rejected in early.handle_deadline(turn)}
            case _:
                early.forget_stream(stream_id)
                held.discard(stream_id)
        assert early.waiting_streams == len(held) <= 2
        assert early.waiting_bytes <= 20
    for session_id in (0, 4, 8):
        early.claim(session_id)
    assert (early.waiting_streams, early.waiting_bytes) == (0, 0)
