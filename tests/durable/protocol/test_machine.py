"""The operations of the machine."""

from __future__ import annotations

import attrs
import pytest

from tests.durable.protocol.driving import START, Rig
from tests.durable.protocol.streams import append, make, read, refusal
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.machine import MachineLimits, is_over, read_range
from trio_streams.durable.protocol.needs import NewId, Settle
from trio_streams.durable.protocol.operations import Append, Create, Fork, List, Read, Start
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.store.base import StoreError


def test_create_append_read() -> None:
    """What is appended is read, in order, from any position."""
    rig = make(body=b"ab")
    assert append(rig, b"cd").tail == 4
    chunk = read(rig)
    assert (b"".join(chunk.pieces), chunk.end, chunk.is_up_to_date, chunk.is_closed) == (b"abcd", 4, True, False)
    assert b"".join(read(rig, 1).pieces) == b"bcd"
    assert read(rig, 4).pieces == ()
    assert read(rig, Start.NOW).pieces == ()
    assert rig.run(rig.machine.head("a")).tail == 4


def test_creation_finds_what_is_there() -> None:
    """A creation that is repeated makes nothing new, its body included."""
    rig = make(body=b"ab")
    created = rig.run(rig.machine.create(Create("a", "text/plain"), b"other"))
    assert (created.is_new, created.record.tail) == (False, 2)
    assert refusal(rig, rig.machine.create(Create("a"))).status == 409
    assert rig.run(rig.machine.create(Create("b", is_closed=True))).record.is_closed


@pytest.mark.parametrize("offset", [3, 10**15])
def test_offsets_behind_the_tail(offset: int) -> None:
    """Nobody has been given such an offset."""
    rig = make()
    assert refusal(rig, rig.machine.read(Read("a", offset))).status == 400


def test_offsets_within_a_message() -> None:
    """A JSON stream is read from where an append ended, and from nowhere else."""
    rig = Rig()
    rig.run(rig.machine.create(Create("j", "application/json"), b"[1,22]"))
    rig.run(rig.machine.append(Append("j", "application/json"), b"3"))
    assert to_array(read(rig, 5, path="j").pieces) == b"[3]"
    assert refusal(rig, rig.machine.read(Read("j", 2))).status == 400


def test_reads_are_bounded() -> None:
    """A read stops at the limit, with one entry at least, and is up to date only at the tail."""
    rig = make(MachineLimits(max_read_bytes=5))
    for data in (b"aaa", b"bb", b"cc", b"dddddddd"):
        append(rig, data)
    append(rig, b"e", is_closing=True)
    ends, position = [], 0
    while position < 16:
        chunk = read(rig, position)
        assert chunk.is_up_to_date is chunk.is_closed is (chunk.end == 16)
        position = chunk.end
        ends.append(position)
    assert ends == [5, 7, 15, 16]
    assert read(rig, 16).is_closed


def test_a_missing_stream() -> None:
    """Every operation but a creation wants a stream."""
    rig = Rig()
    machine = rig.machine
    for operation in (
        machine.read(Read("a")),
        machine.head("a"),
        machine.delete("a"),
        machine.append(Append("a", "text/plain"), b"x"),
        machine.follow(Read("a", 0, "sse")),
    ):
        assert refusal(rig, operation).status == 404


def test_deletion() -> None:
    """A deleted stream is gone, and another one can take its place, with another number and no past."""
    rig = make(body=b"ab")
    number = rig.run(rig.machine.head("a")).stream_id
    rig.run(rig.machine.delete("a"))
    assert refusal(rig, rig.machine.head("a")).status == 404
    assert len(rig.machine.registry) == 0
    created = rig.run(rig.machine.create(Create("a")))
    assert (created.is_new, created.record.tail) == (True, 0)
    assert created.record.stream_id != number


def test_a_deleted_source() -> None:
    """While forks read from it a deleted stream is 410 for all, 409 for creations; with the last fork it is gone."""
    rig = make(body=b"abcd")
    rig.run(rig.machine.create(Create("f", fork=Fork("a")), b"ef"))
    rig.run(rig.machine.delete("a"))
    machine = rig.machine
    for operation in (
        machine.read(Read("a")),
        machine.head("a"),
        machine.delete("a"),
        machine.append(Append("a"), b""),
    ):
        assert refusal(rig, operation).status == 410
    assert refusal(rig, machine.create(Create("a", "text/plain"))).status == 409
    assert refusal(rig, machine.create(Create("g", fork=Fork("a")))).status == 409
    assert b"".join(read(rig, path="f").pieces) == b"abcdef"
    rig.run(machine.delete("f"))
    assert refusal(rig, machine.head("a")).status == 404
    assert (machine.stream_count, len(machine.registry)) == (0, 0)


def test_long_poll() -> None:
    """A long-poll at the tail waits for data, for the closure, or in vain; elsewhere it answers at once."""
    rig = make(body=b"ab")
    assert read(rig, 0, "long-poll").end == 2
    assert rig.waits == []
    chunk = read(rig, 2, "long-poll")
    assert (chunk.pieces, chunk.is_timed_out, chunk.is_up_to_date) == ((), True, True)
    assert rig.waits[-1].timeout == 30.0
    operation = rig.machine.read(Read("a", Start.NOW, "long-poll"))
    need = next(operation)
    append(rig, b"c")
    with pytest.raises(StopIteration) as stop:
        while True:
            need = operation.send(rig.satisfy(need))
    assert stop.value.value.pieces == [b"c"]
    append(rig, b"", is_closing=True)
    waited = len(rig.waits)
    chunk = read(rig, 3, "long-poll")
    assert (chunk.is_closed, chunk.is_timed_out, len(rig.waits)) == (True, False, waited)


@pytest.mark.parametrize(("has_fork", "status"), [(False, 404), (True, 410)])
def test_a_long_poll_of_a_deleted_stream_ends(has_fork: bool, status: int) -> None:
    """A stream that is deleted meanwhile ends a long-poll, which the reference server leaves waiting."""
    rig = make()
    if has_fork:
        rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    operation = rig.machine.read(Read("a", 0, "long-poll"))
    need = next(operation)
    rig.run(rig.machine.delete("a"))
    assert rig.satisfy(need) is True
    with pytest.raises(Refused) as caught:
        operation.send(True)
    assert caught.value.status == status


def test_following_begins_where_it_is_asked_to() -> None:
    """A reader of events begins at a position."""
    rig = make(body=b"ab")
    assert rig.run(rig.machine.follow(Read("a", Start.NOW, "sse"))).position == 2
    assert rig.run(rig.machine.follow(Read("a", 1, "sse"))).position == 1


def test_a_new_stream_is_not_read_before_it_is_durable() -> None:
    """Who finds a stream that is being created waits for it; so does who finds one that is being deleted."""
    rig = Rig()
    rig.store.is_late = True
    operation = rig.machine.create(Create("a", "text/plain"), b"ab")
    need = next(operation)
    while not rig.store.held:
        need = operation.send(rig.satisfy(need))
    assert (read(rig).end, rig.store.held) == (2, [])
    deletion = rig.machine.delete("a")
    need = next(deletion)
    while not rig.store.held:
        need = deletion.send(rig.satisfy(need))
    assert refusal(rig, rig.machine.head("a")).status == 404
    assert rig.store.held == []


def test_a_store_that_fails() -> None:
    """What is not made durable is forgotten, and those who wait for the stream are told that there is no saying."""
    rig = make(body=b"ab")
    poll = rig.machine.read(Read("a", 2, "long-poll"))
    need = next(poll)
    rig.store.is_late = True
    operation = rig.machine.append(Append("a", "text/plain"), b"c")
    settle = operation.send(rig.satisfy(next(operation)))
    rig.store.is_broken = True
    with pytest.raises(StoreError):
        rig.satisfy(settle)
    assert rig.satisfy(need) is True
    with pytest.raises(Refused) as caught:
        poll.send(True)
    assert caught.value.status == 503
    with pytest.raises(StoreError):
        append(rig, b"c")
    assert rig.run(rig.machine.head("a")).tail == 2


@pytest.mark.parametrize("limit", [1, 2])
def test_streams_are_bounded(limit: int) -> None:
    """So many streams are kept; a deleted one makes room, and those of an earlier run count."""
    rig = Rig(MachineLimits(max_streams=limit))
    for index in range(limit):
        rig.run(rig.machine.create(Create(str(index))))
    assert refusal(rig, rig.machine.create(Create("one more"))).status == 429
    rig.run(rig.machine.delete("0"))
    rig.run(rig.machine.create(Create("one more")))
    rig.machine.stream_count = 0
    rig.run(rig.machine.count_streams())
    assert rig.machine.stream_count == limit


def test_time_to_live_slides() -> None:
    """Reads, closes and appends, refused ones included, put off a stream's end; HEAD does not."""
    rig = make(ttl_seconds=10)
    for act in (
        lambda: read(rig),
        lambda: read(rig, Start.NOW),
        lambda: rig.run(rig.machine.follow(Read("a", 0, "sse"))),
        lambda: append(rig),
        lambda: append(rig, b"", is_closing=True),
        lambda: refusal(rig, rig.machine.append(Append("a", "text/plain"), b"x")),
    ):
        rig.now += 9
        act()
    rig.now += 9
    rig.run(rig.machine.head("a"))
    rig.now += 1
    assert refusal(rig, rig.machine.head("a")).status == 404
    assert rig.machine.stream_count == 0


def _number(rig: Rig) -> int:
    return rig.run(rig.machine.head("a")).stream_id


def test_listing() -> None:
    """Streams are listed in order, page by page; deleted and expired ones are left out."""
    rig = Rig()
    for path in ("b/1", "b/2", "b/3", "a", "c"):
        rig.run(rig.machine.create(Create(path)))
    rig.run(rig.machine.create(Create("b/4", ttl_seconds=5)))
    rig.run(rig.machine.create(Create("f", fork=Fork("b/2"))))
    rig.run(rig.machine.delete("b/2"))
    rig.now += 5

    def paths(operation: List) -> list[str]:
        return [record.path for record in rig.run(rig.machine.list_streams(operation))]

    assert paths(List()) == ["a", "b/1", "b/3", "c", "f"]
    assert paths(List("b/", limit=1)) == ["b/1"]
    assert paths(List("b/", "b/1", 2)) == ["b/3"]
    assert paths(List("b/", "b/3", 1)) == []


def test_a_race_of_creations() -> None:
    """Of two creations at once one makes the stream, the other finds it."""
    rig = Rig()
    slow = rig.machine.create(Create("a", "text/plain"))
    need = next(slow)
    for _ in range(2):
        need = slow.send(rig.satisfy(need))
    assert rig.run(rig.machine.create(Create("a", "text/plain"))).is_new
    with pytest.raises(StopIteration) as stop:
        while True:
            need = slow.send(rig.satisfy(need))
    assert not stop.value.value.is_new


def test_a_deletion_that_nobody_knows_of() -> None:
    """A stream whose store fails while its sources are looked for is not said to be deleted."""
    rig = make(body=b"ab")
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    source = rig.run(rig.machine.find("a"))
    rig.machine.registry.drop(source)
    deletion = rig.machine.delete("f")
    need = next(deletion)
    need = deletion.send(rig.satisfy(need))
    rig.run(rig.machine.find("f")).is_failed = True
    with pytest.raises(StoreError):
        while True:
            need = deletion.send(rig.satisfy(need))


def test_a_fork_of_what_goes_meanwhile() -> None:
    """A source that is deleted while its fork is being made is not forked."""
    rig = make(body=b"ab")
    slow = rig.machine.create(Create("f", fork=Fork("a")))
    need = next(slow)
    for _ in range(2):
        need = slow.send(rig.satisfy(need))
    need = slow.send(rig.satisfy(need))
    rig.run(rig.machine.delete("a"))
    with pytest.raises(Refused) as caught:
        while True:
            need = slow.send(rig.satisfy(need))
    assert caught.value.status == 404


def test_what_a_store_has_lost() -> None:
    """A read of entries that are not there any more gives what there is, and does not go round for ever."""
    rig = make(body=b"ab")
    rig.store._streams[_number(rig)].entries.clear()
    chunk = read(rig)
    assert (chunk.pieces, chunk.end) == ([], 0)


def test_what_is_over() -> None:
    """A stream is over when it is deleted for good or for all but its forks, or dropped."""
    rig = make()
    state = rig.run(rig.machine.find("a"))
    assert not is_over(state)
    state.is_removed = True
    state.version += 1
    assert not is_over(state), "not durable yet"
    state.durable = attrs.evolve(state.durable, is_deleted=True)
    assert is_over(state)


def test_two_deletions_at_once() -> None:
    """Of two deletions one does it; the other finds it done."""
    rig = make(body=b"ab")
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    rig.machine.registry.drop(rig.run(rig.machine.find("a")))
    slow = rig.machine.delete("f")
    need = next(slow)
    need = slow.send(rig.satisfy(need))
    result = rig.satisfy(need)
    rig.run(rig.machine.delete("f"))
    with pytest.raises(StopIteration):
        while True:
            need = slow.send(result)
            result = rig.satisfy(need)
    assert rig.machine.stream_count == 1


def test_counting_takes_as_many_looks_as_it_needs() -> None:
    """More streams than one look shows are counted."""
    rig = Rig()
    for index in range(201):
        rig.run(rig.machine.create(Create(str(index))))
    rig.machine.stream_count = 0
    rig.run(rig.machine.count_streams())
    assert rig.machine.stream_count == 201


def test_creations_at_once_are_bounded() -> None:
    """Of several creations that all found room the first ones take it."""
    rig = Rig(MachineLimits(max_streams=1))
    slow = rig.machine.create(Create("a", "text/plain"))
    need = next(slow)
    while not isinstance(need, NewId):
        need = slow.send(rig.satisfy(need))
    rig.run(rig.machine.create(Create("b", "text/plain")))
    with pytest.raises(Refused) as caught:
        while True:
            need = slow.send(rig.satisfy(need))
    assert (caught.value.status, rig.machine.stream_count) == (429, 1)


def test_a_duplicate_waits_for_its_original() -> None:
    """What was appended before is said to be so when it is durable, and not earlier."""
    rig = make()
    rig.store.is_late = True
    operation = Append("a", "text/plain", producer=("p", 0, 0))
    for is_duplicate in (False, True):
        again = rig.machine.append(operation, b"ab")
        need = next(again)
        while not isinstance(need, Settle):
            need = again.send(rig.satisfy(need))
        assert len(rig.store.held) == 1
        if is_duplicate:
            with pytest.raises(StopIteration) as stop:
                again.send(rig.satisfy(need))
            assert stop.value.value.is_duplicate
    done = rig.run(rig.machine.append(operation, b"ab"))
    assert (done.is_duplicate, rig.store.held) == (True, [])


def test_reads_are_touches_now_and_then() -> None:
    """A read is persisted when an eighth of the time to live has passed."""
    rig = make(ttl_seconds=80)
    rig.now += 10
    read(rig)
    assert rig.store._streams[_number(rig)].record.touched_at == START + 10


def test_what_is_not_kept_is_gone() -> None:
    """An append beyond the limit is noted; what it pushes out is 410 afterwards, and following from the tail goes on."""
    rig = make(MachineLimits(max_stream_bytes=2), body=b"ab")
    append(rig, b"cd")
    rig.run(rig.machine.upkeep.trim())
    assert refusal(rig, rig.machine.read(Read("a", 0))).status == 410
    assert read(rig).start == 2
    rig.now += 5
    state = rig.run(rig.machine.find("a"))
    rig.machine.leave(state)
    assert state.touched_at == START + 5


@pytest.mark.parametrize(("asked", "size"), [(None, 4), (2, 2), (9, 4)])
def test_a_chunk_may_be_smaller_than_a_read(asked: int | None, size: int) -> None:
    """Who follows takes history in smaller pieces, but never larger ones than a read's."""
    rig = Rig(MachineLimits(max_read_bytes=4))
    rig.run(rig.machine.create(Create("a", "text/plain")))
    for _ in range(8):
        rig.run(rig.machine.append(Append("a", "text/plain"), b"x"))
    state, position = rig.run(rig.machine.follow(Read("a", Start.BEGINNING, "sse")))
    chunk = rig.run(rig.machine.read_chunk(state, position, asked))
    assert sum(map(len, chunk.pieces)) == chunk.end == size


def test_what_is_dropped_during_a_read() -> None:
    """A read that retention overtakes ends before the gap, or is 410; never has it bytes at another one's offset."""
    rig = Rig(MachineLimits(max_read_bytes=2))
    rig.run(rig.machine.create(Create("a", "text/plain")))
    for data in (b"ab", b"cd", b"ef"):
        append(rig, data)
    entries = rig.store._streams[_number(rig)].entries
    del entries[1]
    assert rig.run(read_range(rig.run(rig.machine.find("a")), 0, 6, 100)) == ([b"ab"], 2)
    refused = refusal(rig, rig.machine.read(Read("a", 2)))
    assert (refused.status, dict(refused.headers)) == (410, {"stream-earliest-offset": "0000000000000004"})
