"""Which appends leave together, and what each of them learns of it."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import FetchError
from trio_streams.durable.protocol.batcher import Append, AppendState, Batcher
from trio_streams.durable.types import AppendResult

DONE = AppendResult("1")


def make_batcher(max_batch_bytes: int = 10, max_batch_items: int = 3) -> Batcher:
    """A batcher with small limits."""
    return Batcher(max_batch_bytes=max_batch_bytes, max_batch_items=max_batch_items)


def add(batcher: Batcher, *payloads: bytes | None, seq: str | None = None, is_closing: bool = False) -> list[Append]:
    """Put appends in the line."""
    appends = [Append(payload, seq, is_closing) for payload in payloads]
    for append in appends:
        batcher.add(append)
    return appends


def test_the_first_in_the_line_leads_and_takes_what_fits() -> None:
    """A batch begins with its leader and ends at the limit of items."""
    batcher = make_batcher()
    appends = add(batcher, b"a", b"b", b"c", b"d")
    assert batcher.leader is appends[0]
    assert batcher.take(appends[0]) == appends[:3]
    assert batcher.leader is None
    assert (batcher.waiting_items, batcher.wanted_items) == (1, 3)


def test_a_batch_ends_at_the_limit_of_bytes() -> None:
    """What would pass the limit waits for the next batch."""
    batcher = make_batcher()
    appends = add(batcher, b"1234567", b"890", b"x")
    assert batcher.take(appends[0]) == appends[:2]


def test_one_larger_append_goes_alone() -> None:
    """An append that is larger than a batch may be is a batch of its own, and does not lock the line."""
    batcher = make_batcher()
    appends = add(batcher, b"x" * 11, b"y")
    assert batcher.take(appends[0]) == appends[:1]
    batcher.finish(DONE)
    assert batcher.take(appends[1]) == appends[1:]


@pytest.mark.parametrize(("seq", "is_closing"), [("7", False), (None, True)])
def test_what_has_a_meaning_of_its_own_goes_alone(seq: str | None, is_closing: bool) -> None:
    """An append with a sequence number, or one that closes, shares its request with nothing before or behind it."""
    batcher = make_batcher()
    before = add(batcher, b"a")
    alone = add(batcher, b"b", seq=seq, is_closing=is_closing)
    behind = add(batcher, b"c", b"d")
    for batch in (before, alone, behind):
        assert batcher.leader is not None
        assert batcher.take(batcher.leader) == batch
        batcher.finish(DONE)


def test_closing_without_a_message_has_no_size() -> None:
    """A closing append needs no payload."""
    (append,) = add(make_batcher(), None, is_closing=True)
    assert (append.size, append.is_alone) == (0, True)


def test_only_the_leader_takes() -> None:
    """Neither one behind the leader nor anybody while a batch is on its way may send."""
    batcher = make_batcher()
    first, second = add(batcher, b"a", b"b")
    with pytest.raises(LocalProtocolError, match="waiting and does not lead"):
        batcher.take(second)
    batcher.take(first)
    (third,) = add(batcher, b"c")
    with pytest.raises(LocalProtocolError):
        batcher.take(third)


def test_all_of_a_batch_learn_its_result() -> None:
    """Each member is done with the result, and the next one leads."""
    batcher = make_batcher(max_batch_items=2)
    appends = add(batcher, b"a", b"b", b"c")
    batcher.take(appends[0])
    assert batcher.finish(DONE) == appends[:2]
    assert [append.result for append in appends] == [DONE, DONE, None]
    assert [append.state for append in appends] == [AppendState.DONE, AppendState.DONE, AppendState.WAITING]
    assert batcher.leader is appends[2]


def test_a_failure_is_its_batch_s_alone() -> None:
    """What waits behind a batch that failed is sent as ever."""
    batcher = make_batcher(max_batch_items=2)
    appends = add(batcher, b"a", b"b", b"c")
    batcher.take(appends[0])
    error = FetchError("lost")
    assert batcher.fail(error) == appends[:2]
    assert [append.error for append in appends] == [error, error, None]
    assert batcher.take(appends[2]) == appends[2:]


def test_one_that_waits_is_taken_out() -> None:
    """A withdrawn append never leaves, the others keep their order, and the lead passes on."""
    batcher = make_batcher()
    first, second, third = add(batcher, b"a", b"b", b"c")
    batcher.withdraw(second)
    batcher.withdraw(first)
    assert batcher.leader is third
    assert batcher.take(third) == [third]
    assert [first.state, second.state] == [AppendState.WITHDRAWN, AppendState.WITHDRAWN]


def test_one_that_was_sent_is_told_nothing() -> None:
    """A member of the batch on its way that was withdrawn is not among those that learn of it."""
    batcher = make_batcher()
    first, second = add(batcher, b"a", b"b")
    batcher.take(first)
    batcher.withdraw(first)
    assert batcher.wanted_items == 1
    assert batcher.finish(DONE) == [second]
    assert (first.state, first.result) == (AppendState.WITHDRAWN, None)


def test_one_that_is_done_stays_done() -> None:
    """Withdrawing comes too late once the outcome is known."""
    batcher = make_batcher()
    (append,) = add(batcher, b"a")
    batcher.take(append)
    batcher.finish(DONE)
    batcher.withdraw(append)
    assert (append.state, append.result) == (AppendState.DONE, DONE)


def test_a_batch_that_is_too_large_is_sent_in_smaller_ones() -> None:
    """It goes back to the head of the line, in order, without those that were withdrawn meanwhile."""
    batcher = make_batcher(max_batch_bytes=100, max_batch_items=10)
    appends = add(batcher, *[b"12345"] * 8)
    batcher.take(appends[0])
    (late,) = add(batcher, b"12345")
    batcher.withdraw(appends[2])
    assert batcher.shrink()
    assert batcher.leader is appends[0]
    assert batcher.take(appends[0]) == [appends[0], appends[1], *appends[3:5]]
    batcher.finish(DONE)
    assert batcher.take(appends[5]) == [*appends[5:], late]


def test_one_alone_can_not_be_smaller() -> None:
    """A batch of one, or none, is not put back."""
    batcher = make_batcher()
    assert not batcher.shrink()
    (append,) = add(batcher, b"x")
    batcher.take(append)
    assert not batcher.shrink()
    assert append.state is AppendState.SENT


class Appending(RuleBasedStateMachine):
    """Appends come, leave and are withdrawn; batches succeed, fail, or are too large, as it may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = make_batcher(max_batch_bytes=12, max_batch_items=4)
        self.appends: list[Append] = []
        self.batch: list[Append] = []
        self.stored: list[Append] = []
        self.failed: list[Append] = []

    @rule(size=st.integers(1, 15), seq=st.sampled_from([None, None, None, "s"]))
    def come(self, size: int, seq: str | None) -> None:
        self.appends += add(self.batcher, b"x" * size, seq=seq)

    @precondition(lambda self: self.batcher.leader is not None)
    @rule()
    def send(self) -> None:
        assert self.batcher.leader is not None
        self.batch = list(self.batcher.take(self.batcher.leader))
        assert len(self.batch) == 1 or sum(append.size for append in self.batch) <= 12
        assert len(self.batch) == 1 or all(append.seq is None for append in self.batch)

    @precondition(lambda self: self.batch)
    @rule(how=st.sampled_from(["finish", "fail", "shrink"]))
    def answer(self, how: str) -> None:
        match how:
            case "finish":
                self.batcher.finish(DONE)
                self.stored += self.batch
            case "fail":
                self.batcher.fail(FetchError("lost"))
                self.failed += self.batch
            case _:
                if not self.batcher.shrink():
                    return
        self.batch = []

    @precondition(lambda self: self.appends)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.batcher.withdraw(data.draw(st.sampled_from(self.appends)))

    @invariant()
    def what_is_stored_is_in_order_and_once(self) -> None:
        places = [self.appends.index(append) for append in self.stored]
        assert places == sorted(set(places))

    @invariant()
    def each_learns_its_own_fate(self) -> None:
        for append in self.appends:
            if append.state is AppendState.DONE:
                assert append in (self.stored if append.result else self.failed)
            if append.state is AppendState.WAITING:
                assert append not in self.stored + self.failed

    @invariant()
    def somebody_leads_unless_a_batch_is_on_its_way(self) -> None:
        waiting = [append for append in self.appends if append.state is AppendState.WAITING]
        assert self.batcher.waiting_items == len(waiting)
        expected = waiting[0] if waiting and not self.batch else None
        assert self.batcher.leader is expected


TestAppending = Appending.TestCase
TestAppending.__doc__ = "Nothing is lost, doubled or reordered, and the line never stands still."
