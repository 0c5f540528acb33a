"""The streams that the server has in memory: found by path and by number, the least recently used ones dropped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import attrs

from trio_streams.durable.protocol.lifecycle import inherited_segments
from trio_streams.durable.protocol.needs import Find, Get, Running, Settle, Wait
from trio_streams.durable.protocol.states import Listener, Pending, Segment, Step, StreamState
from trio_streams.durable.store.base import Change, Store, Stored, StoreError, StreamRecord

__all__ = ["Registry", "touch"]

_EVICTION_ATTEMPTS = 8


class _Flight:
    """A stream that is being loaded; others wait for it, so that there are never two states of one stream."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.is_over: bool = False


class Registry:
    """States by path, each once.

    Args:
      store: takes the changes.
      max_loaded: states to hold; those that are in use or not durable yet stay beyond it.
    """

    def __init__(self, store: Store, max_loaded: int) -> None:
        self._store = store
        self._max_loaded = max_loaded
        self._by_path: OrderedDict[str, StreamState] = OrderedDict()
        self._by_id: dict[int, StreamState] = {}
        self._flights: dict[str, _Flight] = {}
        self._unawaited: dict[StreamState, None] = {}

    def __len__(self) -> int:
        return len(self._by_path)

    def get_nowait(self, path: str) -> StreamState | None:
        """The state of a stream that is loaded, and not gone."""
        state = self._by_path.get(path)
        if state is None or state.is_removed:
            return None
        self._by_path.move_to_end(path)
        return state

    def load(self, path: str) -> Running[StreamState | None]:
        """The stream at a path; None where there is none. Nothing happens between its end and the caller's next step."""
        while True:
            state = self._by_path.get(path)
            if state is None:
                if (flight := self._flights.get(path)) is None:
                    return (yield from self._load_first(path))
                yield Wait(flight, _is_over(flight))
            elif not state.is_removed:
                self._by_path.move_to_end(path)
                return state
            elif state.pending is not None:
                yield Settle(state.pending)
            else:
                self.drop(state)

    def _load_first(self, path: str) -> Running[StreamState | None]:
        flight = self._flights[path] = _Flight()
        try:
            stored = yield Find(path)
            return None if stored is None else (yield from self._admit(stored))
        finally:
            del self._flights[path]
            flight.is_over = True
            for listener in tuple(flight.listeners):
                listener()

    def load_id(self, stream_id: int) -> Running[StreamState | None]:
        """A stream by its number, as `load`."""
        state = self._by_id.get(stream_id)
        if state is not None and not state.is_removed:
            return state
        stored: Stored | None = yield Get(stream_id)
        if stored is None:
            return None
        state = yield from self.load(stored.record.path)
        return state if state is not None and state.record.stream_id == stream_id else None

    def _admit(self, stored: Stored) -> Running[StreamState]:
        segments = yield from self._segments(stored.record)
        state = StreamState(stored, segments)
        self.add(state)
        return state

    def _segments(self, record: StreamRecord) -> Running[tuple[Segment, ...]]:
        fork = record.fork
        if fork is None:
            return ((record.stream_id, 0, None),)
        source = yield from self.load_id(fork.source_id)
        if source is None:
            raise StoreError(f"the source of {record.path!r}, stream {fork.source_id}, is missing in the store")
        return (*inherited_segments(source.segments, fork.source_id, fork), (record.stream_id, fork.position, None))

    def lineage(self, state: StreamState) -> Running[list[StreamState]]:
        """A stream's source, that one's source, and so on.

        All of them are current at the end, and the stream as well, unless the store has failed or it was removed meanwhile.
        """
        pinned = [state]
        state.pins += 1
        try:
            while (fork := pinned[-1].record.fork) is not None:
                source = yield from self.load_id(fork.source_id)
                if source is None:
                    path = pinned[-1].record.path
                    raise StoreError(f"stream {fork.source_id}, the source of {path!r}, is missing in the store")
                source.pins += 1
                pinned.append(source)
            return pinned[1:]
        finally:
            for one in pinned:
                one.pins -= 1

    def add(self, state: StreamState) -> None:
        """Hold a state, and drop others where there are too many."""
        self._by_path[state.record.path] = state
        self._by_id[state.record.stream_id] = state
        if len(self._by_path) > self._max_loaded:
            self._evict(state)

    def _evict(self, newest: StreamState) -> None:
        for path in [path for path, _ in zip(self._by_path, range(_EVICTION_ATTEMPTS), strict=False)]:
            state = self._by_path[path]
            if state is newest or state.pins or state.listeners or state.pending is not None:
                self._by_path.move_to_end(path)
            elif state.record.ttl_seconds is not None and state.touched_at > state.record.touched_at:
                # What it would forget is persisted first; it is dropped the next time.
                self.submit_unawaited(*touch(state))
                self._by_path.move_to_end(path)
            else:
                self.drop(state)
            if len(self._by_path) <= self._max_loaded:
                return

    def drop(self, state: StreamState) -> None:
        """Forget a state; whoever still has it must not decide on it."""
        state.is_current = False
        path = state.record.path
        if self._by_path.get(path) is state:
            del self._by_path[path]
        if self._by_id.get(state.record.stream_id) is state:
            del self._by_id[state.record.stream_id]

    def submit(self, change: Change, steps: Sequence[Step]) -> None:
        """Make a decision: hand it to the store, and have the next one build on it.

        Raises:
          StoreError: the store takes nothing; nothing has changed.
        """
        commit = self._store.submit(change)
        if change.entries:
            steps[0].entries = change.entries
        pending = None if commit is None else Pending(commit, steps)
        for step in steps:
            step.apply()
            if pending is not None:
                step.state.pending = pending
        if pending is None:
            self._settle(steps)

    def submit_unawaited(self, change: Change, steps: Sequence[Step]) -> None:
        """As `submit`, for what nobody waits for: `settle_unawaited` does, sooner or later."""
        self.submit(change, steps)
        self._unawaited.update((step.state, None) for step in steps if step.state.pending is not None)

    def settle_unawaited(self) -> Running[None]:
        """Wait until readers see what nobody has waited for. Without it such states stay in memory for ever."""
        states, self._unawaited = self._unawaited, {}
        for state in states:
            if state.pending is not None:
                yield Settle(state.pending)

    def settle(self, pending: Pending) -> None:
        """A change is durable: readers see it. Idempotent."""
        if not pending.is_settled:
            pending.is_settled = True
            for step in pending.steps:
                if step.state.pending is pending:
                    step.state.pending = None
            self._settle(pending.steps)

    def _settle(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.is_removal:
                self.drop(step.state)
            step.settle()

    def fail(self, pending: Pending) -> None:
        """A change will never be durable: what was built on it goes, and its readers are told."""
        for step in pending.steps:
            self.drop(step.state)
            step.state.is_failed = True
            step.state.pending = None
            step.state.unsettled.clear()
            step.state.notify()


def touch(state: StreamState) -> tuple[Change, list[Step]]:
    """Persist when a stream was read or written last."""
    record = attrs.evolve(state.record, touched_at=state.touched_at)
    return Change(records=[record]), [Step(state, record)]


def _is_over(flight: _Flight) -> Callable[[], bool]:
    return lambda: flight.is_over
