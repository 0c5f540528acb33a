"""Drives the machine's operations by hand: no Trio, a clock that is set, a store whose commits are let through."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from trio_streams.durable.protocol import needs
from trio_streams.durable.protocol.machine import Machine, MachineLimits
from trio_streams.durable.store.base import Change, Commit, StoreError
from trio_streams.durable.store.memory import MemoryStore

T = TypeVar("T")

START = 1_800_000_000.0


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waited")


class LateCommit:
    """A commit that nobody waits for here: the rig settles it."""

    async def wait(self) -> None:
        raise AssertionError("a rig settles by itself")


class LateStore(MemoryStore):
    """A store whose changes are held back until they are let through, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.is_late: bool = False
        self.held: list[Change] = []
        self.is_broken: bool = False

    def submit(self, change: Change) -> Commit | None:  # type: ignore[override]
        if self.is_broken:
            raise StoreError("broken")
        if not self.is_late:
            super().submit(change)
            return None
        self.held.append(change)
        return LateCommit()

    def let_through(self) -> None:
        """Make durable what was held back."""
        for change in self.held:
            super().submit(change)
        self.held.clear()


class Rig:
    """A machine, its store, and a clock.

    Args:
      limits: of the machine.
    """

    def __init__(self, limits: MachineLimits | None = None) -> None:
        self.store: LateStore = LateStore()
        self.now: float = START
        self.machine: Machine = Machine(self.store, limits or MachineLimits(), lambda: self.now)
        self.waits: list[needs.Wait] = []
        self.answers: list[bool] = []

    def run(self, operation: needs.Running[T]) -> T:
        """Run an operation. Commits are let through when they are waited for; a `Wait` is answered from `answers`."""
        try:
            need = next(operation)
            while True:
                try:
                    result = self.satisfy(need)
                except (StoreError, AssertionError) as exc:
                    need = operation.throw(exc)
                else:
                    need = operation.send(result)
        except StopIteration as stop:
            return cast("T", stop.value)

    def satisfy(self, need: needs.Need) -> object:
        """What an operation needs."""
        store = self.store
        match need:
            case needs.Room():
                return finish(store.wait_room())
            case needs.Find(path):
                return finish(store.find(path))
            case needs.Get(stream_id):
                return finish(store.get(stream_id))
            case needs.NewId():
                return finish(store.new_id())
            case needs.ReadEntries(stream_id, start, end, max_bytes):
                return finish(store.read(stream_id, start, end, max_bytes=max_bytes))
            case needs.Listing(prefix, after, limit):
                return finish(store.list_records(prefix, after=after, limit=limit))
            case needs.Count():
                return finish(store.count_records())
            case needs.Expired(now, limit):
                return finish(store.list_expired(now, limit=limit))
            case needs.Settle(pending):
                if store.is_broken:
                    self.machine.registry.fail(pending)
                    raise StoreError("broken")
                store.let_through()
                self.machine.registry.settle(pending)
                return None
            case needs.Wait():
                self.waits.append(need)
                return need.is_ready() or (bool(self.answers) and self.answers.pop(0))
        raise AssertionError(need)
