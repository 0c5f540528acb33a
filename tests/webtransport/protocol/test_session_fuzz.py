"""The session machine under any bytes, in any pieces, and any order of calls."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import session_events as events
from trio_streams.webtransport.protocol.capsules import (
    Capsule,
    Close,
    DataBlocked,
    Drain,
    MaxData,
    MaxStreams,
    StreamsBlocked,
    encode_capsule,
)
from trio_streams.webtransport.protocol.session import SessionConfig, SessionMachine, SessionState
from trio_streams.webtransport.protocol.settings import SessionLimits

LIMITS = SessionLimits(window_bytes=100, max_bidirectional_streams=1, max_unidirectional_streams=2)
CONFIG = SessionConfig(limits=LIMITS, max_waiting_capsule_bytes=50, max_skipped_capsule_bytes=50)
GREASE = bytes.fromhex("5234 03 616263")

CAPSULES: list[Capsule] = [
    Drain(),
    MaxData(100),
    MaxData(200),
    MaxData(7),
    MaxStreams(2, is_unidirectional=True),
    MaxStreams(5, is_unidirectional=True),
    MaxStreams(9, is_unidirectional=False),
    StreamsBlocked(1, is_unidirectional=False),
    DataBlocked(3),
    Close(3, "ä"),
]
ENCODED = [encode_capsule(capsule) for capsule in CAPSULES]
PARTS = st.sampled_from([*ENCODED, GREASE]) | st.binary(max_size=6)


def connecting(*, is_client: bool = False) -> SessionMachine:
    return SessionMachine(4, is_client=is_client, peer_limits=LIMITS, config=CONFIG)


@given(st.lists(PARTS, max_size=6), st.lists(st.integers(1, 9), min_size=1))
def test_every_split_tells_the_same(parts: list[bytes], sizes: list[int]) -> None:
    """The bytes of the CONNECT stream mean the same in whatever pieces they come, right or wrong."""
    data = b"".join(parts)
    whole, split = connecting(), connecting()
    for session in (whole, split):
        session.accept(0.0)
    whole.receive(data, 0.0)
    start = turn = 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        split.receive(data[start : start + size], 0.0)
        start += size
        turn += 1
    for session in (whole, split):
        session.receive_end(0.0)
    assert [repr(event) for event in whole.events()] == [repr(event) for event in split.events()]
    assert (whole.state, whole.reset_code, whole.to_send()) == (split.state, split.reset_code, split.to_send())


def _act(session: SessionMachine, source: random.Random, now: float) -> None:
    """One call of any kind; the fuzzer does not look first whether it may."""
    number = source.randrange(16)
    if number >= 14:
        enders: list[Callable[[], object]] = [
            lambda: session.close(1, "", now),
            lambda: session.receive_end(now),
            lambda: session.receive_reset(1, now),
            lambda: session.receive_stop(1, now),
            lambda: session.refuse(404, now),
        ]
        source.choice(enders)()
        return
    actions: list[Callable[[], object]] = [
        lambda: session.receive(source.choice([GREASE, source.randbytes(3)]), now),
        lambda: session.receive(source.choice(ENCODED), now),
        lambda: session.accept(now),
        session.drain,
        session.want_data,
        lambda: session.count_sent(source.randrange(30)),
        lambda: session.may_open(is_unidirectional=True),
        lambda: session.open_stream(4 * source.randrange(9) + 3),
        lambda: session.accept_stream(4 * source.randrange(9) + 2),
        lambda: session.finish_stream(4 * source.randrange(9) + 2),
        lambda: session.count_received(source.randrange(30)),
        lambda: session.count_consumed(0),
        lambda: session.handle_deadline(now),
        session.next_deadline,
    ]
    actions[number]()


@pytest.mark.parametrize("seed", range(300))
def test_nothing_breaks_the_machine(seed: int) -> None:
    """Any order of whatever: at most one last event, nothing but abandoned streams after it, and no stream is left."""
    source = random.Random(seed)
    session = connecting(is_client=bool(seed & 1))
    told: list[events.Event] = []
    for turn in range(80):
        with contextlib.suppress(LocalProtocolError):  # anything else fails the test
            _act(session, source, turn / 10)
        told += session.events()
        session.to_send()
        if session.state is SessionState.CLOSED:
            assert session.stream_count == 0
    last = [event for event in told if isinstance(event, events.Closed | events.Failed | events.Refused)]
    assert len(last) <= 1
    assert bool(last) is (session.state is SessionState.CLOSED)
    if last:
        assert all(isinstance(event, events.Abandoned) for event in told[told.index(last[0]) + 1 :])
