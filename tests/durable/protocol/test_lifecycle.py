"""How streams begin and end."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trio_streams.durable.protocol.lifecycle import (
    check_same,
    fork_anchor,
    fork_record,
    inherited_segments,
    new_record,
    removal,
)
from trio_streams.durable.protocol.operations import Create, Fork
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import Fork as Forked
from trio_streams.durable.store.base import Stored, StreamRecord

AT = "0000000000000004"
PLAIN = Create("a", "text/plain", 60)
RECORD = new_record(PLAIN, 1, 5.0)
FORK = Create("f", fork=Fork("a", AT, 1))
FORKED = fork_record(FORK, 2, attrs.evolve(RECORD, tail=9), 5, 6.0)


@pytest.mark.parametrize(
    ("operation", "record", "is_same"),
    [
        (PLAIN, RECORD, True),
        (attrs.evolve(PLAIN, content_type="TEXT/plain;a=b"), RECORD, True),
        (attrs.evolve(PLAIN, content_type=None), RECORD, False),
        (Create("a"), new_record(Create("a"), 1, 5.0), True),
        (attrs.evolve(PLAIN, ttl_seconds=None), RECORD, False),
        (attrs.evolve(PLAIN, ttl_seconds=61), RECORD, False),
        (attrs.evolve(PLAIN, ttl_seconds=None, expires_at=9.0), RECORD, False),
        (attrs.evolve(PLAIN, is_closed=True), RECORD, False),
        (attrs.evolve(PLAIN, is_closed=True), attrs.evolve(RECORD, is_closed=True), True),
        (PLAIN, attrs.evolve(RECORD, is_closed=True), False),
        (PLAIN, attrs.evolve(RECORD, is_deleted=True), False),
        (FORK, FORKED, True),
        (attrs.evolve(FORK, content_type="text/plain", ttl_seconds=60), FORKED, True),
        (attrs.evolve(FORK, content_type="text/html"), FORKED, False),
        (attrs.evolve(FORK, ttl_seconds=61), FORKED, False),
        (attrs.evolve(FORK, fork=Fork("a", AT)), FORKED, False),
        (attrs.evolve(FORK, fork=Fork("a", None, 1)), FORKED, False),
        (attrs.evolve(FORK, fork=Fork("b", AT, 1)), FORKED, False),
        (attrs.evolve(PLAIN, path="f"), FORKED, False),
        (attrs.evolve(FORK, path="a"), RECORD, False),
    ],
)
def test_creation_is_idempotent(operation: Create, record: StreamRecord, is_same: bool) -> None:
    """A creation finds what it wants, or is refused: content type, lifetime, closure and fork are compared."""
    if is_same:
        check_same(operation, record)
    else:
        with pytest.raises(Refused) as caught:
            check_same(operation, record)
        assert caught.value.status == 409


def test_fork_anchors() -> None:
    """A fork begins at the source's tail, or where its offset says."""
    source = attrs.evolve(RECORD, start=2, tail=9)
    assert fork_anchor(Create("f", fork=Fork("a")), source) == 9
    assert fork_anchor(FORK, source) == 4
    assert fork_anchor(Create("f", "Text/Plain", fork=Fork("a", "-1")), source) == 2


@pytest.mark.parametrize(
    ("operation", "changes", "status"),
    [
        (FORK, {"is_deleted": True}, 409),
        (attrs.evolve(FORK, content_type="text/html"), {}, 409),
        (FORK, {"tail": 3}, 400),
        (attrs.evolve(FORK, fork=Fork("a", "nonsense")), {}, 400),
        (FORK, {"start": 5}, 410),
    ],
)
def test_bad_fork_anchors(operation: Create, changes: dict[str, Any], status: int) -> None:
    """A source that is deleted or of another type, and a place that it does not have, are refused."""
    with pytest.raises(Refused) as caught:
        fork_anchor(operation, attrs.evolve(RECORD, **({"tail": 9} | changes)))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("source", "asked", "gets"),
    [
        ((None, None), (None, None), (None, None)),
        ((None, None), (5, None), (5, None)),
        ((None, None), (None, 7.0), (None, 7.0)),
        ((9, None), (None, None), (9, None)),
        ((9, None), (5, None), (5, None)),
        ((9, None), (None, 7.0), (None, 7.0)),
        ((None, 8.0), (None, None), (None, 8.0)),
        ((None, 8.0), (5, None), (5, None)),
        ((None, 8.0), (None, 7.0), (None, 7.0)),
    ],
)
def test_the_table_of_lifetimes(
    source: tuple[int | None, float | None],
    asked: tuple[int | None, float | None],
    gets: tuple[int | None, float | None],
) -> None:
    """A fork has the lifetime that it asks for, or else its source's: the nine rows of the table in the protocol."""
    record = attrs.evolve(RECORD, ttl_seconds=source[0], expires_at=source[1])
    forked = fork_record(attrs.evolve(FORK, ttl_seconds=asked[0], expires_at=asked[1]), 2, record, 0, 6.0)
    assert (forked.ttl_seconds, forked.expires_at) == gets


def test_a_fork_is_fresh() -> None:
    """A fork inherits neither closure nor sequence, and counts its own time."""
    source = attrs.evolve(RECORD, tail=9, is_closed=True, stream_seq="z", references=3, closed_by=("p", 0, 0))
    forked = fork_record(FORK, 2, source, 5, 6.0)
    assert forked == attrs.evolve(FORKED)
    assert (forked.is_closed, forked.stream_seq, forked.references, forked.closed_by) == (False, None, 0, None)
    assert forked.fork == Forked(1, "a", AT, 1, 5)


def test_segments_are_cut_at_the_divergence() -> None:
    """What a fork inherits ends where it diverges; parts that lie behind are left out."""
    fork = Forked(3, "a", None, 0, 7)
    assert inherited_segments([(1, 0, 4), (2, 4, 8), (3, 8, None)], 3, fork) == ((1, 0, 4), (2, 4, 7))
    assert inherited_segments([(1, 0, 4), (3, 4, None)], 3, fork) == ((1, 0, 4), (3, 4, 7))


def states(*changes: dict[str, Any]) -> list[StreamState]:
    """A fork, its source, the source of that one, and so on."""
    return [
        StreamState(Stored(attrs.evolve(RECORD, stream_id=index, path=str(index), **change)), ())
        for index, change in enumerate(changes)
    ]


def test_a_stream_with_forks_is_only_marked() -> None:
    """What forks still read stays, and loses no source."""
    state, source = states({"references": 1}, {"references": 1})
    change, steps = removal(state, [source])
    assert [record.is_deleted for record in change.records] == [True]
    assert (list(change.removals), len(steps), steps[0].is_removal) == ([], 1, False)


def test_collection_cascades() -> None:
    """With its last fork a deleted source goes as well, and so on, up to one that is alive or has other forks."""
    deleted: dict[str, Any] = {"is_deleted": True, "references": 1}
    state, *ancestors = states({}, deleted, deleted, {"references": 1}, {"references": 1})
    change, steps = removal(state, ancestors)
    assert list(change.removals) == [0, 1, 2]
    assert [(record.stream_id, record.references) for record in change.records] == [(3, 0)]
    assert [step.is_removal for step in steps] == [True, True, True, False]
    state, source = states({}, {"is_deleted": True, "references": 2})
    change, _ = removal(state, [source])
    assert (list(change.removals), [record.references for record in change.records]) == ([0], [1])


def test_collection_of_a_whole_lineage() -> None:
    """Where every source is deleted, nothing is left."""
    state, source = states({}, {"is_deleted": True, "references": 1})
    change, _ = removal(state, [source])
    assert (list(change.removals), list(change.records)) == ([0, 1], [])
