"""What time and limits do to streams."""

from __future__ import annotations

import attrs
import pytest

from tests.durable.protocol.driving import START, Rig
from tests.durable.protocol.streams import append, make, read, refusal
from trio_streams.durable.protocol.machine import MachineLimits
from trio_streams.durable.protocol.needs import ReadEntries, Settle
from trio_streams.durable.protocol.operations import Create, Fork, Read, Start
from trio_streams.durable.protocol.upkeep import SLICE_ITEMS


def _number(rig: Rig) -> int:
    return rig.run(rig.machine.head("a")).stream_id


def test_sweeping() -> None:
    """What has expired is deleted without being asked for; what is still in use is noted, and stays."""
    rig = make(ttl_seconds=10)
    for index in range(150):
        rig.run(rig.machine.create(Create(str(index), expires_at=START + 5)))
    rig.now += 2
    rig.run(rig.machine.find("a")).touch(rig.now)
    rig.now += 8
    assert rig.run(rig.machine.upkeep.sweep()) == 150
    assert rig.store._streams[_number(rig)].record.touched_at == START + 2
    rig.now += 2
    assert rig.run(rig.machine.upkeep.sweep()) == 1
    assert rig.run(rig.machine.upkeep.sweep()) == 0
    assert rig.machine.stream_count == 0


def test_sweeping_passes_over_what_is_kept_alive() -> None:
    """A stream that somebody waits for is not deleted; one that was deleted meanwhile is not deleted again."""
    rig = make(ttl_seconds=10)
    state = rig.run(rig.machine.find("a"))
    state.listeners.add(lambda: None)
    rig.now += 50
    sweep = rig.machine.upkeep.sweep()
    need = next(sweep)
    records = rig.satisfy(need)
    assert [record.path for record in records] == ["a"]  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as stop:
        sweep.send(records)
    assert stop.value.value == 0
    again = rig.machine.upkeep.sweep()
    next(again)
    rig.run(rig.machine.delete("a"))
    need = again.send(records)
    with pytest.raises(StopIteration):
        again.send(rig.satisfy(need))


def test_retention_by_size() -> None:
    """Whole entries are dropped until no more than the limit is kept; what is before them is 410, and named."""
    rig = make(MachineLimits(max_stream_bytes=5, max_read_bytes=4))
    for data in (b"aaa", b"bb", b"cc", b"d"):
        append(rig, data)
    rig.run(rig.machine.upkeep.trim())
    chunk = read(rig)
    assert (chunk.start, b"".join(chunk.pieces)) == (3, b"bbcc")
    refused = refusal(rig, rig.machine.read(Read("a", 2)))
    assert (refused.status, dict(refused.headers)) == (410, {"stream-earliest-offset": "0000000000000003"})
    assert read(rig, 3).end == 7
    assert read(rig, Start.NOW).end == 8


def test_retention_by_age() -> None:
    """Entries are dropped when they are too old, down to none."""
    rig = make(MachineLimits(max_age=10))
    append(rig, b"aa")
    rig.now += 8
    append(rig, b"bb")
    rig.now += 3
    rig.run(rig.machine.upkeep.trim())
    assert b"".join(read(rig).pieces) == b"bb"
    rig.now += 10
    rig.run(rig.machine.upkeep.trim())
    chunk = read(rig)
    assert (chunk.pieces, chunk.end, chunk.is_up_to_date) == ((), 4, True)
    assert append(rig, b"c").tail == 5


def test_retention_of_many_streams() -> None:
    """Every stream is looked at; without limits none is."""
    rig = Rig(MachineLimits(max_stream_bytes=1))
    for index in range(101):
        rig.run(rig.machine.create(Create(f"{index:03}", "text/plain"), b"a"))
        append(rig, b"b", f"{index:03}")
    rig.run(rig.machine.upkeep.trim())
    assert {read(rig, path=f"{index:03}").start for index in range(101)} == {1}
    with pytest.raises(StopIteration):
        next(Rig().machine.upkeep.trim())


def test_retention_of_what_goes_meanwhile() -> None:
    """A stream that is deleted while retention looks at it is left alone."""
    rig = make(MachineLimits(max_stream_bytes=1), body=b"aa")
    append(rig, b"bb")
    for steps in (1, 2):
        trim = rig.machine.upkeep.trim()
        result: object = None
        need = next(trim)
        for _ in range(steps - 1):
            need = trim.send(rig.satisfy(need))
        result = rig.satisfy(need)
        rig.run(rig.machine.delete("a"))
        with pytest.raises(StopIteration):
            while True:
                need = trim.send(result)
                result = rig.satisfy(need)
        make_again = rig.run(rig.machine.create(Create("a", "text/plain"), b"aa"))
        append(rig, b"bb")
        assert make_again.is_new
        assert read(rig).start == 0


def test_retention_leaves_what_forks_read() -> None:
    """A stream that has forks stays whole; a fork drops what it inherits from its own view alone."""
    rig = make(MachineLimits(max_stream_bytes=2), body=b"aa")
    append(rig, b"bb")
    rig.run(rig.machine.create(Create("f", fork=Fork("a")), b"cc"))
    rig.run(rig.machine.upkeep.trim())
    assert b"".join(read(rig).pieces) == b"aabb"
    assert b"".join(read(rig, path="f").pieces) == b"cc"
    rig.run(rig.machine.delete("f"))
    rig.run(rig.machine.upkeep.trim())
    assert b"".join(read(rig).pieces) == b"bb"


def test_retention_of_what_a_store_has_lost() -> None:
    """Entries that are not there any more end a look, and it does not go round for ever."""
    rig = Rig(MachineLimits(max_age=1))
    rig.run(rig.machine.create(Create("a", "text/plain"), b"ab"))
    rig.store._streams[_number(rig)].entries.clear()
    rig.now += 5
    rig.run(rig.machine.upkeep.trim())
    assert read(rig).start == 0


def test_retention_goes_on_where_it_stopped() -> None:
    """A look costs no more however many streams there are; the next ones see the others, and then the first again."""
    rig = Rig(MachineLimits(max_age=10))
    count = 2 * SLICE_ITEMS + 50
    for index in range(count):
        rig.run(rig.machine.create(Create(f"{index:05}", "text/plain"), b"a"))
    rig.now += 11
    for kept in (count - SLICE_ITEMS, 50, 0, 0):
        rig.run(rig.machine.upkeep.trim())
        assert sum(bool(stream.entries) for stream in rig.store._streams.values()) == kept
    append(rig, b"b", "00000")
    rig.now += 11
    for _ in range(3):
        rig.run(rig.machine.upkeep.trim())
    assert not any(stream.entries for stream in rig.store._streams.values())


def test_what_has_grown_is_looked_at_first() -> None:
    """A stream that an append makes too large is dropped from at the next look, wherever it is among the others."""
    rig = Rig(MachineLimits(max_stream_bytes=1))
    for index in range(SLICE_ITEMS + 1):
        rig.run(rig.machine.create(Create(f"{index:05}", "text/plain"), b"a"))
    append(rig, b"b", f"{SLICE_ITEMS:05}")
    rig.run(rig.machine.upkeep.trim())
    assert read(rig, path=f"{SLICE_ITEMS:05}").start == 1


def test_young_streams_are_not_loaded() -> None:
    """Retention by age does not touch a stream that is younger than what it drops."""
    rig = make(MachineLimits(max_age=10), body=b"a")
    state = rig.run(rig.machine.find("a"))
    rig.machine.registry.drop(state)
    rig.run(rig.machine.upkeep.trim())
    assert len(rig.machine.registry) == 0


def test_much_to_drop_takes_several_looks() -> None:
    """One stream does not hold up the others: what is left of it is dropped the next time."""
    rig = Rig(MachineLimits(max_stream_bytes=1, max_read_bytes=1))
    rig.run(rig.machine.create(Create("a", "text/plain")))
    for _ in range(200):
        append(rig, b"x")
    for start in (128, 199, 199):  # it is looked at twice: it has grown, and it comes in turn
        rig.run(rig.machine.upkeep.trim())
        assert read(rig).start == start


def test_streams_in_use_do_not_hide_those_that_are_over() -> None:
    """However many streams are kept alive by those who wait for them, the expired ones behind them are deleted."""
    rig = Rig()
    for index in range(250):
        rig.run(rig.machine.create(Create(f"{index:03}", ttl_seconds=5)))
        if index < 200:
            rig.run(rig.machine.find(f"{index:03}")).listeners.add(lambda: None)
    rig.now += 6
    assert rig.run(rig.machine.upkeep.sweep()) == 50
    assert rig.machine.stream_count == 200


def test_expired_streams_share_commits() -> None:
    """A hundred deletions are submitted before the first of them is waited for."""
    rig = Rig()
    for index in range(100):
        rig.run(rig.machine.create(Create(f"{index:03}", expires_at=START + 5)))
    rig.now += 6
    rig.store.is_late = True
    sweep = rig.machine.upkeep.sweep()
    need = next(sweep)
    while not isinstance(need, Settle):
        need = sweep.send(rig.satisfy(need))
    assert len(rig.store.held) == 100
    with pytest.raises(StopIteration) as stop:
        while True:
            need = sweep.send(rig.satisfy(need))
    assert stop.value.value == 100


def test_a_time_to_live_of_nothing() -> None:
    """A stream that would be over at once, but is waited for, does not keep a sweep going round."""
    rig = Rig()
    for index in range(100):
        rig.run(rig.machine.create(Create(f"{index:03}", ttl_seconds=1)))
        state = rig.run(rig.machine.find(f"{index:03}"))
        state.listeners.add(lambda: None)
        state.record = attrs.evolve(state.record, touched_at=START + 1)
    rig.now += 1
    assert rig.run(rig.machine.upkeep.sweep()) == 0
    assert rig.machine.stream_count == 100


def test_what_is_kept_is_hardly_read() -> None:
    """A stream that loses nothing costs a look at its first entry, and not at all that one read may bring."""
    rig = make(MachineLimits(max_age=10))
    rig.now += 11
    for _ in range(5):
        append(rig, b"x" * 100)
    trim = rig.machine.upkeep.trim()
    reads: list[ReadEntries] = []
    need = next(trim)
    with pytest.raises(StopIteration):
        while True:
            if isinstance(need, ReadEntries):
                reads.append(need)
            need = trim.send(rig.satisfy(need))
    assert [read.max_bytes for read in reads] == [1]
