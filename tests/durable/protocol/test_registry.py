"""Streams in memory: each once, the least recently used ones dropped."""

from __future__ import annotations

from functools import partial

import pytest

from tests.durable.protocol.driving import Rig
from trio_streams.durable.protocol import needs
from trio_streams.durable.protocol.machine import MachineLimits
from trio_streams.durable.protocol.operations import Append, Create, Fork, Read
from trio_streams.durable.protocol.registry import Registry, touch
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import Change, StoreError


def make(*paths: str, max_loaded: int = 100, **changes: object) -> tuple[Rig, Registry]:
    """A rig with streams in its store, and a registry on it that has loaded none."""
    rig = Rig(MachineLimits(max_loaded_streams=max_loaded))
    for path in paths:
        rig.run(rig.machine.create(Create(path, **changes), b"ab"))  # type: ignore[arg-type]
    return rig, Registry(rig.store, max_loaded)


def _tell(told: list[bool], state: StreamState) -> None:
    told.append(state.is_failed)


def load(rig: Rig, registry: Registry, path: str) -> StreamState:
    state = rig.run(registry.load(path))
    assert state is not None
    return state


def test_a_stream_is_loaded_once() -> None:
    """The same state is found by path and by number, and nothing is where nothing is."""
    rig, registry = make("a")
    state = load(rig, registry, "a")
    assert load(rig, registry, "a") is state
    assert registry.get_nowait("a") is state
    assert rig.run(registry.load_id(state.record.stream_id)) is state
    assert rig.run(registry.load("b")) is None
    assert rig.run(registry.load_id(12345)) is None
    assert registry.get_nowait("b") is None


def test_loading_by_number() -> None:
    """A number finds a stream that is not loaded, unless another one has its path by now."""
    rig, registry = make("a")
    number = rig.run(rig.machine.head("a")).stream_id
    state = rig.run(registry.load_id(number))
    assert state is not None
    assert state.record.path == "a"
    rig, registry = make("a")
    stored = rig.satisfy(needs.Find("a"))
    loading = registry.load_id(rig.run(rig.machine.head("a")).stream_id)
    next(loading)
    rig.run(rig.machine.delete("a"))
    rig.run(rig.machine.create(Create("a")))
    need = loading.send(stored)
    with pytest.raises(StopIteration) as stop:
        loading.send(rig.satisfy(need))
    assert stop.value.value is None


@pytest.mark.parametrize("fails", [False, True])
def test_who_comes_second_waits_for_the_first(fails: bool) -> None:
    """Two that load a stream at once get one state; where the first fails, the second tries itself."""
    rig, registry = make("a")
    first, second = registry.load("a"), registry.load("a")
    need = next(first)
    waiting = next(second)
    assert isinstance(waiting, needs.Wait)
    assert not waiting.is_ready()
    told: list[bool] = []
    waiting.watched.listeners.add(lambda: told.append(waiting.is_ready()))
    if fails:
        with pytest.raises(StoreError):
            first.throw(StoreError("no"))
        need = second.send(True)
        with pytest.raises(StopIteration) as stop:
            second.send(rig.satisfy(need))
    else:
        with pytest.raises(StopIteration) as stop:
            first.send(rig.satisfy(need))
        state = stop.value.value
        with pytest.raises(StopIteration) as stop:
            second.send(True)
        assert stop.value.value is state
    assert told == [True]
    assert stop.value.value is registry.get_nowait("a")


def test_the_least_recently_used_are_dropped() -> None:
    """No more states are held than may be; those that are in use, or not durable yet, stay."""
    rig, registry = make(*"abcdef", max_loaded=3)
    for path in "abc":
        load(rig, registry, path)
    load(rig, registry, "a")
    load(rig, registry, "d")
    assert registry.get_nowait("b") is None
    assert len(registry) == 3
    used = load(rig, registry, "c")
    used.listeners.add(lambda: None)
    rig.store.is_late = True
    late = load(rig, registry, "d")
    registry.submit(*touch(late))
    load(rig, registry, "e")
    load(rig, registry, "f")
    assert registry.get_nowait("c") is used
    assert registry.get_nowait("d") is late


def test_a_touch_is_persisted_before_it_is_forgotten() -> None:
    """When a stream was used last survives its being dropped."""
    rig, registry = make("a", "b", "c", max_loaded=1, ttl_seconds=60)
    state = load(rig, registry, "a")
    state.touch(rig.now + 30)
    load(rig, registry, "b")
    load(rig, registry, "c")
    assert registry.get_nowait("a") is None
    assert load(rig, registry, "a").touched_at == rig.now + 30


def test_a_fork_knows_where_its_bytes_are() -> None:
    """Segments follow the lineage, and only streams that are there count as sources."""
    rig, registry = make("a")
    rig.run(rig.machine.create(Create("f", fork=Fork("a")), b"cd"))
    rig.run(rig.machine.create(Create("g", fork=Fork("f", "0000000000000003")), b"ef"))
    state = load(rig, registry, "g")
    assert [(first, last) for _, first, last in state.segments] == [(0, 2), (2, 3), (3, None)]
    assert [source.record.path for source in rig.run(registry.lineage(state))] == ["f", "a"]


def test_a_lineage_is_held_while_it_is_loaded() -> None:
    """However few states may be held, a stream and all its sources are current when they are decided on."""
    rig, registry = make("a", max_loaded=1)
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    rig.run(rig.machine.create(Create("g", fork=Fork("f"))))
    state = load(rig, registry, "g")
    assert len(registry) == 1
    lineage = rig.run(registry.lineage(state))
    assert [source.record.path for source in lineage] == ["f", "a"]
    assert all(one.is_current and not one.pins for one in (state, *lineage))


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_source_that_is_missing(is_loaded: bool) -> None:
    """A store that has lost a source is damaged, and says so."""
    rig, registry = make("a")
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    state = load(rig, registry, "f")
    source = registry.get_nowait("a")
    assert source is not None
    rig.store.submit(Change(removals=[source.record.stream_id]))
    registry.drop(source)
    if not is_loaded:
        registry.drop(state)
    with pytest.raises(StoreError, match="missing"):
        rig.run(registry.lineage(state) if is_loaded else registry.load("f"))


def test_a_removed_state_is_waited_for() -> None:
    """Who looks for a stream that is being deleted waits until that is durable, and one that is gone is forgotten."""
    rig, registry = make("a")
    state = load(rig, registry, "a")
    state.is_removed = True
    assert registry.get_nowait("a") is None
    assert load(rig, registry, "a") is not state


def test_settling_twice() -> None:
    """Several wait for one commit, and each says that it is there; a later one is not taken for it."""
    rig = Rig()
    rig.run(rig.machine.create(Create("a", "text/plain")))
    rig.store.is_late = True
    pending = []
    for data in (b"a", b"b"):
        operation = rig.machine.append(Append("a", "text/plain"), data)
        need = operation.send(rig.satisfy(next(operation)))
        assert isinstance(need, needs.Settle)
        pending.append(need.pending)
    rig.store.let_through()
    registry = rig.machine.registry
    state = registry.get_nowait("a")
    assert state is not None
    for _ in range(2):
        registry.settle(pending[0])
        assert (state.durable.tail, state.pending) == (1, pending[1])
    registry.settle(pending[1])
    assert (state.durable.tail, state.pending) == (2, None)
    assert rig.run(rig.machine.read(Read("a"))).end == 2


def test_a_removal_that_is_not_durable_is_waited_for() -> None:
    """Who looks for a stream that is being deleted waits for that; where it fails, the readers are told."""
    for is_broken in (False, True):
        rig = Rig()
        rig.run(rig.machine.create(Create("a")))
        registry = rig.machine.registry
        state = load(rig, registry, "a")
        told: list[bool] = []
        rig.store.is_late = True
        deletion = rig.machine.delete("a")
        deletion.send(rig.satisfy(next(deletion)))
        state.listeners.add(partial(_tell, told, state))
        rig.store.is_broken = is_broken
        if is_broken:
            with pytest.raises(StoreError):
                rig.run(registry.load("a"))
            assert registry.get_nowait("a") is None
        else:
            assert rig.run(registry.load("a")) is None
        assert told == [is_broken]


def test_dropping_one_that_was_replaced() -> None:
    """A state that is not the known one is dropped without harm to the one that is."""
    rig, registry = make("a")
    state = load(rig, registry, "a")
    registry.drop(state)
    known = load(rig, registry, "a")
    registry.drop(state)
    assert registry.get_nowait("a") is known


def test_what_nobody_waits_for() -> None:
    """A change without anybody who waits is waited for later, once, and then its stream can be forgotten."""
    rig, registry = make("a", "b", "c", max_loaded=1, ttl_seconds=60)
    rig.store.is_late = True
    states = [load(rig, registry, path) for path in "ab"]
    for state in states:
        registry.submit_unawaited(*touch(state))
    pending = states[1].pending
    assert pending is not None
    registry.settle(pending)
    rig.run(registry.settle_unawaited())
    assert [state.pending for state in states] == [None, None]
    assert list(registry.settle_unawaited()) == []
    load(rig, registry, "c")
    assert len(registry) == 1


def test_the_lineage_of_what_is_removed_meanwhile() -> None:
    """It is of no use any more, and a source that went with the stream is not missed."""
    rig, registry = make("a")
    rig.run(rig.machine.create(Create("f", fork=Fork("a"))))
    state = load(rig, registry, "f")
    registry.drop(load(rig, registry, "a"))
    lineage = registry.lineage(state)
    need = next(lineage)
    state.is_removed = True
    rig.run(rig.machine.delete("a"))
    rig.run(rig.machine.delete("f"))
    with pytest.raises(StopIteration) as stop:
        while True:
            need = lineage.send(rig.satisfy(need))
    assert stop.value.value == []
    assert not state.pins
