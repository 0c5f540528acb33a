"""Streams in memory: what was decided, and what of it is durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trio_streams.durable.protocol.media_types import media_type
from trio_streams.durable.protocol.states import Pending, Step, StreamState
from trio_streams.durable.store.base import Entry, ProducerState, Stored, StreamRecord

RECORD = StreamRecord(stream_id=1, path="a", content_type="text/plain", created_at=0.0, touched_at=10.0)


def make(**changes: Any) -> StreamState:
    return StreamState(Stored(attrs.evolve(RECORD, **changes)), ((1, 0, None),))


def test_decisions_become_durable_in_any_order() -> None:
    """A state is what was decided last; readers see the latest that is durable, and never an earlier one again."""
    state = make()
    told: list[int] = []
    state.listeners.add(lambda: told.append(state.durable.tail))
    first = Step(state, attrs.evolve(RECORD, tail=1), {"p": ProducerState(0, 0, 0.0)})
    first.apply()
    second = Step(state, attrs.evolve(RECORD, tail=2), is_removal=True)
    second.apply()
    assert (state.record.tail, state.durable.tail, state.is_removed) == (2, 0, True)
    assert state.producers == {"p": ProducerState(0, 0, 0.0)}
    second.settle()
    first.settle()
    assert (state.durable.tail, told) == (2, [2])


class Follower:
    def __init__(self) -> None:
        self.seen: list[tuple[bytes, int]] = []

    def add(self, entries: Sequence[Entry], record: StreamRecord) -> None:
        self.seen += [(entry.data, record.tail) for entry in entries]


def grow(state: StreamState, *pieces: bytes) -> Step:
    tail = state.record.tail
    step = Step(state, attrs.evolve(state.record, tail=tail + sum(map(len, pieces))))
    step.entries = [Entry(tail, piece, 0.0) for piece in pieces]
    step.apply()
    return step


def test_a_follower_is_given_each_entry_once_and_in_order() -> None:
    """However late its change is heard of: one that is durable says so of those before it, too."""
    state, follower = make(), Follower()
    state.follower = follower
    told: list[int] = []
    state.listeners.add(lambda: told.append(len(follower.seen)))
    first, second, third = grow(state, b"a", b"b"), grow(state, b"c"), grow(state, b"d")
    second.settle()
    assert follower.seen == [(b"a", 2), (b"b", 2), (b"c", 3)]
    first.settle()
    third.settle()
    assert follower.seen[3:] == [(b"d", 4)]
    assert told == [3, 4]
    assert not state.unsettled


def test_nothing_is_kept_for_nobody() -> None:
    """Without a follower what is durable is forgotten here; who comes later is given what comes after that."""
    state, follower = make(), Follower()
    grow(state, b"a").settle()
    assert not state.unsettled
    state.follower = follower
    grow(state, b"b").settle()
    assert follower.seen == [(b"b", 2)]


def test_listeners_may_leave_when_they_are_told() -> None:
    """A listener that takes itself away disturbs no other one."""
    state = make()
    told: list[str] = []

    def listen() -> None:
        told.append("a")
        state.listeners.discard(listen)

    state.listeners |= {listen, lambda: told.append("b")}
    state.notify()
    state.notify()
    assert sorted(told) == ["a", "b", "b"]


def test_expiry() -> None:
    """A time to live slides with what touches the stream, and stands still while somebody waits; a date does neither."""
    assert not make().is_expired(1e12)
    state = make(ttl_seconds=5)
    assert not state.is_expired(14.9)
    assert state.is_expired(15.0)
    state.touch(12.0)
    state.touch(11.0)
    assert not state.is_expired(16.9)
    assert state.is_expired(17.0)
    state.listeners.add(lambda: None)
    assert not state.is_expired(17.0)
    dated = make(expires_at=20.0)
    dated.listeners.add(lambda: None)
    assert not dated.is_expired(19.9)
    assert dated.is_expired(20.0)


def test_media_types() -> None:
    """Parameters, case and spaces tell no media types apart."""
    assert media_type(" Application/JSON ;charset=utf-8") == "application/json"
    assert make(content_type="application/json; a=b").is_json
    assert not make(content_type="application/jsonl").is_json


def test_a_pending_change_is_not_settled_at_first() -> None:
    """It keeps the store's commit and what it makes of which streams, until somebody says that it is durable."""

    class Submitted:
        async def wait(self) -> None:
            raise AssertionError("nobody waits for it here")

    commit, steps = Submitted(), [grow(make(), b"a")]
    pending = Pending(commit, steps)
    assert (pending.commit, pending.steps, pending.is_settled) == (commit, steps, False)
