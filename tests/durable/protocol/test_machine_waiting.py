"""What the machine's operations wait for, and what happens meanwhile."""

from __future__ import annotations

import pytest

from tests.durable.protocol.driving import START
from tests.durable.protocol.streams import append, make, read, refusal
from trio_streams.durable.protocol.machine import MachineLimits
from trio_streams.durable.protocol.operations import Append, Create, Fork, Read, Start


def test_a_long_poll_of_a_closure() -> None:
    """A stream that is closed meanwhile ends a long-poll without data."""
    rig = make()
    operation = rig.machine.read(Read("a", 0, "long-poll"))
    next(operation)
    append(rig, b"", is_closing=True)
    with pytest.raises(StopIteration) as stop:
        operation.send(True)
    assert (stop.value.value.is_closed, stop.value.value.is_timed_out) == (True, False)


def test_a_source_wakes_no_reader_of_a_fork() -> None:
    """What is appended to a source is nothing to those who wait for its fork."""
    rig = make(body=b"ab")
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    operation = rig.machine.read(Read("f", 2, "long-poll"))
    need = next(operation)
    append(rig, b"c")
    assert rig.satisfy(need) is False


def test_nothing_is_told_before_it_is_durable() -> None:
    """Readers see what is durable; whoever asks for what was decided waits for it."""
    rig = make(body=b"ab")
    rig.store.is_late = True
    operation = rig.machine.append(Append("a", "text/plain", producer=("p", 0, 0)), b"c")
    need = rig.satisfy(next(operation))
    need = operation.send(need)
    assert read(rig).end == 2
    again = rig.machine.append(Append("a", "text/plain", producer=("p", 0, 0)), b"c")
    assert again.send(rig.satisfy(next(again))) == need, "a duplicate waits for the same commit"
    assert rig.run(rig.machine.head("a")).tail == 3
    assert read(rig).end == 3


def test_refusals_wait_too() -> None:
    """Who is refused by what is not durable yet hears of it when it is."""
    rig = make()
    rig.store.is_late = True
    close = rig.machine.append(Append("a", is_closing=True), b"")
    close.send(rig.satisfy(next(close)))
    refused = refusal(rig, rig.machine.append(Append("a", "text/plain"), b"x"))
    assert (refused.status, rig.store.held) == (409, [])


def test_waiting_keeps_a_stream_alive() -> None:
    """A stream lives as long as somebody waits for it, and its time to live once more."""
    rig = make(ttl_seconds=10)
    following = rig.run(rig.machine.follow(Read("a", 0, "sse")))
    following.state.listeners.add(listen := lambda: None)
    rig.now += 100
    rig.run(rig.machine.head("a"))
    following.state.listeners.discard(listen)
    rig.machine.leave(following.state)
    rig.now += 9
    rig.run(rig.machine.head("a"))
    rig.now += 1
    assert refusal(rig, rig.machine.head("a")).status == 404


def test_an_expired_source() -> None:
    """A source that expires stays for its forks, as a deleted one does."""
    rig = make(body=b"ab", expires_at=START + 5)
    rig.run(rig.machine.create(Create("f", ttl_seconds=60, fork=Fork("a"))))
    rig.now += 5
    assert refusal(rig, rig.machine.head("a")).status == 410
    assert b"".join(read(rig, path="f").pieces) == b"ab"


def test_touches_are_persisted_coarsely() -> None:
    """A read is persisted when an eighth of the time to live has passed, and not each time."""
    rig = make(ttl_seconds=80)
    for seconds, persisted in ((5, 0), (9, 0), (10, 10), (15, 10)):
        rig.now = START + seconds
        read(rig)
        assert rig.store._streams[rig.run(rig.machine.head("a")).stream_id].record.touched_at == START + persisted


@pytest.mark.parametrize(("asked", "size"), [(None, 4), (2, 2), (9, 4)])
def test_who_follows_takes_history_in_smaller_pieces(asked: int | None, size: int) -> None:
    """As small as is asked for, but never larger than a read's."""
    rig = make(MachineLimits(max_read_bytes=4))
    for _ in range(8):
        append(rig, b"x")
    state, position = rig.run(rig.machine.follow(Read("a", Start.BEGINNING, "sse")))
    chunk = rig.run(rig.machine.read_chunk(state, position, asked))
    assert sum(map(len, chunk.pieces)) == chunk.end == size
